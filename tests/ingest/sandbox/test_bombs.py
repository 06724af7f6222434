"""Small forms of the bombs of `tests.made.bombs`, through real processes with low limits."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ingest.sandbox.pool import Pool
from rag.settings import IngestSettings, Settings
from tests.fakes import HashEmbedder
from tests.ingest.sandbox.test_pool import Outcome, jobs_of
from tests.made.bombs import BOMBS, bombs

# Large enough that what is refused for its size is.
SCALE = 0.02
LIMITS = IngestSettings(
    workers=2, file_timeout_s=60.0, file_cpu_s=12, file_memory_bytes=600_000_000, max_output_bytes=8_000_000, ocr_languages=""
)
# What must be refused at this scale; the rest may be read, if that stays within the limits.
REFUSED = {
    "zip.docx": "zip_bomb",
    "liar.docx": "unreadable",
    "entity.docx": "unreadable",
    "entity.xlsx": "unreadable",
    "deep.docx": "too_deep",
    "nested.zip": "too_deep",
    "columns.xlsx": "too_large",
    "named-columns.xlsx": "too_large",
    "deep.html": "too_deep",
    "deep.jsonl": "bad_record",
    "deep.ipynb": "unreadable",
    "deep.rtf": "too_deep",
    "arrays.pdf": "unreadable",
    "bomb.tar.gz": "zip_bomb",
    "sparse.tar": "bad_member",
    "claiming.tar": "unreadable",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """What became of each bomb, and of a good file after them all."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = list(bombs(folder, SCALE))
    paths.append(folder / "good.txt")
    paths[-1].write_text("all is well", encoding="ascii")
    with Pool[int](Settings(ingest=LIMITS), HashEmbedder(), 128, patience_s=0.0) as pool:
        readings = pool.read(jobs_of(paths))
        outcomes = [Outcome(tuple(reading), reading.digest, reading.is_whole) for reading in readings]
    return {path.name: outcome for path, outcome in zip(paths, outcomes, strict=True)}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_ends_as_documents_or_as_a_failure_that_names_no_crash(found: Mapping[str, Outcome], name: str) -> None:
    assert found[name].items
    assert "crashed" not in found[name].codes


@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_bomb_is_refused_for_what_it_is(found: Mapping[str, Outcome], name: str, code: str) -> None:
    assert found[name].texts == []
    assert set(found[name].codes) == {code}


def test_good_file_after_all_bombs_is_read(found: Mapping[str, Outcome]) -> None:
    assert found["good.txt"].texts == ["all is well"]
