from __future__ import annotations

from pathlib import Path

import pytest

from bench.reading import as_files, corpora, interleaved, measure
from ingest.read import Origin, read
from rag.types import Document
from tests.fakes import HashEmbedder

TEXTS = ["Ships <come> and go.\n\nThe harbour, which is old, is open.", "Größe & 中文."]


@pytest.mark.parametrize("family", ["text", "markdown", "code", "html", "eml", "csv", "jsonl"])
def test_files_of_a_family_hold_the_texts(family: str) -> None:
    name, files = as_files(TEXTS)[family]
    found = [document for data in files for document in read(data, Origin(Path(name), name, name, None))]
    whole = "\n".join(document.text for document in found if isinstance(document, Document))
    assert all(isinstance(document, Document) for document in found)
    assert {document.kind for document in found if isinstance(document, Document)} == {family}
    assert all(word in whole for word in ("<come>", "harbour, which", "Größe & 中文."))


def test_works_run_in_turn() -> None:
    seen: list[str] = []
    taken = interleaved({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert "".join(seen) == "ababab"
    assert {name: len(runs) for name, runs in taken.items()} == {"a": 3, "b": 3}


def test_every_work_has_a_speed_and_the_size_of_what_it_reads() -> None:
    texts = [TEXTS[0] * 50] * 40
    speeds, share = measure("some", texts, HashEmbedder(max_tokens=4096), 1)
    assert [speed.work for speed in speeds[:4]] == ["tokenizer", "chunker", "normalise", "instructions"]
    assert [speed.work for speed in speeds[4:]] == [f"read {family}" for family in as_files(texts)]
    assert speeds[0].mb == pytest.approx(len(texts[0]) * len(texts) / 1e6, abs=0.001)
    assert all(speed.mb_per_s > 0 for speed in speeds)
    assert share.chunker > 0 < share.instructions


def test_corpora_are_the_docs_and_two_data_sets(data_dir: Path) -> None:
    found = corpora(data_dir, 3)
    assert {name: len(texts) for name, texts in found.items()} == {"docs": 3, "xquad-en": 3, "scifact": 3}
