from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.pipeline import IngestRequest, ingest
from rag.errors import InputError, SnapshotError
from rag.meter import Meter
from rag.store.admin import RepairOutcome, collection_documents, data_status, repair_data
from rag.store.catalog import Catalog
from rag.store.manifest import MANIFEST, verify
from rag.store.schema import FILE_NAME
from rag.store.snapshot import DENSE, folder_of
from tests.corpus import COLLECTION, DOCUMENTS, Seen, ingest_into, seen_in, settings_for, write_documents
from tests.fakes import HashEmbedder, SilentProgress


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Seen]]:
    base: Path = tmp_path_factory.mktemp("made")
    docs, data = write_documents(base / "docs"), base / "data"
    ingest_into(data, docs)
    return docs, data, seen_in(data)


@pytest.fixture
def data_dir(made: tuple[Path, Path, list[Seen]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "data"))


@pytest.fixture
def docs(made: tuple[Path, Path, list[Seen]]) -> Path:
    return made[0]


@pytest.fixture
def hits(made: tuple[Path, Path, list[Seen]]) -> list[Seen]:
    return made[2]


def repaired(data_dir: Path, force: bool = False) -> list[RepairOutcome]:
    return repair_data(data_dir, keep=2, force=force)


def current(data_dir: Path) -> Path:
    return folder_of(data_dir, COLLECTION, 1)


def test_status_counts_what_is_there(data_dir: Path) -> None:
    (status,) = data_status(data_dir)
    assert (status.name, status.version, status.n_documents, status.n_duplicates) == (COLLECTION, 1, 12, 0)
    assert status.n_chunks >= 12
    assert status.n_bytes == sum(path.stat().st_size for path in current(data_dir).rglob("*") if path.is_file())


def test_status_of_an_unknown_collection_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match=COLLECTION):
        data_status(data_dir, "nobody")


def test_status_leaves_out_what_was_never_published(data_dir: Path) -> None:
    catalog = Catalog(data_dir, create=True)
    catalog.begin("begun", "e", 4)
    catalog.close()
    assert [status.name for status in data_status(data_dir)] == [COLLECTION]


def test_status_without_data_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="rag ingest"):
        data_status(tmp_path)


def test_documents_are_listed_by_id(data_dir: Path) -> None:
    rows = collection_documents(data_dir, COLLECTION)
    assert [row.doc_id for row in rows] == sorted(DOCUMENTS)
    assert {row.doc_id: row.n_chars for row in rows}["tides.txt"] == len(DOCUMENTS["tides.txt"])


@pytest.mark.parametrize("after", ["", "bread.md", "c", "zebra"])
@pytest.mark.parametrize("limit", [None, 0, 1, 5, 100])
def test_page_of_documents_is_a_part_of_all_of_them(data_dir: Path, after: str, limit: int | None) -> None:
    rows = [row for row in collection_documents(data_dir, COLLECTION) if row.doc_id > after]
    assert collection_documents(data_dir, COLLECTION, after=after, limit=limit) == rows[:limit]


def test_status_of_a_damaged_snapshot_counts_in_the_catalog(data_dir: Path) -> None:
    whole = data_status(data_dir)
    n_bytes = (current(data_dir) / MANIFEST).stat().st_size
    (current(data_dir) / MANIFEST).write_bytes(b"")
    assert data_status(data_dir) == [replace(whole[0], n_bytes=whole[0].n_bytes - n_bytes)]


def test_whole_collection_is_left_alone(data_dir: Path) -> None:
    before = (current(data_dir) / DENSE).stat().st_ino
    assert repaired(data_dir) == [RepairOutcome(COLLECTION, 1, "whole", "")]
    assert (current(data_dir) / DENSE).stat().st_ino == before


def test_forced_repair_rebuilds_what_is_whole(data_dir: Path, hits: list[Seen]) -> None:
    before = verify(current(data_dir))
    assert [(outcome.verdict, outcome.reason) for outcome in repaired(data_dir, force=True)] == [("rebuilt", "forced")]
    after = verify(current(data_dir))
    assert (after.content_sha256, after.lexical_input, after.dense_input) == (
        before.content_sha256,
        before.lexical_input,
        before.dense_input,
    )
    assert seen_in(data_dir) == hits


def test_repair_says_what_was_wrong(data_dir: Path) -> None:
    (current(data_dir) / DENSE).write_bytes(b"")
    (outcome,) = repaired(data_dir)
    assert (outcome.verdict, outcome.version) == ("rebuilt", 1)
    assert str(current(data_dir) / DENSE) in outcome.reason
    assert "rag repair" not in outcome.reason


def test_repair_twice_finds_everything_whole(data_dir: Path) -> None:
    (current(data_dir) / DENSE).unlink()
    assert [outcome.verdict for outcome in repaired(data_dir) + repaired(data_dir)] == ["rebuilt", "whole"]


def test_repair_mends_one_collection_and_leaves_the_other(data_dir: Path, docs: Path) -> None:
    ingest(IngestRequest((docs,), "another"), settings_for(data_dir), HashEmbedder(), SilentProgress(), Meter())
    (current(data_dir) / DENSE).unlink()
    assert [(outcome.name, outcome.verdict) for outcome in repaired(data_dir)] == [("another", "whole"), (COLLECTION, "rebuilt")]


def test_repair_mends_the_linked_copies_of_a_damaged_index(data_dir: Path, docs: Path, hits: list[Seen]) -> None:
    ingest_into(data_dir, docs, metadata={"shelf": "7"})
    dense = folder_of(data_dir, COLLECTION, 2) / DENSE
    dense.write_bytes(bytes(dense.stat().st_size))  # shared with version 1
    assert [outcome.verdict for outcome in repaired(data_dir)] == ["rebuilt"]
    assert [[row[:3] for row in one] for one in seen_in(data_dir)] == [[row[:3] for row in one] for one in hits]


def test_repair_collects_what_a_crash_left(data_dir: Path) -> None:
    parent = current(data_dir).parent
    for name in ("2", "2.tmp", "1.old.tmp"):
        (parent / name).mkdir()
    repaired(data_dir)
    assert [path.name for path in parent.iterdir()] == ["1"]


def test_repair_undoes_an_interrupted_ingest(data_dir: Path, hits: list[Seen]) -> None:
    catalog = Catalog(data_dir, create=True)
    catalog.remove_document(COLLECTION, 2, "bees.md")
    catalog.close()
    (current(data_dir) / DENSE).unlink()
    repaired(data_dir)
    assert seen_in(data_dir) == hits


def test_repair_without_vectors_fails_and_says_what_to_do(data_dir: Path) -> None:
    catalog = Catalog(data_dir, create=True)
    with catalog.transaction():
        catalog._db.execute("DELETE FROM vector")
    catalog.close()
    (current(data_dir) / DENSE).unlink()
    (outcome,) = repaired(data_dir)
    assert outcome.verdict == "failed"
    assert "ingest again into a new --data-dir" in outcome.reason


def test_repair_without_data_makes_none(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="rag ingest"):
        repaired(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_repair_of_a_damaged_catalog_is_refused(data_dir: Path) -> None:
    path = data_dir / FILE_NAME
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        repaired(data_dir)
    assert caught.value.code == "catalog"
