"""PLUG-IN 3: evidence to a cited answer.

`Generator` is the contract; `open_generator` chooses the implementation by the settings. `extractive` needs no model; `written` lets a
language model (`model`: `gguf` in this process, `chat_http` by a server) write from a prompt (`prompt`) and keeps only what its
citations carry (`verify`); `cascade` asks the cheapest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, assert_never

from rag.errors import ConfigError
from rag.meter import Meter
from rag.settings import LanguageModelSettings, Settings
from rag.types import Draft, Task

if TYPE_CHECKING:
    from rag.generate.model import Completion, LanguageModel, Message
    from rag.generate.written import WrittenGenerator

ABSTENTION = "The documents do not seem to answer this."


class Generator(Protocol):
    """Writes an answer from candidates, or abstains.

    Every implementation passes `tests/contracts/test_generator.py`.
    """

    @property
    def name(self) -> str:
        """Stable name, for answers and cache keys."""
        ...

    @property
    def template(self) -> str:
        """Names and hashes of the prompt templates; empty without a language model."""
        ...

    def generate(self, task: Task, meter: Meter | None = None) -> Draft:
        """Answer a question from evidence.

        Args:
            task: The question, its evidence and limits.
            meter: Charged with work that its own clock does not see, and asked what a budget still buys; None means neither.

        Returns:
            An answer of which every citation quotes its document exactly, or an abstention that says why. A language model that fails
            is a ModelError, never an answer.
        """
        ...

    def say(self, messages: Sequence[Message], meter: Meter) -> Completion | None:
        """What the first language model says to a short chat that is no question of the user's.

        Args:
            messages: The chat.
            meter: Charged with stage ``model``.

        Returns:
            Its words; None without a language model, or when the chat does not fit its window. A model that fails is a ModelError.
        """
        ...

    def close(self) -> None:
        """Let models go."""
        ...


def open_generator(settings: Settings) -> Generator:
    """Open the generator that the settings name; a language model is loaded when it is first asked.

    Args:
        settings: Which one, and how.

    Returns:
        A ready generator.

    Raises:
        ConfigError: If a language model is wanted and none is configured, or its settings contradict each other.
        ModelError: If there is no such model.
        MissingExtraError: If the extra of the model's kind is not installed.
    """
    from rag.generate.extractive import ExtractiveGenerator

    extractive = ExtractiveGenerator(settings.answer)
    match settings.answer.generator:
        case "extractive":
            return extractive
        case "model":
            from rag.generate.cascade import Cascade

            first = _written(settings, "language_model")
            if first is None:
                raise ConfigError(
                    "answer.generator is 'model' and language_model.kind is 'none'; set it to gguf or http, with a model",
                    code="no_model",
                )
            return Cascade(extractive, first, None, always=True)
        case "auto":
            from rag.generate.cascade import Cascade

            return Cascade(extractive, _written(settings, "language_model"), _written(settings, "larger_model"))
        case _:
            assert_never(settings.answer.generator)


def open_language_model(settings: Settings, section: str = "language_model") -> LanguageModel | None:
    """Open the language model of a section of the settings; it is loaded when it is first asked.

    Args:
        settings: With the section.
        section: ``language_model``, ``larger_model`` or ``judge``.

    Returns:
        The model; None where none is configured.

    Raises:
        ConfigError: If its settings contradict each other.
        ModelError: If there is no such model.
        MissingExtraError: If the extra of its kind is not installed.
    """
    chosen: LanguageModelSettings = getattr(settings, section)
    match chosen.kind:
        case "none":
            return None
        case "gguf":
            from rag.generate.gguf import Gguf
            from rag.models.gguf import find_gguf

            found = find_gguf(chosen.model, settings.data_dir / "models")
            window = min(chosen.window, found.header.context_length or chosen.window)
            return Gguf(found, window=window, threads=chosen.threads)
        case "http":
            from rag.generate.chat_http import ChatHttp

            return ChatHttp(chosen, section=section, tiktoken_cache_dir=settings.context.tiktoken_cache_dir)
        case _:
            assert_never(chosen.kind)


def _written(settings: Settings, section: str) -> WrittenGenerator | None:
    """A generator over the language model of a section of the settings; None where none is configured."""
    model = open_language_model(settings, section)
    if model is None:
        return None
    from rag.generate.written import WrittenGenerator

    chosen: LanguageModelSettings = getattr(settings, section)
    return WrittenGenerator(model, settings.answer, chosen.timeout_s)
