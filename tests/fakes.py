"""Small real implementations that stand in for heavy ones in tests: no patches, no model files, no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from rag.types import TextRole, Vectors

_WORD = re.compile(r"\w+|[^\w\s]")


class HashEmbedder:
    """An `Embedder` by hashing words into a bag: the more words two texts share, the higher their cosine.

    Args:
        dim: Length of a vector; the fewer components, the more unrelated words meet.
        max_tokens: Words that are read, two special tokens included.
    """

    def __init__(self, dim: int = 64, max_tokens: int = 256) -> None:
        self._dim = dim
        self._max_tokens = max_tokens

    @property
    def id(self) -> str:
        return f"hash-{self._dim}-{self._max_tokens}"

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        return len(self.token_spans(text)) + 2

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text)]

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        vectors = np.zeros((len(texts), self._dim), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            words = [text[start:end].lower() for start, end in self.token_spans(text)][: self._max_tokens - 2]
            for word in words or ["[empty]"]:
                digest = hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest()
                vector[int.from_bytes(digest[:4], "little") % self._dim] += 1.0 if digest[4] & 1 else -1.0
            # Words of opposite sign may cancel out; such a text points where an empty one does.
            if not vector.any():
                vector[0] = 1.0
            vector /= np.linalg.norm(vector)
        return vectors
