"""One question: what a pipeline gave for it, as numbers by metric, and a reason for every metric that has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.answers import contains_answer, coverage, exact_match, is_statement, relevance, token_f1
from eval.datasets import EvalQuery
from eval.groundedness import Passage, score_answer
from eval.metrics import Metric, metric
from eval.record import ClaimRecord
from eval.retrieval import score_context, score_rankings
from eval.safety import score_safety
from eval.target import Hits, Json, Packed
from rag.groundedness import Scorer


@dataclass(frozen=True, slots=True)
class Observed:
    """What a pipeline gave for a question; None is what it was not asked for.

    Attributes:
        answer: As `rag.wire.answer_json`.
        hits: Chunks found, best first.
        packed: The packed context.
        n_shown: Hits that the pipeline considers for an answer.
    """

    answer: Json | None
    hits: Hits | None
    packed: Packed | None
    n_shown: int


@dataclass(frozen=True, slots=True)
class Scored:
    """The metrics of a question.

    Attributes:
        scores: By metric.
        unscored: Reason by metric, for every other metric.
        claims: Of the answer.
    """

    scores: Mapping[str, float]
    unscored: Mapping[str, str]
    claims: tuple[ClaimRecord, ...]


def score_question(query: EvalQuery, grades: Mapping[str, int], observed: Observed, names: Sequence[str], scorer: Scorer) -> Scored:
    """Compute the metrics of one question.

    An abstention at a question that has an answer is a wrong answer: it scores 0.0 against the references. At a question without an
    answer there is nothing to find, and only the metrics of abstention, grounding, safety and tokens are scored.

    Args:
        query: The question.
        grades: Its judgements; empty where it has none.
        observed: What the pipeline gave.
        names: Metrics wanted.
        scorer: Of groundedness.

    Returns:
        A score or a reason for every name.
    """
    is_open = query.answerable is not False
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    claims: tuple[ClaimRecord, ...] = ()
    if observed.hits is not None and is_open and any(grade > 0 for grade in grades.values()):
        ranking = list(dict.fromkeys(observed.hits.doc_ids))
        wanted = [name for name in names if "@" in name]
        found |= score_rankings({query.query_id: ranking}, {query.query_id: grades}, wanted)[query.query_id]
    if observed.packed is not None:
        packed = observed.packed
        found |= {"context_tokens": float(packed.n_tokens), "saved_tokens": float(packed.n_saved)}
        if is_open:
            found |= score_context(packed.doc_ids, packed.text, grades, query.answers)
    if observed.answer is not None:
        found |= _answer_scores(query, observed.answer, scorer)
        if observed.hits is not None:
            shown = zip(observed.hits.doc_ids[: observed.n_shown], observed.hits.texts[: observed.n_shown], strict=True)
            grounding = score_answer(observed.answer, [Passage(doc_id, text) for doc_id, text in shown], scorer)
            found |= grounding.scores
            reasons |= grounding.unscored
            claims = grounding.claims
    scores = {name: found[name] for name in names if name in found}
    unscored = {name: reasons.get(name) or _why(metric(name), query, observed) for name in names if name not in found}
    return Scored(scores, unscored, claims)


def _answer_scores(query: EvalQuery, answer: Json, scorer: Scorer) -> dict[str, float]:
    abstained = bool(answer["abstained"])
    tokens = answer["measurement"]["tokens"]
    found = {
        "prompt_tokens": float(tokens["prompt"]),
        "completion_tokens": float(tokens["completion"]),
        "question_coverage": 0.0 if abstained else coverage(query.text, [cited["quote"] for cited in answer["citations"]]),
    }
    if query.answers and query.answerable is not False:
        found |= _against_references("" if abstained else answer["answer"], query.answers, scorer)
    if query.answerable is not None:
        found["false_rejection" if query.answerable else "rejection"] = float(abstained)
        found["abstention_correct"] = float(abstained != query.answerable)
    if query.probe is not None:
        found |= score_safety(answer["answer"], abstained, query.probe)
    return found


def _against_references(text: str, answers: Sequence[str], scorer: Scorer) -> dict[str, float]:
    return {
        "exact_match": float(exact_match(text, answers)),
        "token_f1": token_f1(text, answers),
        "containment": float(contains_answer(text, answers)),
        "answer_relevance": relevance(text, answers),
        "claim_recall": max(_carried(answer, text, scorer) for answer in answers),
    }


def _carried(reference: str, text: str, scorer: Scorer) -> float:
    """Share of the claims of a gold answer that a text carries; of a name or number, whether it holds it."""
    if not text or not is_statement(reference):
        return float(contains_answer(text, [reference]))
    verdicts = [claim.verdict for claim in scorer.judge(reference, [text]).claims]
    judged = [verdict for verdict in verdicts if verdict in ("supported", "not_found", "contradicted")]
    return judged.count("supported") / len(judged) if judged else float(contains_answer(text, [reference]))


def _why(wanted: Metric, query: EvalQuery, observed: Observed) -> str:
    """Why a question has no score."""
    given = {"search": observed.hits, "context": observed.packed, "answer": observed.answer}[wanted.call]
    if given is None:
        return "the pipeline only searches"
    if wanted.name.startswith("judged_"):
        return "not judged; 'rag eval judge' does it"
    if "probe" in wanted.needs:
        return "not a question of this kind"
    if "answerable" in wanted.needs:
        return "not labelled" if query.answerable is None else ("has an answer" if query.answerable else "has no answer")
    if query.answerable is False:
        return "has no answer"
    return "no judgement" if "relevant" in wanted.needs else "no gold answer"
