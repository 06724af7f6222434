"""How good a ranking is: nDCG, recall and reciprocal rank, as trec_eval computes them.

Each measure is a pure function of one ranking (document ids, best first) and the judgements of its query (grade by
document id, 0 is judged and not relevant, what is not judged is not relevant). A ranking that names a document twice is
refused, because it would be paid twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag.errors import InputError

# BEIR and MTEB report nDCG@10; recall@100 is what a reranker could still repair.
DEFAULT_K = 10
DEFAULT_RECALL_K = 100


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


def ndcg_at_k(ranking: Sequence[str], judgements: Mapping[str, int], k: int = DEFAULT_K) -> float:
    """Compute the normalised discounted cumulative gain of the first ``k`` places.

    ``DCG = sum over places i from 1 to k of grade_i / log2(i + 1)``, divided by the DCG of the best possible ranking of the judged
    documents. The gain is the grade itself, as in trec_eval's ``ndcg_cut`` and so in BEIR, not ``2 ** grade - 1``.

    Args:
        ranking: Document ids, best first, no repeats; may be shorter than ``k``.
        judgements: Grade, at least 0, by document id.
        k: Cut-off, at least 1.

    Returns:
        0.0 to 1.0; 0.0 where nothing is relevant.

    Raises:
        InputError: If a document is ranked twice, a grade is negative or ``k`` is less than 1.

    References:
        Jarvelin, Kekalainen, ACM TOIS 20(4), 2002, doi:10.1145/582415.582418; trec_eval ``m_ndcg_cut.c``.

    Example:
        >>> ndcg_at_k(["a", "b"], {"b": 1})
        0.6309297535714575
    """
    _check(ranking, judgements, k)
    best = _dcg(sorted(judgements.values(), reverse=True)[:k])
    return _dcg([judgements.get(doc_id, 0) for doc_id in ranking[:k]]) / best if best > 0 else 0.0


def recall_at_k(ranking: Sequence[str], judgements: Mapping[str, int], k: int = DEFAULT_RECALL_K) -> float:
    """Compute the share of the relevant documents (grade 1 or more) that stand in the first ``k`` places.

    Args:
        ranking: Document ids, best first, no repeats.
        judgements: Grade, at least 0, by document id.
        k: Cut-off, at least 1.

    Returns:
        0.0 to 1.0; 0.0 where nothing is relevant. The divisor is all relevant documents, even where they are more than ``k``.

    Raises:
        InputError: If a document is ranked twice, a grade is negative or ``k`` is less than 1.

    References:
        trec_eval ``m_recall.c``.

    Example:
        >>> recall_at_k(["a", "b", "c"], {"a": 1, "c": 2, "d": 1, "b": 0}, k=3)
        0.6666666666666666
    """
    _check(ranking, judgements, k)
    relevant = {doc_id for doc_id, grade in judgements.items() if grade > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank_at_k(ranking: Sequence[str], judgements: Mapping[str, int], k: int = DEFAULT_K) -> float:
    """Compute ``1 / rank`` of the first relevant document (grade 1 or more) within the first ``k`` places, rank from 1.

    Args:
        ranking: Document ids, best first, no repeats.
        judgements: Grade, at least 0, by document id.
        k: Cut-off, at least 1.

    Returns:
        0.0 to 1.0; 0.0 where no relevant document stands in the first ``k`` places.

    Raises:
        InputError: If a document is ranked twice, a grade is negative or ``k`` is less than 1.

    References:
        trec_eval ``m_recip_rank.c``, with the cut-off that MS MARCO uses.

    Example:
        >>> reciprocal_rank_at_k(["a", "b", "c"], {"c": 1, "b": 1})
        0.5
    """
    _check(ranking, judgements, k)
    return next((1 / rank for rank, doc_id in enumerate(ranking[:k], start=1) if judgements.get(doc_id, 0) > 0), 0.0)


def evaluate(
    rankings: Mapping[str, Sequence[str]],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    k: int = DEFAULT_K,
    recall_k: int = DEFAULT_RECALL_K,
) -> RetrievalScores:
    """Average the measures over every judged query.

    A query without a relevant document counts as 0.0. An empty ranking is a result; a missing one is refused, because a
    query that was never run must not look like one that found nothing.

    Args:
        rankings: Document ids, best first, by query id.
        qrels: Judgements by query id.
        k: Cut-off of nDCG and reciprocal rank, at least 1.
        recall_k: Cut-off of recall, at least 1.

    Returns:
        The means.

    Raises:
        InputError: If nothing is judged, rankings and judgements are of different queries, or a measure refuses its input.
    """
    if not qrels:
        raise InputError("no query is judged; give the judgements of at least one query")
    if rankings.keys() != qrels.keys():
        odd = sorted(rankings.keys() ^ qrels.keys())
        raise InputError(
            f"rankings and judgements differ in {len(odd)} queries, first {odd[0]!r}; give one ranking for every judged query"
        )
    n = len(qrels)
    return RetrievalScores(
        ndcg=math.fsum(ndcg_at_k(rankings[q], qrels[q], k) for q in qrels) / n,
        reciprocal_rank=math.fsum(reciprocal_rank_at_k(rankings[q], qrels[q], k) for q in qrels) / n,
        recall=math.fsum(recall_at_k(rankings[q], qrels[q], recall_k) for q in qrels) / n,
        k=k,
        recall_k=recall_k,
        n_queries=n,
    )


def _dcg(grades: Sequence[int]) -> float:
    return math.fsum(grade / math.log2(place + 1) for place, grade in enumerate(grades, start=1))


def _check(ranking: Sequence[str], judgements: Mapping[str, int], k: int) -> None:
    if k < 1:
        raise InputError(f"k is {k}; allowed: 1 or more")
    if len(set(ranking)) != len(ranking):
        twice = next(doc_id for doc_id in ranking if list(ranking).count(doc_id) > 1)
        raise InputError(f"document {twice!r} is ranked twice; a ranking names a document once, so keep its best place")
    if min(judgements.values(), default=0) < 0:
        raise InputError(f"a grade is {min(judgements.values())}; allowed: 0 or more")
