"""Embed in this process: a model folder, onnxruntime on the CPU, one text a run.

Batch size one makes the vector of a text independent of its neighbours bit by bit and costs nothing
(`rag.models.session` has the figures). `embed` may be called from several threads at once; that is the way to use more
cores. A pool of native threads a text is the other way: it answers one query sooner for more CPU time.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import assert_never

import numpy as np

from rag.clocks import Lane
from rag.models.registry import Model
from rag.models.session import ModelSession, ModelTokenizer
from rag.types import TextRole, Vectors


class OnnxEmbedder:
    """An `Embedder` over a model folder.

    Opening loads nothing: the tokenizer is loaded by the first text that is counted, the graph by the first that is embedded, so that
    a search by words alone pays for neither. Files that cannot be loaded are a ModelError then.

    Args:
        model: As found by `rag.models.registry.find_model`.
        threads: Threads that work on one text, at least 1; with more than one, callers wait for each other.
    """

    def __init__(self, model: Model, threads: int = 1) -> None:
        self._card = model.card
        self._tokenizer_path = model.tokenizer_path
        self._session = ModelSession(model.graph_path, model.card.dim, threads)

    @cached_property
    def _tokenizer(self) -> ModelTokenizer:
        return ModelTokenizer(self._tokenizer_path)

    @property
    def id(self) -> str:
        """Name of the model and fingerprint of its graph, tokenizer, truncation and prompts."""
        return self._card.id

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self._card.dim

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, special tokens included."""
        return self._card.max_tokens

    @property
    def lane(self) -> Lane | None:
        """The pool of the graph; None with one thread."""
        return self._session.lane

    @property
    def is_remote(self) -> bool:
        """False: the graph runs in this process."""
        return False

    @property
    def tokens_add_up(self) -> bool:
        """See `rag.models.session.ModelTokenizer.adds_up`."""
        return self._tokenizer.adds_up

    def count_tokens(self, text: str) -> int:
        """Tokens of a text without limit, special tokens included, without the role prompt."""
        return self._tokenizer.count(text)

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Code point spans of the tokens of a text, starts ascending, without special tokens and without limit."""
        return self._tokenizer.spans(text)

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """Embed texts one by one; see `rag.embed.Embedder`.

        Args:
            texts: Any number of texts, also none.
            role: Whether the texts are looked for or looked in; the model's card has a prompt for each.

        Returns:
            float32 of shape (len(texts), dim), rows of unit length, in the order of the texts. A graph that cannot be
            loaded or fails is a ModelError.
        """
        prompt = self._prompt(role)
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._session.run(self._tokenizer.ids(prompt + text, self.max_tokens))
        return vectors

    def _prompt(self, role: TextRole) -> str:
        match role:
            case "document":
                return self._card.document_prompt
            case "query":
                return self._card.query_prompt
            case _:
                assert_never(role)
