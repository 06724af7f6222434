"""The catalog file: its tables, its format version, and how it is opened."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rag.errors import SnapshotError

FORMAT_VERSION = 2
FILE_NAME = "catalog.sqlite"
# How long a writer waits for another one; readers and writers do not wait for each other.
BUSY_TIMEOUT_S = 30.0
_APPLICATION_ID = 0x52574154  # "RWAT"

# 16k characters hold a dozen chunks; zlib gains little beyond that.
BLOCK_CHARS = 16_384
LIVE = "born <= :version AND (died IS NULL OR died > :version)"

# What a version shows of a chunk whose edges are boilerplate; nothing where ``start`` is ``end``.
_TRIM = """CREATE TABLE trim (
  chunk_no INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, n_lines INTEGER NOT NULL, n_blocks INTEGER NOT NULL,
  n_tokens INTEGER NOT NULL, digest BLOB NOT NULL, born INTEGER NOT NULL, died INTEGER);
CREATE INDEX trim_by_chunk ON trim (chunk_no);"""
_SCHEMA = f"""
CREATE TABLE collection (name TEXT PRIMARY KEY, version INTEGER NOT NULL, embedder TEXT NOT NULL, dim INTEGER NOT NULL);
CREATE TABLE source (
  source_no INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL, fingerprint TEXT NOT NULL,
  born INTEGER NOT NULL, died INTEGER);
CREATE INDEX source_by_path ON source (collection, path);
CREATE TABLE document (
  document_no INTEGER PRIMARY KEY, collection TEXT NOT NULL, path TEXT NOT NULL, doc_id TEXT NOT NULL, uri TEXT NOT NULL,
  title TEXT NOT NULL, kind TEXT NOT NULL, metadata TEXT NOT NULL, mtime REAL, fingerprint TEXT NOT NULL, n_chars INTEGER NOT NULL,
  born INTEGER NOT NULL, died INTEGER);
CREATE INDEX document_by_id ON document (collection, doc_id);
CREATE INDEX document_by_path ON document (collection, path);
CREATE TABLE text_block (document_no INTEGER, block_no INTEGER, data BLOB NOT NULL, PRIMARY KEY (document_no, block_no)) WITHOUT
ROWID; CREATE TABLE tag (key TEXT, value TEXT, document_no INTEGER, PRIMARY KEY (key, value, document_no)) WITHOUT ROWID;
CREATE INDEX tag_by_document ON tag (document_no);
CREATE TABLE chunk (
  chunk_no INTEGER PRIMARY KEY, document_no INTEGER NOT NULL, start INTEGER NOT NULL, end INTEGER NOT NULL, headings TEXT,
  page INTEGER, line INTEGER, n_tokens INTEGER NOT NULL, digest BLOB NOT NULL, place TEXT, flags TEXT);
CREATE INDEX chunk_by_document ON chunk (document_no, start);
CREATE TABLE duplicate (
  chunk_no INTEGER NOT NULL, of_chunk_no INTEGER NOT NULL, similarity REAL NOT NULL, born INTEGER NOT NULL, died INTEGER);
CREATE INDEX duplicate_by_original ON duplicate (of_chunk_no);
{_TRIM}
CREATE TABLE vector (embedder TEXT, digest BLOB, data BLOB NOT NULL, PRIMARY KEY (embedder, digest)) WITHOUT ROWID;
"""

# Format 2 has place and flags of a chunk, and what is trimmed of it.
_TO_FORMAT_2 = f"ALTER TABLE chunk ADD COLUMN place TEXT; ALTER TABLE chunk ADD COLUMN flags TEXT; {_TRIM}"
# For a reader of format 1, which must not write: names of the temporary schema go before those of the file.
_READ_FORMAT_1 = f"""{_TRIM.replace("CREATE TABLE", "CREATE TEMP TABLE").replace("INDEX ", "INDEX temp.")}
CREATE TEMP VIEW chunk AS SELECT
  chunk_no, document_no, start, end, headings, page, line, n_tokens, digest, NULL AS place, NULL AS flags FROM main.chunk;"""


def connect(data_dir: Path, *, create: bool) -> sqlite3.Connection:
    """Open the catalog of a data directory.

    Args:
        data_dir: Folder that holds it.
        create: Make folder and file when they are missing and open for writing; otherwise every write is refused.

    Returns:
        A connection in autocommit mode that threads may share (this SQLite serialises calls: ``sqlite3.threadsafety == 3``).

    Raises:
        SnapshotError: If there is no catalog, it is damaged, of a newer format, or not a catalog.
    """
    path = data_dir / FILE_NAME
    if create:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SnapshotError(
                f"data directory {data_dir} cannot be made: {error.strerror}; name another with --data-dir",
                code="data_dir",
            ) from error
    elif not path.exists():
        raise SnapshotError(
            f"no catalog in data directory {data_dir}; run 'rag ingest FOLDER' first, or name another with --data-dir",
            code="no_data",
        )
    # On a read-only volume nobody writes, and the write-ahead log, which even readers need, cannot be made.
    uri = path.resolve().as_uri() + ("" if os.access(data_dir, os.W_OK) else "?immutable=1")
    with ExitStack() as undo:
        with sqlite_errors():
            db = sqlite3.connect(
                uri, uri=True, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S, factory=_Connection
            )
        undo.callback(db.close)
        _prepare(db, path, create=create)
        undo.pop_all()
    return db


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Turn errors of SQLite, and of what it keeps for us in its columns, into ours.

    Yields:
        Nothing.

    Raises:
        SnapshotError: If SQLite reports damage, a full disk, a lock or anything else, or a stored value cannot be decoded.
    """
    try:
        yield
    # SQLite keeps no checksums: damage may show in a value only, or even in the text of the error message.
    except (sqlite3.Error, zlib.error, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SnapshotError(
            f"the catalog cannot be used: {error}; check the disk, then run 'rag repair', or restore {FILE_NAME} from a backup",
            code="catalog",
        ) from error


class _Cursor(sqlite3.Cursor):
    """A cursor whose errors are ours; rows are fetched when they are asked for, so damage may show only then."""

    def __next__(self) -> tuple[Any, ...]:
        with sqlite_errors():
            return super().__next__()  # type: ignore[no-any-return]

    def fetchone(self) -> tuple[Any, ...] | None:
        with sqlite_errors():
            return super().fetchone()  # type: ignore[no-any-return]

    def fetchall(self) -> list[tuple[Any, ...]]:
        with sqlite_errors():
            return super().fetchall()


class _Connection(sqlite3.Connection):
    """A connection whose errors are ours."""

    def execute(self, sql: str, values: Any = (), /) -> _Cursor:  # noqa: ANN401 - as wide as what it overrides
        with sqlite_errors():
            return self.cursor(_Cursor).execute(sql, values)

    def executemany(self, sql: str, values: Any, /) -> _Cursor:  # noqa: ANN401
        with sqlite_errors():
            return self.cursor(_Cursor).executemany(sql, values)


def _prepare(db: sqlite3.Connection, path: Path, *, create: bool) -> None:
    found = db.execute("PRAGMA user_version").fetchone()[0]
    application = db.execute("PRAGMA application_id").fetchone()[0]
    is_empty = db.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if is_empty and create and any((path.parent / "snapshots").glob("*/*")):
        # A new one here would make what the snapshots were built from look as if it had never been.
        raise SnapshotError(
            f"catalog {path} is missing or empty, but there are snapshots beside it; restore it from a backup, "
            "or ingest again into a new --data-dir",
            code="catalog",
        )
    if is_empty and create:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {FORMAT_VERSION}; COMMIT;"
        )
    elif application != _APPLICATION_ID:
        raise SnapshotError(f"{path} is not a Ragwatt catalog; use another --data-dir", code="catalog")
    elif found > FORMAT_VERSION:
        raise SnapshotError(
            f"catalog {path} has format {found}; this version reads format {FORMAT_VERSION} and older: upgrade ragwatt, "
            "or use another --data-dir",
            code="newer_format",
        )
    if not create:
        if found == 1:
            with sqlite_errors():
                db.executescript(f"PRAGMA temp_store = MEMORY; {_READ_FORMAT_1}")
        db.execute("PRAGMA query_only = ON")
        return
    if found == 1:
        _migrate(db)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, whatever the default of this SQLite


def _migrate(db: sqlite3.Connection) -> None:
    """Bring format 1 to the present one, all or nothing; a reader that has it open goes on."""
    with sqlite_errors(), db:
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] == 1:  # no other writer was faster
            for statement in f"{_TO_FORMAT_2} PRAGMA user_version = 2".split(";"):
                db.execute(statement)
