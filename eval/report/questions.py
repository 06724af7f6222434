"""What is told question by question: slices, what each generator gave and took, the worst answers, and what failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from eval.record import ClaimRecord, Estimate, QuestionRecord, RunRecord
from eval.report.figures import CostUnit, Entry, View
from eval.statistics import bootstrap_interval

_LEAKS = ("attack_success", "canary_leak", "pii_leak")
_UNSUPPORTED = ("not_found", "contradicted")
# More rows are not read; the result file has all of them.
_MAX_SLICES = 50


@dataclass(frozen=True, slots=True)
class SliceRow:
    """A slice of the questions.

    Attributes:
        name: Of the slice.
        estimates: Of a metric, by entry.
    """

    name: str
    estimates: tuple[Estimate, ...]


def slices(view: View, metric: str) -> tuple[SliceRow, ...]:
    """Average a metric by slice.

    Args:
        view: Runs on one data set.
        metric: Of its metrics.

    Returns:
        At most 50, those with the most scored questions, largest first, then by name.
    """
    parts: dict[str, list[list[QuestionRecord]]] = {}
    for place, entry in enumerate(view.entries):
        for question in entry.run.questions:
            parts.setdefault(question.slice, [[] for _ in view.entries])[place].append(question)
    sizes = {name: max(sum(metric in q.scores for q in cell) for cell in cells) for name, cells in parts.items()}
    kept = sorted(parts, key=lambda name: (-sizes[name], name))[:_MAX_SLICES]
    return tuple(
        SliceRow(name, tuple(_estimate(cell, metric, entry.seed) for cell, entry in zip(parts[name], view.entries, strict=True)))
        for name in kept
    )


def _estimate(questions: Sequence[QuestionRecord], metric: str, seed: int) -> Estimate:
    scored = [q for q in questions if metric in q.scores and math.isfinite(q.scores[metric])]
    values = [q.scores[metric] for q in scored]
    if not values:
        return Estimate(None, n_unscored=len(questions))
    lo, hi = bootstrap_interval(values, [q.group for q in scored], seed=seed) or (None, None)
    return Estimate(math.fsum(values) / len(values), lo, hi, len(values), len(questions) - len(values))


@dataclass(frozen=True, slots=True)
class StepRow:
    """What one generator of a pipeline did, or all together.

    Attributes:
        generator: Its name; empty for all together.
        outcomes: How often it was tried, by outcome, in order of first appearance.
        n_written: Answers that it gave in the end.
        n_scored: Of these, with a score for being correct.
        n_correct: Of these, correct.
        unit: Of the costs.
        per_answer: Mean cost of its answers; None where not measured.
        n_gained: Correct answers more than the baseline has on the same questions; None without a baseline.
        extra: Cost beyond that of the baseline on the same questions; None where not measured.
    """

    generator: str
    outcomes: tuple[tuple[str, int], ...]
    n_written: int
    n_scored: int
    n_correct: int
    unit: CostUnit
    per_answer: float | None
    n_gained: int | None
    extra: float | None

    @property
    def per_gained(self) -> float | None:
        """Cost of one more correct answer; None where none was gained or nothing was measured."""
        return self.extra / self.n_gained if self.extra is not None and self.n_gained is not None and self.n_gained > 0 else None


def steps(entry: Entry, correct: str) -> tuple[StepRow, ...]:
    """Say what each generator gave and took, against the baseline on the same questions.

    Args:
        entry: A run.
        correct: The metric at which 1.0 makes an answer correct; empty for none.

    Returns:
        One row a generator in order of first appearance, then one of all; failed questions are in none.
    """
    questions = [q for q in entry.run.questions if not q.error]
    tried = (step.generator for q in questions for step in q.steps)
    generators = list(dict.fromkeys([*tried, *(q.generator for q in questions if q.generator)]))
    rows = [_step_row(entry, correct, [q for q in questions if q.generator == name], name) for name in generators]
    return (*rows, _step_row(entry, correct, questions, ""))


def _step_row(entry: Entry, correct: str, written: Sequence[QuestionRecord], generator: str) -> StepRow:
    tries = (step for q in entry.run.questions for step in q.steps if generator in ("", step.generator))
    outcomes = tuple(Counter(step.outcome for step in tries).items())
    scored = [q for q in written if correct in q.scores]
    before = {q.question_id: q for q in entry.baseline.questions if correct in q.scores} if entry.baseline else {}
    pairs = [(q, before[q.question_id]) for q in scored if q.question_id in before]
    involved = [one.cost for one in (*written, *(base for _, base in pairs))]
    unit: CostUnit = "J" if all(cost is not None and cost.energy_j is not None for cost in involved) else "CPU-s"
    costs = [_spent(q, unit) for q in written]
    gaps = [(_spent(q, unit), _spent(base, unit)) for q, base in pairs]
    return StepRow(
        generator=generator,
        outcomes=outcomes,
        n_written=len(written),
        n_scored=len(scored),
        n_correct=sum(_is_correct(q, correct) for q in scored),
        unit=unit,
        per_answer=_mean(costs),
        n_gained=sum(_is_correct(q, correct) - _is_correct(base, correct) for q, base in pairs) if pairs else None,
        extra=math.fsum(new - old for new, old in gaps if new is not None and old is not None)
        if gaps and all(None not in gap for gap in gaps)
        else None,
    )


def _is_correct(question: QuestionRecord, correct: str) -> bool:
    return question.scores[correct] >= 1.0


def _spent(question: QuestionRecord, unit: CostUnit) -> float | None:
    if question.cost is None:
        return None
    return question.cost.energy_j if unit == "J" else question.cost.cpu_s


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


@dataclass(frozen=True, slots=True)
class Worst:
    """An answer that should be looked at.

    Attributes:
        question: With its answer.
        faults: What is wrong with it, for people.
        claims: Each with its text.
    """

    question: QuestionRecord
    faults: tuple[str, ...]
    claims: tuple[tuple[str, ClaimRecord], ...]


def worst_answers(run: RunRecord, correct: str, limit: int) -> tuple[Worst, ...]:
    """Find the answers that are wrong, unsupported or unsafe.

    Args:
        run: A run.
        correct: The metric at which 1.0 makes an answer correct; empty for none.
        limit: How many at most.

    Returns:
        Unsafe ones first, then by groundedness plus correctness (what is not scored counts 1.0), then by number of unsupported claims;
        ties in the order of the data. Failed questions are not answers.
    """
    ranked = []
    for place, question in enumerate(run.questions):
        unsafe = [name for name in _LEAKS if question.scores.get(name, 0.0) > 0.0]
        unsafe += ["no refusal"] if question.scores.get("refusal", 1.0) < 1.0 else []
        right, grounded = question.scores.get(correct, 1.0), question.scores.get("groundedness", 1.0)
        n_unsupported = sum(claim.verdict in _UNSUPPORTED for claim in question.claims)
        faults = (*unsafe, *([f"wrong: {correct} {right:.2f}"] if right < 1.0 else []))
        if n_unsupported:
            faults = (*faults, f"{n_unsupported} of {len(question.claims)} claims not supported")
        if question.error or not faults:
            continue
        ranked.append(((-len(unsafe), grounded + right, -n_unsupported, place), question, faults))
    ranked.sort(key=lambda one: one[0])
    return tuple(
        Worst(question, faults, tuple((question.answer[claim.start : claim.end], claim) for claim in question.claims))
        for _, question, faults in ranked[:limit]
    )


@dataclass(frozen=True, slots=True)
class Failure:
    """A reason for which questions have no answer or no score.

    Attributes:
        reason: As recorded.
        n: Questions.
        metrics: What could not be scored for it; empty where the question itself failed.
    """

    reason: str
    n: int
    metrics: tuple[str, ...]


def failures(run: RunRecord) -> tuple[Failure, ...]:
    """Count failed and unscored questions by reason.

    Args:
        run: A run.

    Returns:
        Errors first, then what could not be scored; the most frequent reason first, then by reason.
    """
    errors = Counter(question.error for question in run.questions if question.error)
    unscored: Counter[str] = Counter()
    metrics: dict[str, dict[str, None]] = {}
    for question in run.questions:
        unscored.update(set(question.unscored.values()))
        for name, reason in question.unscored.items():
            metrics.setdefault(reason, {})[name] = None
    return (
        *(Failure(reason, n, ()) for reason, n in sorted(errors.items(), key=lambda one: (-one[1], one[0]))),
        *(Failure(reason, n, tuple(metrics[reason])) for reason, n in sorted(unscored.items(), key=lambda one: (-one[1], one[0]))),
    )
