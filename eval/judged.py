"""A judge's opinion as metrics of a result: what it was shown is the evidence that the scorer found, so that a call stays short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from eval.judge import Case, Judge, Judgement
from eval.record import ClaimRecord, QuestionRecord, Result
from eval.run import estimate
from rag.errors import InputError
from rag.generate.prompt import Passage

METRICS = ("judged_support", "judged_contradiction", "judged_relevance")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an answer stands in a result."""

    run: int
    question: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A result with a judge's metrics.

    Attributes:
        result: The result.
        n_unscored: Answers that the judge said nothing usable of.
    """

    result: Result
    n_unscored: int


def cases_of(result: Result, pipelines: Sequence[str]) -> list[tuple[Place, Case]]:
    """The answers that can be judged: those with a claim.

    Args:
        result: With texts.
        pipelines: Only of these; empty for all.

    Returns:
        In the order of the result.

    Raises:
        InputError: If a pipeline is not there, or there is nothing to judge.
    """
    known = list(dict.fromkeys(run.pipeline for run in result.runs))
    if unknown := [name for name in pipelines if name not in known]:
        raise InputError(f"pipeline {unknown[0]!r} is not in the result; allowed: {', '.join(known)}", code="pipeline")
    cases = [
        (Place(n_run, n_question), _case(question))
        for n_run, run in enumerate(result.runs)
        for n_question, question in enumerate(run.questions)
        if (not pipelines or run.pipeline in pipelines) and _claims(question)
    ]
    if not cases:
        raise InputError(
            "no answer of the result has a claim; a result of --scores-only holds no texts: run it without", code="judge"
        )
    return cases


def judged_result(result: Result, cases: Sequence[tuple[Place, Case]], judge: Judge) -> Judged:
    """Ask the judge, and put its verdicts beside those of the scorer.

    Args:
        result: The result.
        cases: From `cases_of`.
        judge: Asked once a case.

    Returns:
        The result with `METRICS` in every run that was judged.

    Raises:
        ModelError: If the server fails; what was judged until then stays cached, so that calling again goes on.
    """
    judgements = {place: judge.judge(case.question, case.answer, case.claims, case.passages) for place, case in cases}
    runs = []
    for n_run, run in enumerate(result.runs):
        if not any(place.run == n_run for place in judgements):
            runs.append(run)
            continue
        questions = tuple(_judged(question, judgements.get(Place(n_run, n))) for n, question in enumerate(run.questions))
        quality = dict(run.quality) | {name: estimate(questions, name, result.seed) for name in METRICS}
        runs.append(msgspec.structs.replace(run, questions=questions, quality=quality))
    spent = judge.effort
    effort = msgspec.structs.replace(
        result.effort,
        judge_cpu_s=spent.cpu_s,
        judge_tokens=spent.n_prompt + spent.n_completion,
        judge_energy_j=spent.energy.value if spent.energy else None,
    )
    n_unscored = sum(bool(judgement.reason) for judgement in judgements.values())
    return Judged(msgspec.structs.replace(result, runs=tuple(runs), judge=judge.id, effort=effort), n_unscored)


def _claims(question: QuestionRecord) -> list[ClaimRecord]:
    return [claim for claim in question.claims if claim.verdict != "abstention"] if question.answer else []


def _case(question: QuestionRecord) -> Case:
    claims = _claims(question)
    evidence = dict.fromkeys((claim.doc_id, claim.evidence) for claim in claims if claim.evidence)
    passages = [Passage(n, doc_id, text) for n, (doc_id, text) in enumerate(evidence, start=1)]
    return Case(question.question, question.answer, [(claim.start, claim.end) for claim in claims], passages)


def _judged(question: QuestionRecord, judgement: Judgement | None) -> QuestionRecord:
    """A question with what the judge said of it; without a usable word, with the reason."""
    if judgement is None or judgement.reason:
        reason = (
            judgement.reason if judgement else ("failed" if question.error else "abstention" if question.abstained else "no claim")
        )
        return msgspec.structs.replace(question, unscored=dict(question.unscored) | dict.fromkeys(METRICS, reason))
    n = len(judgement.verdicts)
    scores = {
        "judged_support": judgement.verdicts.count("supported") / n,
        "judged_contradiction": judgement.verdicts.count("contradicted") / n,
    }
    if judgement.relevance is not None:
        scores["judged_relevance"] = judgement.relevance
    said = iter(judgement.verdicts)
    claims = tuple(
        claim if claim.verdict == "abstention" else msgspec.structs.replace(claim, judged=next(said)) for claim in question.claims
    )
    unscored = {name: reason for name, reason in question.unscored.items() if name not in scores}
    return msgspec.structs.replace(question, scores=dict(question.scores) | scores, unscored=unscored, claims=claims)
