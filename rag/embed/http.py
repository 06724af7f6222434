"""Embed by an OpenAI-compatible server: ``POST {url}/embeddings``, with the standard library only.

What is not known of the server's model is estimated: its tokens by the shipped tokenizer with a margin, its length of vector by a
first request.

References:
    OpenAI API, "Create embeddings": request keys model, input, encoding_format; response keys data, index, embedding.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np

from rag.clocks import Lane
from rag.errors import ModelError
from rag.http import JsonServer, pause
from rag.models.registry import SHIPPED_DIR, TOKENIZER_NAME
from rag.models.session import ModelTokenizer
from rag.settings import EmbedderSettings
from rag.tokens import SHIPPED_NAME
from rag.types import TextRole, Vectors

# text-embeddings-inference refuses more than 32 texts a request by default; hosted services take more, and gain little from it.
_MAX_TEXTS = 32
# Subword tokenizers of other models cut the same text into up to a quarter more tokens than ours (cl100k against WordPiece: median
# 0.96, 95th percentile of the error 9 %; XLM-R and code are worse). Counting too many wastes a little of the window, too few loses
# text.
_MARGIN = 1.25
_N_SPECIAL = 2
# Servers refuse an empty input; some trim it first.
_EMPTY_STAND_IN = "."


class HttpEmbedder:
    """An `Embedder` over HTTP; safe to share between threads.

    Opening sends nothing, so that a search by words alone works while the server is down. The protocol has no roles: a model that
    wants prompts must have them set by its server.

    Args:
        settings: ``url``, ``model``, ``api_key``, ``timeout_s`` (of one request) and ``max_tokens``.
        sleep: Waits between tries, in seconds; a test passes its own. A setting that cannot be used is a ConfigError, a server that
            does not answer well a ModelError.
    """

    def __init__(self, settings: EmbedderSettings, sleep: Callable[[float], None] = pause) -> None:
        self._settings = settings
        self._server = JsonServer("embedder", "max_tokens", settings.url, settings.model, settings.api_key, sleep)
        self._tokenizer = ModelTokenizer(SHIPPED_DIR / SHIPPED_NAME / TOKENIZER_NAME)
        self._dim = 0

    @property
    def id(self) -> str:
        """``http:`` and the server's name of the model; its revision is not known, so a changed server needs a new index."""
        return f"http:{self._settings.model}"

    @property
    def dim(self) -> int:
        """Length of a vector, as the first answer has it; asking for it may ask the server."""
        return self._dim or self._embed_some(["dimension"]).shape[1]

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, from the settings."""
        return self._settings.max_tokens

    @property
    def lane(self) -> Lane | None:
        """None: no native thread of this process embeds."""
        return None

    @property
    def is_remote(self) -> bool:
        """True: the server does the work."""
        return True

    def count_tokens(self, text: str) -> int:
        """Upper estimate of the tokens of a text: those of `token_spans` and a quarter, and two special ones."""
        return math.ceil(_MARGIN * len(self.token_spans(text))) + _N_SPECIAL

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Spans of the shipped tokenizer, cut into characters where they are not ASCII.

        Args:
            text: Any text.

        Returns:
            Pairs of first character and one past the last, ascending. The shipped tokenizer takes a whole word of an unknown script
            for one token; another model may need one a character.
        """
        spans: list[tuple[int, int]] = []
        for start, end in self._tokenizer.spans(text):
            if end - start > 1 and not text[start:end].isascii():
                spans.extend((at, at + 1) for at in range(start, end))
            else:
                spans.append((start, end))
        return spans

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """Embed texts, at most 32 a request; see `rag.embed.Embedder`.

        Args:
            texts: Any number of texts, also none; each is cut where `max_tokens` is reached by our estimate.
            role: Accepted and not sent.

        Returns:
            float32 of shape (len(texts), dim), rows of unit length, in the order of the texts. Anything else from the server is a
            ModelError.
        """
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        readable = [self._cut(text) for text in texts]
        batches = [readable[at : at + _MAX_TEXTS] for at in range(0, len(readable), _MAX_TEXTS)]
        return np.concatenate([self._embed_some(batch) for batch in batches])

    def _cut(self, text: str) -> str:
        """The part of a text that the model reads, not empty."""
        spans = self.token_spans(text)
        n_read = int((self.max_tokens - _N_SPECIAL) / _MARGIN)
        part = text[: spans[n_read - 1][1]] if len(spans) > n_read else text
        return part if part.strip() else _EMPTY_STAND_IN

    def _embed_some(self, texts: Sequence[str]) -> Vectors:
        request = {"model": self._settings.model, "input": list(texts), "encoding_format": "float"}
        reply = self._server.post("/embeddings", request, self._settings.timeout_s)
        vectors = self._vectors(reply.body, len(texts))
        self._dim = self._dim or vectors.shape[1]
        return vectors

    def _vectors(self, body: bytes, n_texts: int) -> Vectors:
        """Unit vectors in the order of the texts, or a ModelError that says what came instead."""
        try:
            rows = _rows(json.loads(body), n_texts)
            raw = np.array(rows, dtype=np.float64)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise self._unusable(f"{type(error).__name__}: {error}") from error
        if raw.ndim != 2 or raw.shape[1] == 0 or (self._dim and raw.shape[1] != self._dim):
            raise self._unusable(f"vectors of shape {raw.shape}, expected ({n_texts}, {self._dim or 'any'})")
        if not np.isfinite(raw).all():
            raise self._unusable("a vector with NaN or infinity")
        # Divided by the largest component first, so that squares neither overflow nor vanish.
        largest = np.abs(raw).max(axis=1, keepdims=True)
        if not largest.all():
            raise self._unusable("a vector of zeros")
        scaled = raw / largest
        unit: Vectors = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def _unusable(self, found: str) -> ModelError:
        return self._server.fault(
            f"gave no usable vectors: {found}",
            f"check that {self._settings.model!r} is an embedding model and embedder.url ends before /embeddings",
            "embedder_answer",
        )


def _rows(answer: object, n_texts: int) -> list[object]:
    """The embeddings of an answer in the order of their index; ValueError, KeyError or TypeError when it is no such answer."""
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise TypeError("the answer has no list called data")
    data = answer["data"]
    if len(data) != n_texts:
        raise ValueError(f"{len(data)} vectors for {n_texts} texts")
    places = [item.get("index", place) if isinstance(item, dict) else None for place, item in enumerate(data)]
    by_place = dict(zip(places, data, strict=True))
    if by_place.keys() != set(range(n_texts)):
        raise ValueError(f"the indexes {places}, expected each of 0 to {n_texts - 1} once")
    return [by_place[place]["embedding"] for place in range(n_texts)]
