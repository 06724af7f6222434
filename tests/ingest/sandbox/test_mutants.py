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
from tests.ingest.sandbox.test_pool import jobs_of
from tests.made.families import families, mutant, picture

CODES = frozenset(
    """binary encoding empty no_text bad_record duplicate_id bad_gzip too_deep too_large encrypted missing_extra unreadable bad_member
    zip_bomb timeout cpu_limit out_of_memory""".split()
)


def ends_of(folder: Path, made: Mapping[str, bytes], n: int, ocr_languages: str) -> dict[str, list[str]]:
    """How every damaged file ended: ``document`` or the code of a failure for each part; the parent's memory is held to its bar.

    The parts themselves are let go as an ingest lets them go: kept, they would be the memory that is measured.
    """
    paths = [folder / f"{seed:03}-{name}" for name in made for seed in range(n)]
    for path in paths:
        seed, _, name = path.name.partition("-")
        path.write_bytes(mutant(made[name], int(seed)))
    limits = IngestSettings(workers=2, file_timeout_s=30.0, file_cpu_s=20, ocr_languages=ocr_languages)
    found: dict[str, list[str]] = {}
    before = 0
    with Pool[int](Settings(ingest=limits), HashEmbedder(), 128) as pool:
        for path, reading in zip(paths, pool.read(jobs_of(paths)), strict=True):
            found[path.name] = [end_of(item) for item in reading]
            before = before or rss_bytes(os.getpid())
    assert rss_bytes(os.getpid()) - before < 50_000_000
    return found


def end_of(item: object) -> str:
    if not isinstance(item, Failure):
        return "document"
    return item.code if item.code in CODES and item.message else f"not told: {item}"


def assert_all_told(found: Mapping[str, list[str]]) -> None:
    assert {name: ends for name, ends in found.items() if not ends or any(end.startswith("not told") for end in ends)} == {}


def test_ten_damaged_files_of_every_family_end_as_documents_or_failures(tmp_path: Path) -> None:
    made = families()
    found = ends_of(tmp_path, made, 10, "")
    assert_all_told(found)
    # Damage that never is one, or always, would test nothing.
    assert 0 < sum(set(ends) != {"document"} for ends in found.values()) < len(found)


@pytest.mark.slow
def test_five_hundred_damaged_files_of_every_family_end_as_documents_or_failures(tmp_path: Path) -> None:
    (tmp_path / "programs").mkdir()
    made = families(tmp_path / "programs") | ({"picture.png": picture()} if shutil.which("tesseract") else {})
    assert_all_told(ends_of(tmp_path, made, 500, "eng"))
