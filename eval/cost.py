"""Cost of a run of answers: CPU seconds, joules and grams per answer, with the weakest method and the widest band."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rag.cost import Figure, Measurement
from rag.errors import InputError
from rag.power.figure import total


@dataclass(frozen=True, slots=True)
class Cost:
    """What answers cost on average; the names are those of experiment trackers (one metric a field).

    Attributes:
        n_answers: Measurements in the mean.
        cpu_s_per_answer: CPU seconds.
        wall_s_p50: Median wall-clock seconds.
        wall_s_p95: 95th percentile, the next higher answer (no interpolation).
        peak_rss_bytes: Highest of all.
        tokens_per_answer: Prompt, context and completion.
        energy_j_per_answer: Mean joules; None when an answer has none, because a mean over some would be of other answers.
        energy_j_per_answer_lo: Mean of the lower ends.
        energy_j_per_answer_hi: Mean of the upper ends.
        energy_method: The weakest of all answers.
        energy_boundary: Of all answers, joined when they differ.
        carbon_g_per_answer: Mean grams of CO2 equivalent.
        sci_g_per_answer: Mean Software Carbon Intensity.
    """

    n_answers: int
    cpu_s_per_answer: float
    wall_s_p50: float
    wall_s_p95: float
    peak_rss_bytes: int
    tokens_per_answer: float
    energy_j_per_answer: float | None
    energy_j_per_answer_lo: float | None
    energy_j_per_answer_hi: float | None
    energy_method: str | None
    energy_boundary: str | None
    carbon_g_per_answer: float | None
    sci_g_per_answer: float | None


def cost(measurements: Sequence[Measurement]) -> Cost:
    """Average what answers cost.

    Args:
        measurements: One an answer, in any order.

    Returns:
        Means, with the weakest method of all.

    Raises:
        InputError: If there are none: a cost of nothing is not zero.
    """
    if not measurements:
        raise InputError("no measurements to average; run at least one question", code="no_measurements")
    n = len(measurements)
    walls = sorted(m.wall_s for m in measurements)
    energies = [m.energy for m in measurements if m.energy is not None]
    whole: Figure | None = total([e.total for e in energies]) if len(energies) == n else None
    return Cost(
        n_answers=n,
        cpu_s_per_answer=sum(m.cpu_s for m in measurements) / n,
        wall_s_p50=statistics.median(walls),
        wall_s_p95=walls[min(n - 1, -(-95 * n // 100) - 1)],
        peak_rss_bytes=max(m.peak_rss_bytes for m in measurements),
        tokens_per_answer=sum(m.tokens.prompt + m.tokens.context + m.tokens.completion for m in measurements) / n,
        energy_j_per_answer=whole.value / n if whole else None,
        energy_j_per_answer_lo=whole.lo / n if whole else None,
        energy_j_per_answer_hi=whole.hi / n if whole else None,
        energy_method=whole.method if whole else None,
        energy_boundary=whole.boundary if whole else None,
        carbon_g_per_answer=sum(e.carbon.value for e in energies) / n if whole else None,
        sci_g_per_answer=sum(e.sci.value for e in energies) / n if whole else None,
    )
