"""Two results, question by question: what the candidate gained, what it lost, and whether that could be chance.

A gain is positive where the candidate is better, whatever the metric. What cannot be compared stands in the comparison with its
reason; questions that only one side could score are counted there and never quietly left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from eval.metrics import Metric, metric
from eval.record import QuestionRecord, Result, RunRecord
from eval.statistics import Paired, mcnemar_p, paired, ratio_interval
from rag.errors import InputError

COSTS = ("cpu_s", "wall_s", "energy_j", "carbon_g")
"""Costs of a question that are compared."""
NOT_INTERLEAVED = "not interleaved: information only"
# Of a checksum, enough to tell two apart by eye.
_N_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """A metric of a pipeline on a data set.

    Attributes:
        data: Name of the data set.
        pipeline: Name of the pipeline.
        metric: Name of the metric.
    """

    data: str
    pipeline: str
    metric: str


@dataclass(frozen=True, slots=True)
class SliceGain:
    """What a part of the questions gained.

    Attributes:
        name: Of the slice.
        n: Pairs in it.
        gain: Mean.
        lo: Lower end of its 95 % interval; None for a single group.
        hi: Upper end.
    """

    name: str
    n: int
    gain: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A metric of two runs.

    Attributes:
        place: Which one.
        base: Mean over the pairs; None where nothing is compared, as are the other figures then.
        candidate: Mean over the pairs.
        margin: Loss that is borne, in the unit of the metric.
        paired: The comparison over the questions that both scored.
        paired_if_worst: The same with every lost question at the worst score; None where none is lost.
        mcnemar_p: Of metrics that are 0 or 1 at every question, else None. Information only.
        worst: The slice that gained least, the first by name of equals; None for a single slice.
        n_lost: Questions that only the base scored.
        lost: How many of those, by the candidate's reason, by name.
        n_failed: How many of those failed with an error.
        n_gained: Questions that only the candidate scored.
        reason: Why it is not compared; empty where it is.
    """

    place: Place
    base: float | None = None
    candidate: float | None = None
    margin: float | None = None
    paired: Paired | None = None
    paired_if_worst: Paired | None = None
    mcnemar_p: float | None = None
    worst: SliceGain | None = None
    n_lost: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    n_failed: int = 0
    n_gained: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CostRow:
    """A cost of two runs that were not made in one job.

    Attributes:
        place: Which one.
        base: Mean over the questions that have it on both sides; None where there is none.
        candidate: Likewise.
        ratio: Sum of the candidate over sum of the base; below 1.0 is cheaper. None where the base is 0 or there is nothing.
        lo: Lower end of its 95 % interval; None without a ratio or for a single group.
        hi: Upper end.
        n: Questions that have it on both sides.
        method: Methods of base and candidate, of joules and grams.
        note: How it may be used.
    """

    place: Place
    base: float | None
    candidate: float | None
    ratio: float | None
    lo: float | None
    hi: float | None
    n: int
    method: str
    note: str = NOT_INTERLEAVED


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results side by side.

    Attributes:
        suite: Their suite.
        base: Version of the base.
        candidate: Version of the candidate.
        rows: By data set, pipeline and metric, in the order of the candidate, then what only the base has.
        costs: In the same order.
        notes: What a reader must know, for people.
    """

    suite: str
    base: str
    candidate: str
    rows: tuple[Row, ...]
    costs: tuple[CostRow, ...]
    notes: tuple[str, ...]


def compare(base: Result, candidate: Result, *, seed: int = 0) -> Comparison:
    """Compare everything that both results hold, with the margins that the metrics bring.

    Args:
        base: What was.
        candidate: What shall be.
        seed: Of the draws.

    Returns:
        The comparison.

    Raises:
        InputError: If they are of different suites, a metric is unknown, or nothing in them can be compared.
    """
    check_same_suite(base, candidate)
    places = list(dict.fromkeys((*_places(candidate), *_places(base))))
    rows = tuple(compare_metric(base, candidate, place, seed=seed) for place in places)
    if rows and all(row.paired is None for row in rows):
        reason = _data_difference(base, candidate, rows[0].place.data) or rows[0].reason
        raise InputError(f"nothing can be compared: {reason}; run both again on the same data", code="compare")
    costs = []
    for data, pipeline in dict.fromkeys((row.place.data, row.place.pipeline) for row in rows if row.paired is not None):
        old, new = find_run(base, data, pipeline), find_run(candidate, data, pipeline)
        if old is not None and new is not None:
            costs += [_cost_row(old, new, name, seed) for name in COSTS]
    return Comparison(
        suite=candidate.suite,
        base=base.version,
        candidate=candidate.version,
        rows=rows,
        costs=tuple(row for row in costs if row.n),
        notes=difference_notes(base, candidate),
    )


def compare_metric(base: Result, candidate: Result, place: Place, *, margin: float | None = None, seed: int = 0) -> Row:
    """Compare one metric question by question.

    Args:
        base: What was.
        candidate: What shall be.
        place: What to compare.
        margin: Loss that is borne, of tokens as a share of the base; None takes the metric's own.
        seed: Of the draws.

    Returns:
        The row; with a reason and no figures where they cannot be compared.

    Raises:
        InputError: If the metric is unknown, or a run holds a question twice.
    """
    kind = metric(place.metric)
    if reason := _why_not(base, candidate, place, kind):
        return Row(place, reason=reason)
    old, new = (_questions(find_run(side, place.data, place.pipeline)) for side in (base, candidate))
    name = place.metric
    both = [key for key in old if name in old[key].scores and name in new[key].scores]
    lost = [key for key in old if name in old[key].scores and name not in new[key].scores]
    counted = Row(
        place,
        n_lost=len(lost),
        lost=dict(sorted(Counter(new[key].unscored.get(name, "no reason given") for key in lost).items())),
        n_failed=sum(bool(new[key].error) for key in lost),
        n_gained=sum(name in new[key].scores and name not in old[key].scores for key in new),
    )
    if not both:
        reasons = Counter(
            question.unscored.get(name, "no reason given") for question in new.values() if name not in question.scores
        )
        said = ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(2)) or "the base scored none"
        return replace(counted, reason=f"no question is scored on both sides: {said}")
    sign = 1.0 if kind.is_better_high else -1.0
    before, after = [old[key].scores[name] for key in both], [new[key].scores[name] for key in both]
    gains = [sign * (b - a) for a, b in zip(before, after, strict=True)]
    groups = [old[key].group for key in both]
    mean = math.fsum(before) / len(both)
    share = kind.margin if margin is None else margin
    borne = share * abs(mean) if kind.unit == "tokens" else share
    floor = _worst_score(kind, [*before, *after, *(old[key].scores[name] for key in lost)])
    losses = [sign * (floor - old[key].scores[name]) for key in lost]
    return replace(
        counted,
        base=mean,
        candidate=math.fsum(after) / len(both),
        margin=borne,
        paired=paired(gains, groups, margin=borne, seed=seed),
        paired_if_worst=paired([*gains, *losses], [*groups, *(old[key].group for key in lost)], margin=borne, seed=seed)
        if lost
        else None,
        mcnemar_p=mcnemar_p(before, after) if {*before, *after} <= {0.0, 1.0} else None,
        worst=_worst_slice(gains, groups, [old[key].slice for key in both], seed),
    )


def find_run(result: Result, data: str, pipeline: str) -> RunRecord | None:
    """The run of a pipeline on a data set; None where there is none."""
    return next((run for run in result.runs if (run.data, run.pipeline) == (data, pipeline)), None)


def check_same_suite(base: Result, candidate: Result) -> None:
    """Refuse results of different suites.

    Args:
        base: What was.
        candidate: What shall be.

    Raises:
        InputError: If the names of their suites differ.
    """
    if base.suite != candidate.suite:
        raise InputError(
            f"results are of the suites {base.suite!r} and {candidate.suite!r}; only results of one suite are compared: "
            "give another file, or run the suite again",
            code="compare",
        )


def difference_notes(base: Result, candidate: Result) -> tuple[str, ...]:
    """What differs between two results besides their scores, for people."""
    notes = [
        f"{what} differs: {old or 'none'} against {new or 'none'}"
        for what, old, new in (
            ("machine", base.machine, candidate.machine),
            ("seed", f"{base.seed}", f"{candidate.seed}"),
            ("scorer", base.scorer, candidate.scorer),
            ("judge", base.judge, candidate.judge),
        )
        if old != new
    ]
    if base.suite_checksum != candidate.suite_checksum:
        notes.append("the suite file was changed in between")
    shared = [data.name for data in candidate.data if any(each.name == data.name for each in base.data)]
    notes += filter(None, (_data_difference(base, candidate, name) for name in shared))
    for run in candidate.runs:
        if (old_run := find_run(base, run.data, run.pipeline)) is not None and old_run.settings != run.settings:
            keys = sorted(key for key, _ in {*run.settings.items()} ^ {*old_run.settings.items()})
            notes.append(f"settings of {run.pipeline} on {run.data} differ: {', '.join(dict.fromkeys(keys))}")
    return tuple(notes)


def _places(result: Result) -> list[Place]:
    return [Place(run.data, run.pipeline, name) for run in result.runs for name in run.quality]


def _data_difference(base: Result, candidate: Result, name: str) -> str:
    """In what a data set differs between two results, for people; empty where it does not."""
    old, new = (next((data for data in side.data if data.name == name), None) for side in (base, candidate))
    if old is None or new is None:
        return "" if old is new else f"data set {name} is not the same: one result has a run and no record of it"
    if (old.checksum, old.n_documents) == (new.checksum, new.n_documents):
        # Over HTTP only collection and version are told, in this process also a digest behind "#".
        before, after = (side.snapshot for side in (old, new))
        if not ("#" in before and "#" in after):
            before, after = (snapshot.partition("#")[0] for snapshot in (before, after))
        if not before or not after or before == after:
            return ""
        return f"data set {name} is not the same: the collection was {before} and is {after}"
    if old.checksum == new.checksum:
        return (
            f"data set {name} is not the same: other documents ({old.n_documents} against {new.n_documents}; limit or hide differ)"
        )
    return f"data set {name} is not the same: checksum {old.checksum[:_N_DIGITS]} against {new.checksum[:_N_DIGITS]}"


def _why_not(base: Result, candidate: Result, place: Place, kind: Metric) -> str:
    """Why a metric cannot be compared; empty where it can."""
    runs = []
    for side, result in (("base", base), ("candidate", candidate)):
        run = find_run(result, place.data, place.pipeline)
        if run is None:
            return f"the {side} has no run of pipeline {place.pipeline} on {place.data}"
        if place.metric not in run.quality and not any(place.metric in question.scores for question in run.questions):
            return f"the {side} does not measure {place.metric}"
        runs.append(run)
    if _data_difference(base, candidate, place.data):
        return f"data set {place.data} is not the same; the note says how"
    ids, others = ({question.question_id for question in run.questions} for run in runs)
    if ids != others:
        return (
            f"questions are not the same: {len(ids - others)} only in the base, {len(others - ids)} only in the candidate, "
            f"first {min(ids ^ others)!r}"
        )
    if kind.is_grounding and (base.scorer, base.judge) != (candidate.scorer, candidate.judge):
        return f"scored by {base.scorer!r} {base.judge!r} and by {candidate.scorer!r} {candidate.judge!r}: not one scale"
    return ""


def _questions(run: RunRecord | None) -> dict[str, QuestionRecord]:
    assert run is not None, "this is a bug"
    found = {question.question_id: question for question in run.questions}
    if len(found) != len(run.questions):
        twice = next(name for name, n in Counter(each.question_id for each in run.questions).items() if n > 1)
        raise InputError(f"question {twice!r} of {run.data} stands twice in the result; run 'rag eval run' again", code="result")
    return found


def _worst_score(kind: Metric, seen: Iterable[float]) -> float:
    """The worst that a score can be; tokens have no end, so the most that was seen."""
    if kind.is_better_high:
        return 0.0
    return max(seen) if kind.unit == "tokens" else 1.0


def _worst_slice(gains: Sequence[float], groups: Sequence[str], slices: Sequence[str], seed: int) -> SliceGain | None:
    members: dict[str, list[int]] = {}
    for index, name in enumerate(slices):
        members.setdefault(name, []).append(index)
    if len(members) < 2:
        return None
    means = {name: math.fsum(gains[i] for i in indices) / len(indices) for name, indices in members.items()}
    name = min(means, key=lambda each: (means[each], each))
    indices = members[name]
    interval = ratio_interval([gains[i] for i in indices], [1.0] * len(indices), [groups[i] for i in indices], seed=seed)
    return SliceGain(name, len(indices), means[name], interval.lo, interval.hi)


def _cost_row(base: RunRecord, candidate: RunRecord, name: str, seed: int) -> CostRow:
    old, new = _questions(base), _questions(candidate)
    before, after, groups = [], [], []
    for key, question in old.items():
        first, second = (getattr(each.cost, name, None) for each in (question, new[key]))
        if first is not None and second is not None and not question.error and not new[key].error:
            before.append(first)
            after.append(second)
            groups.append(question.group)
    n = len(before)
    interval = ratio_interval(after, before, groups, seed=seed) if n and min(before) > 0 else None
    return CostRow(
        place=Place(base.data, base.pipeline, name),
        base=math.fsum(before) / n if n else None,
        candidate=math.fsum(after) / n if n else None,
        ratio=interval.value if interval else None,
        lo=interval.lo if interval else None,
        hi=interval.hi if interval else None,
        n=n,
        method=" and ".join(dict.fromkeys((base.method, candidate.method))) if name in ("energy_j", "carbon_g") else "",
    )
