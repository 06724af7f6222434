"""A store that hides some of its rows: what a collection would find without a document, with no second collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rag.store import Store
from rag.types import Chunk, Filters, Rows, Scored, Scores, Vector


@dataclass(frozen=True, slots=True)
class HidingStore:
    """A store without some of its rows.

    Attributes:
        store: The whole store.
        hidden: Row numbers that no search finds; int64 of shape (n,).
    """

    store: Store
    hidden: Rows

    @property
    def collection(self) -> str:
        """See `rag.store.Store.collection`."""
        return self.store.collection

    @property
    def version(self) -> int:
        """See `rag.store.Store.version`."""
        return self.store.version

    @property
    def embedder(self) -> str:
        """See `rag.store.Store.embedder`."""
        return self.store.embedder

    @property
    def n_rows(self) -> int:
        """See `rag.store.Store.n_rows`."""
        return self.store.n_rows

    def search_lexical(self, text: str, k: int, filters: Filters) -> Scored:
        """See `rag.store.Store.search_lexical`."""
        return self._without(self.store.search_lexical(text, k + len(self.hidden), filters), k)

    def search_dense(self, vector: Vector, k: int, filters: Filters) -> Scored:
        """See `rag.store.Store.search_dense`."""
        return self._without(self.store.search_dense(vector, k + len(self.hidden), filters), k)

    def score_lexical(self, text: str, rows: Rows) -> Scores:
        """See `rag.store.Store.score_lexical`."""
        return self.store.score_lexical(text, rows)

    def score_dense(self, vector: Vector, rows: Rows) -> Scores:
        """See `rag.store.Store.score_dense`."""
        return self.store.score_dense(vector, rows)

    def document_frequency(self, terms: Sequence[str]) -> list[int]:
        """See `rag.store.Store.document_frequency`."""
        return self.store.document_frequency(terms)

    def fingerprints(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        """See `rag.store.Store.fingerprints`."""
        return self.store.fingerprints(doc_ids)

    def chunks(self, rows: Rows, filters: Filters | None = None) -> list[Chunk]:
        """See `rag.store.Store.chunks`."""
        return self.store.chunks(rows, filters)

    def document_text(self, doc_id: str) -> str:
        """See `rag.store.Store.document_text`."""
        return self.store.document_text(doc_id)

    def close(self) -> None:
        """Nothing: the whole store belongs to somebody else."""

    def _without(self, found: Scored, k: int) -> Scored:
        seen = ~np.isin(found.rows, self.hidden)
        return Scored(found.rows[seen][:k], found.scores[seen][:k])
