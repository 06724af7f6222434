from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.retrieval import RetrievalScores, evaluate, ndcg_at_k, recall_at_k, reciprocal_rank_at_k
from rag.errors import InputError

GRADED = {"a": 3, "b": 2, "c": 1, "d": 0}


def test_ndcg_of_the_best_ranking_is_one() -> None:
    assert ndcg_at_k(["a", "b", "c", "d"], GRADED, k=4) == 1.0


def test_ndcg_takes_the_grade_as_gain_and_the_binary_logarithm_as_discount() -> None:
    # DCG = 1/log2(2) + 0/log2(3) + 3/log2(4) = 2.5; best = 3/1 + 2/log2(3) + 1/2 = 4.761859507142915
    assert ndcg_at_k(["c", "x", "a"], GRADED, k=3) == pytest.approx(2.5 / 4.761859507142915, abs=1e-15)


def test_ndcg_reproduces_the_worked_example_of_graded_relevance() -> None:
    # Grades 3 2 3 0 1 2 in rank order: DCG 6.861126688593501, best (3 3 2 2 1 0) 7.140995184095699.
    judgements = dict(zip("uvwxyz", (3, 2, 3, 0, 1, 2), strict=True))
    assert ndcg_at_k(list("uvwxyz"), judgements, k=6) == pytest.approx(0.9608081943360616, abs=1e-14)


def test_ndcg_cuts_the_best_ranking_at_k_too() -> None:
    assert ndcg_at_k(["a"], {"a": 1, "b": 1, "c": 1}, k=1) == 1.0


def test_ndcg_ignores_what_stands_below_k() -> None:
    assert ndcg_at_k(["x", "y", "a"], {"a": 1}, k=2) == 0.0


def test_ndcg_of_a_ranking_shorter_than_k_counts_the_empty_places_as_misses() -> None:
    assert ndcg_at_k(["a"], {"a": 1, "b": 1}, k=10) == pytest.approx(1 / (1 + 1 / log2(3)))


def test_recall_divides_by_all_relevant_documents() -> None:
    assert recall_at_k(["a", "x", "c"], GRADED, k=2) == 1 / 3


def test_recall_does_not_count_documents_judged_not_relevant() -> None:
    assert recall_at_k(["d"], GRADED, k=1) == 0.0


@pytest.mark.parametrize(("ranking", "expected"), [(["a"], 1.0), (["x", "d", "c"], 1 / 3), (["x", "y", "z", "a"], 0.0), ([], 0.0)])
def test_reciprocal_rank_is_that_of_the_first_relevant_document(ranking: list[str], expected: float) -> None:
    assert reciprocal_rank_at_k(ranking, GRADED, k=3) == expected


Measure = Callable[[Sequence[str], Mapping[str, int], int], float]
every_measure = pytest.mark.parametrize("measure", [ndcg_at_k, recall_at_k, reciprocal_rank_at_k])


@every_measure
def test_measure_is_zero_where_nothing_is_relevant(measure: Measure) -> None:
    assert measure(["a"], {"a": 0}, 5) == 0.0


@every_measure
def test_measure_refuses_a_document_ranked_twice(measure: Measure) -> None:
    with pytest.raises(InputError, match="'b' is ranked twice"):
        measure(["a", "b", "c", "b"], {"a": 1}, 2)


@every_measure
def test_measure_refuses_a_cut_off_below_one(measure: Measure) -> None:
    with pytest.raises(InputError, match="k is 0; allowed: 1 or more"):
        measure(["a"], {"a": 1}, 0)


@every_measure
def test_measure_refuses_a_negative_grade(measure: Measure) -> None:
    with pytest.raises(InputError, match="a grade is -1"):
        measure(["a"], {"a": -1}, 1)


@every_measure
@given(ranking=st.permutations(["a", "b", "c", "d", "e", "f"]), k=st.integers(1, 8))
def test_measure_lies_between_zero_and_that_of_the_best_ranking(measure: Measure, ranking: list[str], k: int) -> None:
    best = sorted(ranking, key=lambda doc_id: -GRADED.get(doc_id, 0))
    assert 0.0 <= measure(ranking, GRADED, k) <= measure(best, GRADED, k) <= 1.0


def test_evaluate_averages_over_all_judged_queries() -> None:
    scores = evaluate({"q1": ["a", "b"], "q2": []}, {"q1": {"b": 1}, "q2": {"c": 1}}, k=2, recall_k=1)
    # q1 finds its document at place 2, q2 finds nothing.
    assert scores == RetrievalScores(ndcg=1 / log2(3) / 2, reciprocal_rank=0.25, recall=0.0, k=2, recall_k=1, n_queries=2)


@pytest.mark.parametrize("rankings", [{}, {"q1": [], "q2": []}])
def test_evaluate_refuses_rankings_of_other_queries(rankings: dict[str, list[str]]) -> None:
    with pytest.raises(InputError, match="differ in 1 queries, first 'q"):
        evaluate(rankings, {"q1": {"a": 1}})


def test_evaluate_refuses_to_average_over_nothing() -> None:
    with pytest.raises(InputError, match="no query is judged"):
        evaluate({}, {})
