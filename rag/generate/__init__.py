"""PLUG-IN 3: evidence to a cited answer.

`Generator` is the contract; `open_generator` chooses the implementation by the settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, assert_never

from rag.settings import AnswerSettings
from rag.types import Candidate, Draft


class Generator(Protocol):
    """Writes an answer from candidates, or abstains.

    Every implementation passes `tests/contracts/test_generator.py`.
    """

    @property
    def name(self) -> str:
        """Stable name, for answers and cache keys."""
        ...

    def generate(self, question: str, candidates: Sequence[Candidate], confidence: float) -> Draft:
        """Answer a question from evidence.

        Args:
            question: As asked.
            candidates: Best first; may be empty.
            confidence: 0.0 to 1.0, from `rag.evidence.confidence`.

        Returns:
            An answer of which every citation quotes its document exactly, or an abstention that says why.
        """
        ...


def open_generator(settings: AnswerSettings) -> Generator:
    """Open the generator that the settings name.

    Args:
        settings: Which one, and how.

    Returns:
        A ready generator.
    """
    match settings.generator:
        case "extractive":
            from rag.generate.extractive import ExtractiveGenerator

            return ExtractiveGenerator(settings)
        case _:
            assert_never(settings.generator)
