"""What a search for settings found: the frontier, the choice, the settings file and the words for people."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.metrics import metric
from eval.suite import PipelineSpec, settings_table
from rag.errors import InputError

# What CPU seconds of the same work differ by between two runs on a shared machine: facts (energy, 6.1) and eval/interleave.py.
_NOISE = 0.05
# Points of a frontier whose places differ by less are all at the knee; of them the best is taken.
_KNEE_SLACK = 0.05

Setting = str | int | float | bool
Ending = Literal["complete", "beaten", "failed", "over budget", "interrupted"]


@dataclass(frozen=True, slots=True)
class Point:
    """Settings with what they gave and took per answer.

    Attributes:
        number: Of the trial, from 0; those of the suite come first.
        spec: The settings.
        ending: How the trial ended.
        reason: Why it did not answer everything.
        n_scored: Questions of the searched half of which the quality is the mean: of trials that were completed the same ones, which all
            of these could score.
        quality: Mean of these, 0.0 for each that failed; None where there is none.
        cpu_s: CPU seconds per answer of the searched half, those that failed left out.
        n_failed: Questions of the searched half that failed.
        held_out_quality: Mean over the other half; None where it was not asked, as are the next three.
        held_out_cpu_s: CPU seconds per answer there.
        held_out_energy_j: Joules per answer there; None also without a power model.
        held_out_n_failed: Questions that failed there.
    """

    number: int
    spec: PipelineSpec
    ending: Ending
    reason: str
    n_scored: int
    quality: float | None
    cpu_s: float | None
    n_failed: int = 0
    held_out_quality: float | None = None
    held_out_cpu_s: float | None = None
    held_out_energy_j: float | None = None
    held_out_n_failed: int | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found.

    Attributes:
        suite: Its name.
        metric: Of quality.
        seed: Of the search.
        n_searched: Questions of the searched half.
        n_held_out: Questions of the other.
        trials: In their order.
        frontier: By the searched half, cheapest first; empty where no trial was completed.
        chosen: One of them; None where there is none.
        rule: By which it was chosen, for people.
        ended: Why the search ended, for people.
        n_answers: Answers that the search asked for.
        cpu_s: CPU seconds that they took, as measured.
        energy_j: Joules; None where they are not known of all.
    """

    suite: str
    metric: str
    seed: int
    n_searched: int
    n_held_out: int
    trials: tuple[Point, ...]
    frontier: tuple[Point, ...]
    chosen: Point | None
    rule: str
    ended: str
    n_answers: int
    cpu_s: float
    energy_j: float | None

    @property
    def has_failures(self) -> bool:
        """Whether the chosen settings left a question without an answer, in either half."""
        return self.chosen is not None and bool(self.chosen.n_failed or self.chosen.held_out_n_failed or self.chosen.reason)


def frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats in quality and CPU time, of those that answered everything.

    A point that is worse must be cheaper by more than 5 %, measured against the next better one that is kept: less is noise. Of points of
    equal quality within 5 % of the cheapest, the first counts, so that settings without any effect are not chosen for their noise.

    Args:
        points: In the order of their trials.

    Returns:
        Cheapest first.
    """
    kept: list[Point] = []
    done = [p for p in points if p.ending == "complete" and p.quality is not None]
    for quality in sorted({_quality(p) for p in done}, reverse=True):
        equal = [p for p in done if _quality(p) == quality]
        cheapest_s = min(_cpu_s(p) for p in equal)
        first = next(p for p in equal if _cpu_s(p) <= cheapest_s * (1 + _NOISE))
        if not kept or _cpu_s(first) * (1 + _NOISE) < _cpu_s(kept[-1]):
            kept.append(first)
    return tuple(reversed(kept))


def choose(best: Sequence[Point], max_cpu_s: float, margin: float) -> tuple[Point, str]:
    """Choose from a frontier, by the searched half, so that the held-out figures of the choice stay unbiased.

    Args:
        best: From `frontier`, at least one point.
        max_cpu_s: CPU seconds per answer that it may take; 0 chooses the knee.
        margin: A loss of quality that nobody minds: the cheapest within it is taken.

    Returns:
        The point, and the rule in words. The knee is where quality minus the logarithm of CPU time, each as a share of its range, is
        highest; of points within 5 points of that, the best.
    """
    if max_cpu_s:
        allowed = [p for p in best if _cpu_s(p) <= max_cpu_s]
        if not allowed:
            return best[0], f"the cheapest, because nothing stays within {max_cpu_s:g} CPU-s"
        enough = max(map(_quality, allowed)) - margin
        return next(
            p for p in allowed if _quality(p) >= enough
        ), f"the best within {max_cpu_s:g} CPU-s, or the cheapest nearly as good"
    low, high = best[0], best[-1]
    quality_range, cost_range = _quality(high) - _quality(low), math.log(_cpu_s(high) / _cpu_s(low))
    if len(best) == 1 or quality_range <= margin:
        return low, "the cheapest, because nothing is better by more than the margin"

    def height(point: Point) -> float:
        return (_quality(point) - _quality(low)) / quality_range - math.log(_cpu_s(point) / _cpu_s(low)) / cost_range

    top = max(map(height, best))
    return next(
        p for p in reversed(best) if height(p) >= top - _KNEE_SLACK
    ), "the knee: beyond it quality rises less than its price"


def settings_toml(tuned: Tuned) -> str:
    """The chosen settings as a settings file.

    Args:
        tuned: With a choice.

    Returns:
        Text for ``ragwatt.toml``, with what was searched and what the suite sets; a comment says where it comes from and which mode to
        ask with.

    Raises:
        InputError: If nothing was chosen.
    """
    if (point := tuned.chosen) is None:
        raise InputError(f"nothing was chosen: {tuned.rule}; allow more trials or joules", code="tune")
    spec = point.spec
    values: dict[str, Setting] = {"search.k": spec.k, **spec.settings}
    if metric(tuned.metric).call == "context":  # nothing else varies it
        values |= {"context.max_tokens": spec.max_tokens, "context.style": spec.style}
    match spec.mode:
        case "eco" | "bm25" | "dense":
            values["search.mode"] = "dense" if spec.mode == "dense" else "bm25"
        case "generative" | "auto":
            values["answer.generator"] = "model" if spec.mode == "generative" else "auto"
        case _:
            values["answer.generator"] = "extractive"
    lines = [
        f"# Chosen by 'rag eval tune' from suite {tuned.suite}, seed {tuned.seed}: {tuned.rule}.",
        f"# {tuned.metric}: {_shown(point)}",
        f"# Ask with --mode {spec.mode}.",
    ]
    section = ""
    for key in sorted(values, key=lambda key: ("." in key, key)):
        table, _, name = key.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        lines.append(f"{name} = {json.dumps(values[key])}")
    return "\n".join(lines) + "\n"


def tuned_text(tuned: Tuned) -> str:
    """What a search found, for people."""
    endings = Counter(point.ending for point in tuned.trials)
    lines = [
        f"suite {tuned.suite}, {tuned.metric} against CPU-s per answer, seed {tuned.seed}",
        f"{len(tuned.trials)} trials ({', '.join(f'{n} {ending}' for ending, n in endings.items())}); the search ended because {tuned.ended}",
        f"searched on {tuned.n_searched} questions, reported on {tuned.n_held_out} others; cheapest first:",
        *(f"{'*' if p == tuned.chosen else ' '} {p.number:>3}  {_shown(p)}  {_settings_line(p.spec)}" for p in tuned.frontier),
        *(f"  trial {p.number} failed: {p.reason}" for p in tuned.trials if p.ending == "failed"),
        *(f"  trial {p.number}: {p.n_failed} questions failed" for p in tuned.trials if p.n_failed and p not in tuned.frontier),
        f"* chosen: {tuned.rule}",
    ]
    joules = "joules not known" if tuned.energy_j is None else f"{tuned.energy_j:.3g} J"
    return "\n".join([*lines, f"the search itself took {tuned.cpu_s:.3g} CPU-s, {joules}, for {tuned.n_answers} answers"]) + "\n"


def _shown(point: Point) -> str:
    n_failed = point.n_failed + (point.held_out_n_failed or 0)
    failed = f"; {n_failed} questions failed" if n_failed else ""
    if point.held_out_cpu_s is None:
        other = f"failed on the other: {point.reason}" if point.reason else "not asked on the other"
        return f"{_quality(point):.3f} at {_cpu_s(point):.3g} CPU-s on the searched half, {other}{failed}"
    quality = "not scored" if point.held_out_quality is None else f"{point.held_out_quality:.3f}"
    joules = "" if point.held_out_energy_j is None else f", {point.held_out_energy_j:.2g} J"
    return f"{quality} at {point.held_out_cpu_s:.3g} CPU-s{joules} an answer (searched half: {_quality(point):.3f}){failed}"


def _settings_line(spec: PipelineSpec) -> str:
    shown = settings_table(spec.settings)
    return " ".join([f"{spec.name}: mode={spec.mode} k={spec.k}", *(f"{key}={value}" for key, value in shown.items())])


def _quality(point: Point) -> float:
    assert point.quality is not None, "a completed trial has a quality; this is a bug"
    return point.quality


def _cpu_s(point: Point) -> float:
    assert point.cpu_s is not None, "a completed trial has a cost; this is a bug"
    return point.cpu_s
