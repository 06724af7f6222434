"""An embedder around another one: everything is the other's, until a subclass says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from rag.clocks import Lane
from rag.embed import Embedder
from rag.types import TextRole, Vectors


class AroundEmbedder:
    """Passes everything on to another embedder; see `rag.embed.Embedder`.

    Args:
        embedder: Does the work.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def id(self) -> str:
        """Of the embedder."""
        return self._embedder.id

    @property
    def dim(self) -> int:
        """Of the embedder."""
        return self._embedder.dim

    @property
    def max_tokens(self) -> int:
        """Of the embedder."""
        return self._embedder.max_tokens

    @property
    def lane(self) -> Lane | None:
        """Of the embedder."""
        return self._embedder.lane

    @property
    def is_remote(self) -> bool:
        """Of the embedder."""
        return self._embedder.is_remote

    @property
    def tokens_add_up(self) -> bool:
        """Of the embedder; one that does not say so is not taken at its word."""
        return bool(getattr(self._embedder, "tokens_add_up", False))

    def count_tokens(self, text: str) -> int:
        """Of the embedder."""
        return self._embedder.count_tokens(text)

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Of the embedder."""
        return self._embedder.token_spans(text)

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """See `rag.embed.Embedder.embed`."""
        return self._embedder.embed(texts, role)
