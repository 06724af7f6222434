"""One version of one collection, as the catalog tells it: read only, and the same for as long as it is looked at."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from rag.errors import InputError, SnapshotError
from rag.index.lexical import label
from rag.store.rows import Counts, DocumentRow, DuplicateRow, LiveChunk, TrimRow
from rag.store.schema import BLOCK_CHARS, LIVE
from rag.store.stored import StoredDocument, from_json, headings_of, joined, stored_documents
from rag.store.vectors import MAX_VARIABLES
from rag.types import Chunk, Filters, Source


class View:
    """What one version of a collection holds.

    Args:
        db: Connection of the catalog.
        collection: Name of the collection.
        version: The version to look at; nothing that another version adds or removes is seen.
    """

    def __init__(self, db: sqlite3.Connection, collection: str, version: int) -> None:
        self._db = db
        self.collection = collection
        self.version = version
        self._names = {"collection": collection, "version": version}
        # Chunks as this version shows them: `trim` overlays `chunk`.
        self._shown = (
            "WITH shown AS (SELECT c.chunk_no, document_no, headings, page, place, flags, c.line + coalesce(t.n_lines, 0) AS line,"
            " coalesce(t.start, c.start) AS start, coalesce(t.end, c.end) AS end, coalesce(t.n_tokens, c.n_tokens) AS n_tokens,"
            " coalesce(t.digest, c.digest) AS digest FROM chunk c LEFT JOIN trim t ON t.chunk_no = c.chunk_no"
            f" AND t.born <= {int(version)} AND (t.died IS NULL OR t.died > {int(version)}) WHERE t.start IS NULL OR t.start < t.end) "
        )

    def counts(self) -> Counts:
        """How much there is."""
        where = f"WHERE collection = :collection AND {LIVE}"
        (n_documents,) = self._db.execute(f"SELECT count(*) FROM document {where}", self._names).fetchone()
        (n_chunks,) = self._db.execute(
            f"{self._shown} SELECT count(*) FROM shown JOIN document USING (document_no) {where}", self._names
        ).fetchone()
        n_boilerplate = sum(row.n_blocks for row in self.trims().values())
        return Counts(n_documents, n_chunks, len(self.duplicates()), n_boilerplate)

    def documents(self, *, after: str = "", limit: int | None = None) -> list[DocumentRow]:
        """Documents by id, in order of code points.

        Args:
            after: Only those whose id comes after this one.
            limit: At most so many; None means all.

        Returns:
            A row each; the cost is that of the rows returned, not of the collection.
        """
        return self._listed(">", after, -1 if limit is None else limit)

    def document(self, doc_id: str) -> DocumentRow:
        """The document of an id; InputError ``unknown_document`` if there is none."""
        for row in self._listed("=", doc_id, 1):
            return row
        raise self._unknown(doc_id)

    def _listed(self, sign: str, doc_id: str, limit: int) -> list[DocumentRow]:
        rows = self._db.execute(
            f"{self._shown} SELECT doc_id, uri, title, kind, n_chars, (SELECT count(*) FROM shown s WHERE s.document_no = d.document_no)"
            f" FROM document d WHERE collection = :collection AND doc_id {sign} :doc_id AND {LIVE} ORDER BY doc_id LIMIT :limit",
            {**self._names, "doc_id": doc_id, "limit": limit},
        )
        return [DocumentRow(*row) for row in rows]

    def fingerprints(self, doc_ids: Sequence[str]) -> dict[str, str]:
        """Digest of all that is kept of each document, by id; ids that this version lacks are missing."""
        found: dict[str, str] = {}
        for at in range(0, len(doc_ids), MAX_VARIABLES):
            part = doc_ids[at : at + MAX_VARIABLES]
            found |= self._db.execute(
                f"SELECT doc_id, fingerprint FROM document WHERE collection = ? AND doc_id IN ({','.join('?' * len(part))})"
                " AND born <= ? AND (died IS NULL OR died > ?)",
                (self.collection, *part, self.version, self.version),
            ).fetchall()
        return found

    def content_sha256(self) -> str:
        """Digest of the documents and what is shown of them: the same for the same content, however it came about."""
        digest = hashlib.sha256()
        for doc_id, fingerprint in self._db.execute(
            f"SELECT doc_id, fingerprint FROM document WHERE collection = :collection AND {LIVE} ORDER BY doc_id",
            self._names,
        ):
            digest.update(f"{doc_id}\0{fingerprint}\n".encode())
        for row in self._db.execute(
            "SELECT doc_id, c.start, t.start, t.end FROM trim t JOIN chunk c USING (chunk_no) JOIN document d USING (document_no)"
            " WHERE collection = :collection AND t.born <= :version AND (t.died IS NULL OR t.died > :version) ORDER BY doc_id, c.start",
            self._names,
        ):
            digest.update("{}\0{} {} {}\n".format(*row).encode())
        return digest.hexdigest()

    def doc_id_of(self, chunk_no: int) -> str:
        """Document id of a chunk."""
        sql = "SELECT doc_id FROM chunk JOIN document USING (document_no) WHERE chunk_no = ?"
        return str(self._db.execute(sql, (chunk_no,)).fetchone()[0])

    def duplicates(self) -> list[DuplicateRow]:
        """Collapsed chunks of a version, by chunk number."""
        rows = self._db.execute(
            "SELECT d.chunk_no, d.of_chunk_no, d.similarity FROM duplicate d JOIN chunk USING (chunk_no) JOIN document USING (document_no)"
            " WHERE collection = :collection AND d.born <= :version AND (d.died IS NULL OR d.died > :version) ORDER BY d.chunk_no",
            self._names,
        )
        return [DuplicateRow(*row) for row in rows]

    def trims(self) -> dict[int, TrimRow]:
        """What a version shows of chunks whose edges are boilerplate, by chunk number."""
        rows = self._db.execute(
            "SELECT t.chunk_no, t.start, t.end, t.n_lines, t.n_blocks, t.n_tokens, t.digest FROM trim t JOIN chunk USING (chunk_no)"
            " JOIN document USING (document_no)"
            " WHERE collection = :collection AND t.born <= :version AND (t.died IS NULL OR t.died > :version)",
            self._names,
        )
        return {row[0]: TrimRow(*row) for row in rows}

    def live_chunks(self, *, whole: bool = False) -> Iterator[LiveChunk]:
        """Every chunk of a version with its text, in order of (doc_id, start); memory is bounded by one document.

        Args:
            whole: As the chunks were cut, boilerplate included.

        Yields:
            Chunks, numbered as in the catalog.
        """
        table = "SELECT {} FROM chunk" if whole else self._shown + "SELECT {} FROM shown"
        documents = self._db.execute(
            f"SELECT document_no, doc_id, title, kind FROM document WHERE collection = :collection AND {LIVE} ORDER BY doc_id",
            self._names,
        )
        for number, doc_id, title, kind in documents:
            text = self._text(number)
            tags = tuple(
                label(k, v)
                for k, v in self._db.execute("SELECT key, value FROM tag WHERE document_no = ? ORDER BY key, value", (number,))
            )
            spans = self._db.execute(
                table.format("chunk_no, start, end, headings, digest") + " WHERE document_no = ? ORDER BY start", (number,)
            )
            for chunk_no, start, end, headings, digest in spans.fetchall():
                yield LiveChunk(chunk_no, doc_id, title, headings_of(headings), text[start:end], digest, tags, start, kind)

    def stored_documents(self) -> Iterator[StoredDocument]:
        """Every document with its text and its chunks as they were cut, by id; memory is bounded by one document."""
        return stored_documents(self._db, self.collection, self.version)

    def digests(self, *, without: set[int]) -> set[bytes]:
        """Vector keys of all chunks but those numbered in ``without``."""
        rows = self._db.execute(
            f"{self._shown} SELECT chunk_no, digest FROM shown JOIN document USING (document_no) WHERE collection = :collection AND {LIVE}",
            self._names,
        )
        return {digest for number, digest in rows if number not in without}

    def chunks(self, chunk_nos: Sequence[int]) -> list[Chunk]:
        """Chunks with their text and where it lies.

        Args:
            chunk_nos: Numbers of the catalog.

        Returns:
            In the order given.
        """
        rows = self._by_number(
            self._shown
            + "SELECT chunk_no, doc_id, n_tokens, digest, uri, title, headings, page, line, start, end, mtime, metadata,"
            " place, flags FROM shown JOIN document USING (document_no) WHERE chunk_no IN ({})",
            chunk_nos,
        )
        also = self._also_in(chunk_nos)
        blocks = self._blocks(chunk_nos)
        found = []
        for number, doc_id, n_tokens, digest, uri, title, headings, page, line, *rest in rows:
            start, end, mtime, metadata, place, flags = rest
            source = Source(
                *(uri, title, headings_of(headings), page, line, start, end, mtime, from_json(metadata)),
                also_in=tuple(also.get(number, ())),
                place=place or "",
                flags=tuple(flags.split(",")) if flags else (),
            )
            text = _cut(blocks.get(number, ()), start, end)
            found.append(Chunk(f"{doc_id}#{digest[:6].hex()}", doc_id, text, n_tokens, source))
        return found

    def own_copies(self, chunk_nos: Sequence[int], doc_ids: frozenset[str]) -> list[int]:
        """Replace chunks of other documents by the duplicates that the wanted documents hold of them.

        Args:
            chunk_nos: Numbers of chunks that a search for ``doc_ids`` found.
            doc_ids: The documents wanted.

        Returns:
            One number for each given, in their order.
        """
        copies: dict[int, int] = {}
        for row in self.duplicates():
            if row.of_chunk_no in chunk_nos and self.doc_id_of(row.chunk_no) in doc_ids:
                copies.setdefault(row.of_chunk_no, row.chunk_no)
        return [n if self.doc_id_of(n) in doc_ids else copies.get(n, n) for n in chunk_nos]

    def _also_in(self, chunk_nos: Sequence[int]) -> dict[int, list[str]]:
        also: dict[int, list[str]] = {}
        marks = ",".join("?" * len(chunk_nos))
        rows = self._db.execute(
            "SELECT DISTINCT d.of_chunk_no, doc_id FROM duplicate d JOIN chunk USING (chunk_no) JOIN document USING (document_no)"
            f" WHERE d.of_chunk_no IN ({marks}) AND d.born <= ? AND (d.died IS NULL OR d.died > ?) ORDER BY doc_id",
            (*chunk_nos, self.version, self.version),
        )
        for number, doc_id in rows:
            also.setdefault(number, []).append(doc_id)
        return also

    def document_text(self, doc_id: str) -> str:
        """The whole normalised text of a document.

        Args:
            doc_id: Its id.

        Returns:
            The text to which offsets refer.

        Raises:
            InputError: If that version has no such document.
        """
        row = self._db.execute(
            f"SELECT document_no FROM document WHERE collection = :collection AND doc_id = :doc_id AND {LIVE}",
            self._names | {"doc_id": doc_id},
        ).fetchone()
        if row is None:
            raise self._unknown(doc_id)
        return self._text(row[0])

    def _unknown(self, doc_id: str) -> InputError:
        return InputError(
            f"no document {doc_id!r} in collection {self.collection!r}, version {self.version}; 'rag status --documents' lists them",
            code="unknown_document",
        )

    def matching_chunks(self, filters: Filters) -> set[int]:
        """Numbers of the chunks whose document has one of the allowed values of every key.

        Args:
            filters: Allowed values by key; ``doc_id`` is a key of every document.

        Returns:
            Chunk numbers, collapsed duplicates included.

        Raises:
            InputError: If no document at all has a key; the message lists the keys there are.
        """
        clauses, values = [], []
        for key, allowed in sorted(filters.items()):
            marks = ",".join("?" * len(allowed))
            if key == "doc_id":
                clauses.append(f"doc_id IN ({marks})")
                values += sorted(allowed)
                continue
            self._check_key(key)
            clauses.append(f"document_no IN (SELECT document_no FROM tag WHERE key = ? AND value IN ({marks}))")
            values += [key, *sorted(allowed)]
        rows = self._db.execute(
            "SELECT chunk_no FROM chunk JOIN document USING (document_no)"
            f" WHERE collection = ? AND born <= ? AND (died IS NULL OR died > ?) AND {' AND '.join(clauses)}",
            (self.collection, self.version, self.version, *values),
        )
        return {number for (number,) in rows}

    def _check_key(self, key: str) -> None:
        live = f"SELECT document_no FROM document WHERE collection = :collection AND {LIVE}"
        names = self._names | {"key": key}
        if self._db.execute(f"SELECT 1 FROM tag WHERE key = :key AND document_no IN ({live}) LIMIT 1", names).fetchone():
            return
        rows = self._db.execute(f"SELECT DISTINCT key FROM tag WHERE document_no IN ({live}) ORDER BY key LIMIT 40", names)
        known = [key for (key,) in rows]
        raise InputError(
            f"no document has metadata {key!r}; keys that can be filtered by: {', '.join(['doc_id', *known])}",
            code="unknown_key",
        )

    def _by_number(self, sql: str, chunk_nos: Sequence[int]) -> list[tuple[Any, ...]]:
        found: dict[int, tuple[Any, ...]] = {}
        for at in range(0, len(chunk_nos), MAX_VARIABLES):
            part = [int(n) for n in chunk_nos[at : at + MAX_VARIABLES]]
            found |= {row[0]: row for row in self._db.execute(sql.format(",".join("?" * len(part))), part)}
        try:
            return [found[int(n)] for n in chunk_nos]
        except KeyError as error:
            raise SnapshotError(f"chunk {error} of the index is not in the catalog; run 'rag repair'", code="mismatch") from error

    def _text(self, document_no: int) -> str:
        """The whole text of a document."""
        rows = self._db.execute("SELECT data FROM text_block WHERE document_no = ? ORDER BY block_no", (document_no,))
        return joined([data for (data,) in rows])

    def _blocks(self, chunk_nos: Sequence[int]) -> dict[int, list[bytes]]:
        """The blocks of text that each chunk touches, and no others."""
        blocks: dict[int, list[bytes]] = {}
        rows = self._db.execute(
            f"{self._shown} SELECT chunk_no, data FROM shown JOIN text_block USING (document_no)"
            f" WHERE chunk_no IN ({','.join('?' * len(chunk_nos))})"
            f" AND block_no BETWEEN start / {BLOCK_CHARS} AND (end - 1) / {BLOCK_CHARS} ORDER BY chunk_no, block_no",
            [int(number) for number in chunk_nos],
        )
        for number, data in rows:
            blocks.setdefault(number, []).append(data)
        return blocks


def _cut(blocks: Sequence[bytes], start: int, end: int) -> str:
    """A range of a document from the blocks that it touches."""
    at = start % BLOCK_CHARS
    return joined(blocks)[at : at + end - start]
