"""What a run of answers cost: CPU seconds, joules and grams an answer and a correct answer, with the weakest method and the widest band."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from eval.record import CostRecord, Estimate, QuestionRecord, StageRecord
from eval.statistics import bootstrap_interval
from rag.cost import Method

# From strong to weak: a sum is as weak as its weakest part.
_METHODS: tuple[str, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class RunCost:
    """Costs of a run.

    Attributes:
        estimates: By name; see `eval.record.RunRecord`.
        method: The weakest of all answers; empty when some answer has no joules.
        boundary: Of all answers, joined when they differ; empty likewise.
    """

    estimates: dict[str, Estimate]
    method: str
    boundary: str


def cost_record(measurement: dict[str, Any]) -> CostRecord:
    """Keep what a run needs of a measurement.

    Args:
        measurement: As `rag.wire.measurement_json` gives it.

    Returns:
        Its costs; tokens are scores, because no clock tells them.
    """
    energy, carbon = measurement["energy_j"], measurement["carbon_g"]
    return CostRecord(
        cpu_s=measurement["cpu_s"],
        wall_s=measurement["wall_s"],
        peak_rss_bytes=measurement["peak_rss_bytes"],
        energy_j=energy["value"] if energy else None,
        energy_lo_j=energy["lo"] if energy else None,
        energy_hi_j=energy["hi"] if energy else None,
        carbon_g=carbon["value"] if carbon else None,
        method=energy["method"] if energy else "",
        boundary=energy["boundary"] if energy else "",
        stages=tuple(StageRecord(stage["name"], stage["cpu_s"], stage["energy_j"]) for stage in measurement["stages"]),
    )


def run_cost(questions: Sequence[QuestionRecord], correct: str, seed: int) -> RunCost:
    """Sum up what a run cost.

    Args:
        questions: Those without a cost, because they failed or because the pipeline only searches, are counted as unscored.
        correct: The metric at which 1.0 makes an answer correct; empty for none.
        seed: Of the bootstrap.

    Returns:
        Means an answer with their intervals; percentiles and the highest resident memory without one. Joules are None when one answer
        has none, because a mean over some would be of other answers.
    """
    asked = [question for question in questions if question.cost is not None]
    costs = [question.cost for question in asked if question.cost is not None]
    n_missing = len(questions) - len(costs)
    groups = [question.group for question in asked]

    def mean(pick: Callable[[CostRecord], float | None]) -> Estimate:
        values = [value for cost in costs if (value := pick(cost)) is not None]
        if not values or len(values) < len(costs):
            return Estimate(None, n=len(values), n_unscored=len(questions) - len(values))
        lo, hi = bootstrap_interval(values, groups, seed=seed) or (None, None)
        return Estimate(math.fsum(values) / len(values), lo, hi, len(values), n_missing)

    def single(value: float | None) -> Estimate:
        return Estimate(value, n=len(costs), n_unscored=n_missing)

    walls = sorted(cost.wall_s for cost in costs)
    cpu_s, energy_j = mean(lambda cost: cost.cpu_s), mean(lambda cost: cost.energy_j)
    n_correct = sum(question.scores.get(correct) == 1.0 for question in asked) if correct else 0
    estimates = {
        "cpu_s": cpu_s,
        "wall_s_p50": single(statistics.median(walls) if walls else None),
        # The next higher answer, no interpolation.
        "wall_s_p95": single(walls[-(-95 * len(walls) // 100) - 1] if walls else None),
        "energy_j": energy_j,
        "energy_lo_j": mean(lambda cost: cost.energy_lo_j),
        "energy_hi_j": mean(lambda cost: cost.energy_hi_j),
        "carbon_g": mean(lambda cost: cost.carbon_g),
        "peak_rss_bytes": single(max((float(cost.peak_rss_bytes) for cost in costs), default=None)),
        "cpu_s_per_correct": single(_per(cpu_s, n_correct)),
        "energy_j_per_correct": single(_per(energy_j, n_correct)),
    }
    methods = {cost.method for cost in costs}
    known = energy_j.value is not None and methods <= set(_METHODS)
    return RunCost(
        estimates=estimates,
        method=max(methods, key=_METHODS.index) if known else "",
        boundary=" + ".join(sorted({cost.boundary for cost in costs})) if known else "",
    )


def _per(mean: Estimate, n_correct: int) -> float | None:
    """The cost of all answers by the number of correct ones: wrong ones are paid too."""
    return mean.value * mean.n / n_correct if mean.value is not None and n_correct else None
