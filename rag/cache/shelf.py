"""The vectors of one key's questions in memory, compared one by one: ten thousand are two milliseconds, so no index is needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from rag.types import Vector

_FIRST_ROWS = 64


class Shelf:
    """Questions in ascending order of their number, which only grows.

    Args:
        dim: Length of a vector.
    """

    def __init__(self, dim: int) -> None:
        self._vectors = np.zeros((_FIRST_ROWS, dim), np.float32)
        self.numbers: list[int] = []
        self.questions: list[str] = []

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def last_no(self) -> int:
        """Number of the newest question; 0 when there is none."""
        return self.numbers[-1] if self.numbers else 0

    def extend(self, rows: Iterable[tuple[int, str, bytes]]) -> None:
        """Add questions.

        Args:
            rows: Number, question and little-endian float32 vector, in ascending order of numbers above `last_no`.
        """
        for number, question, data in rows:
            place = len(self.numbers)
            if place == len(self._vectors):
                self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
            self._vectors[place] = np.frombuffer(data, "<f4")
            self.numbers.append(number)
            self.questions.append(question)

    def forget(self, place: int) -> None:
        """Let a question never be found again."""
        self._vectors[place] = 0

    def nearest(self, vector: Vector, min_cosine: float) -> Iterator[tuple[int, float]]:
        """The nearest questions.

        Args:
            vector: Unit vector.
            min_cosine: Least cosine, above 0.

        Yields:
            Place and cosine, best first; equal cosines by place.
        """
        # Not by BLAS: its threads wait busily, and on two cores with other work a product took 8 ms of CPU instead of 2.
        cosines = np.einsum("ij,j->i", self._vectors[: len(self.numbers)], vector)
        places = np.flatnonzero(cosines >= min_cosine)
        for place in places[np.argsort(-cosines[places], kind="stable")].tolist():
            yield place, float(cosines[place])
