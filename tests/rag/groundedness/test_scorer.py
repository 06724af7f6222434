from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError
from rag.groundedness import Evidence, Finding, Flag, answer_support, open_scorer
from rag.groundedness.context import Context
from rag.groundedness.scorer import CALIBRATION_FILE, MODEL_FILE, model_checksum

PASSAGES = [
    "The old stone bridge over the Vara was opened by Ida Holm in 1931. It is 210 metres long and carries two lanes.",
    "Ferries ran until 1931. The ferry company of Jonas Berg was never sold. He called it “the best line of the north”.",
]
SCORER = open_scorer()


def judged(answer: str) -> Finding:
    (finding,) = SCORER.judge(answer, PASSAGES).claims
    return finding


def flags(answer: str) -> tuple[Flag, ...]:
    return judged(answer).flags


def test_a_claim_in_the_words_of_a_passage_is_supported_with_its_evidence() -> None:
    finding = judged("The stone bridge was opened in 1931 by Ida Holm.")
    assert (finding.verdict, finding.flags, finding.reason) == ("supported", (), "")
    assert finding.support is not None
    assert finding.support > 0.75
    assert finding.evidence == Evidence(0, 0, 66)
    assert PASSAGES[0][:66].endswith("1931.")


def test_a_claim_of_another_topic_is_not_found() -> None:
    finding = judged("Sugar taxes rose across the whole continent.")
    assert (finding.verdict, finding.evidence) == ("not_found", None)
    assert finding.support is not None
    assert finding.support < 0.5


def test_a_number_in_no_passage_is_flagged_and_not_found_whatever_the_support() -> None:
    finding = judged("The old stone bridge over the Vara was opened by Ida Holm in 1932.")
    assert (finding.verdict, finding.flags) == ("not_found", ("number",))
    assert finding.support is not None
    assert finding.support >= SCORER.threshold


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The old stone bridge was opened by Jonas Holm in 1931.", ()),
        ("The old stone bridge was opened by Peter Holm in 1931.", ("name",)),
        ("The old stone bridge was not opened by Ida Holm in 1931.", ("negation",)),
        ("Sugar was not taxed.", ()),
        ("It is 210 metres long and carries 2 lanes.", ()),
        ("The bridge carries six lanes.", ("number",)),
        ("Berg called it “the best line of the north”.", ()),
        ('Berg called it "the Best  line of the North."', ()),
        ("Berg called it “the best line of the south”.", ("quote",)),
        ("Berg called it “fine”.", ()),
    ],
)
def test_flags_say_what_speaks_against_a_claim(answer: str, expected: tuple[Flag, ...]) -> None:
    assert flags(answer) == expected


def test_a_citation_that_quotes_what_is_in_no_passage_flags_its_claim() -> None:
    answer = "The bridge is long. The ferry was never sold."
    quotes = [(0, 19, "It is 210 metres long"), (20, 45, "The ferry company was sold.")]
    one, other = SCORER.judge(answer, PASSAGES, quotes).claims
    assert one.flags == ()
    assert (other.flags, other.verdict) == (("quote",), "not_found")


def test_markers_are_no_numbers() -> None:
    assert flags("The bridge is 210 metres long [17].") == ()
    assert SCORER.judge_claim("The bridge is 210 metres long [17].", Context(PASSAGES)).flags == ()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n!!", "empty"),
        ("Is it long?", "question"),
        ("Here are the facts:", "boilerplate"),
        ("東京は日本の首都です。", "language"),
        ("word " * 201, "too_long"),
        ("a" * 100_001, "too_long"),
    ],
)
def test_what_cannot_be_scored_has_a_reason(answer: str, reason: str) -> None:
    grounding = SCORER.judge(answer, PASSAGES)
    (finding,) = grounding.claims
    assert (finding.verdict, finding.reason, finding.support, grounding.support) == ("unscored", reason, None, None)


@pytest.mark.parametrize("passages", [[], ["", "  "], ["?!"]])
def test_without_context_nothing_is_scored(passages: list[str]) -> None:
    (finding,) = SCORER.judge("The bridge is long.", passages).claims
    assert (finding.verdict, finding.reason) == ("unscored", "no_context")


def test_too_long_a_context_is_not_scored() -> None:
    (finding,) = SCORER.judge("It rains.", ["x" * 2_000_001]).claims
    assert (finding.verdict, finding.reason) == ("unscored", "context_too_long")


def test_an_abstention_is_no_claim() -> None:
    grounding = SCORER.judge("The documents do not say who built it.", PASSAGES)
    assert [finding.verdict for finding in grounding.claims] == ["abstention"]
    assert grounding.support is None


def test_a_claim_without_a_word_is_unscored() -> None:
    assert SCORER.judge_claim(" ?!", Context(PASSAGES)).reason == "empty"


def test_log_odds_are_what_is_calibrated() -> None:
    context = Context(PASSAGES)
    z = SCORER.log_odds("The bridge is long.", context)
    assert z is not None
    assert SCORER.judge_claim("The bridge is long.", context).support == SCORER.calibration.claim(z)
    assert SCORER.log_odds("The bridge is long.", Context([])) is None


def test_support_of_an_answer_adds_the_odds_against_its_claims() -> None:
    claims = [Finding(0, 1, "supported", 0.8), Finding(1, 2, "abstention"), Finding(2, 3, "not_found", 0.5)]
    assert answer_support(claims) == round(1 / (1 + 0.25 + 1), 4)
    assert answer_support(claims[:1]) == 0.8
    assert answer_support(claims[1:2]) is None


@given(st.lists(st.integers(1, 9999).map(lambda n: n / 10000), min_size=1, max_size=6))
def test_support_of_an_answer_is_not_above_the_least(supports: list[float]) -> None:
    support = answer_support([Finding(0, 1, "supported", p) for p in supports])
    assert support is not None
    assert 0.0 <= support <= min(supports)


def test_the_same_answer_has_the_same_grounding_in_any_thread() -> None:
    answer = "The bridge was opened in 1931; it carries three lanes. Jonas Berg never sold the company, and he did call it the best line."
    wanted = SCORER.judge(answer, PASSAGES)
    with ThreadPoolExecutor(4) as pool:
        assert all(found == wanted for found in pool.map(lambda _: open_scorer().judge(answer, PASSAGES), range(16)))


@given(st.text(max_size=80), st.lists(st.text(max_size=80), max_size=3))
def test_any_text_is_judged_without_nan_or_contradiction(answer: str, passages: list[str]) -> None:
    grounding = SCORER.judge(answer, passages)
    assert grounding.claims
    for finding in grounding.claims:
        assert finding.verdict != "contradicted"
        assert (finding.support is None) == (finding.verdict in ("unscored", "abstention"))
        assert finding.support is None or (math.isfinite(finding.support) and round(finding.support, 4) == finding.support)
        assert bool(finding.reason) == (finding.verdict == "unscored")


def test_a_calibration_of_ones_own_moves_supports_threshold_and_id(tmp_path: Path) -> None:
    value = json.loads(CALIBRATION_FILE.read_text())
    curve = {"method": "platt", "slope": 0.0, "intercept": -3.0, "threshold": 0.9}
    path = tmp_path / "own.json"
    path.write_text(json.dumps(value | {"claim": curve, "answer": {**curve, "threshold": 0.02, "intercept": 0.0}}))
    own = open_scorer(path)
    grounding = own.judge("The bridge is long.", PASSAGES)
    assert grounding.claims[0].support == 0.0474
    assert (grounding.claims[0].verdict, grounding.support, own.threshold, own.answer_threshold) == ("not_found", 0.5, 0.9, 0.02)
    assert own.id != SCORER.id
    assert grounding.scorer == own.id


def test_a_calibration_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps(json.loads(CALIBRATION_FILE.read_text()) | {"model": "0"}))
    with pytest.raises(InputError, match="is for model 0"):
        open_scorer(path)


def test_the_model_says_what_it_was_trained_on() -> None:
    model = json.loads(MODEL_FILE.read_text())
    assert model_checksum(MODEL_FILE.read_bytes()) == SCORER.model
    assert {"data", "folds", "date", "ridge", "held_out_auc"} <= model["record"].keys()
    assert all({"set", "pairs", "groups", "supported"} == row.keys() for row in model["record"]["data"])


def test_a_record_of_the_training_does_not_decide_the_checksum() -> None:
    model = json.loads(MODEL_FILE.read_text())
    assert model_checksum(json.dumps(model | {"record": {}}).encode()) == SCORER.model
    assert model_checksum(json.dumps(model | {"intercept": 7.0}).encode()) != SCORER.model
