"""What the command line costs as a new process, and what the product takes up on disk."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.child import Usage, usages
from bench.corpora import COLLECTION, Corpus
from bench.machine import CHECKOUT
from rag.store.schema import FILE_NAME
from rag.store.snapshot import DENSE, LEXICAL, ROWS, folder_of

_N_STARTS = 7
_N_BATCH = 100
# What every virtual environment begins with is not ours.
_NOT_OURS = ("pip", "setuptools", "_distutils_hack", "distutils-precedence")


@dataclass(frozen=True, slots=True)
class ProcessCost:
    """A command as a new process: CPU seconds (median and least of the runs) and peak resident memory (largest)."""

    command: str
    n_runs: int
    cpu_s: float
    min_cpu_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes of a data directory, by apparent size.

    Attributes:
        n_bytes: All files.
        catalog: The catalog: text, offsets and vectors by digest.
        lexical: The lexical index.
        dense: The dense index.
        rows: Row numbers.
        other: Manifest, locks.
    """

    n_bytes: int
    catalog: int
    lexical: int
    dense: int
    rows: int
    other: int


@dataclass(frozen=True, slots=True)
class InstallSize:
    """The core as a user gets it: the wheel of this tree and everything of ``requirements/core.lock``, in a fresh environment.

    Attributes:
        n_bytes: All files in its site-packages with byte code, by apparent size, without pip and setuptools.
        own_bytes: Those of rag, ingest, api and eval.
        n_packages: Distributions, ours included.
        has_torch: Whether torch is one of them.
        largest: ``name MB`` of the five largest folders.
    """

    n_bytes: int
    own_bytes: int
    n_packages: int
    has_torch: bool
    largest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Processes:
    """New processes on one collection, and its size on disk.

    Attributes:
        n_rows: Chunks in the collection.
        search: ``rag search --json``, hybrid, one question.
        batch: The same for 100 questions in one process: its peak is an upper limit of what a server holds.
        help: ``rag --help``.
        disk: The data directory.
    """

    n_rows: int
    search: ProcessCost
    batch: ProcessCost
    help: ProcessCost
    disk: DiskUse


def measure_processes(corpus: Corpus) -> Processes:
    """Start the command line afresh, several times.

    Args:
        corpus: SciFact, or another collection of its size.

    Returns:
        Costs and sizes.

    Raises:
        SystemExit: If the command of this environment is that of another checkout, or fails.
    """
    rag = str(Path(sysconfig.get_path("scripts")) / "rag")
    installed = Path(_run(sys.executable, "-P", "-c", "import rag; print(rag.__file__)").strip()).resolve()
    if not installed.is_relative_to(CHECKOUT.resolve()):
        raise SystemExit(f"the rag command of this environment is not of {CHECKOUT.name}; run 'make setup' in this checkout first")
    data_dir = corpus.settings.data_dir.resolve()
    queries = corpus.dataset.queries
    with TemporaryDirectory() as folder:
        batch = Path(folder) / "questions.jsonl"
        lines = [json.dumps({"_id": query.query_id, "text": query.text}) for query in queries[:_N_BATCH]]
        batch.write_text("\n".join(lines) + "\n", encoding="utf-8")
        search = [rag, "search", "--data-dir", str(data_dir), "--json"]
        return Processes(
            n_rows=corpus.store.n_rows,
            search=_cost("rag search --json", usages([*search, queries[0].text], _N_STARTS, Path(folder))),
            batch=_cost("rag search --batch", usages([*search, "--batch", str(batch)], 1, Path(folder))),
            help=_cost("rag --help", usages([rag, "--help"], _N_STARTS, Path(folder))),
            disk=disk_use(data_dir, corpus.store.version),
        )


def _cost(command: str, found: Sequence[Usage]) -> ProcessCost:
    seconds = [usage.cpu_s for usage in found]
    peak = max(usage.peak_rss_bytes for usage in found)
    return ProcessCost(command, len(found), statistics.median(seconds), min(seconds), peak)


def disk_use(data_dir: Path, version: int) -> DiskUse:
    """Add up a data directory.

    Args:
        data_dir: The directory.
        version: The version whose indexes are told apart; older ones count as other.

    Returns:
        Bytes.
    """
    snapshot = folder_of(data_dir, COLLECTION, version)
    catalog = sum(_size(path) for path in data_dir.glob(f"{FILE_NAME}*"))
    lexical, dense, rows = (_size(snapshot / name) for name in (LEXICAL, DENSE, ROWS))
    total = _size(data_dir)
    return DiskUse(total, catalog, lexical, dense, rows, total - catalog - lexical - dense - rows)


def measure_install() -> InstallSize:
    """Install the core into a fresh environment and weigh it; needs the package index or its cache."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        _run(sys.executable, "-m", "venv", str(home / "venv"))
        python = str(home / "venv" / "bin" / "python")
        pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
        _run(python, *pip, "install", "--require-hashes", "-r", str(CHECKOUT / "requirements" / "core.lock"))
        # Built by the development environment, which has the build backend.
        _run(sys.executable, *pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(home), str(CHECKOUT))
        _run(python, *pip, "install", "--no-deps", *map(str, home.glob("ragwatt-*.whl")))
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return _weigh(Path(_run(python, "-I", "-c", code).strip()))


def _weigh(packages: Path) -> InstallSize:
    ours = [path for path in packages.iterdir() if not path.name.startswith(_NOT_OURS)]
    sizes = {path.name: _size(path) for path in ours}
    names = {name.partition("-")[0].lower() for name in sizes if name.endswith(".dist-info")}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    return InstallSize(
        n_bytes=sum(sizes.values()),
        own_bytes=sum(sizes[name] for name in ("rag", "ingest", "api", "eval")),
        n_packages=len(names),
        has_torch="torch" in names,
        largest=tuple(f"{name} {sizes[name] / 1e6:.1f}" for name in largest),
    )


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())


def _run(*command: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
