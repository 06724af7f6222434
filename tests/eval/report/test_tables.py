from __future__ import annotations

import math

import msgspec
import pytest

from eval.record import ClaimRecord, Estimate, QuestionRecord
from eval.report.figures import View, views
from eval.report.questions import Worst
from eval.report.tables import (
    NOT_MEASURED,
    Table,
    claim_table,
    cost_table,
    data_table,
    effort_table,
    failure_table,
    number,
    quality_table,
    settings_table,
    shorten,
    slice_tables,
    step_table,
)
from tests.eval.report.maker import result, run
from tests.eval.results import make_result, make_run


def texts(table: Table) -> dict[str, list[str]]:
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


@pytest.fixture(scope="module")
def view() -> View:
    (found,) = views([result(run("no-model", share=0.6, joules=0.5), run("eco", share=0.7, joules=None))])
    return found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOT_MEASURED),
        (math.nan, NOT_MEASURED),
        (math.inf, NOT_MEASURED),
        (0.0, "0"),
        (0.012345, "0.0123"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
    ],
)
def test_a_number_has_three_digits_or_says_that_there_is_none(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_cut_text_says_what_is_missing() -> None:
    assert shorten("abcdef", 4) == "abcd… (2 characters more in the result file)"
    assert shorten("abcd", 4) == "abcd"


def test_what_is_not_known_is_said(view: View) -> None:
    costs = texts(cost_table(view))
    assert costs["joules per answer"] == ["0.5", NOT_MEASURED]
    assert costs["method of the joules"] == ["modelled", NOT_MEASURED]
    assert costs["grams of CO2e per answer"] == [NOT_MEASURED] * 2


def test_joules_have_their_band(view: View) -> None:
    row = next(row for row in cost_table(view).rows if row[0].text == "joules per answer")
    assert row[1].small.startswith("band 0.25 to 1.5; interval ")


def test_a_metric_has_value_interval_and_counts(view: View) -> None:
    row = next(row for row in quality_table(view).rows if row[0].text == "groundedness")
    estimate = view.entries[0].run.quality["groundedness"]
    assert estimate.value is not None
    assert row[1].text == f"{estimate.value:.3f}"
    assert row[1].small.endswith("; n 58, 2 unscored")


def test_a_proxy_is_called_one_and_others_are_not(view: View) -> None:
    assert [row[0].text for row in quality_table(view).rows if "proxy" in row[0].text] == ["question_coverage (proxy)"]


def test_a_metric_that_a_run_lacks_or_could_not_score_is_not_measured() -> None:
    one = make_run({"containment": [1.0, 1.0]})
    nan = msgspec.structs.replace(one, pipeline="nan", quality={"containment": Estimate(math.nan, n=2)})
    found = quality_table(views([make_result(one, make_run({"groundedness": [None]}, pipeline="other"), nan)])[0])
    assert texts(found) == {
        "containment": ["1.000", NOT_MEASURED, NOT_MEASURED],
        "groundedness": [NOT_MEASURED, NOT_MEASURED, NOT_MEASURED],
    }


def test_a_metric_of_another_version_is_shown() -> None:
    found = quality_table(views([make_result(make_run({"of_old": [0.5]}))])[0])
    assert (found.rows[0][0].small, found.rows[0][1].text) == ("not known to this version", "0.500")


def test_what_a_step_bought_is_told_against_the_baseline(view: View) -> None:
    rows = texts(step_table(view))
    assert rows["no-model: all"][4:] == ["is the baseline"] * 3
    assert set(rows) == {"no-model: extractive", "no-model: all", "eco: extractive", "eco: gguf:small", "eco: all"}
    assert rows["eco: gguf:small"][0] == "answered 20"


def test_without_a_metric_of_correctness_nothing_is_called_correct() -> None:
    rows = texts(step_table(views([make_result(make_run({"mrr@10": [1.0]}, cpu_s=[1.0]))])[0]))
    assert rows["standard: all"][2:] == [NOT_MEASURED, "1 CPU-s", "nothing to compare", "nothing to compare", "nothing to compare"]


def test_one_slice_makes_no_table() -> None:
    assert slice_tables(views([make_result(make_run({"containment": [1.0, 0.0]}))])[0]) == ()


def test_failures_have_reason_and_count(view: View) -> None:
    rows = [[cell.text for cell in row] for row in failure_table(view).rows]
    assert ["eco", "model: the server did not answer", "the question failed", "1"] in rows
    assert ["eco", "empty", "groundedness", "1"] in rows


def test_a_run_without_failures_says_so() -> None:
    rows = failure_table(views([make_result(make_run({"containment": [1.0]}))])[0]).rows
    assert [cell.text for cell in rows[0]] == ["standard", "none: every question was answered and scored", "none", "0"]


def test_the_judge_is_told_apart_only_where_there_is_one() -> None:
    one = make_result(make_run({"containment": [1.0]}))
    judged = msgspec.structs.replace(one, judge="m", effort=msgspec.structs.replace(one.effort, judge_tokens=12000))
    rows = texts(effort_table([one, judged]))
    assert rows["judge, tokens"] == ["no judge", "12,000"]
    assert rows["judge, joules"] == ["no judge", NOT_MEASURED]


def test_a_data_set_that_differs_between_results_has_two_rows() -> None:
    results = [make_result(make_run({"containment": [1.0]}), checksum=checksum) for checksum in ("c0", "c1")]
    assert [(row[0].small, row[4].text) for row in data_table(results).rows] == [("1.0.0 (1)", "c0"), ("1.0.0 (2)", "c1")]
    assert len(data_table([results[0], results[0]]).rows) == 1


def test_a_setting_that_the_suite_left_alone_is_the_default() -> None:
    runs = (make_run({"mrr@10": [1.0]}, settings={"k": "20"}), make_run({"mrr@10": [1.0]}, pipeline="other"))
    assert texts(settings_table(views([make_result(*runs)])[0])) == {"k": ["20", "default"]}


def test_a_claim_stands_beside_its_evidence_with_verdict_and_flags() -> None:
    claim = ClaimRecord(0, 2, "not_found", 0.125, ("number", "name"), "It was 1962.", "doc 7")
    question = QuestionRecord("q1", "g", "s", {}, {}, claims=(claim,))
    (row,) = claim_table(Worst(question, (), (("It was 1961.", claim),))).rows
    assert [cell.text for cell in row] == ["It was 1961.", "It was 1962.", "not_found"]
    assert [cell.small for cell in row] == ["", "doc 7", "support 0.125; flag: number; flag: name"]


def test_a_claim_without_score_or_evidence_says_so() -> None:
    claim = ClaimRecord(0, 2, "unscored", reason="too short")
    (row,) = claim_table(Worst(QuestionRecord("q1", "g", "s", {}, {}), (), (("", claim),))).rows
    assert [(cell.text, cell.small) for cell in row] == [
        ("empty", ""),
        ("no evidence found", ""),
        ("unscored", "not scored; too short"),
    ]


def test_claims_without_end_are_cut_and_counted() -> None:
    claim = ClaimRecord(0, 2, "supported", 1.0)
    table = claim_table(Worst(QuestionRecord("q1", "g", "s", {}, {}), (), (("x", claim),) * 30))
    assert (len(table.rows), table.note) == (12, "18 more claims in the result file")
