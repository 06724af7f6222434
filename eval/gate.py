"""Whether a candidate may be released: the gates of a suite, applied to its result.

Every gate is checked against fixed bounds, against the base and against a pinned anchor, whose part is to notice what erodes too slowly
for the base to show. A loss blocks when it is shown, and a gate passes when a loss above the margin is ruled out; what is neither is
said to be inconclusive, which is not a pass. docs/eval-gate.md has the rules with their formulae.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.compare import Place, Row, check_same_suite, compare_metric, difference_notes, find_run
from eval.metrics import COST_METRICS, metric
from eval.record import Result, RunRecord
from eval.side import SideBySide, check_decides, find_pair, why_other
from eval.statistics import ALPHA, Interval, Paired, holm, ratio_interval
from eval.suite import NO_MODEL, GateSpec, Suite
from rag.errors import InputError

Outcome = Literal["improved", "pass", "waived", "unchecked", "inconclusive", "fail"]
Against = Literal["bounds", "base", "anchor", "interleaved", "failures"]
EXIT_CODES: Mapping[Outcome, int] = {"improved": 0, "pass": 0, "fail": 1, "inconclusive": 4}
"""Exit status by verdict of the whole."""

# Interleaved runs resolve half a per cent, and 5 % more CPU reads 1.050 [1.047, 1.054]: 1.05 would let it through, 1.03 does not.
_CPU_MARGIN = 0.03
_CPU_WARNING = 1.02
_CPU_IMPROVED = 0.97
# ln 0.05 / ln 0.95: fewer questions miss a fault of one in twenty too often; of 15 a quarter of all draws did (bench/gate.py).
_MIN_QUESTIONS = 59
# Wider than this, the interval could hold a loss at the margin and none at all.
_CPU_MAX_HALF_WIDTH = 0.03
# Sums of the same numbers in another order differ by less.
_ROUNDING = 1e-12
_OF_JOULES = ("energy_j", "energy_lo_j", "energy_hi_j", "carbon_g", "energy_j_per_correct")


@dataclass(frozen=True, slots=True)
class References:
    """What a candidate is held against.

    Attributes:
        base: The last release; None for the first.
        anchor: A pinned older release.
        interleaved: CPU seconds measured in one job with the base; None where they were not.
    """

    base: Result | None = None
    anchor: Result | None = None
    interleaved: SideBySide | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A gate held against one thing.

    Attributes:
        against: That thing.
        outcome: Never ``waived``.
        reason: One line with the figures.
        value: Of the candidate, where a bound is checked.
        row: The comparison with base or anchor.
        p_holm: Its p of a loss, adjusted over all comparisons of all gates.
        ratio: Of interleaved CPU seconds, candidate over base.
    """

    against: Against
    outcome: Outcome
    reason: str
    value: float | None = None
    row: Row | None = None
    p_holm: float | None = None
    ratio: Interval | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate.

    Attributes:
        place: What it holds.
        outcome: The worst of its checks; ``improved`` where it is better than every reference.
        checks: Bounds, base, anchor, interleaved, failures, as far as there are.
        waiver: Who waived it, until when and why; empty without a waiver.
    """

    place: Place
    outcome: Outcome
    checks: tuple[Check, ...]
    waiver: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All gates of a suite.

    Attributes:
        suite: Name of the suite.
        candidate: Version of the candidate.
        outcome: ``fail`` before ``inconclusive`` before ``improved`` before ``pass``; inconclusive where nothing was checked.
        exit_code: 0, 1 or 4: see `EXIT_CODES`.
        verdicts: In the order of the suite's gates, then of the candidate's runs.
        notes: What a reader must know, for people.
        errors: What somebody must put right, for people: waivers that have expired.
    """

    suite: str
    candidate: str
    outcome: Outcome
    exit_code: int
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]
    errors: tuple[str, ...] = ()


def gate(suite: Suite, candidate: Result, references: References, *, style_margin: float) -> Report:
    """Apply the gates of a suite.

    Args:
        suite: With at least one gate.
        candidate: Result of it.
        references: What to hold it against.
        style_margin: Difference of a grounding metric, 0.0 to 1.0, that style alone can make; a loss within it does not fail.

    Returns:
        The report, without waivers.

    Raises:
        InputError: If the suite has no gate, something is of another suite, the style margin out of range, or the interleaved seconds
            are of one release against itself.
    """
    if not suite.gates:
        raise InputError(f"suite {suite.name!r} has no gate; add a [[gate]] to {suite.path}", code="gate")
    if not 0 <= style_margin <= 1:
        raise InputError(f"style margin is {style_margin}; allowed: 0.0 to 1.0", code="gate")
    if candidate.suite != suite.name:
        raise InputError(f"the candidate is a result of suite {candidate.suite!r}, the gates are of {suite.name!r}", code="gate")
    if references.interleaved is not None:
        check_decides(references.interleaved, suite.name)
    sides: dict[Against, Result] = {}
    for against, result in (("base", references.base), ("anchor", references.anchor)):
        if result is not None:
            check_same_suite(result, candidate)
            sides["base" if against == "base" else "anchor"] = result
    targets = [(spec, place) for spec in suite.gates for place in _places(spec, suite, (candidate, *sides.values()))]
    rows = [_rows(spec, place, candidate, sides, suite.seed) for spec, place in targets]
    # One family: whatever is compared can give a false alarm.
    tested = [row.paired for held in rows for row in held.values() if row.paired is not None]
    worse, better = holm([each.p_worse for each in tested]), holm([each.p_better for each in tested])
    adjusted = iter(zip(worse, better, strict=True))
    verdicts = []
    for (spec, place), held in zip(targets, rows, strict=True):
        chances = {against: next(adjusted) for against, row in held.items() if row.paired is not None}
        style = style_margin if spec.metric not in COST_METRICS and metric(spec.metric).is_grounding else 0.0
        checks = [*_bound_checks(spec, place, candidate)]
        checks += [_held_against(against, row, chances.get(against), style) for against, row in held.items()]
        if spec.metric == "cpu_s":
            checks += _cpu_checks(spec, place, candidate, references, suite.seed)
        verdicts.append(_verdict(place, [*checks, *_failure_checks(place, candidate)]))
    outcome = whole([verdict.outcome for verdict in verdicts])
    notes = _notes(suite, candidate, references, verdicts)
    return Report(suite.name, candidate.version, outcome, EXIT_CODES[outcome], tuple(verdicts), notes)


def whole(outcomes: Sequence[Outcome]) -> Outcome:
    """The verdict over all gates.

    Args:
        outcomes: Of the gates.

    Returns:
        One with an exit code: ``fail``, ``inconclusive``, ``improved`` or ``pass``, the first of these that is there; a waived gate
        counts as passed, and gates of which none was checked are inconclusive.
    """
    ranked: tuple[Outcome, ...] = ("fail", "inconclusive", "improved")
    found: Outcome | None = next((each for each in ranked if each in outcomes), None)
    return found or ("pass" if {"pass", "waived"} & {*outcomes} else "inconclusive")


def _places(spec: GateSpec, suite: Suite, results: Sequence[Result]) -> list[Place]:
    """Where a gate holds: wherever any result could score it, the candidate did not run, or a question of it failed."""
    wanted = [
        (data.name, pipeline.name)
        for data in suite.data
        for pipeline in suite.pipelines
        if spec.data in ("", data.name) and (spec.pipeline == pipeline.name or (not spec.pipeline and pipeline.name != NO_MODEL))
    ]
    found = [key for key in wanted if _is_measured(spec.metric, key, results) or _is_incomplete(results[0], key)]
    # Where nobody could score it, one verdict says so.
    return [Place(data, pipeline, spec.metric) for data, pipeline in found or wanted[:1]]


def _is_incomplete(candidate: Result, key: tuple[str, str]) -> bool:
    run = find_run(candidate, *key)
    return run is None or bool(_failures(run))


def _failures(run: RunRecord) -> str:
    """How many questions failed; empty where none did."""
    n_failed = sum(bool(question.error) for question in run.questions)
    return f"{n_failed} of {len(run.questions)} questions failed" if n_failed else ""


def _failure_checks(place: Place, candidate: Result) -> list[Check]:
    """What failed has no score and no cost, and the rest cannot speak for it: not even where the base failed at the same."""
    run = find_run(candidate, place.data, place.pipeline)
    return [Check("failures", "inconclusive", said)] if run is not None and (said := _failures(run)) else []


def _is_measured(name: str, key: tuple[str, str], results: Sequence[Result]) -> bool:
    runs = [run for result in results if (run := find_run(result, *key)) is not None]
    return name in COST_METRICS or any(name in question.scores for run in runs for question in run.questions)


def _rows(spec: GateSpec, place: Place, candidate: Result, sides: Mapping[Against, Result], seed: int) -> dict[Against, Row]:
    if spec.metric in COST_METRICS:
        return {}
    return {against: compare_metric(side, candidate, place, margin=spec.margin, seed=seed) for against, side in sides.items()}


def _bound_checks(spec: GateSpec, place: Place, candidate: Result) -> list[Check]:
    """The candidate alone: whether it is within its bounds, and whether it was scored at all."""
    run = find_run(candidate, place.data, place.pipeline)
    if run is None:
        return [Check("bounds", "inconclusive", f"the candidate has no run of {place.pipeline} on {place.data}")]
    is_cost = spec.metric in COST_METRICS
    has_bound = spec.min is not None or spec.max is not None
    value, with_failed = _cost_value(spec.metric, run) if is_cost else _quality_value(spec.metric, run)
    if value is None or with_failed is None:
        return [Check("bounds", "inconclusive", f"not scored: {_why(spec.metric, run)}")] if has_bound or not is_cost else []
    if not has_bound:
        return []
    if is_cost and spec.metric in _OF_JOULES and run.method != "measured":
        reason = f"joules are {run.method or 'not known'} here, and only measured ones are gated; run it where a meter can be read"
        return [Check("bounds", "inconclusive", reason, value)]
    if broken := _broken(spec, value):
        return [Check("bounds", "fail", broken, value)]
    if is_cost and (n_unscored := run.cost[spec.metric].n_unscored):
        reason = f"{value:.6g} is within {_bounds(spec)}, but {n_unscored} of {len(run.questions)} questions have no such cost"
        return [Check("bounds", "inconclusive", reason, value)]
    if broken := _broken(spec, with_failed):
        return [Check("bounds", "inconclusive", f"{value:.6g} holds, but with every failed question at the worst: {broken}", value)]
    return [Check("bounds", "pass", f"{value:.6g} is within {_bounds(spec)}", value)]


def _cost_value(name: str, run: RunRecord) -> tuple[float | None, float | None]:
    value = run.cost[name].value if name in run.cost else None
    return value, value


def _quality_value(name: str, run: RunRecord) -> tuple[float | None, float | None]:
    """Mean over the scored questions, and the same with the failed ones at the worst score."""
    scores = [question.scores[name] for question in run.questions if name in question.scores]
    if not scores:
        return None, None
    kind = metric(name)
    worst = 0.0 if kind.is_better_high else max(scores) if kind.unit == "tokens" else 1.0
    n_failed = sum(bool(question.error) for question in run.questions if name not in question.scores)
    total = math.fsum(scores)
    return total / len(scores), (total + n_failed * worst) / (len(scores) + n_failed)


def _why(name: str, run: RunRecord) -> str:
    if name in COST_METRICS:
        return "the run does not tell this cost"
    reasons = Counter(question.unscored.get(name, "not measured") for question in run.questions)
    return ", ".join(f"{reason} ({n})" for reason, n in reasons.most_common(2)) or "the run has no question"


def _broken(spec: GateSpec, value: float) -> str:
    if spec.min is not None and value < spec.min - _ROUNDING:
        return f"{value:.6g} is below the least of {spec.min:g}"
    if spec.max is not None and value > spec.max + _ROUNDING:
        return f"{value:.6g} is above the greatest of {spec.max:g}"
    return ""


def _bounds(spec: GateSpec) -> str:
    ends = ("" if spec.min is None else f"at least {spec.min:g}", "" if spec.max is None else f"at most {spec.max:g}")
    return " and ".join(filter(None, ends))


_Chances = tuple[float, float]


def _held_against(against: Against, row: Row, chances: _Chances | None, style_margin: float) -> Check:
    """A comparison, judged; questions that the candidate lost cannot help it. ``chances`` are those of a loss and of a gain."""
    if row.paired is None or row.margin is None or chances is None:
        return Check(against, "inconclusive", row.reason, row=row)
    outcome, reason = _judged(row.paired, row.margin, chances, style_margin)
    if row.paired_if_worst is not None and outcome in ("pass", "improved"):
        unadjusted = (row.paired_if_worst.p_worse, row.paired_if_worst.p_better)
        worst, _ = _judged(row.paired_if_worst, row.margin, unadjusted, style_margin)
        reasons = ", ".join(f"{why} ({n})" for why, n in row.lost.items())
        lost = f"{row.n_lost} questions are scored in the {against} only: {reasons}"
        if worst in ("pass", "improved"):
            outcome = min(outcome, worst, key=("pass", "improved").index)
            reason = f"{reason}; {lost}: it passes with these at the worst"
        else:
            outcome = "fail" if worst == "fail" and row.n_failed else "inconclusive"
            reason = f"{lost}; with these at the worst score the gain is {row.paired_if_worst.gain.value:+.4g}"
    return Check(against, outcome, reason, row=row, p_holm=chances[0])


def _judged(paired: Paired, margin: float, chances: _Chances, style_margin: float) -> tuple[Outcome, str]:
    gain, least, most = paired.gain.value, paired.gain.least, paired.gain.most
    p_worse, p_better = chances
    is_large = paired.n >= _MIN_QUESTIONS or margin == 0
    if not paired.n_worse + paired.n_better:
        few = "" if is_large else f", but fewer than {_MIN_QUESTIONS} miss too much"
        return "pass" if is_large else "inconclusive", f"no difference over {paired.n} questions{few}"
    is_gain_shown = least is not None and least > 0 and p_better < ALPHA
    if is_gain_shown and gain > margin:
        return "improved", f"gains {gain:.4g}, at least {least:.4g} (95 % sure)"
    if margin == 0:
        # No loss is borne and no sample can rule out a small one: the questions asked are compared exactly.
        reason = f"gain {gain:+.4g} over {paired.n} questions, {paired.n_worse} worse, {paired.n_better} better; no loss is borne"
        return ("pass" if gain >= -_ROUNDING else "fail" if -gain > style_margin else "inconclusive"), reason
    if least is None or most is None or paired.mde is None:
        return "inconclusive", "all questions are of one group, which tells nothing of others; ask about more documents"
    # Of many suites too small to tell, some rule out a loss by luck: the suite must be able to see one, unless nothing got worse.
    if least > -margin and (paired.mde <= margin or is_gain_shown or (is_large and not paired.n_worse)):
        return "pass", f"gain {gain:+.4g}, loses at most {max(0.0, -least):.4g} (95 % sure); {margin:.4g} is borne"
    is_loss_shown = least <= -margin and most < 0 and p_worse < ALPHA
    if is_loss_shown and -gain > style_margin:
        return "fail", f"loses {-gain:.4g}, at least {-most:.4g} (95 % sure, p {p_worse:.2g} after Holm); {margin:.4g} is borne"
    reason = f"gain {gain:+.4g}, between {least:+.4g} and {most:+.4g} (each 95 % sure); {margin:.4g} is borne"
    if is_loss_shown:
        return "inconclusive", f"{reason}; the loss is within the style margin of {style_margin:.4g}"
    enough = f"{paired.n} questions show a loss of {paired.mde:.4g}"
    if paired.n_needed is not None and paired.n_needed > paired.n:
        return "inconclusive", f"{reason}; {enough}; {paired.n_needed} are needed for {margin:.4g}"
    return "inconclusive", f"{reason}; {enough}, so it is near the margin: look at the questions, or ask more"


def _cpu_checks(spec: GateSpec, place: Place, candidate: Result, references: References, seed: int) -> list[Check]:
    pair = find_pair(references.interleaved, place.data, place.pipeline)
    run = find_run(candidate, place.data, place.pipeline)
    if references.interleaved is None or pair is None:
        reason = "CPU seconds were not measured in one job; run 'rag eval interleave'"
        return [] if spec.margin is None else [Check("interleaved", "inconclusive", reason)]
    if run is None:
        return []  # the check of its bounds says so
    if other := why_other(references.interleaved, pair, candidate, references.base):
        return [Check("interleaved", "inconclusive", other)]
    group_of = {question.question_id: question.group for question in run.questions}
    ratio = ratio_interval(pair.candidate_cpu_s, pair.base_cpu_s, [group_of[each] for each in pair.questions], seed=seed)
    margin = _CPU_MARGIN if spec.margin is None else spec.margin
    if ratio.lo is None or ratio.hi is None:
        reason = "all questions are of one group; measure with questions about more"
        return [Check("interleaved", "inconclusive", reason, ratio=ratio)]
    part = f" over {len(pair.questions)} of {len(run.questions)} questions" if len(pair.questions) < len(run.questions) else ""
    said = f"CPU ratio {ratio.value:.3f} [{ratio.lo:.3f}, {ratio.hi:.3f}]{part}"
    outcome: Outcome
    if ratio.lo > 1 + margin:
        outcome, reason = "fail", f"{said}: above {1 + margin:.3f}"
    elif ratio.hi < _CPU_IMPROVED:
        outcome, reason = "improved", said
    elif (ratio.hi - ratio.lo) / 2 > _CPU_MAX_HALF_WIDTH:
        outcome, reason = "inconclusive", f"{said}: wider than +-{_CPU_MAX_HALF_WIDTH:.0%}; take more questions or rounds"
    else:
        outcome, reason = "pass", f"{said}: warning, it costs more" if ratio.value > _CPU_WARNING else said
    return [Check("interleaved", outcome, reason, ratio=ratio)]


def _verdict(place: Place, checks: Sequence[Check]) -> Verdict:
    if not checks:
        return Verdict(place, "unchecked", ())
    outcomes = [check.outcome for check in checks]
    relative = [check.outcome for check in checks if check.against != "bounds"]
    for worst in ("fail", "inconclusive"):
        if worst in outcomes:
            return Verdict(place, "fail" if worst == "fail" else "inconclusive", tuple(checks))
    return Verdict(place, "improved" if relative and {*relative} == {"improved"} else "pass", tuple(checks))


def _notes(suite: Suite, candidate: Result, references: References, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    notes = []
    if candidate.suite_checksum != suite.checksum:
        notes.append("the suite file was changed since the candidate was run")
    notes += [f"{run.pipeline} on {run.data}: {said}" for run in candidate.runs if (said := _failures(run))]
    if references.base is None:
        notes.append(
            "there is no base: " + ("only the anchor and " if references.anchor else "only ") + "fixed bounds were checked"
        )
    if n_unchecked := sum(verdict.outcome == "unchecked" for verdict in verdicts):
        notes.append(f"{n_unchecked} gates have nothing to be held against and were not checked")
    for name, side in (("base", references.base), ("anchor", references.anchor)):
        notes += [f"{name}: {note}" for note in (difference_notes(side, candidate) if side else ())]
    gated = {(verdict.place.data, verdict.place.pipeline) for verdict in verdicts if verdict.place.metric == "cpu_s"}
    notes += [
        f"CPU seconds of {pair.pipeline} on {pair.data} were measured but no gate asks for them"
        for pair in (references.interleaved.pairs if references.interleaved else ())
        if (pair.data, pair.pipeline) not in gated
    ]
    return tuple(notes)
