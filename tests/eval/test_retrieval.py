from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import log2
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.retrieval import RetrievalScores, evaluate, score_context, score_rankings
from rag.errors import InputError

GRADED = {"a": 3, "b": 2, "c": 1, "d": 0}
GOLDEN = Path(__file__).parents[1] / "golden" / "trec_eval.json"
KINDS = ("ndcg", "recall", "mrr", "map", "precision")


def one(kind: str, ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    return score_rankings({"q": ranking}, {"q": grades}, [f"{kind}@{k}"])["q"][f"{kind}@{k}"]


def naive(kind: str, ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """The measures as their papers write them."""
    top = [grades.get(doc_id, 0) for doc_id in ranking[:k]]
    hits = [place for place, grade in enumerate(top, start=1) if grade > 0]
    n_relevant = sum(grade > 0 for grade in grades.values())
    if n_relevant == 0:
        return 0.0
    if kind == "ndcg":
        best = sorted(grades.values(), reverse=True)[:k]
        gain, ideal = (sum(grade / log2(place + 1) for place, grade in enumerate(row, start=1)) for row in (top, best))
        return gain / ideal
    by_kind = {
        "recall": len(hits) / n_relevant,
        "precision": len(hits) / k,
        "mrr": 1 / hits[0] if hits else 0.0,
        "map": sum(n / place for n, place in enumerate(hits, start=1)) / n_relevant,
    }
    return by_kind[kind]


def test_every_measure_is_that_of_trec_eval() -> None:
    # Written by trec_eval itself (`python -P -m tests.golden.trec_eval`).
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    names = list(next(iter(golden["scores"].values())))
    found = score_rankings(golden["rankings"], golden["qrels"], names)
    for query_id, scores in golden["scores"].items():
        assert found[query_id] == pytest.approx(scores, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@given(
    ranking=st.permutations(["a", "b", "c", "d", "e", "f"]).flatmap(lambda p: st.integers(0, 6).map(lambda n: p[:n])),
    grades=st.dictionaries(st.sampled_from("abcdxyz"), st.integers(0, 3), min_size=1),
    k=st.integers(1, 8),
)
def test_measure_is_that_of_its_paper(kind: str, ranking: list[str], grades: dict[str, int], k: int) -> None:
    assert one(kind, ranking, grades, k) == pytest.approx(naive(kind, ranking, grades, k), abs=1e-9)


def test_ndcg_of_the_best_ranking_is_one() -> None:
    assert one("ndcg", ["a", "b", "c", "d"], GRADED, k=4) == 1.0


def test_ndcg_takes_the_grade_as_gain_and_the_binary_logarithm_as_discount() -> None:
    # DCG = 1/log2(2) + 0/log2(3) + 3/log2(4) = 2.5; best = 3/1 + 2/log2(3) + 1/2 = 4.761859507142915
    assert one("ndcg", ["c", "x", "a"], GRADED, k=3) == pytest.approx(2.5 / 4.761859507142915, abs=1e-15)


def test_ndcg_reproduces_the_worked_example_of_graded_relevance() -> None:
    # Grades 3 2 3 0 1 2 in rank order: DCG 6.861126688593501, best (3 3 2 2 1 0) 7.140995184095699.
    judgements = dict(zip("uvwxyz", (3, 2, 3, 0, 1, 2), strict=True))
    assert one("ndcg", list("uvwxyz"), judgements, k=6) == pytest.approx(0.9608081943360616, abs=1e-14)


def test_ndcg_cuts_the_best_ranking_at_k_too() -> None:
    assert one("ndcg", ["a"], {"a": 1, "b": 1, "c": 1}, k=1) == 1.0


def test_ndcg_ignores_what_stands_below_k() -> None:
    assert one("ndcg", ["x", "y", "a"], {"a": 1}, k=2) == 0.0


def test_ndcg_of_a_ranking_shorter_than_k_counts_the_empty_places_as_misses() -> None:
    assert one("ndcg", ["a"], {"a": 1, "b": 1}, k=10) == pytest.approx(1 / (1 + 1 / log2(3)))


def test_recall_divides_by_all_relevant_documents() -> None:
    assert one("recall", ["a", "x", "c"], GRADED, k=2) == 1 / 3


def test_recall_does_not_count_documents_judged_not_relevant() -> None:
    assert one("recall", ["d"], GRADED, k=1) == 0.0


@pytest.mark.parametrize(("ranking", "expected"), [(["a"], 1.0), (["x", "d", "c"], 1 / 3), (["x", "y", "z", "a"], 0.0), ([], 0.0)])
def test_reciprocal_rank_is_that_of_the_first_relevant_document(ranking: list[str], expected: float) -> None:
    assert one("mrr", ranking, GRADED, k=3) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_measure_is_zero_where_nothing_is_relevant(kind: str) -> None:
    assert one(kind, ["a"], {"a": 0}, 5) == 0.0


def test_query_that_found_nothing_scores_zero_beside_one_that_found_something() -> None:
    assert score_rankings({"q": [], "r": ["a"]}, {"q": {"a": 1}, "r": {"a": 1}}, ["mrr@5"]) == {
        "q": {"mrr@5": 0.0},
        "r": {"mrr@5": 1.0},
    }


def test_document_ranked_twice_is_refused() -> None:
    with pytest.raises(InputError, match="'b' is ranked twice"):
        one("ndcg", ["a", "b", "c", "b"], {"a": 1}, 2)


@pytest.mark.parametrize("name", ["ndcg@0", "ndcg", "ndcg@x", "bleu@10"])
def test_unknown_measure_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(InputError, match=f"measure '{name}'; allowed: ndcg, recall, mrr, map, precision"):
        score_rankings({"q": ["a"]}, {"q": {"a": 1}}, [name])


def test_negative_grade_is_refused() -> None:
    with pytest.raises(InputError, match="a grade is -1"):
        one("ndcg", ["a"], {"a": -1}, 1)


def test_context_without_relevant_passage_scores_zero() -> None:
    assert score_context(["b"], "b", {"a": 1}, ["x"]) == {"context_precision": 0.0, "context_recall": 0.0, "answer_in_context": 0.0}


def test_context_of_a_question_without_judgements_or_answers_has_no_scores() -> None:
    assert score_context(["b"], "b", {"a": 0}, []) == {}


def test_context_precision_counts_the_places_of_relevant_passages() -> None:
    # Relevant at places 1 and 4: (1/1 + 2/4) / 2; document a stands there twice and is one document for recall.
    assert score_context(["a", "x", "y", "a"], "", {"a": 1, "b": 2}, []) == {"context_precision": 0.75, "context_recall": 0.5}


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
