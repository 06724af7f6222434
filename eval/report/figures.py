"""The values behind the tables and plots of a report, without a pixel: what is compared, what is dominated, what each joule bought."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from eval.metrics import Metric, metric
from eval.record import CostRecord, Estimate, Result, RunRecord
from eval.suite import NO_MODEL
from rag.errors import InputError

CostKind = Literal["energy_j", "cpu_s", "prompt_tokens", "context_tokens"]
CostUnit = Literal["J", "CPU-s"]

# More colours than these are not told apart; what is left is one more bar, and in full in the table.
_MAX_STAGES = 6


@dataclass(frozen=True, slots=True)
class Entry:
    """A run with the names under which it is shown.

    Attributes:
        pipeline: Its pipeline.
        release: Which result it is of; empty where there is only one.
        seed: Of its bootstrap.
        run: What was recorded.
        baseline: Of the same result and data set, the run without a model; None where there is none.
    """

    pipeline: str
    release: str
    seed: int
    run: RunRecord
    baseline: RunRecord | None

    @property
    def name(self) -> str:
        """Pipeline and release, for people."""
        return f"{self.pipeline}, {self.release}" if self.release else self.pipeline

    @property
    def is_baseline(self) -> bool:
        """Whether it is the run without a model itself."""
        return self.run is self.baseline


@dataclass(frozen=True, slots=True)
class View:
    """All runs on one data set.

    Attributes:
        data: Name of the data set.
        entries: By pipeline, then by result, so that releases of one pipeline stand side by side; in order of first appearance.
        metrics: Quality metrics that any of them has, in order of first appearance.
        correct: The metric at which 1.0 makes an answer correct; empty where none fits.
        headlines: At most two metrics for the plots, higher is better.
    """

    data: str
    entries: tuple[Entry, ...]
    metrics: tuple[str, ...]
    correct: str
    headlines: tuple[str, ...]


def releases(results: Sequence[Result]) -> tuple[str, ...]:
    """Names of results by version and place; an empty one for a single result."""
    return ("",) if len(results) == 1 else tuple(f"{result.version} ({n})" for n, result in enumerate(results, start=1))


def views(results: Sequence[Result]) -> tuple[View, ...]:
    """Put the runs of several results side by side, data set by data set.

    Args:
        results: In the order in which they are to be shown.

    Returns:
        One view a data set, in order of first appearance.
    """
    named = tuple(zip(releases(results), results, strict=True))
    found = []
    for data in dict.fromkeys(run.data for result in results for run in result.runs):
        runs = [(release, run, result) for release, result in named for run in result.runs if run.data == data]
        pipelines = list(dict.fromkeys(run.pipeline for _, run, _ in runs))
        runs.sort(key=lambda one: pipelines.index(one[1].pipeline))
        metrics = tuple(dict.fromkeys(name for _, run, _ in runs for name in run.quality))
        measured = [name for name in metrics if any(_finite(_quality(run, name)) for _, run, _ in runs)]
        correct = next((result.correct for _, _, result in runs if result.correct in measured), "")
        shares = [name for name in measured if (known := known_metric(name)) and known.unit == "share" and known.is_better_high]
        chosen = [name for name in (correct, "groundedness") if name in shares] or shares[:1]
        entries = tuple(Entry(run.pipeline, release, result.seed, run, _baseline(result, data)) for release, run, result in runs)
        found.append(View(data, entries, metrics, correct, tuple(chosen)))
    return tuple(found)


def known_metric(name: str) -> Metric | None:
    """What a metric is; None for one of another version."""
    try:
        return metric(name)
    except InputError:
        return None


def _baseline(result: Result, data: str) -> RunRecord | None:
    return next((run for run in result.runs if run.data == data and run.pipeline == NO_MODEL), None)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _quality(run: RunRecord, name: str) -> float | None:
    estimate = run.quality.get(name)
    return estimate.value if estimate else None


@dataclass(frozen=True, slots=True)
class Point:
    """A run in the plane of cost and quality; ends are None where they are not known.

    Attributes:
        entry: Whose it is.
        method: How its cost was found, as of `rag.cost.Figure`.
        cost: Of an answer.
        cost_lo: Lower end.
        cost_hi: Upper end.
        quality: Mean.
        quality_lo: Lower end.
        quality_hi: Upper end.
    """

    entry: Entry
    method: str
    cost: float
    cost_lo: float | None
    cost_hi: float | None
    quality: float
    quality_lo: float | None
    quality_hi: float | None


@dataclass(frozen=True, slots=True)
class Scatter:
    """Quality against a cost.

    Attributes:
        metric: The quality.
        kind: The cost.
        points: In the order of the view.
        frontier: Indexes of the points that no other dominates, cheapest first.
        missing: Runs that have no place in it, each with the reason.
    """

    metric: str
    kind: CostKind
    points: tuple[Point, ...]
    frontier: tuple[int, ...]
    missing: tuple[str, ...]


def frontier(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Find the points of which no other is at least as good in both and better in one.

    Args:
        points: Cost (less is better) and quality (more is better).

    Returns:
        Indexes by rising cost; equal points are all on it, in their order.
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not kept or points[index][1] > points[kept[-1]][1] or points[index] == points[kept[-1]]:
            kept.append(index)
    return tuple(kept)


def scatters(view: View) -> tuple[Scatter, ...]:
    """Set each headline against joules, against CPU seconds where a run has no joules, and against tokens.

    Args:
        view: Runs on one data set.

    Returns:
        By headline, then by cost; only those with a point.
    """
    costs = [entry.run.cost for entry in view.entries]
    kinds: list[CostKind] = ["energy_j"]
    if not all("energy_j" in cost and _finite(cost["energy_j"].value) for cost in costs):
        kinds.append("cpu_s")
    if any(_quality(entry.run, "prompt_tokens") for entry in view.entries):
        kinds.append("prompt_tokens")
    kinds.append("context_tokens")
    made = (_scatter(view, metric, kind) for metric in view.headlines for kind in kinds)
    return tuple(scatter for scatter in made if scatter.points)


def _scatter(view: View, metric: str, kind: CostKind) -> Scatter:
    points, missing = [], []
    for entry in view.entries:
        run = entry.run
        quality = run.quality.get(metric)
        cost = (run.cost if kind in ("energy_j", "cpu_s") else run.quality).get(kind)
        if quality is None or quality.value is None or not math.isfinite(quality.value):
            missing.append(f"{entry.name}: {metric} not measured")
        elif cost is None or cost.value is None or not math.isfinite(cost.value):
            missing.append(f"{entry.name}: {kind} not measured")
        elif cost.value <= 0 and kind in ("energy_j", "cpu_s"):
            missing.append(f"{entry.name}: {kind} is {cost.value:g}, which a logarithmic axis cannot show")
        else:
            points.append(_point(entry, kind, cost, quality))
    return Scatter(metric, kind, tuple(points), frontier([(p.cost, p.quality) for p in points]), tuple(missing))


def _point(entry: Entry, kind: CostKind, cost: Estimate, quality: Estimate) -> Point:
    lo, hi, method = cost.lo, cost.hi, "measured"
    if kind == "energy_j":  # the band of the method: that of drawing questions is small beside it
        lo, hi = (end.value if (end := entry.run.cost.get(name)) else None for name in ("energy_lo_j", "energy_hi_j"))
        method = entry.run.method
    cost_lo, cost_hi, quality_lo, quality_hi = map(_known, (lo, hi, quality.lo, quality.hi))
    return Point(entry, method, cost.value or 0.0, cost_lo, cost_hi, quality.value or 0.0, quality_lo, quality_hi)


def _known(value: float | None) -> float | None:
    return value if _finite(value) else None


@dataclass(frozen=True, slots=True)
class Stages:
    """What the stages of a mean answer take.

    Attributes:
        unit: Joules, or CPU seconds.
        names: Stages in order of first appearance; the last is what no stage holds.
        entries: Runs, in the order of the view.
        parts: By entry, by stage.
    """

    unit: CostUnit
    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    parts: tuple[tuple[float, ...], ...]


def stages(view: View) -> tuple[Stages, ...]:
    """Split the cost of a mean answer by stage: joules, and CPU seconds for the runs of which an answer has no joules.

    Args:
        view: Runs on one data set.

    Returns:
        One a unit. The largest stages by name, the smaller ones together as ``other stages``, then ``outside of stages``: idle, remote
        and the like. A run without any measurement is in none.
    """
    with_cost = [entry for entry in view.entries if _costs(entry)]
    with_joules = [entry for entry in with_cost if all(_has_joules(cost) for cost in _costs(entry))]
    without = [entry for entry in with_cost if not all(_has_joules(cost) for cost in _costs(entry))]
    units: tuple[tuple[CostUnit, list[Entry]], ...] = (("J", with_joules), ("CPU-s", without))
    return tuple(_stages(entries, unit) for unit, entries in units if entries)


def _stages(entries: Sequence[Entry], unit: CostUnit) -> Stages:
    costs = [_costs(entry) for entry in entries]
    names = list(dict.fromkeys(stage.name for of_entry in costs for cost in of_entry for stage in cost.stages))
    spent = [{name: _mean_stage(of_entry, name, unit) for name in names} for of_entry in costs]
    largest = sorted(names, key=lambda name: -max(one[name] for one in spent))[:_MAX_STAGES]
    others = [name for name in names if name not in largest]
    parts = []
    for of_entry, one in zip(costs, spent, strict=True):
        whole = math.fsum((cost.energy_j or 0.0) if unit == "J" else cost.cpu_s for cost in of_entry) / len(of_entry)
        rest = max(0.0, whole - math.fsum(one.values()))
        small = [math.fsum(one[name] for name in others)] if others else []
        parts.append((*(one[name] for name in names if name in largest), *small, rest))
    titles = (*(name for name in names if name in largest), *(["other stages"] if others else []), "outside of stages")
    return Stages(unit, titles, tuple(entries), tuple(parts))


def _costs(entry: Entry) -> list[CostRecord]:
    return [
        question.cost for question in entry.run.questions if question.cost and not question.error and _finite(question.cost.cpu_s)
    ]


def _mean_stage(costs: Sequence[CostRecord], name: str, unit: CostUnit) -> float:
    spent = (
        (stage.energy_j or 0.0) if unit == "J" else stage.cpu_s for cost in costs for stage in cost.stages if stage.name == name
    )
    return math.fsum(spent) / len(costs)


def _has_joules(cost: CostRecord) -> bool:
    return _finite(cost.energy_j) and all(_finite(stage.energy_j) for stage in cost.stages)


def cautions(results: Sequence[Result]) -> tuple[str, ...]:
    """Say what keeps results from being compared: one sentence each; nothing for a single result."""
    if len(results) == 1:
        return ()
    said = []
    if len({result.scorer for result in results}) > 1:
        said.append(
            "The results are of different groundedness scorers: groundedness, verdicts and citation metrics cannot be compared."
        )
    if len({result.judge for result in results}) > 1:
        said.append("The results are of different judges: what a judge scored cannot be compared.")
    if len({result.machine for result in results}) > 1:
        said.append("The results are of different machines: seconds, joules and the frontier cannot be compared.")
    if len({(result.suite, result.suite_checksum, result.seed) for result in results}) > 1:
        said.append("The results are of different suites, suite files or seeds: questions and settings may differ.")
    sums: dict[str, set[str]] = {}
    for data in (data for result in results for data in result.data):
        sums.setdefault(data.name, set()).add(data.checksum)
    said += [
        f"Data set {name} differs between the results: its figures cannot be compared."
        for name, one in sums.items()
        if len(one) > 1
    ]
    return tuple(said)
