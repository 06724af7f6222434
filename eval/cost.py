"""What a run of answers cost: CPU seconds, joules and grams an answer and a correct answer, with the weakest method and the widest band."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from eval.record import CostRecord, Estimate, QuestionRecord, StageRecord
from eval.statistics import bootstrap_interval
from rag.cost import Method

# From strong to weak: a sum is as weak as its weakest part.
_METHODS: tuple[str, ...] = get_args(Method)
NO_MARK = "peak_rss_bytes is that of the process so far, with ingestion and earlier pipelines: this system cannot reset the mark"


@dataclass(frozen=True, slots=True)
class RunCost:
    """Costs of a run.

    Attributes:
        estimates: By name; see `eval.record.RunRecord`.
        method: The weakest of all answers; empty when some answer has no joules.
        boundary: Of all answers, joined when they differ; empty likewise.
        notes: What is not known, for people.
    """

    estimates: dict[str, Estimate]
    method: str
    boundary: str
    notes: tuple[str, ...] = ()


class PeakMark:
    """The highest resident memory of this process from now on, where the system can forget what was before (Linux).

    What is resident now counts: memory that an earlier pipeline freed and the allocator kept is in it.

    Args:
        proc: What the kernel tells of this process.
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._status = proc / "status"
        gc.collect()
        # What ingestion freed is given back first, where the C library can: glibc.
        if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
            trim(0)
        try:
            # 5 resets VmHWM: proc_pid_clear_refs(5).
            (proc / "clear_refs").write_text("5", encoding="ascii")
            self._is_reset = True
        except OSError:
            self._is_reset = False

    def n_bytes(self) -> int | None:
        """Bytes of the highest mark since; None where it could not be reset or is not told."""
        try:
            lines = self._status.read_text(encoding="utf-8").splitlines() if self._is_reset else []
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


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


def run_cost(questions: Sequence[QuestionRecord], correct: str, seed: int, peak_rss_bytes: int | None = None) -> RunCost:
    """Sum up what a run cost.

    Args:
        questions: Those that failed, and those without a cost because the pipeline only searches, are counted as unscored.
        correct: The metric at which 1.0 makes an answer correct; empty for none.
        seed: Of the bootstrap.
        peak_rss_bytes: Highest resident memory of the run; None takes the highest that an answer told.

    Returns:
        Means an answer with their intervals; percentiles and the highest resident memory without one. Joules are None when one answer
        has none, because a mean over some would be of other answers. A correct answer also pays for the questions that failed; where
        one of those has no cost, that price is None, with a note.
    """
    asked = [question for question in questions if question.cost is not None and not question.error]
    failed = [question.cost for question in questions if question.error]
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
        "peak_rss_bytes": single(float(peak_rss_bytes or max(cost.peak_rss_bytes for cost in costs)) if costs else None),
        "cpu_s_per_correct": single(_per(cpu_s, [cost.cpu_s if cost else None for cost in failed], n_correct)),
        "energy_j_per_correct": single(_per(energy_j, [cost.energy_j if cost else None for cost in failed], n_correct)),
    }
    n_unknown = failed.count(None)
    notes = [f"cost per correct answer is not known: {n_unknown} failed questions did not tell what they spent"]
    methods = {cost.method for cost in costs}
    known = energy_j.value is not None and methods <= set(_METHODS)
    return RunCost(
        estimates=estimates,
        method=max(methods, key=_METHODS.index) if known else "",
        boundary=" + ".join(sorted({cost.boundary for cost in costs})) if known else "",
        notes=tuple(notes if n_unknown and n_correct else ()),
    )


def _per(mean: Estimate, failed: Sequence[float | None], n_correct: int) -> float | None:
    """The cost of all answers by the number of correct ones: wrong ones and those that failed are paid too."""
    spent = [cost for cost in failed if cost is not None]
    if mean.value is None or not n_correct or len(spent) < len(failed):
        return None
    return (mean.value * mean.n + math.fsum(spent)) / n_correct
