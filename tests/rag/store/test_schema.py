from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from rag.errors import InputError, SnapshotError
from rag.store.admin import data_status
from rag.store.catalog import Catalog
from rag.store.schema import FILE_NAME, FORMAT_VERSION, connect
from tests.corpus import COLLECTION, DOCUMENTS, ingest_into, open_library, seen, seen_in, write_documents


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory of twelve documents; tests copy from it."""
    base: Path = tmp_path_factory.mktemp("made")
    ingest_into(base / "data", write_documents(base / "docs"))
    return base / "data"


@pytest.fixture
def data_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def as_format_1(data_dir: Path) -> None:
    """Make the catalog one of a version that knew neither places nor flags nor trims."""
    with closing(sqlite3.connect(data_dir / FILE_NAME, isolation_level=None)) as db:
        db.executescript("DROP TABLE trim; ALTER TABLE chunk DROP COLUMN place; ALTER TABLE chunk DROP COLUMN flags")
        db.execute("PRAGMA user_version = 1")


def written_format(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / FILE_NAME)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_reader_of_format_1_sees_all_and_changes_nothing(data_dir: Path) -> None:
    before = seen_in(data_dir)
    as_format_1(data_dir)
    assert seen_in(data_dir) == before
    assert written_format(data_dir) == 1


def test_reader_of_format_1_cannot_write(data_dir: Path) -> None:
    as_format_1(data_dir)
    with closing(connect(data_dir, create=False)) as db, pytest.raises(SnapshotError):
        db.execute("DELETE FROM document")


def test_writer_brings_format_1_to_the_present_one(data_dir: Path) -> None:
    before = seen_in(data_dir)
    as_format_1(data_dir)
    connect(data_dir, create=True).close()
    assert written_format(data_dir) == FORMAT_VERSION
    assert seen_in(data_dir) == before


def test_reader_of_format_1_goes_on_while_a_writer_migrates(data_dir: Path) -> None:
    as_format_1(data_dir)
    with open_library(data_dir) as engine:
        before = seen(engine)
        connect(data_dir, create=True).close()
        assert seen(engine) == before


def test_migrated_catalog_has_the_tables_of_a_new_one(data_dir: Path, tmp_path: Path) -> None:
    def tables(folder: Path) -> list[tuple[object, ...]]:
        with closing(connect(folder, create=True)) as db:
            return db.execute(
                "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c ORDER BY 1, 2"
            ).fetchall()

    as_format_1(data_dir)
    assert tables(data_dir) == tables(tmp_path / "new")


def test_new_catalog_says_whose_it_is(tmp_path: Path) -> None:
    connect(tmp_path / "new", create=True).close()
    db = sqlite3.connect(tmp_path / "new" / FILE_NAME)
    assert db.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"RWAT"
    assert db.execute("PRAGMA user_version").fetchone() == (FORMAT_VERSION,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def test_reader_makes_no_catalog(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="'rag ingest FOLDER'") as caught:
        connect(tmp_path, create=False)
    assert caught.value.code == "no_data"
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SnapshotError, match="--data-dir") as caught:
        connect(tmp_path / "file" / "data", create=True)
    assert caught.value.code == "data_dir"


@pytest.mark.parametrize("create", [True, False])
def test_newer_format_is_refused(data_dir: Path, create: bool) -> None:
    db = sqlite3.connect(data_dir / FILE_NAME)
    db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    db.close()
    with pytest.raises(SnapshotError, match=f"format {FORMAT_VERSION + 1}.*upgrade") as caught:
        connect(data_dir, create=create)
    assert caught.value.code == "newer_format"


@pytest.mark.parametrize("create", [True, False])
def test_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, create: bool) -> None:
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("CREATE TABLE diary (day TEXT)")
    db.close()
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(SnapshotError, match="not a Ragwatt catalog"):
        connect(tmp_path, create=create)
    assert (tmp_path / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "content", [b"not a database, but text that is long enough to be one" * 100, b"\0" * 8192, b"SQLite format 3\0"]
)
def test_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes, create: bool) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(SnapshotError) as caught:
        connect(tmp_path, create=create)
    assert caught.value.code == "catalog"
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_empty_file_is_no_catalog_to_a_reader(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(SnapshotError) as caught:
        connect(tmp_path, create=False)
    assert caught.value.code == "catalog"


def test_empty_file_becomes_a_catalog_for_a_writer(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    connect(tmp_path, create=True).close()
    with closing(connect(tmp_path, create=False)) as db:
        assert db.execute("SELECT count(*) FROM collection").fetchone() == (0,)


def test_reader_cannot_write(data_dir: Path) -> None:
    db = connect(data_dir, create=False)
    with pytest.raises(SnapshotError) as caught:
        db.execute("DELETE FROM document")
    assert caught.value.code == "catalog"
    db.close()


def test_reader_leaves_a_read_only_catalog_readable(data_dir: Path) -> None:
    catalog = data_dir / FILE_NAME
    catalog.chmod(stat.S_IRUSR)
    assert [row.name for row in data_status(data_dir)] == [COLLECTION]


def test_truncated_catalog_is_reported(data_dir: Path) -> None:
    path = data_dir / FILE_NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SnapshotError) as caught:
        Catalog(data_dir, create=True).check()
    assert caught.value.code == "catalog"


def garbled(path: Path, random: Random) -> None:
    """Flip a dozen bits of what is not zero."""
    content = bytearray(path.read_bytes())
    written = [at for at, byte in enumerate(content) if byte]
    for at in random.sample(written, 12):
        content[at] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def used(data_dir: Path) -> None:
    """All that a reader does."""
    data_status(data_dir)
    with open_library(data_dir) as engine:
        seen(engine)
        for doc_id in DOCUMENTS:
            engine.document_text(doc_id)


def test_garbled_catalog_is_never_an_error_that_is_not_ours(made: Path, tmp_path: Path) -> None:
    random = Random(7)
    n_noticed = 0
    for attempt in range(80):
        copy = Path(shutil.copytree(made, tmp_path / str(attempt)))
        garbled(copy / FILE_NAME, random)
        try:
            used(copy)
        except (SnapshotError, InputError):  # a garbled name is an unknown one
            n_noticed += 1
    assert n_noticed > 10


def test_garbled_catalog_does_not_end_a_writer_with_an_error_that_is_not_ours(made: Path, tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs")
    (docs / "more.txt").write_text("Another document about lighthouses.")
    random = Random(8)
    for attempt in range(20):
        copy = Path(shutil.copytree(made, tmp_path / str(attempt)))
        garbled(copy / FILE_NAME, random)
        try:
            outcome: object = ingest_into(copy, docs).version
        except (SnapshotError, InputError) as error:
            outcome = error.code
        assert outcome in (1, 2, "catalog", "damaged", "missing_vectors", "newer_format", "unknown_collection")
