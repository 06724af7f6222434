"""One version of one collection, as the catalog tells it: read only, and the same for as long as it is looked at."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rag.errors import InputError, SnapshotError
from rag.index.lexical import label
from rag.store.schema import BLOCK_CHARS, LIVE, sqlite_errors
from rag.store.vectors import MAX_VARIABLES
from rag.text import indexed_text
from rag.types import Chunk, Filters, Source


@dataclass(frozen=True, slots=True)
class LiveChunk:
    """A chunk as the indexes see it.

    Attributes:
        chunk_no: Its row in the catalog.
        doc_id: Its document.
        title: Title of its document.
        headings: Its heading path.
        text: Its text.
        digest: 16 bytes: key of the vector of its indexed text.
        tags: Labels of its document (`rag.index.lexical.label`), in order of key and value, without the document id.
    """

    chunk_no: int
    doc_id: str
    title: str
    headings: tuple[str, ...]
    text: str
    digest: bytes
    tags: tuple[str, ...]

    @property
    def indexed_text(self) -> str:
        """What is embedded and searched."""
        return indexed_text(self.title, self.headings, self.text)


@dataclass(frozen=True, slots=True)
class DuplicateRow:
    """A chunk that another one stands for, with their estimated Jaccard similarity."""

    chunk_no: int
    of_chunk_no: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Counts:
    """Sizes of a version; ``n_chunks`` counts collapsed duplicates too."""

    n_documents: int
    n_chunks: int
    n_duplicates: int


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document as listed."""

    doc_id: str
    uri: str
    title: str
    kind: str
    n_chars: int
    n_chunks: int


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

    def counts(self) -> Counts:
        """How much there is."""
        n_documents, n_chunks = self._db.execute(
            "SELECT count(DISTINCT document_no), count(chunk_no) FROM document LEFT JOIN chunk USING (document_no)"
            f" WHERE collection = :collection AND {LIVE}",
            self._names,
        ).fetchone()
        return Counts(n_documents, n_chunks, len(self.duplicates()))

    def documents(self) -> list[DocumentRow]:
        """All documents, by id."""
        rows = self._db.execute(
            "SELECT doc_id, uri, title, kind, n_chars, (SELECT count(*) FROM chunk c WHERE c.document_no = d.document_no)"
            f" FROM document d WHERE collection = :collection AND {LIVE} ORDER BY doc_id",
            self._names,
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
        """Digest of the documents and what they were cut into: the same for the same content, however it came about."""
        digest = hashlib.sha256()
        for doc_id, fingerprint in self._db.execute(
            f"SELECT doc_id, fingerprint FROM document WHERE collection = :collection AND {LIVE} ORDER BY doc_id",
            self._names,
        ):
            digest.update(f"{doc_id}\0{fingerprint}\n".encode())
        return digest.hexdigest()

    def doc_id_of(self, chunk_no: int) -> str:
        """Document id of a chunk."""
        row = self._db.execute(
            "SELECT doc_id FROM chunk JOIN document USING (document_no) WHERE chunk_no = ?", (chunk_no,)
        ).fetchone()
        return str(row[0])

    def duplicates(self) -> list[DuplicateRow]:
        """Collapsed chunks of a version, by chunk number."""
        rows = self._db.execute(
            "SELECT d.chunk_no, d.of_chunk_no, d.similarity FROM duplicate d JOIN chunk USING (chunk_no) JOIN document USING (document_no)"
            " WHERE collection = :collection AND d.born <= :version AND (d.died IS NULL OR d.died > :version) ORDER BY d.chunk_no",
            self._names,
        )
        return [DuplicateRow(*row) for row in rows]

    def live_chunks(self) -> Iterator[LiveChunk]:
        """Every chunk of a version with its text, in order of (doc_id, start); memory is bounded by one document."""
        documents = self._db.execute(
            f"SELECT document_no, doc_id, title FROM document WHERE collection = :collection AND {LIVE} ORDER BY doc_id",
            self._names,
        )
        for number, doc_id, title in documents:
            text = self._text(number)
            tags = tuple(
                label(k, v)
                for k, v in self._db.execute("SELECT key, value FROM tag WHERE document_no = ? ORDER BY key, value", (number,))
            )
            spans = self._db.execute(
                "SELECT chunk_no, start, end, headings, digest FROM chunk WHERE document_no = ? ORDER BY start",
                (number,),
            )
            for chunk_no, start, end, headings, digest in spans.fetchall():
                yield LiveChunk(chunk_no, doc_id, title, _headings(headings), text[start:end], digest, tags)

    def digests(self, *, without: set[int]) -> set[bytes]:
        """Vector keys of all chunks but those numbered in ``without``."""
        rows = self._db.execute(
            f"SELECT chunk_no, digest FROM chunk JOIN document USING (document_no) WHERE collection = :collection AND {LIVE}",
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
            "SELECT chunk_no, doc_id, uri, title, headings, page, line, start, end, mtime, metadata, n_tokens, digest"
            " FROM chunk JOIN document USING (document_no) WHERE chunk_no IN ({})",
            chunk_nos,
        )
        also = self._also_in(chunk_nos)
        blocks = self._blocks(chunk_nos)
        found = []
        for (
            number,
            doc_id,
            uri,
            title,
            headings,
            page,
            line,
            start,
            end,
            mtime,
            metadata,
            n_tokens,
            digest,
        ) in rows:
            source = Source(
                uri,
                title,
                _headings(headings),
                page,
                line,
                start,
                end,
                mtime,
                _from_json(metadata),
                tuple(also.get(number, ())),
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
            raise InputError(
                f"no document {doc_id!r} in collection {self.collection!r}, version {self.version}; 'rag status --documents' lists them",
                code="unknown_document",
            )
        return self._text(row[0])

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
        known = [
            k
            for (k,) in self._db.execute(f"SELECT DISTINCT key FROM tag WHERE document_no IN ({live}) ORDER BY key LIMIT 40", names)
        ]
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
        return _joined([data for (data,) in rows])

    def _blocks(self, chunk_nos: Sequence[int]) -> dict[int, list[bytes]]:
        """The blocks of text that each chunk touches, and no others."""
        blocks: dict[int, list[bytes]] = {}
        rows = self._db.execute(
            "SELECT chunk_no, data FROM chunk JOIN text_block USING (document_no)"
            f" WHERE chunk_no IN ({','.join('?' * len(chunk_nos))})"
            f" AND block_no BETWEEN start / {BLOCK_CHARS} AND (end - 1) / {BLOCK_CHARS} ORDER BY chunk_no, block_no",
            [int(number) for number in chunk_nos],
        )
        for number, data in rows:
            blocks.setdefault(number, []).append(data)
        return blocks


def _joined(blocks: Sequence[bytes]) -> str:
    with sqlite_errors():
        return "".join(zlib.decompress(data).decode() for data in blocks)


def _cut(blocks: Sequence[bytes], start: int, end: int) -> str:
    """A range of a document from the blocks that it touches."""
    at = start % BLOCK_CHARS
    return _joined(blocks)[at : at + end - start]


def _headings(stored: str | None) -> tuple[str, ...]:
    return tuple(_from_json(stored)) if stored else ()


def _from_json(stored: str) -> Any:  # noqa: ANN401 - what the catalog wrote there
    with sqlite_errors():
        return json.loads(stored)
