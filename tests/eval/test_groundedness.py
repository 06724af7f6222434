from __future__ import annotations

from typing import Any

import pytest

from eval.groundedness import METRICS, Passage, score_answer, style_margin
from rag.errors import InputError
from rag.groundedness import open_scorer

SCORER = open_scorer()
BRIDGE = "The old stone bridge over the Vara was opened by Ida Holm in 1931."
LANES = "It is 210 metres long and carries two lanes."
FERRY = "The ferry company of Jonas Berg was sold in the autumn."
PASSAGES = [Passage("bridge", f"{BRIDGE} {LANES}"), Passage("ferry", FERRY)]
FALSE = "Sugar taxes rose across the whole continent."


def answer(text: str, *cited: tuple[str, str], abstained: bool = False) -> dict[str, Any]:
    """An answer as JSON; every citation is a part of the text and what it quotes."""
    citations = [{"start": text.index(part), "end": text.index(part) + len(part), "quote": quote} for part, quote in cited]
    return {"answer": text, "abstained": abstained, "citations": citations}


def test_a_carried_and_cited_answer_scores_high() -> None:
    found = score_answer(answer(BRIDGE, (BRIDGE, BRIDGE)), PASSAGES, SCORER)
    assert found.unscored == {}
    assert found.scores.pop("groundedness") > 0.75
    assert found.scores == {
        "grounded": 1.0,
        "hallucination": 0.0,
        "citation_recall": 1.0,
        "citation_precision": 1.0,
        "context_utilisation": round(1 / 3, 6),
    }


def test_one_claim_that_nothing_carries_makes_a_hallucination() -> None:
    found = score_answer(answer(f"{BRIDGE} {FALSE}", (BRIDGE, BRIDGE)), PASSAGES, SCORER)
    supports = [claim.support or 0.0 for claim in found.claims]
    assert found.scores["groundedness"] == pytest.approx(sum(supports) / 2)
    assert (found.scores["grounded"], found.scores["hallucination"], found.scores["citation_recall"]) == (0.0, 1.0, 0.5)


def test_claims_have_their_evidence_as_it_stands_in_its_document() -> None:
    one, other = score_answer(answer(f"{BRIDGE} {FERRY}"), PASSAGES, SCORER).claims
    assert (one.evidence, one.doc_id, one.verdict) == (BRIDGE, "bridge", "supported")
    assert (other.evidence, other.doc_id) == (FERRY, "ferry")


def test_a_citation_counts_when_it_carries_its_claim_or_when_the_others_need_it() -> None:
    both = "The old stone bridge over the Vara is 210 metres long and carries two lanes."
    needed = score_answer(answer(both, (both, BRIDGE), (both, LANES)), PASSAGES, SCORER)
    assert (needed.scores["citation_recall"], needed.scores["citation_precision"]) == (1.0, 1.0)
    idle = score_answer(answer(BRIDGE, (BRIDGE, BRIDGE), (BRIDGE, FERRY)), PASSAGES, SCORER)
    assert (idle.scores["citation_recall"], idle.scores["citation_precision"]) == (1.0, 0.5)


def test_without_citations_there_is_a_recall_but_no_precision() -> None:
    found = score_answer(answer(BRIDGE), PASSAGES, SCORER)
    assert found.scores["citation_recall"] == 0.0
    assert found.unscored == {"citation_precision": "no_citations"}


@pytest.mark.parametrize(
    ("given", "passages", "reason"),
    [
        (answer("The documents do not seem to answer this.", abstained=True), PASSAGES, "abstention"),
        (answer("The documents do not say who built it."), PASSAGES, "abstention"),
        (answer(""), PASSAGES, "empty"),
        (answer("Is it long?"), PASSAGES, "no_claims"),
        (answer(BRIDGE), [], "no_context"),
        (answer("word " * 300), PASSAGES, "too_long"),
    ],
)
def test_what_has_no_scored_claim_has_a_reason_for_every_metric(
    given: dict[str, Any], passages: list[Passage], reason: str
) -> None:
    found = score_answer(given, passages, SCORER)
    assert found.scores == {}
    assert found.unscored == dict.fromkeys(METRICS, reason)


def test_a_claim_that_cannot_be_scored_leaves_open_whether_all_are_supported() -> None:
    long = "Word " * 300
    open_end = score_answer(answer(f"{BRIDGE} {long}"), PASSAGES, SCORER)
    assert (open_end.unscored["grounded"], open_end.unscored["hallucination"]) == ("too_long", "too_long")
    assert open_end.scores["groundedness"] > 0.75
    assert score_answer(answer(f"{FALSE} {long}"), PASSAGES, SCORER).scores["hallucination"] == 1.0


def test_questions_and_phrases_are_no_claims() -> None:
    found = score_answer(answer(f"Sure! {BRIDGE} Do you want more?"), PASSAGES, SCORER)
    assert [claim.verdict for claim in found.claims] == ["supported"]
    assert found.scores["grounded"] == 1.0


def test_every_metric_is_scored_or_has_a_reason() -> None:
    for text in (BRIDGE, "", FALSE, "word " * 300):
        found = score_answer(answer(text), PASSAGES, SCORER)
        assert sorted([*found.scores, *found.unscored]) == sorted(METRICS)


def test_style_margin_is_in_the_unit_of_the_metric() -> None:
    assert style_margin("groundedness") < style_margin("citation_recall")
    assert style_margin("grounded", 4.0) == pytest.approx(4 * style_margin("grounded"))
    assert style_margin("hallucination", 1000.0) == 1.0
    with pytest.raises(InputError, match="no style margin"):
        style_margin("exact_match")
