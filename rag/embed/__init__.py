"""PLUG-IN 1: text to unit vectors. `Embedder` is the contract; `open_embedder` chooses the implementation by the settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, assert_never

from rag.clocks import Lane
from rag.settings import EmbedderSettings
from rag.types import TextRole, Vectors


class Embedder(Protocol):
    """Turns texts into unit vectors.

    Every implementation passes `tests/contracts/test_embedder.py`.
    """

    @property
    def id(self) -> str:
        """Stable name of model and revision; vectors of two ids must never meet in one index."""
        ...

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, special tokens included; what lies behind is ignored."""
        ...

    @property
    def lane(self) -> Lane | None:
        """Native threads that work for `embed` besides the caller's; None when the caller's thread does it all."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether another process or machine does the work, so that its CPU time is not counted here."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as the model would count them without limit, special tokens included."""
        ...

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Code point spans of the tokens of a text, ascending, without special tokens and without limit."""
        ...

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """Embed texts; the vector of a text does not depend on its neighbours.

        Args:
            texts: Any number of texts, also none; an empty text has a vector too.
            role: Whether the texts are looked for or looked in.

        Returns:
            float32 of shape (len(texts), dim), rows of unit length, in the order of the texts. A model that fails, or answers
            with something else than finite vectors of ``dim``, is a ModelError.
        """
        ...


def open_embedder(settings: EmbedderSettings, models_dir: Path) -> Embedder:
    """Open the embedder that the settings name.

    Args:
        settings: Kind and model.
        models_dir: Folder of the models that the user added (`rag models add`); it need not exist.

    Returns:
        A ready embedder. An unknown or damaged model, or a server that does not answer well, is a ModelError; a setting that
        cannot be used is a ConfigError.
    """
    match settings.kind:
        case "onnx":
            from rag.embed.onnx import OnnxEmbedder
            from rag.models.registry import find_model

            return OnnxEmbedder(find_model(settings.model, models_dir), settings.threads)
        case "http":
            from rag.embed.http import HttpEmbedder

            return HttpEmbedder(settings)
        case _:
            assert_never(settings.kind)
