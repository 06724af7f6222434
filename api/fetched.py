"""A document or a passage of one by its id, from the catalog: no index and no model is opened for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from api.auth import no_collection
from api.schemas import Json
from rag.errors import InputError, SnapshotError
from rag.store.catalog import Catalog
from rag.store.view import View
from rag.types import Chunk, Source, TrustFlag

# Ends of `rag.types.Chunk.chunk_id`.
_CHUNK = re.compile(r"(?P<doc_id>.+)#[0-9a-f]{12}", re.DOTALL)
# Chunks looked at together: a dozen lie in one block of text, and memory stays small with the longest document.
_AT_ONCE = 64


def fetched(data_dir: Path, collection: str, name: str, start: int, max_chars: int) -> Json:
    """Look up a chunk or document in the current version of a collection.

    Args:
        data_dir: The data directory.
        collection: Its name, which the caller may use.
        name: Id of a chunk or of a document; where it is that of both, the chunk.
        start: First character wanted of a document, 0 or more.
        max_chars: Characters wanted of a document, 1 or more.

    Returns:
        ``doc_id``, ``text``, ``source`` (as of a citation, of exactly that text), ``n_chars`` of the document, ``version``.

    Raises:
        InputError: ``unknown_collection`` or ``unknown_document``; ``start`` if the document ends before.
        SnapshotError: If the catalog is damaged.
    """
    try:
        with closing(Catalog(data_dir)) as catalog:
            return _found(catalog.view(collection, catalog.collection(collection).version), name, start, max_chars)
    except (InputError, SnapshotError) as error:
        if error.code in ("unknown_collection", "no_data"):
            raise no_collection(collection) from error
        raise


def _found(view: View, name: str, start: int, max_chars: int) -> Json:
    match = _CHUNK.fullmatch(name)
    for chunk in _chunks(view, match["doc_id"]) if match else ():
        if chunk.chunk_id == name:
            return _piece(view, chunk.doc_id, chunk.text, chunk.source, len(view.document_text(chunk.doc_id)))
    try:
        text = view.document_text(name)
    except InputError as error:
        raise InputError(
            f"no document or passage {name[:200]!r} in collection {view.collection!r}; take the id or doc_id of a result of search",
            code="unknown_document",
        ) from error
    if start and start >= len(text):
        raise InputError(f"start is {start}, and the document has {len(text)} characters; start before its end", code="start")
    part = text[start : start + max_chars]
    return _piece(view, name, part, _source(view, name, start, start + len(part)), len(text))


def _chunks(view: View, doc_id: str) -> Iterator[Chunk]:
    numbers = sorted(view.matching_chunks({"doc_id": frozenset([doc_id])}))
    for at in range(0, len(numbers), _AT_ONCE):
        yield from view.chunks(numbers[at : at + _AT_ONCE])


def _source(view: View, doc_id: str, start: int, end: int) -> Source:
    """Where a range of a document lies, with the flags of all that it touches."""
    first: Source | None = None
    flags: set[TrustFlag] = set()
    for chunk in _chunks(view, doc_id):
        first = first or chunk.source
        if chunk.source.start_char < end and chunk.source.end_char > start:
            flags.update(chunk.source.flags)
    if first is None:  # a document without text has no chunk
        row = view.document(doc_id)
        return Source(row.uri, row.title, (), None, None, start, end, None, {})
    return Source(first.uri, first.title, (), None, None, start, end, first.mtime, first.metadata, flags=tuple(sorted(flags)))


def _piece(view: View, doc_id: str, text: str, source: Source, n_chars: int) -> Json:
    return {"doc_id": doc_id, "text": text, "source": asdict(source), "n_chars": n_chars, "version": view.version}
