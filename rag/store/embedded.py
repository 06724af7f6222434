"""The default store: files of the data directory, read in this process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.errors import SnapshotError
from rag.index.dense import DenseIndex
from rag.index.lexical import LexicalIndex
from rag.store.catalog import Catalog
from rag.store.manifest import Manifest, verify
from rag.store.snapshot import DENSE, LEXICAL, Lease, folder_of, load_rows
from rag.types import Chunk, Filters, Rows, Scored, Scores, Vector

# A server sees few distinct filters (tenant, language, year); a mask takes one byte a row.
_MAX_CACHED_MASKS = 16
# How often a reader follows a writer that publishes and collects while it opens.
_OPEN_ATTEMPTS = 5


class EmbeddedStore:
    """One version of a collection, open for reading.

    Args:
        data_dir: The data directory.
        collection: Name of the collection.
    """

    def __init__(self, data_dir: Path, collection: str) -> None:
        with ExitStack() as held:
            self._catalog = Catalog(data_dir)
            held.callback(self._catalog.close)
            lease, self._manifest, folder = self._open_current(data_dir, collection)
            held.callback(lease.close)
            self._rows = load_rows(folder)
            self._lexical = LexicalIndex(folder / LEXICAL, self._manifest.analyser)
            self._dense = DenseIndex(folder / DENSE)
            self._held = held.pop_all()
        self._view = self._catalog.view(collection, self._manifest.version)
        self._mask = lru_cache(_MAX_CACHED_MASKS)(self._make_mask)

    def _open_current(self, data_dir: Path, collection: str) -> tuple[Lease, Manifest, Path]:
        for attempt in range(_OPEN_ATTEMPTS):
            version = self._catalog.collection(collection).version
            folder = folder_of(data_dir, collection, version)
            try:
                lease = Lease(folder)
                try:
                    return lease, verify(folder), folder
                except SnapshotError:
                    lease.close()
                    raise
            except SnapshotError:
                # Damage, unless a writer has published and collected this version in the meantime.
                if self._catalog.collection(collection).version == version or attempt == _OPEN_ATTEMPTS - 1:
                    raise
        raise AssertionError("the loop returns or raises; this is a bug")

    @property
    def collection(self) -> str:
        """Name of the collection."""
        return self._manifest.collection

    @property
    def version(self) -> int:
        """The version that is open."""
        return self._manifest.version

    @property
    def embedder(self) -> str:
        """Id of the embedder that made the vectors."""
        return self._manifest.embedder

    @property
    def n_rows(self) -> int:
        """Chunks that can be found."""
        return self._manifest.n_rows

    def search_lexical(self, text: str, k: int, filters: Filters) -> Scored:
        """See `rag.store.Store.search_lexical`."""
        if filters:
            self._mask(_frozen(filters))  # refuses unknown keys
        return self._lexical.search(text, k, filters)

    def search_dense(self, vector: Vector, k: int, filters: Filters) -> Scored:
        """See `rag.store.Store.search_dense`."""
        return self._dense.search(vector, k, self._mask(_frozen(filters)) if filters else None)

    def score_lexical(self, text: str, rows: Rows) -> Scores:
        """See `rag.store.Store.score_lexical`."""
        return self._lexical.score(text, rows)

    def score_dense(self, vector: Vector, rows: Rows) -> Scores:
        """See `rag.store.Store.score_dense`."""
        return self._dense.score(vector, rows)

    def document_frequency(self, terms: Sequence[str]) -> list[int]:
        """See `rag.store.Store.document_frequency`."""
        return self._lexical.document_frequency(terms)

    def chunks(self, rows: Rows, filters: Filters | None = None) -> list[Chunk]:
        """See `rag.store.Store.chunks`."""
        numbers = self._rows[rows].tolist()
        if filters and "doc_id" in filters:
            numbers = self._view.own_copies(numbers, filters["doc_id"])
        return self._view.chunks(numbers)

    def document_text(self, doc_id: str) -> str:
        """See `rag.store.Store.document_text`."""
        return self._view.document_text(doc_id)

    def fingerprints(self, doc_ids: Sequence[str]) -> dict[str, str]:
        """See `rag.store.Store.fingerprints`."""
        return self._view.fingerprints(doc_ids)

    def close(self) -> None:
        """Let the version go."""
        self._held.close()

    def _make_mask(self, filters: tuple[tuple[str, frozenset[str]], ...]) -> NDArray[np.bool_]:
        """bool of shape (n_rows,): rows whose chunk, or a duplicate collapsed into it, matches."""
        matching = self._view.matching_chunks(dict(filters))
        originals = {row.of_chunk_no for row in self._view.duplicates() if row.chunk_no in matching}
        return np.isin(self._rows, np.fromiter(matching | originals, np.int64))


def _frozen(filters: Filters) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple(sorted(filters.items(), key=lambda item: item[0]))
