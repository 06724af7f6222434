"""PLUG-IN 2: where snapshots live. `Store` is what a reader may ask of one; `open_store` opens the current version of a collection.

A store holds one version for as long as it is open, so all its answers belong together. Publishing is `rag.store.snapshot.publish`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rag.types import Chunk, Filters, Rows, Scored, Scores, Vector


class Store(Protocol):
    """One version of a collection, open for reading.

    Rows are numbered from 0 in order of (doc_id, place in the document); equal scores are ordered by ascending row. Every
    implementation passes `tests/contracts/test_store.py`.
    """

    @property
    def collection(self) -> str:
        """Name of the collection."""
        ...

    @property
    def version(self) -> int:
        """The version that is open, from 1."""
        ...

    @property
    def embedder(self) -> str:
        """Id of the embedder that made the vectors."""
        ...

    @property
    def n_rows(self) -> int:
        """Chunks that can be found."""
        ...

    def search_lexical(self, text: str, k: int, filters: Filters) -> Scored:
        """At most ``k`` rows by BM25, best first; rows that share no term with the text are not found.

        Args:
            text: Query text.
            k: Rows wanted, at least 1.
            filters: Applied inside the search.

        Returns:
            Rows and BM25 scores above 0.

        Raises:
            InputError: If no document has a filter's key.
        """
        ...

    def search_dense(self, vector: Vector, k: int, filters: Filters) -> Scored:
        """At most ``k`` rows by cosine, best first.

        Args:
            vector: Unit vector of the query.
            k: Rows wanted, at least 1.
            filters: Applied inside the search.

        Returns:
            Rows and cosines.

        Raises:
            InputError: If no document has a filter's key.
        """
        ...

    def score_lexical(self, text: str, rows: Rows) -> Scores:
        """BM25 of given rows, 0.0 where no term is shared."""
        ...

    def score_dense(self, vector: Vector, rows: Rows) -> Scores:
        """Cosine of given rows."""
        ...

    def document_frequency(self, terms: Sequence[str]) -> list[int]:
        """In how many rows each term of `rag.index.lexical.analyse` occurs."""
        ...

    def chunks(self, rows: Rows, filters: Filters | None = None) -> list[Chunk]:
        """Chunks of rows, in the order of the rows.

        Args:
            rows: Row numbers.
            filters: When they ask for a document in which a chunk is a collapsed duplicate, that document's own copy is returned.

        Returns:
            One chunk a row.
        """
        ...

    def document_text(self, doc_id: str) -> str:
        """Normalised text of a document, to which offsets refer.

        Args:
            doc_id: Its id.

        Returns:
            The whole text.

        Raises:
            InputError: If this version has no such document.
        """
        ...

    def fingerprints(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        """What tells whether a document is still as it was.

        Args:
            doc_ids: Any ids.

        Returns:
            Digest of all that is kept of each document, by id; ids that this version lacks are missing.
        """
        ...

    def close(self) -> None:
        """Let the version go."""
        ...


def open_store(data_dir: Path, collection: str) -> Store:
    """Open the current version of a collection.

    Args:
        data_dir: The data directory.
        collection: Name of the collection.

    Returns:
        A verified store.

    Raises:
        InputError: If there is no such collection.
        SnapshotError: If its data is missing, damaged or of a newer format.
    """
    from rag.store.embedded import EmbeddedStore

    return EmbeddedStore(data_dir, collection)
