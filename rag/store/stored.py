"""Documents as the catalog keeps them: whole, with their chunks as they were cut."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rag.store.schema import LIVE, sqlite_errors
from rag.types import Document, Span


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document of one version.

    Attributes:
        document: Without sections: the catalog keeps chunks instead.
        spans: Its chunks in ascending order, boilerplate included.
    """

    document: Document
    spans: tuple[Span, ...]


def stored_documents(db: sqlite3.Connection, collection: str, version: int) -> Iterator[StoredDocument]:
    """Every document of a version, by id; memory is bounded by one document. What a writer does meanwhile is not seen.

    Args:
        db: Connection of the catalog.
        collection: Name of the collection.
        version: Its version.

    Yields:
        Documents.
    """
    # The connection sees one state of the file for as long as these rows have not all been fetched.
    rows = db.execute(
        f"SELECT document_no, doc_id, uri, title, kind, metadata, mtime FROM document WHERE collection = :collection AND {LIVE}"
        " ORDER BY doc_id",
        {"collection": collection, "version": version},
    )
    for number, doc_id, uri, title, kind, metadata, mtime in rows:
        blocks = db.execute("SELECT data FROM text_block WHERE document_no = ? ORDER BY block_no", (number,)).fetchall()
        spans = db.execute(
            "SELECT start, end, headings, page, line, n_tokens, place, flags FROM chunk WHERE document_no = ? ORDER BY start",
            (number,),
        ).fetchall()
        text = joined([data for (data,) in blocks])
        yield StoredDocument(
            Document(doc_id, uri, title, text, (), from_json(metadata), kind, mtime),
            tuple(
                Span(start, end, headings_of(headings), page, line, n_tokens, place or "", tuple(flags.split(",")) if flags else ())
                for start, end, headings, page, line, n_tokens, place, flags in spans
            ),
        )


def joined(blocks: Sequence[bytes]) -> str:
    """The text of compressed blocks; SnapshotError if one is damaged."""
    with sqlite_errors():
        return "".join(zlib.decompress(data).decode() for data in blocks)


def headings_of(stored: str | None) -> tuple[str, ...]:
    """A heading path as a chunk keeps it."""
    return tuple(from_json(stored)) if stored else ()


def from_json(stored: str) -> Any:  # noqa: ANN401 - what the catalog wrote there
    """A value that the catalog keeps as JSON; SnapshotError if it is damaged."""
    with sqlite_errors():
        return json.loads(stored)
