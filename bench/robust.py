"""Damaged files, bombs and a large corpus through the processes that read files: what becomes of them, in what time and memory.

    python -P -m bench.robust [--only mutants|bombs|corpus] [--n 500] [--scale 1.0] [--corpus-bytes 1000000000] [--out FOLDER]

Files are made at the start by a process of its own, so that the memory of this one, the parent of the readers, is only that of the
pool. Limits are the defaults of the settings. One process reads, so that the time between two outcomes is that of a file.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.machine import Machine, commit, this_machine
from bench.process_tree import Watch, rss_bytes
from bench.result import result_parser, today, write_result
from bench.robust_corpus import CorpusRun, ingested
from ingest.files import open_file
from ingest.read import Failure, Origin
from ingest.sandbox.job import Job, Work
from ingest.sandbox.pool import Pool
from ingest.walk import FoundFile, walk
from rag.embed import open_embedder
from rag.settings import EmbedderSettings, IngestSettings, Settings
from tests.made.bombs import bombs
from tests.made.families import families, mutant, picture

_MAX_TOKENS = 256
# Python keeps what it has imported and compiled, and the allocator its pools: not before the first files is memory level.
_N_WARM_UP = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        name: Of the file.
        n_documents: That came of it.
        codes: Of its failures, by code.
        wall_s: From the outcome before it.
    """

    name: str
    n_documents: int
    codes: dict[str, int]
    wall_s: float


@dataclass(frozen=True, slots=True)
class FamilyRun:
    """Damaged files of one family.

    Attributes:
        family: Name of the file that was damaged.
        n_files: How many.
        n_read: Of which documents came and no failure.
        n_both: Of which documents and failures came.
        n_failed: Of which only failures came.
        n_silent: Of which nothing came, which must not be.
        codes: Files by the code of their first failure.
        n_processes: Started to read them, as seen.
        slowest_s: Longest wall-clock seconds of one file.
        slowest: Its name.
        parent_growth_bytes: Resident memory of the parent after them all, less that after a warm-up.
        peak_child_bytes: Largest resident memory of a process that reads.
        seconds: In all.
    """

    family: str
    n_files: int
    n_read: int
    n_both: int
    n_failed: int
    n_silent: int
    codes: dict[str, int]
    n_processes: int
    slowest_s: float
    slowest: str
    parent_growth_bytes: int
    peak_child_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class BombRun:
    """One bomb: its size, what became of it, and the largest memory of its process and the growth of the parent's."""

    name: str
    n_bytes: int
    outcome: Outcome
    peak_child_bytes: int
    parent_growth_bytes: int


@dataclass(frozen=True, slots=True)
class RobustResult:
    """What a run found; ``max_parent_growth_bytes`` is over all damaged files, the bar for it is 50 MB."""

    commit: str
    date: str
    machine: Machine
    limits: IngestSettings
    max_parent_growth_bytes: int
    families: tuple[FamilyRun, ...]
    bombs: tuple[BombRun, ...]
    corpora: tuple[CorpusRun, ...]


def outcomes(folder: Path, settings: Settings) -> Iterator[Outcome]:
    """Read all files of a folder by a pool.

    Args:
        folder: Whose files are found as `rag ingest` finds them.
        settings: Limits.

    Yields:
        What became of each, in the order of the walk.
    """
    embedder = open_embedder(EmbedderSettings(), settings.data_dir)
    began = time.perf_counter()
    with Pool[str](settings, embedder, _MAX_TOKENS) as pool:
        for reading in pool.read(_job(found, settings) for found in walk([folder]) if isinstance(found, FoundFile)):
            n_documents = 0
            codes: Counter[str] = Counter()
            for result in reading:
                if isinstance(result, Failure):
                    codes[result.code] += 1
                else:
                    n_documents += 1
            now = time.perf_counter()
            yield Outcome(reading.key, n_documents, dict(codes), now - began)
            began = now


def _job(found: FoundFile, settings: Settings) -> Job[str]:
    file = open_file(found, settings.ingest.max_file_bytes)
    return Job(found.path.name, Work(file.handle, file.n_bytes, Origin(found.path, found.doc_id, found.uri, file.mtime)))


def write_mutants(folder: Path, n: int) -> None:
    """Write the damaged files of every family, a folder a family.

    Args:
        folder: For them.
        n: Files of each family.
    """
    with tempfile.TemporaryDirectory() as place:
        made = families(Path(place))
        if shutil.which("tesseract"):
            made["picture.png"] = picture()
    for name, data in made.items():
        (folder / name).mkdir()
        for seed in range(n):
            (folder / name / f"{seed:05}-{name}").write_bytes(mutant(data, seed))


def run_family(folder: Path, settings: Settings) -> FamilyRun:
    """Read the damaged files of one family; the first ones are the warm-up."""
    found: list[Outcome] = []
    before = 0
    with Watch(os.getpid(), every_s=0.3) as watch:
        for outcome in outcomes(folder, settings):
            found.append(outcome)
            if len(found) <= _N_WARM_UP:
                before = rss_bytes(os.getpid())
        growth = rss_bytes(os.getpid()) - before
    slowest = max(found[1:] or found, key=lambda outcome: outcome.wall_s)  # the first waits for its process to start
    return FamilyRun(
        family=folder.name,
        n_files=len(found),
        n_read=sum(bool(item.n_documents and not item.codes) for item in found),
        n_both=sum(bool(item.n_documents and item.codes) for item in found),
        n_failed=sum(bool(item.codes and not item.n_documents) for item in found),
        n_silent=sum(not item.codes and not item.n_documents for item in found),
        codes=dict(Counter(next(iter(item.codes)) for item in found if item.codes).most_common()),
        n_processes=len(watch.children),
        slowest_s=round(slowest.wall_s, 3),
        slowest=slowest.name,
        parent_growth_bytes=growth,
        peak_child_bytes=watch.peak_child_bytes,
        seconds=round(sum(item.wall_s for item in found), 1),
    )


def run_bomb(path: Path, settings: Settings) -> BombRun:
    """Read one bomb, alone in its folder."""
    before = rss_bytes(os.getpid())
    with Watch(os.getpid(), every_s=0.02) as watch:
        (outcome,) = outcomes(path.parent, settings)
    return BombRun(path.name, path.stat().st_size, outcome, watch.peak_child_bytes, rss_bytes(os.getpid()) - before)


def _mutants(settings: Settings, n: int) -> Iterator[FamilyRun]:
    with tempfile.TemporaryDirectory() as place:
        _elsewhere(write_mutants, Path(place), n)
        for folder in sorted(Path(place).iterdir()):
            # Tesseract takes seconds for every page that damage has left without text, and has its own turn with the picture.
            languages = settings.ingest.ocr_languages if folder.name.endswith(".png") else ""
            run = run_family(folder, replace(settings, ingest=replace(settings.ingest, ocr_languages=languages)))
            print(run, flush=True)
            yield run


def _bombs(settings: Settings, scale: float) -> Iterator[BombRun]:
    with tempfile.TemporaryDirectory() as place:
        _elsewhere(_write_bombs, Path(place), scale)
        for folder in sorted(Path(place).iterdir()):
            (path,) = folder.iterdir()
            run = run_bomb(path, settings)
            print(run, flush=True)
            yield run


def _write_bombs(folder: Path, scale: float) -> None:
    for path in bombs(folder, scale):
        path.rename(path.with_name("file"))
        (folder / path.name).mkdir()
        (folder / "file").rename(folder / path.name / path.name)


def _elsewhere(make: object, *arguments: object) -> None:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=make, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"files could not be made: exit status {process.exitcode}")


def _corpora(n_bytes: int) -> Iterator[CorpusRun]:
    """Two sizes: memory must not grow with them."""
    for size in (n_bytes // 4, n_bytes):
        with tempfile.TemporaryDirectory() as place:
            run = ingested(size, Path(place))
            print(run, flush=True)
            yield run


def main() -> None:
    """Make the files, read them, write the result."""
    parser = result_parser(__doc__, has_data=False)
    parser.add_argument("--only", choices=("mutants", "bombs", "corpus"))
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--corpus-bytes", type=int, default=1_000_000_000)
    options: argparse.Namespace = parser.parse_args()
    settings = Settings(ingest=IngestSettings(workers=1))
    runs = tuple(_mutants(settings, options.n)) if options.only in (None, "mutants") else ()
    exploded = tuple(_bombs(settings, options.scale)) if options.only in (None, "bombs") else ()
    corpora = tuple(_corpora(options.corpus_bytes)) if options.only in (None, "corpus") else ()
    growth = max((run.parent_growth_bytes for run in runs), default=0)
    result = RobustResult(commit(), today(), this_machine(), settings.ingest, growth, runs, exploded, corpora)
    write_result(result, options.out, "robust", options.only or "")


if __name__ == "__main__":
    main()
