from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rag.errors import SnapshotError
from rag.store import open_store
from rag.store.admin import repair_data
from rag.store.catalog import Catalog
from rag.store.manifest import MANIFEST, verify
from rag.store.schema import BUSY_TIMEOUT_S, FILE_NAME
from rag.store.snapshot import DENSE, LEXICAL, ROWS, Lease, collect, folder_of, writer_lock
from rag.types import Query
from tests.corpus import COLLECTION, DOCUMENTS, Seen, ingest_into, open_library, seen, seen_in, write_documents
from tests.fakes import CountingEmbedder, HashEmbedder


class Made:
    """A published version 1 of the twelve documents, and what is seen in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.docs = write_documents(base / "docs")
        self.data = base / "data"
        ingest_into(self.data, self.docs)
        self.hits = seen_in(self.data)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def data_dir(made: Made, tmp_path: Path) -> Path:
    """A copy of the data directory to be damaged."""
    return Path(shutil.copytree(made.data, tmp_path / "data"))


@pytest.fixture
def docs(made: Made) -> Path:
    """The documents of `data_dir`, to be ingested unchanged."""
    return made.docs


def folder(data_dir: Path, version: int = 1) -> Path:
    return folder_of(data_dir, COLLECTION, version)


def names(snapshot: Path) -> list[str]:
    """Its files, but for the lock that tantivy makes when somebody reads."""
    return sorted(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file() and path.suffix != ".lock")


def versions(data_dir: Path) -> list[str]:
    return sorted(path.name for path in folder(data_dir).parent.iterdir())


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


# What a snapshot holds


def test_manifest_lists_every_other_file_with_its_hash(made: Made) -> None:
    listed = json.loads((folder(made.data) / MANIFEST).read_text())["files"]
    assert sorted([*listed, MANIFEST]) == names(folder(made.data))
    for name, entry in listed.items():
        content = (folder(made.data) / name).read_bytes()
        assert (entry["n_bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_manifest_says_what_the_snapshot_is(made: Made) -> None:
    manifest = verify(folder(made.data))
    assert (manifest.collection, manifest.version, manifest.embedder, manifest.dim) == (COLLECTION, 1, HashEmbedder().id, 64)
    assert (manifest.n_documents, manifest.n_rows) == (12, manifest.n_chunks)


def test_every_document_is_found_again_whole(made: Made) -> None:
    store = open_store(made.data, COLLECTION)
    chunks = store.chunks(np.arange(store.n_rows))
    assert sorted({chunk.doc_id for chunk in chunks}) == sorted(DOCUMENTS)
    assert all(DOCUMENTS[chunk.doc_id].count(chunk.text) == 1 for chunk in chunks)
    store.close()


def test_rows_file_holds_numbers_that_need_no_pickle(made: Made) -> None:
    rows = np.load(folder(made.data) / ROWS, allow_pickle=False)
    assert rows.dtype == np.int64
    assert len(set(rows.tolist())) == len(rows)


def test_content_in_another_order_makes_the_same_digests_and_hits(made: Made, tmp_path: Path) -> None:
    docs, data = tmp_path / "docs", tmp_path / "data"
    for part in (list(DOCUMENTS)[7:], list(DOCUMENTS)[:7]):
        ingest_into(data, write_documents(docs, part))
    one, other = verify(folder(made.data)), verify(folder(data, 2))
    assert other.content_sha256 == one.content_sha256
    assert (other.lexical_input, other.dense_input) == (one.lexical_input, one.dense_input)
    assert seen_in(data) == made.hits


def test_another_word_makes_another_content_digest(made: Made, tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs")
    (docs / "heart.txt").write_text(DOCUMENTS["heart.txt"].replace("sixty", "fifty"))
    ingest_into(tmp_path / "data", docs)
    assert verify(folder(tmp_path / "data")).content_sha256 != verify(folder(made.data)).content_sha256


def test_lock_files_of_readers_are_not_part_of_a_snapshot(data_dir: Path, docs: Path) -> None:
    open_library(data_dir).close()
    ingest_into(data_dir, docs, embedder=HashEmbedder(dim=32))
    for version in (1, 2):
        assert not [name for name in verify(folder(data_dir, version)).files if name.endswith(".lock")]


# Versions


def test_unchanged_dense_index_is_linked_when_only_metadata_change(data_dir: Path, docs: Path) -> None:
    report = ingest_into(data_dir, docs, metadata={"shelf": "7"})
    assert (report.version, report.n_embedded) == (2, 0)
    assert os.path.samefile(folder(data_dir, 1) / DENSE, folder(data_dir, 2) / DENSE)
    assert verify(folder(data_dir, 1)).lexical_input != verify(folder(data_dir, 2)).lexical_input


def test_unchanged_lexical_index_is_linked_when_only_the_embedder_changes(data_dir: Path, docs: Path) -> None:
    ingest_into(data_dir, docs, embedder=HashEmbedder(dim=32))
    lexical = [name for name in names(folder(data_dir, 1)) if name.startswith(LEXICAL)]
    assert all(os.path.samefile(folder(data_dir, 1) / name, folder(data_dir, 2) / name) for name in lexical)
    assert verify(folder(data_dir, 2)).dim == 32


def test_damaged_index_is_not_linked_into_the_next_version(data_dir: Path, docs: Path) -> None:
    flip(folder(data_dir) / DENSE, -1)
    ingest_into(data_dir, docs, metadata={"shelf": "7"})
    assert not os.path.samefile(folder(data_dir, 1) / DENSE, folder(data_dir, 2) / DENSE)
    verify(folder(data_dir, 2))


def test_only_as_many_versions_are_kept_as_asked_for(data_dir: Path, docs: Path) -> None:
    for n in range(4):
        ingest_into(data_dir, docs, metadata={"n": str(n)}, keep_versions=3)
    assert versions(data_dir) == ["3", "4", "5"]
    ingest_into(data_dir, docs, metadata={"n": "last"}, keep_versions=1)
    assert versions(data_dir) == ["6"]


def test_version_that_a_reader_holds_stays_readable(data_dir: Path, made: Made) -> None:
    other = write_documents(made.base / "other", ["chess.md"])
    with open_library(data_dir) as engine:
        shutil.rmtree(made.base / "other")
        other.mkdir()
        (other / "new.txt").write_text("Lighthouses warn ships of rocks.")
        for n in range(3):
            ingest_into(data_dir, other, metadata={"n": str(n)}, keep_versions=1)
        assert seen(engine) == made.hits
        assert engine.document_text("heart.txt") == DOCUMENTS["heart.txt"]
        assert versions(data_dir) == ["1", "4"]


def test_version_is_collected_after_its_reader_has_gone(data_dir: Path, docs: Path) -> None:
    open_library(data_dir).close()
    ingest_into(data_dir, docs, metadata={"n": "1"}, keep_versions=1)
    assert versions(data_dir) == ["2"]


def test_catalog_forgets_what_no_version_needs(data_dir: Path, docs: Path, tmp_path: Path) -> None:
    changed = write_documents(tmp_path / "docs", ["bread.md"])
    for n in range(3):
        ingest_into(data_dir, docs, metadata={"n": str(n)}, keep_versions=1)
    fresh = tmp_path / "fresh"
    ingest_into(fresh, docs, metadata={"n": "2"})
    catalogs = [Catalog(data_dir), Catalog(fresh)]
    counts = [
        [c._db.execute(f"SELECT count(*) FROM {t}").fetchone() for t in "source document chunk tag text_block vector".split()]
        for c in catalogs
    ]
    for catalog in catalogs:
        catalog.close()
    assert counts[0] == counts[1]
    assert changed.exists()


def test_new_reader_sees_the_new_version_and_an_old_one_its_own(data_dir: Path, docs: Path) -> None:
    with open_library(data_dir) as old:
        ingest_into(data_dir, docs, metadata={"n": "1"})
        with open_library(data_dir) as new:
            assert [engine.search(Query("bees", mode="bm25")).version for engine in (old, new)] == [1, 2]


def test_lease_on_a_version_that_was_just_deleted_is_refused(data_dir: Path, docs: Path) -> None:
    """A reader that waits for a collector must not go on with the unlinked files."""
    manifest = folder(data_dir) / MANIFEST
    outcome: list[str] = []

    def read() -> None:
        try:
            Lease(folder(data_dir)).close()
            outcome.append("opened")
        except SnapshotError as error:
            outcome.append(error.code)

    with manifest.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.3)
        assert not outcome  # it waits
        shutil.rmtree(folder(data_dir))
    reader.join(10)
    assert outcome == ["damaged"]
    assert docs.exists()


def test_unfinished_folders_are_collected_and_do_not_matter(data_dir: Path, docs: Path) -> None:
    for name in ("2.tmp", "2", "1.old.tmp", "2.old.tmp", "9"):
        (folder(data_dir).parent / name / LEXICAL).mkdir(parents=True)
        (folder(data_dir).parent / name / "junk").write_text("left by a crash")
    report = ingest_into(data_dir, docs, metadata={"n": "1"})
    assert report.version == 2
    assert versions(data_dir) == ["1", "2"]


def test_crashed_versions_are_replaced_however_often_it_crashes(data_dir: Path, docs: Path) -> None:
    # Twice a writer died between the rename and the commit.
    for name in ("2", "2.old.tmp"):
        shutil.copytree(folder(data_dir), folder(data_dir).parent / name)
    assert ingest_into(data_dir, docs, metadata={"n": "1"}).version == 2
    assert versions(data_dir) == ["1", "2"]


# Damage


SNAPSHOT_FILES = [
    ROWS,
    DENSE,
    MANIFEST,
    "lexical/meta.json",
    "lexical/.managed.json",
    "*.term",
    "*.idx",
    "*.store",
    "*.fast",
    "*.fieldnorm",
]


def one_file(snapshot: Path, pattern: str) -> Path:
    found = [path for path in sorted(snapshot.rglob("*")) if path.is_file() and path.match(pattern)]
    assert found, pattern
    return found[0]


def assert_refused(data_dir: Path, made: Made, damaged: Path) -> None:
    """Opening names the file and the way out, and the way out works."""
    with pytest.raises(SnapshotError) as caught:
        open_store(data_dir, COLLECTION)
    assert caught.value.code == "damaged"
    assert str(damaged) in str(caught.value)
    assert "run 'rag repair'" in str(caught.value)
    assert [(outcome.name, outcome.version, outcome.verdict) for outcome in repair_data(data_dir, keep=2, force=False)] == [
        (COLLECTION, 1, "rebuilt")
    ]
    assert seen_in(data_dir) == made.hits
    assert versions(data_dir) == ["1"]


def test_every_kind_of_file_is_damaged_below(made: Made) -> None:
    snapshot = folder(made.data)
    covered = {path for pattern in SNAPSHOT_FILES for path in [one_file(snapshot, pattern)]}
    kinds = {path.suffix or path.name for path in covered} | {".pos"}
    assert {Path(name).suffix or Path(name).name for name in names(snapshot)} <= kinds


@pytest.mark.parametrize("pattern", SNAPSHOT_FILES)
def test_flipped_bit_is_noticed_and_repaired(data_dir: Path, made: Made, pattern: str) -> None:
    path = one_file(folder(data_dir), pattern)
    flip(path, path.stat().st_size // 2)
    assert_refused(data_dir, made, path)


@pytest.mark.parametrize("pattern", SNAPSHOT_FILES)
def test_truncated_file_is_noticed_and_repaired(data_dir: Path, made: Made, pattern: str) -> None:
    path = one_file(folder(data_dir), pattern)
    os.truncate(path, path.stat().st_size - 8)
    assert_refused(data_dir, made, path)


@pytest.mark.parametrize("pattern", [ROWS, DENSE, "lexical/meta.json"])
def test_missing_file_is_noticed_and_repaired(data_dir: Path, made: Made, pattern: str) -> None:
    path = one_file(folder(data_dir), pattern)
    path.unlink()
    assert_refused(data_dir, made, path)


@pytest.mark.parametrize("pattern", [ROWS, DENSE, MANIFEST])
def test_empty_file_is_noticed_and_repaired(data_dir: Path, made: Made, pattern: str) -> None:
    path = one_file(folder(data_dir), pattern)
    os.truncate(path, 0)
    assert_refused(data_dir, made, path)


def test_swapped_files_are_noticed_and_repaired(data_dir: Path, made: Made) -> None:
    one, other = folder(data_dir) / ROWS, folder(data_dir) / DENSE
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert_refused(data_dir, made, other)


def test_missing_snapshot_is_noticed_and_repaired(data_dir: Path, made: Made) -> None:
    shutil.rmtree(folder(data_dir))
    assert_refused(data_dir, made, folder(data_dir))


def test_missing_manifest_is_noticed_and_repaired(data_dir: Path, made: Made) -> None:
    (folder(data_dir) / MANIFEST).unlink()
    assert_refused(data_dir, made, folder(data_dir))


def test_snapshot_of_another_version_in_its_place_is_noticed(data_dir: Path, docs: Path) -> None:
    ingest_into(data_dir, docs, metadata={"n": "1"})
    shutil.rmtree(folder(data_dir, 2))
    shutil.copytree(folder(data_dir, 1), folder(data_dir, 2))
    with pytest.raises(SnapshotError, match="version 1 .*run 'rag repair'"):
        open_store(data_dir, COLLECTION)


def test_no_flipped_bit_of_the_manifest_changes_what_it_says(data_dir: Path) -> None:
    path = folder(data_dir) / MANIFEST
    content = path.read_bytes()
    truth = verify(folder(data_dir))
    n_noticed = 0
    places = range(0, len(content), 7)
    for at in places:
        flip(path, at, bit=at % 7)
        try:
            found = verify(folder(data_dir))
        except SnapshotError as error:
            n_noticed += str(folder(data_dir)) in str(error)
        else:
            assert found == truth  # white space says nothing
        path.write_bytes(content)
    assert n_noticed > len(places) * 0.8


@pytest.mark.parametrize(
    "text", ["[]", "7", "null", '{"format_version": "one"}', '{"format_version": 1, "files": []}', "{}", "\u0000"]
)
def test_manifest_that_is_something_else_is_damage(data_dir: Path, made: Made, text: str) -> None:
    path = folder(data_dir) / MANIFEST
    path.write_text(text)
    assert_refused(data_dir, made, path)


def test_newer_snapshot_format_is_refused_with_the_way_out(data_dir: Path) -> None:
    path = folder(data_dir) / MANIFEST
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(SnapshotError, match="format 2.*upgrade") as caught:
        open_store(data_dir, COLLECTION)
    assert caught.value.code == "newer_format"


# One writer, any number of readers


HOLD = """
import sys
from pathlib import Path
from rag.store.snapshot import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_writer_is_refused_and_told_who_writes(data_dir: Path, docs: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SnapshotError, match=f"process {other.pid}") as caught:
            ingest_into(data_dir, docs, metadata={"n": "1"})
        assert caught.value.code == "locked"
        with open_library(data_dir) as engine:  # readers do not care
            seen(engine)
        other.kill()
    assert ingest_into(data_dir, docs, metadata={"n": "1"}).version == 2


def test_repair_is_a_writer_too(data_dir: Path) -> None:
    with writer_lock(data_dir), pytest.raises(SnapshotError) as caught:
        repair_data(data_dir, keep=2, force=False)
    assert caught.value.code == "locked"


def test_reader_does_not_block_a_writer(data_dir: Path, docs: Path, made: Made) -> None:
    with open_library(data_dir) as engine:
        assert seen(engine) == made.hits
        assert ingest_into(data_dir, docs, metadata={"n": "1"}).version == 2


def test_reader_in_the_middle_of_a_query_does_not_hold_up_a_writer(data_dir: Path, docs: Path) -> None:
    reader = Catalog(data_dir)
    rows = reader._db.execute("SELECT * FROM chunk")
    next(rows)
    began = time.monotonic()
    assert ingest_into(data_dir, docs, metadata={"n": "1"}).version == 2
    assert time.monotonic() - began < BUSY_TIMEOUT_S / 2
    reader.close()


def follow(
    data_dir: Path, done: threading.Event, expected: dict[int, list[Seen]], trouble: list[object], n_read: list[int]
) -> None:
    try:
        while not done.is_set():
            with open_library(data_dir) as engine:
                version = engine.search(Query("bees", mode="bm25")).version
                hits = seen(engine, ["number of the edition", "rent of the tenant"])
                again = seen(engine, ["number of the edition", "rent of the tenant"])
                if not hits == again == expected.setdefault(version, hits):
                    trouble.append((version, hits, again))
                editions = {text for one in hits for doc_id, _, text, *_ in one if doc_id == "edition.txt"}
                if editions - {f"This is edition number {version}."}:
                    trouble.append((version, editions))
                n_read.append(version)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the test must hear of it
        trouble.append(error)


@pytest.mark.parametrize("keep_versions", [1, 2])
def test_readers_see_whole_versions_while_a_writer_publishes(tmp_path: Path, keep_versions: int) -> None:
    docs, data = write_documents(tmp_path / "docs"), tmp_path / "data"

    def publish(version: int) -> None:
        (docs / "edition.txt").write_text(f"This is edition number {version}.\n")
        assert ingest_into(data, docs, keep_versions=keep_versions).version == version

    publish(1)
    done, trouble, n_read = threading.Event(), [], []  # type: ignore[var-annotated]
    expected: dict[int, list[Seen]] = {}
    readers = [threading.Thread(target=follow, args=(data, done, expected, trouble, n_read)) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for version in range(2, 8):
            publish(version)
    finally:
        done.set()
        for reader in readers:
            reader.join(60)
    assert trouble == []
    assert n_read
    assert len(versions(data)) <= keep_versions + 2


def test_embedding_is_not_repeated_for_a_repair(data_dir: Path, docs: Path) -> None:
    embedder = CountingEmbedder()
    shutil.rmtree(folder(data_dir))
    repair_data(data_dir, keep=2, force=False)
    assert not ingest_into(data_dir, docs, embedder=embedder).published
    assert embedder.texts == []


def test_collecting_deletes_what_is_old_and_nothing_else(data_dir: Path, docs: Path) -> None:
    ingest_into(data_dir, docs, metadata={"n": "1"})
    catalog = Catalog(data_dir, create=True)
    collect(catalog, data_dir, COLLECTION, 2, keep=1)
    catalog.close()
    assert versions(data_dir) == ["2"]
    assert (data_dir / FILE_NAME).exists()
    verify(folder(data_dir, 2))
