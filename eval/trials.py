"""Trials of a search for settings: what questions gave and took, and what trials come to when they are set side by side."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

from eval.suite import PipelineSpec
from eval.tuned import Ending, Point
from rag.errors import RagError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some questions gave and took.

    Attributes:
        quality: Of the metric, by question id; a question that could not be scored, or failed, is not there.
        cpu_s: CPU seconds of all of them together.
        energy_j: Joules of all; None without a power model.
        failed: Why, by id of each question that failed.
    """

    quality: Mapping[str, float]
    cpu_s: float
    energy_j: float | None = None
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Trial:
    """Settings under trial; ``cpu_at`` has the CPU seconds so far by the number of questions asked."""

    number: int
    spec: PipelineSpec
    quality: dict[str, float] = field(default_factory=dict)
    cpu_at: dict[int, float] = field(default_factory=lambda: {0: 0.0})
    energy_j: float | None = 0.0
    n_failed: int = 0
    ending: Ending = "interrupted"
    reason: str = ""

    @property
    def n(self) -> int:
        """Questions asked."""
        return max(self.cpu_at)


def points_of(trials: Sequence[Trial]) -> tuple[Point, ...]:
    """Trials with their means.

    Args:
        trials: Of one search.

    Returns:
        In their order. Quality of those that were completed is over the questions that all of these have one of, None where there is no
        such question; CPU seconds are over the answers that came.
    """
    common = _common([trial.quality for trial in trials if trial.ending == "complete"])
    points = []
    for trial in trials:
        of = common if trial.ending == "complete" else trial.quality.keys()
        n = trial.n - trial.n_failed
        cpu_s = trial.cpu_at[trial.n] / n if n else None
        quality = _mean(trial.quality, of)
        points.append(Point(trial.number, trial.spec, trial.ending, trial.reason, len(of), quality, cpu_s, trial.n_failed))
    return tuple(points)


def with_held_out(points: Sequence[Point], outcomes: Mapping[int, Outcome | RagError], n: int) -> tuple[Point, ...]:
    """Points with the figures of the held-out half.

    Args:
        points: From `points_of`.
        outcomes: Of that half by number of the trial, or why there is none.
        n: Questions of that half.

    Returns:
        In their order; quality is over the same questions too.
    """
    common = _common([qualities(outcome) for outcome in outcomes.values() if isinstance(outcome, Outcome)])
    told = list(points)
    for at, point in enumerate(points):
        outcome = outcomes.get(point.number)
        if isinstance(outcome, RagError):
            told[at] = dataclasses.replace(point, reason=str(outcome))
        elif outcome is not None:
            n_answered = n - len(outcome.failed)
            told[at] = dataclasses.replace(
                point,
                held_out_quality=_mean(qualities(outcome), common),
                held_out_cpu_s=outcome.cpu_s / n_answered,
                held_out_energy_j=None if outcome.energy_j is None else outcome.energy_j / n_answered,
                held_out_n_failed=len(outcome.failed),
            )
    return tuple(told)


def _common(each: Sequence[Mapping[str, float]]) -> Set[str]:
    return frozenset.intersection(*map(frozenset, each)) if each else frozenset()


def _mean(quality: Mapping[str, float], of: Set[str]) -> float | None:
    return statistics.fmean(quality[i] for i in of) if of else None


def qualities(outcome: Outcome) -> dict[str, float]:
    """Quality by question id, 0.0 for each question that failed."""
    return dict(outcome.quality) | dict.fromkeys(outcome.failed, 0.0)
