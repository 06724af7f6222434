"""Damaged files of every family, through real processes: the parent stays, and every file ends as documents or a failure."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.process_tree import rss_bytes
from ingest.read import Failure
from ingest.sandbox.pool import Pool
from rag.settings import IngestSettings, Settings
from tests.fakes import HashEmbedder
from tests.ingest.sandbox.test_pool import Outcome, jobs_of
from tests.made.families import families, mutant, picture

CODES = frozenset(
    """binary encoding empty no_text bad_record duplicate_id bad_gzip too_deep too_large encrypted missing_extra unreadable bad_member
    zip_bomb timeout cpu_limit out_of_memory""".split()
)


def outcomes_of(folder: Path, made: Mapping[str, bytes], n: int, ocr_languages: str) -> dict[str, Outcome]:
    """What became of every damaged file by its name, and the parent's memory held to its bar."""
    paths = [folder / f"{seed:03}-{name}" for name in made for seed in range(n)]
    for path in paths:
        seed, _, name = path.name.partition("-")
        path.write_bytes(mutant(made[name], int(seed)))
    limits = IngestSettings(workers=2, file_timeout_s=30.0, file_cpu_s=20, ocr_languages=ocr_languages)
    found: dict[str, Outcome] = {}
    before = 0
    with Pool[int](Settings(ingest=limits), HashEmbedder(), 128) as pool:
        for path, reading in zip(paths, pool.read(jobs_of(paths)), strict=True):
            found[path.name] = Outcome(tuple(reading), reading.digest, reading.is_whole)
            before = before or rss_bytes(os.getpid())
    assert rss_bytes(os.getpid()) - before < 50_000_000
    return found


def assert_all_told(found: Mapping[str, Outcome]) -> None:
    silent = [name for name, outcome in found.items() if not outcome.items]
    odd = {
        name: item
        for name, outcome in found.items()
        for item in outcome.items
        if isinstance(item, Failure) and (item.code not in CODES or not item.message)
    }
    assert (silent, odd) == ([], {})


def test_ten_damaged_files_of_every_family_end_as_documents_or_failures(tmp_path: Path) -> None:
    made = families()
    found = outcomes_of(tmp_path, made, 10, "")
    assert_all_told(found)
    # Damage that never is one, or always, would test nothing.
    assert 0 < sum(bool(outcome.failures) for outcome in found.values()) < len(found)


@pytest.mark.slow
def test_five_hundred_damaged_files_of_every_family_end_as_documents_or_failures(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    made = families(tmp_path / "programs") | ({"picture.png": picture()} if shutil.which("tesseract") else {})
    assert_all_told(outcomes_of(tmp_path, made, 500, "eng"))
