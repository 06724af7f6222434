"""What a language model costs a token, learnt while it works, and how long an answer the joules at hand allow."""

from __future__ import annotations

import threading
from dataclasses import dataclass

# SmolLM2-135M, 98.4 MB of weights, one thread: CPU seconds a token read and a token written (facts: slm, section 2). Larger weights
# take longer in proportion: every token passes all of them.
_READ_S, _WRITE_S, _WEIGHTS_BYTES = 1 / 236, 1 / 90, 98.4e6
# A new observation moves the estimate by so much: four calls make up for a prior that is wrong by a factor.
_STEP = 0.5


@dataclass(frozen=True, slots=True)
class TokenCost:
    """CPU seconds a token of a prompt that is evaluated, and a token that is written."""

    read_s: float
    write_s: float


class CostModel:
    """CPU seconds of a language model, from its size at first, then from what its calls took; safe to share between threads.

    Args:
        weights_bytes: Size of the weights; 0 where it is not known, then nothing is known before the first call.
    """

    def __init__(self, weights_bytes: int = 0) -> None:
        scale = weights_bytes / _WEIGHTS_BYTES
        self._cost = TokenCost(_READ_S * scale, _WRITE_S * scale) if weights_bytes else None
        self._lock = threading.Lock()

    def observe(self, n_read: int, n_written: int, cpu_s: float) -> None:
        """Learn from a call.

        Both rates move by one factor, because one call tells one number: reading and writing stay in the ratio of the prior.

        Args:
            n_read: Tokens of the prompt that were evaluated, without those from a cache.
            n_written: Tokens written.
            cpu_s: CPU seconds of the call.
        """
        with self._lock:
            before = self._cost or TokenCost(_READ_S, _WRITE_S)
            expected_s = n_read * before.read_s + n_written * before.write_s
            if expected_s <= 0 or cpu_s <= 0:
                return
            factor = (cpu_s / expected_s) ** (_STEP if self._cost else 1.0)
            self._cost = TokenCost(before.read_s * factor, before.write_s * factor)

    def max_written(self, n_prompt: int, cpu_s: float) -> int | None:
        """Tokens that can be written.

        Args:
            n_prompt: Tokens of the prompt, taken as none of them cached.
            cpu_s: CPU seconds at hand.

        Returns:
            0 or more; None while nothing is known of the model.
        """
        with self._lock:
            if self._cost is None:
                return None
            left_s = cpu_s - n_prompt * self._cost.read_s
            return max(0, int(left_s / self._cost.write_s))
