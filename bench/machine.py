"""Which machine and which code a result comes from, without the name of the host or of any folder."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
_PACKAGES = ("faiss-cpu", "numpy", "onnxruntime", "rensa", "tantivy", "tokenizers")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a result was measured.

    Attributes:
        cpu: Model name as the processor tells it.
        n_cores: Cores that this process may use.
        python: Version of the interpreter.
        system: Operating system, without release.
        packages: ``name version`` of the libraries that do the work, by name.
    """

    cpu: str
    n_cores: int
    python: str
    system: str
    packages: tuple[str, ...]


def this_machine() -> Machine:
    """Look at this machine."""
    return Machine(
        cpu=_cpu_model(),
        n_cores=len(os.sched_getaffinity(0)),
        python=platform.python_version(),
        system=platform.system(),
        packages=tuple(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    )


def commit() -> str:
    """Short name of the commit, with ``-dirty`` where the tree differs from it; ``worktree`` outside git."""
    name = _git("rev-parse", "--short", "HEAD")
    # Results of other benchmarks at this commit change no code.
    if not name:
        return "worktree"
    return f"{name}-dirty" if _git("status", "--porcelain", "--", ".", ":!bench/results") else name


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
