"""How good a ranking is, as trec_eval computes it, and how good a packed context is.

A ranking is document ids, best first; judgements are grades by document id: 0 is judged and not relevant, what is not judged is not
relevant. A ranking that names a document twice is refused, because it would be paid twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eval.answers import contains_answer
from rag.errors import InputError

if TYPE_CHECKING:
    import ir_measures

# BEIR and MTEB report nDCG@10; recall@100 is what a reranker could still repair.
DEFAULT_K = 10
DEFAULT_RECALL_K = 100

Grades = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over queries, 0.0 to 1.0, higher is better.

    Attributes:
        ndcg: Mean nDCG at ``k``.
        reciprocal_rank: Mean reciprocal rank at ``k``.
        recall: Mean recall at ``recall_k``.
        k: Cut-off of nDCG and reciprocal rank.
        recall_k: Cut-off of recall.
        n_queries: Queries averaged over.
    """

    ndcg: float
    reciprocal_rank: float
    recall: float
    k: int
    recall_k: int
    n_queries: int


def score_rankings(
    rankings: Mapping[str, Sequence[str]], qrels: Mapping[str, Grades], names: Iterable[str]
) -> dict[str, dict[str, float]]:
    """Score every query by every measure.

    The gain of nDCG is the grade itself, as in trec_eval's ``ndcg_cut`` and so in BEIR, not ``2 ** grade - 1``; relevant is what has
    grade 1 or more. An empty ranking is a result, with scores of 0.0; a missing one is refused, because a query that was never run must
    not look like one that found nothing.

    Args:
        rankings: Document ids, best first, by query id.
        qrels: Judgements by query id.
        names: ``ndcg@K``, ``recall@K``, ``mrr@K``, ``map@K`` or ``precision@K``, K at least 1.

    Returns:
        Scores, 0.0 to 1.0, by query id in the order of ``qrels``, then by name. A query without a relevant document has 0.0.

    Raises:
        InputError: If nothing is judged, rankings and judgements are of different queries, a document is ranked twice, a grade is
            negative, a name is unknown, or the extra [eval] is not installed.

    References:
        trec_eval 9 through ``ir_measures``: ``ndcg_cut``, ``recall``, ``recip_rank``, ``map_cut``, ``P``.

    Example:
        >>> score_rankings({"q": ["a", "b"]}, {"q": {"b": 1}}, ["ndcg@10", "mrr@10"])
        {'q': {'ndcg@10': 0.6309297535714575, 'mrr@10': 0.5}}
    """
    _check(rankings, qrels)
    measures = {_measure(name): name for name in names}
    found = {query_id: dict.fromkeys(measures.values(), 0.0) for query_id in qrels}
    from ir_measures import Qrel, ScoredDoc, iter_calc

    # Places make the scores, so that no two are equal and trec_eval's rule for ties by document id never decides.
    run = [
        ScoredDoc(query_id, doc_id, float(-place)) for query_id, ranking in rankings.items() for place, doc_id in enumerate(ranking)
    ]
    judged = [Qrel(query_id, doc_id, grade) for query_id, grades in qrels.items() for doc_id, grade in grades.items()]
    if run and judged:
        for value in iter_calc(list(measures), judged, run):
            found[value.query_id][measures[value.measure]] = value.value
    return found


def evaluate(
    rankings: Mapping[str, Sequence[str]],
    qrels: Mapping[str, Grades],
    *,
    k: int = DEFAULT_K,
    recall_k: int = DEFAULT_RECALL_K,
) -> RetrievalScores:
    """Average nDCG, reciprocal rank and recall over every judged query; see `score_rankings`.

    Args:
        rankings: Document ids, best first, by query id.
        qrels: Judgements by query id.
        k: Cut-off of nDCG and reciprocal rank, at least 1.
        recall_k: Cut-off of recall, at least 1.

    Returns:
        The means.
    """
    names = (f"ndcg@{k}", f"mrr@{k}", f"recall@{recall_k}")
    scores = score_rankings(rankings, qrels, names)
    ndcg, reciprocal_rank, recall = (math.fsum(of[name] for of in scores.values()) / len(scores) for name in names)
    return RetrievalScores(ndcg, reciprocal_rank, recall, k, recall_k, len(scores))


def score_context(cited: Sequence[str], text: str, grades: Grades, answers: Sequence[str]) -> dict[str, float]:
    """Score a packed context.

    Args:
        cited: Document of every packed passage, in the order of the context; a document may stand there several times.
        text: The context.
        grades: Judgements of the question.
        answers: Gold answers, any of which is right.

    Returns:
        ``context_precision`` and ``context_recall`` where a document is relevant, ``answer_in_context`` where there is a gold answer.
        Precision is the mean of precision at the places of relevant passages, 0.0 without any; recall the share of the relevant
        documents that are cited.

    Example:
        >>> score_context(["b", "a"], "It was in 1961.", {"a": 1, "c": 1}, ["1961"])
        {'context_precision': 0.5, 'context_recall': 0.5, 'answer_in_context': 1.0}
    """
    relevant = {doc_id for doc_id, grade in grades.items() if grade > 0}
    scores = {}
    if relevant:
        hits = [place for place, doc_id in enumerate(cited, start=1) if doc_id in relevant]
        precisions = [n / place for n, place in enumerate(hits, start=1)]
        scores["context_precision"] = math.fsum(precisions) / len(precisions) if precisions else 0.0
        scores["context_recall"] = len(relevant.intersection(cited)) / len(relevant)
    if answers:
        scores["answer_in_context"] = float(contains_answer(text, answers))
    return scores


def _measure(name: str) -> ir_measures.Measure:
    """The measure of ``ir_measures`` that a name of ours means."""
    try:
        from ir_measures import AP, RR, P, R, nDCG
    except ModuleNotFoundError as error:
        raise InputError("'rag eval' needs ir_measures: pip install 'ragwatt[eval]'", code="missing_extra") from error
    kind, _, cut_off = name.partition("@")
    measures = {"ndcg": nDCG, "recall": R, "mrr": RR, "map": AP, "precision": P}
    if kind not in measures or not cut_off.isdecimal() or int(cut_off) < 1:
        raise InputError(f"measure {name!r}; allowed: {', '.join(measures)}, each with @ and a cut-off of 1 or more", code="metric")
    return measures[kind] @ int(cut_off)


def _check(rankings: Mapping[str, Sequence[str]], qrels: Mapping[str, Grades]) -> None:
    if not qrels:
        raise InputError("no query is judged; give the judgements of at least one query")
    if rankings.keys() != qrels.keys():
        odd = sorted(rankings.keys() ^ qrels.keys())
        raise InputError(
            f"rankings and judgements differ in {len(odd)} queries, first {odd[0]!r}; give one ranking for every judged query"
        )
    for ranking in rankings.values():
        if len(set(ranking)) != len(ranking):
            twice = next(doc_id for doc_id in ranking if list(ranking).count(doc_id) > 1)
            raise InputError(f"document {twice!r} is ranked twice; a ranking names a document once, so keep its best place")
    worst = min((grade for grades in qrels.values() for grade in grades.values()), default=0)
    if worst < 0:
        raise InputError(f"a grade is {worst}; allowed: 0 or more")
