"""The catalog: one SQLite file that is the source of truth; every index file can be made again from it.

Rows of `source`, `document`, `trim` and `duplicate` carry the versions in which they live: ``born <= version < died``. A writer adds rows
born in the next version, which no reader sees until `commit_version` makes that version current in one transaction; what a crash
left behind is undone when the next writer begins. Document text is stored in compressed blocks, so that a quote from a large
document reads one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rag.errors import InputError, SnapshotError
from rag.store.rows import DuplicateRow, TrimRow
from rag.store.schema import BLOCK_CHARS, BUSY_TIMEOUT_S, LIVE, connect, sqlite_errors
from rag.store.vectors import VectorTable, text_digest
from rag.store.view import View
from rag.text import indexed_text
from rag.types import Document, Span

# A longer metadata value is kept and shown, but cannot be filtered by: it is prose, not a label.
MAX_TAG_CHARS = 256
# Tables with versions of their own that refer to chunks.
_BY_CHUNK = ("duplicate", "trim")


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """A collection and its current version; 0 means that nothing has been published yet."""

    name: str
    version: int
    embedder: str
    dim: int


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A file as last ingested; ``fingerprint`` covers its bytes and everything that decides what is made of them."""

    path: str
    fingerprint: str


class Catalog:
    """One open catalog.

    Args:
        data_dir: Folder that holds the file.
        create: Make folder and file when they are missing; a reader leaves it False.
    """

    def __init__(self, data_dir: Path, *, create: bool = False) -> None:
        self._db = connect(data_dir, create=create)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; within another transaction it joins that one.

        Yields:
            Nothing.
        """
        if self._db.in_transaction:
            yield
            return
        with sqlite_errors(), self._db:  # commits, or rolls back on any exception
            self._db.execute("BEGIN IMMEDIATE")
            yield

    def close(self) -> None:
        """Close the connection; the last writer folds the write-ahead log into the file."""
        self._db.close()

    def check(self) -> None:
        """Let SQLite verify the whole file.

        Raises:
            SnapshotError: If the file is damaged.
        """
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise SnapshotError(
                f"the catalog is damaged: {verdict}; restore it from a backup, or ingest again into a new --data-dir",
                code="catalog",
            )

    def view(self, collection: str, version: int) -> View:
        """Look at one version of a collection."""
        return View(self._db, collection, version)

    def vectors(self, embedder: str) -> VectorTable:
        """The vectors of one embedder."""
        return VectorTable(self._db, embedder)

    # Collections and versions

    def collections(self) -> list[CollectionRow]:
        """All collections, by name."""
        return [
            CollectionRow(*row) for row in self._db.execute("SELECT name, version, embedder, dim FROM collection ORDER BY name")
        ]

    def collection(self, name: str) -> CollectionRow:
        """Find a published collection.

        Args:
            name: Its name.

        Returns:
            The row, whose version is at least 1.

        Raises:
            InputError: If there is none of that name; the message lists those there are.
        """
        row = self._db.execute("SELECT name, version, embedder, dim FROM collection WHERE name = ?", (name,)).fetchone()
        if row is None or row[1] == 0:
            known = ", ".join(c.name for c in self.collections() if c.version) or "none yet"
            raise InputError(
                f"no collection {name!r}; there is: {known}; 'rag ingest FOLDER --collection {name}' makes it",
                code="unknown_collection",
            )
        return CollectionRow(*row)

    def begin(self, name: str, embedder: str, dim: int) -> CollectionRow:
        """Find or add a collection for writing, and undo what an interrupted writer left.

        Args:
            name: Its name.
            embedder: Id of the embedder that is about to be used.
            dim: Length of its vectors.

        Returns:
            The row as it was before this writer; version 0 when it is new.
        """
        with self.transaction():
            self._db.execute("INSERT INTO collection VALUES (?, 0, ?, ?) ON CONFLICT DO NOTHING", (name, embedder, dim))
            row = CollectionRow(
                *self._db.execute("SELECT name, version, embedder, dim FROM collection WHERE name = ?", (name,)).fetchone()
            )
            self._discard_unpublished(name, row.version)
        return row

    def _discard_unpublished(self, name: str, version: int) -> None:
        for table in ("source", "document"):
            self._db.execute(f"UPDATE {table} SET died = NULL WHERE collection = ? AND died > ?", (name, version))
        numbers = [
            n for (n,) in self._db.execute("SELECT document_no FROM document WHERE collection = ? AND born > ?", (name, version))
        ]
        self._db.execute("DELETE FROM source WHERE collection = ? AND born > ?", (name, version))
        self._delete_documents(numbers)
        chunks = "SELECT chunk_no FROM chunk JOIN document USING (document_no) WHERE collection = ?"
        for table in _BY_CHUNK:
            self._db.execute(f"DELETE FROM {table} WHERE born > ? AND chunk_no IN ({chunks})", (version, name))
            self._db.execute(f"UPDATE {table} SET died = NULL WHERE died > ? AND chunk_no IN ({chunks})", (version, name))

    def commit_version(self, name: str, version: int, embedder: str, dim: int) -> None:
        """Make a version current: the one moment at which readers begin to see it."""
        with self.transaction():
            self._db.execute(
                "UPDATE collection SET version = ?, embedder = ?, dim = ? WHERE name = ?",
                (version, embedder, dim, name),
            )

    def forget_before(self, name: str, oldest: int) -> None:
        """Delete what no version from ``oldest`` on can see, and vectors that nothing refers to any more."""
        with self.transaction():
            self._db.execute("DELETE FROM source WHERE collection = ? AND died <= ?", (name, oldest))
            self._delete_documents(
                [
                    n
                    for (n,) in self._db.execute(
                        "SELECT document_no FROM document WHERE collection = ? AND died <= ?", (name, oldest)
                    )
                ]
            )
            for table in _BY_CHUNK:
                self._db.execute(
                    f"DELETE FROM {table} WHERE died <= ? AND chunk_no IN"
                    " (SELECT chunk_no FROM chunk JOIN document USING (document_no) WHERE collection = ?)",
                    (oldest, name),
                )
            self._db.execute(
                "DELETE FROM vector WHERE digest NOT IN (SELECT digest FROM chunk UNION ALL SELECT digest FROM trim)"
                " OR embedder NOT IN (SELECT embedder FROM collection)"
            )
        # Without waiting for readers: what they still need of the log is folded in next time.
        self._db.execute("PRAGMA busy_timeout = 0")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")

    def _delete_documents(self, numbers: Sequence[int]) -> None:
        keys = [(n,) for n in numbers]
        for table in _BY_CHUNK:
            self._db.executemany(f"DELETE FROM {table} WHERE chunk_no IN (SELECT chunk_no FROM chunk WHERE document_no = ?)", keys)
        for table in ("chunk", "tag", "text_block", "document"):
            self._db.executemany(f"DELETE FROM {table} WHERE document_no = ?", keys)

    # Writing

    def sources(self, collection: str, version: int) -> dict[str, SourceRow]:
        """Files that a version was made from, by path."""
        rows = self._db.execute(
            f"SELECT path, fingerprint FROM source WHERE collection = :collection AND {LIVE}",
            {"collection": collection, "version": version},
        )
        return {row[0]: SourceRow(*row) for row in rows}

    def documents_of(self, collection: str, version: int, path: str) -> dict[str, str]:
        """Fingerprint by document id of the documents that came from a file."""
        rows = self._db.execute(
            f"SELECT doc_id, fingerprint FROM document WHERE collection = :collection AND path = :path AND {LIVE}",
            {"collection": collection, "version": version, "path": path},
        )
        return dict(rows.fetchall())

    def owner_of(self, collection: str, version: int, doc_id: str) -> str | None:
        """Path of the file that a document id belongs to, or None."""
        row = self._db.execute(
            f"SELECT path FROM document WHERE collection = :collection AND doc_id = :doc_id AND {LIVE}",
            {"collection": collection, "version": version, "doc_id": doc_id},
        ).fetchone()
        return row and str(row[0])

    def put_source(self, collection: str, version: int, source: SourceRow) -> None:
        """Record how a file looked when its documents were read, in place of what was recorded before."""
        self.remove_source(collection, version, source.path)
        self._db.execute(
            "INSERT INTO source (collection, path, fingerprint, born) VALUES (?, ?, ?, ?)",
            (collection, source.path, source.fingerprint, version),
        )

    def record_source(self, collection: str, version: int, source: SourceRow, *, changed: bool) -> None:
        """Record how a file looked when it was read.

        Args:
            collection: Its collection.
            version: The version that is being made.
            source: The file now.
            changed: Whether its documents differ; if not, the record is corrected in place, because no version need be published.
        """
        live = self._db.execute(
            "UPDATE source SET fingerprint = ? WHERE collection = ? AND path = ? AND died IS NULL AND ? RETURNING 1",
            (source.fingerprint, collection, source.path, not changed),
        ).fetchall()
        if not live:
            self.put_source(collection, version, source)

    def remove_source(self, collection: str, version: int, path: str) -> None:
        """Let a file's record end with the version before."""
        self._db.execute("DELETE FROM source WHERE collection = ? AND path = ? AND born = ?", (collection, path, version))
        self._db.execute(
            "UPDATE source SET died = ? WHERE collection = ? AND path = ? AND died IS NULL", (version, collection, path)
        )

    def remove_document(self, collection: str, version: int, doc_id: str) -> None:
        """Let a document end with the version before."""
        born_now = self._db.execute(
            "SELECT document_no FROM document WHERE collection = ? AND doc_id = ? AND born = ?",
            (collection, doc_id, version),
        ).fetchall()
        self._delete_documents([n for (n,) in born_now])
        self._db.execute(
            "UPDATE document SET died = ? WHERE collection = ? AND doc_id = ? AND died IS NULL",
            (version, collection, doc_id),
        )

    def put_document(
        self, collection: str, version: int, path: str, document: Document, spans: Sequence[Span], fingerprint: str
    ) -> None:
        """Add a document that is born in a version; one of the same id must have been removed before."""
        cursor = self._db.execute(
            "INSERT INTO document (collection, path, doc_id, uri, title, kind, metadata, mtime, fingerprint, n_chars, born)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                collection,
                path,
                document.doc_id,
                document.uri,
                document.title,
                document.kind,
                json.dumps(dict(document.metadata), ensure_ascii=False, sort_keys=True),
                document.mtime,
                fingerprint,
                len(document.text),
                version,
            ),
        )
        number = cursor.lastrowid
        blocks = range(0, len(document.text), BLOCK_CHARS)
        self._db.executemany(
            "INSERT INTO text_block VALUES (?, ?, ?)",
            [(number, i, zlib.compress(document.text[at : at + BLOCK_CHARS].encode())) for i, at in enumerate(blocks)],
        )
        self._db.executemany("INSERT INTO tag VALUES (?, ?, ?)", [(key, value, number) for key, value in tags_of(document)])
        self._db.executemany(
            "INSERT INTO chunk (document_no, start, end, headings, page, line, n_tokens, digest, place, flags)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    number,
                    span.start,
                    span.end,
                    json.dumps(span.headings, ensure_ascii=False) if span.headings else None,
                    span.page,
                    span.line,
                    span.n_tokens,
                    text_digest(indexed_text(document.title, span.headings, document.text[span.start : span.end])),
                    span.place or None,
                    ",".join(span.flags) or None,
                )
                for span in spans
            ],
        )

    def put_duplicates(self, collection: str, version: int, duplicates: Sequence[DuplicateRow]) -> None:
        """Make these the duplicates of a version; those that stay the same keep their row."""
        wanted = {(row.chunk_no, row.of_chunk_no): row for row in duplicates}
        for row in self.view(collection, version).duplicates():
            if wanted.pop((row.chunk_no, row.of_chunk_no), None) is None:
                self._db.execute(
                    "UPDATE duplicate SET died = ? WHERE chunk_no = ? AND of_chunk_no = ? AND died IS NULL",
                    (version, row.chunk_no, row.of_chunk_no),
                )
        self._db.executemany(
            "INSERT INTO duplicate VALUES (?, ?, ?, ?, NULL)",
            [(row.chunk_no, row.of_chunk_no, row.similarity, version) for row in wanted.values()],
        )

    def put_trims(self, collection: str, version: int, trims: Sequence[TrimRow]) -> None:
        """Make these what a version shows of chunks whose edges are boilerplate; those that stay the same keep their row."""
        wanted = {row.chunk_no: row for row in trims}
        for number, row in self.view(collection, version).trims().items():
            if wanted.get(number) == row:
                del wanted[number]
                continue
            self._db.execute("UPDATE trim SET died = ? WHERE chunk_no = ? AND died IS NULL", (version, number))
        self._db.executemany(
            "INSERT INTO trim VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            [(r.chunk_no, r.start, r.end, r.n_lines, r.n_blocks, r.n_tokens, r.digest, version) for r in wanted.values()],
        )


def tags_of(document: Document) -> list[tuple[str, str]]:
    """Labels that a document can be filtered by: its metadata with short values, and its kind; sorted.

    The key ``doc_id`` is left out: a filter by it means the id of the document, whatever its metadata call so.
    """
    labels = {"kind": document.kind} | {k: v for k, v in document.metadata.items() if len(v) <= MAX_TAG_CHARS}
    labels.pop("doc_id", None)
    return sorted(labels.items())
