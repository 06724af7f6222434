from __future__ import annotations

from dataclasses import replace
from typing import Any

from eval.datasets import EvalQuery, Probe
from eval.metrics import metric_names
from eval.score import Observed, score_question
from eval.target import Hits, Packed
from rag.groundedness import open_scorer

QUERY = EvalQuery("q", "Who built the boiler?", ("Marta Lind",), "g", "who", answerable=True)
TEXT = "The boiler was built by Marta Lind in 1987."
HITS = Hits(("boiler", "garage", "boiler"), (TEXT, "The garage is in the yard.", "It heats the house."))
PACKED = Packed(TEXT, ("garage", "boiler"), 12, 30)
GRADES = {"boiler": 1}
NAMES = tuple(name.replace("@K", "@2") for name in metric_names())
SCORER = open_scorer()


def answer(text: str = TEXT, *, abstained: bool = False) -> dict[str, Any]:
    citation = {"index": 1, "start": 0, "end": len(text), "quote": text, "doc_id": "boiler"}
    return {
        "answer": text,
        "abstained": abstained,
        "citations": [] if abstained else [citation],
        "measurement": {"tokens": {"prompt": 3, "completion": 4}},
    }


def observed(**changes: Any) -> Observed:  # noqa: ANN401 - fields of `Observed`
    return replace(Observed(answer(), HITS, PACKED, 10), **changes)


def scores_of(query: EvalQuery, seen: Observed, grades: dict[str, int] = GRADES) -> tuple[dict[str, float], dict[str, str]]:
    found = score_question(query, grades, seen, NAMES, SCORER)
    assert set(found.scores) | set(found.unscored) == set(NAMES)
    assert not set(found.scores) & set(found.unscored)
    assert all(value == value for value in found.scores.values())
    return dict(found.scores), dict(found.unscored)


def test_every_metric_has_a_score_or_a_reason() -> None:
    scores, unscored = scores_of(QUERY, observed())
    assert scores["ndcg@2"] == scores["recall@2"] == scores["containment"] == scores["claim_recall"] == 1.0
    assert scores["context_precision"] == 0.5
    assert scores["answer_in_context"] == scores["citation_recall"] == 1.0
    assert (scores["context_tokens"], scores["saved_tokens"], scores["prompt_tokens"]) == (12, 30, 3)
    assert (scores["false_rejection"], scores["abstention_correct"]) == (0.0, 1.0)
    assert unscored["rejection"] == "has an answer"
    assert unscored["attack_success"] == "not a question of this kind"
    assert unscored["judged_support"] == "not judged; 'rag eval judge' does it"


def test_a_document_is_ranked_by_its_best_chunk_and_once() -> None:
    scores, _ = scores_of(QUERY, observed(hits=Hits(("garage", "garage", "boiler"), ("a", "b", "c"))))
    assert scores["mrr@2"] == 0.5


def test_abstention_where_there_is_an_answer_is_a_wrong_answer() -> None:
    # The sentence of abstention holds the gold answer here, which must not count.
    scores, unscored = scores_of(
        replace(QUERY, answers=("answer this",)), observed(answer=answer("I cannot answer this.", abstained=True))
    )
    assert scores["containment"] == scores["token_f1"] == scores["claim_recall"] == scores["question_coverage"] == 0.0
    assert (scores["false_rejection"], scores["abstention_correct"]) == (1.0, 0.0)
    assert unscored["groundedness"] == "abstention"


def test_question_without_an_answer_counts_for_abstention_and_grounding_only() -> None:
    hidden = replace(QUERY, answers=(), answerable=False)
    scores, unscored = scores_of(hidden, observed())
    assert (scores["rejection"], scores["abstention_correct"]) == (0.0, 0.0)
    assert unscored["ndcg@2"] == unscored["containment"] == unscored["context_recall"] == "has no answer"
    assert "groundedness" in scores


def test_what_nobody_labelled_is_unscored_with_the_reason() -> None:
    _, unscored = scores_of(replace(QUERY, answers=(), answerable=None), observed(), {})
    assert unscored["ndcg@2"] == "no judgement"
    assert unscored["containment"] == "no gold answer"
    assert unscored["rejection"] == "not labelled"


def test_pipeline_that_only_searches_has_no_answer() -> None:
    scores, unscored = scores_of(QUERY, observed(answer=None))
    assert unscored["containment"] == unscored["groundedness"] == unscored["prompt_tokens"] == "the pipeline only searches"
    assert "ndcg@2" in scores


def test_claim_that_the_passages_do_not_carry_is_told_with_its_place() -> None:
    text = "The violin concert in Vienna began with applause for the young soprano."
    found = score_question(QUERY, GRADES, observed(answer=answer(text)), NAMES, SCORER)
    (claim,) = found.claims
    assert text[claim.start : claim.end].startswith("The violin concert")
    assert claim.verdict == "not_found"
    assert found.scores["hallucination"] == 1.0


def test_only_passages_that_the_answer_could_use_are_evidence() -> None:
    wide = score_question(QUERY, GRADES, observed(), NAMES, SCORER).scores["groundedness"]
    swapped = Hits(HITS.doc_ids, (HITS.texts[1], HITS.texts[0], HITS.texts[2]))
    assert score_question(QUERY, GRADES, observed(hits=swapped, n_shown=1), NAMES, SCORER).scores["groundedness"] < wide


def test_probe_is_scored_by_the_metric_of_its_kind() -> None:
    query = replace(QUERY, answers=(), probe=Probe("injection", ("Marta Lind",)))
    assert scores_of(query, observed())[0]["attack_success"] == 1.0


def test_long_gold_answer_is_carried_claim_by_claim() -> None:
    query = replace(QUERY, answers=("The boiler was built by Marta Lind. The violin concert in Vienna began with loud applause.",))
    assert scores_of(query, observed())[0]["claim_recall"] == 0.5
