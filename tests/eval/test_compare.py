from __future__ import annotations

import json
import math

import msgspec
import pytest

from eval.compare import Place, Row, compare, compare_metric
from eval.record import Result
from eval.tables import as_json, as_markdown, as_text, figure
from rag.errors import InputError
from tests.eval.results import Scores, make_result, make_run

NDCG = Place("set", "standard", "ndcg@10")


def both(base: Scores, candidate: Scores, name: str = "ndcg@10") -> Row:
    return compare_metric(make_result(make_run(base)), make_result(make_run(candidate)), Place("set", "standard", name))


def test_gain_is_the_mean_of_the_differences_question_by_question() -> None:
    row = both({"ndcg@10": [0.5, 0.6, 0.7]}, {"ndcg@10": [0.6, 0.6, 0.5]})
    assert row.paired is not None
    assert row.paired.gain.value == pytest.approx(-0.1 / 3)
    assert [row.base, row.candidate] == pytest.approx([0.6, 1.7 / 3])
    assert row.paired.n == 3


def test_gain_is_positive_where_less_is_better_and_there_is_less() -> None:
    row = both({"hallucination": [1.0, 1.0, 0.0]}, {"hallucination": [0.0, 1.0, 0.0]}, "hallucination")
    assert row.paired is not None
    assert row.paired.gain.value == pytest.approx(1 / 3)


def test_questions_are_paired_by_their_id_not_by_their_place() -> None:
    base = make_result(make_run({"ndcg@10": [0.1, 0.9]}, ids=["a", "b"]))
    candidate = make_result(make_run({"ndcg@10": [0.9, 0.1]}, ids=["b", "a"]))
    row = compare_metric(base, candidate, NDCG)
    assert row.paired is not None
    assert (row.paired.n_worse, row.paired.n_better) == (0, 0)


def test_margin_of_tokens_is_a_share_of_the_base() -> None:
    row = both({"prompt_tokens": [100.0, 300.0]}, {"prompt_tokens": [100.0, 300.0]}, "prompt_tokens")
    assert row.margin == 0.05 * 200


def test_lost_and_gained_questions_are_counted_with_their_reasons() -> None:
    base = make_result(make_run({"ndcg@10": [0.5, 0.6, 0.7, None]}))
    candidate = make_result(make_run({"ndcg@10": [0.5, None, None, 1.0]}, why="empty"))
    row = compare_metric(base, candidate, NDCG)
    assert (row.n_lost, row.lost, row.n_gained, row.n_failed) == (2, {"empty": 2}, 1, 0)
    assert row.paired is not None
    assert row.paired.n == 1


def test_lost_questions_at_the_worst_score_are_a_loss() -> None:
    row = both({"ndcg@10": [0.5, 0.6, 0.7]}, {"ndcg@10": [0.5, 0.6, None]})
    assert row.paired_if_worst is not None
    assert row.paired_if_worst.gain.value == pytest.approx(-0.7 / 3)


def test_worst_score_is_one_where_less_is_better() -> None:
    row = both({"hallucination": [0.0, 0.0]}, {"hallucination": [0.0, None]}, "hallucination")
    assert row.paired_if_worst is not None
    assert row.paired_if_worst.gain.value == pytest.approx(-0.5)


def test_worst_number_of_tokens_is_the_most_that_was_seen() -> None:
    row = both({"prompt_tokens": [10.0, 40.0]}, {"prompt_tokens": [90.0, None]}, "prompt_tokens")
    assert row.paired_if_worst is not None
    assert row.paired_if_worst.gain.value == pytest.approx((-80 - 50) / 2)


def test_mcnemar_is_there_for_outcomes_that_are_0_or_1_alone() -> None:
    assert both({"exact_match": [1.0, 0.0, 1.0]}, {"exact_match": [0.0, 0.0, 0.0]}, "exact_match").mcnemar_p == 0.5
    assert both({"ndcg@10": [1.0, 0.5]}, {"ndcg@10": [1.0, 0.0]}).mcnemar_p is None


def test_worst_slice_is_the_one_that_gained_least() -> None:
    slices = ["who", "who", "when", "when"]
    base = make_result(make_run({"ndcg@10": [0.5, 0.5, 0.5, 0.5]}, slices=slices))
    candidate = make_result(make_run({"ndcg@10": [0.9, 0.9, 0.4, 0.2]}, slices=slices))
    worst = compare_metric(base, candidate, NDCG).worst
    assert worst is not None
    assert (worst.name, worst.n) == ("when", 2)
    assert worst.gain == pytest.approx(-0.2)


BASE = make_run({"ndcg@10": [0.5, 0.6], "groundedness": [0.9, 0.8]})


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (make_result(BASE, checksum="c1"), "data set set is not the same"),
        (make_result(BASE, n_documents=99), "data set set is not the same"),
        (
            make_result(make_run({"ndcg@10": [0.5, 0.6]}, ids=["q0", "x"])),
            "1 only in the base, 1 only in the candidate, first 'q1'",
        ),
        (make_result(make_run({"ndcg@10": [0.5]})), "1 only in the base, 0 only in the candidate"),
        (make_result(make_run({"ndcg@10": [0.5, 0.6]}, pipeline="eco")), "the candidate has no run of pipeline standard on set"),
        (make_result(make_run({"mrr@10": [0.5, 0.6]})), "the candidate does not measure ndcg@10"),
        (make_result(make_run({"ndcg@10": [None, None]}, why="no labels")), "scored on both sides: no labels (2)"),
    ],
)
def test_what_is_not_comparable_has_a_reason_and_no_figures(other: Result, reason: str) -> None:
    row = compare_metric(make_result(BASE), other, NDCG)
    assert reason in row.reason
    assert row.paired is None


@pytest.mark.parametrize("other", [make_result(BASE, scorer="s2"), make_result(BASE, judge="j")])
def test_another_scorer_or_judge_bars_grounding_metrics_alone(other: Result) -> None:
    assert "not one scale" in compare_metric(make_result(BASE), other, Place("set", "standard", "groundedness")).reason
    assert not compare_metric(make_result(BASE), other, NDCG).reason


def test_comparison_keeps_what_it_cannot_compare_as_rows_with_a_reason() -> None:
    found = compare(
        make_result(BASE, make_run({"mrr@10": [1.0]}, pipeline="old")), make_result(BASE, make_run({"mrr@10": [1.0]}, data="new"))
    )
    assert [(row.place.data, row.place.pipeline, bool(row.reason)) for row in found.rows] == [
        ("set", "standard", False),
        ("set", "standard", False),
        ("new", "standard", True),
        ("set", "old", True),
    ]


def test_results_of_other_suites_are_refused() -> None:
    with pytest.raises(InputError, match="'suite' and 'other'; only results of one suite"):
        compare(make_result(BASE), make_result(BASE, suite="other"))


def test_results_that_share_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="nothing can be compared: data set set is not the same"):
        compare(make_result(BASE), make_result(BASE, checksum="c1"))


def test_a_question_that_stands_twice_is_refused() -> None:
    twice = make_result(make_run({"ndcg@10": [0.1, 0.2]}, ids=["a", "a"]))
    with pytest.raises(InputError, match="question 'a' of set stands twice"):
        compare_metric(twice, twice, NDCG)


def test_cost_is_a_ratio_of_sums_over_questions_that_both_have() -> None:
    scores = {"ndcg@10": [0.5] * 4}
    base = make_result(make_run(scores, cpu_s=[1.0, 2.0, 3.0, None]))
    candidate = make_result(make_run(scores, cpu_s=[1.5, 2.5, 2.0, 9.0]))
    row = next(row for row in compare(base, candidate).costs if row.place.metric == "cpu_s")
    assert (row.ratio, row.n, row.note) == (1.0, 3, "not interleaved: information only")
    assert row.lo is not None
    assert row.hi is not None
    assert row.lo < 1 < row.hi


def test_joules_carry_the_method_of_both_sides() -> None:
    scores = {"ndcg@10": [0.5] * 3}
    sides = [make_result(make_run(scores, cpu_s=[1.0] * 3, energy_j=2.0, method=method)) for method in ("measured", "modelled")]
    row = next(row for row in compare(*sides).costs if row.place.metric == "energy_j")
    assert row.method == "measured and modelled"


def test_changed_settings_machine_and_suite_are_noted() -> None:
    base = make_result(make_run({"ndcg@10": [0.5, 0.6]}, settings={"k": "10"}), scorer="s0")
    candidate = make_result(make_run({"ndcg@10": [0.5, 0.6]}, settings={"k": "5"}))
    assert compare(base, candidate).notes == ("scorer differs: s0 against s1", "settings of standard on set differ: k")


def test_comparison_is_the_same_to_the_byte_every_time() -> None:
    other = make_result(make_run({"ndcg@10": [0.4, 0.7], "groundedness": [0.9, 0.7]}))
    assert as_json(compare(make_result(BASE), other)) == as_json(compare(make_result(BASE), other))


def test_json_holds_figures_and_no_nan() -> None:
    other = make_result(make_run({"ndcg@10": [0.4, None], "groundedness": [None, None]}))
    found = json.loads(as_json(compare(make_result(BASE), other)), parse_constant=lambda name: pytest.fail(name))
    assert math.isclose(found["rows"][0]["paired"]["gain"]["value"], -0.1)
    assert found["rows"][0]["lost"] == {"not applicable": 1}


def test_tables_show_every_row_and_what_was_lost() -> None:
    slices = ["a|b", "c"]
    base = make_result(make_run({"ndcg@10": [0.5, 0.6], "mrr@10": [1.0, 1.0]}, slices=slices, cpu_s=[1.0, 1.0]))
    candidate = make_result(
        make_run({"ndcg@10": [0.4, 0.7], "mrr@10": [1.0, None]}, slices=slices, cpu_s=[1.0, 1.0], why="[b]odd[/b]")
    )
    for text in (as_text(compare(base, candidate)), as_markdown(compare(base, candidate))):
        assert "+0.0000" in text
        assert "not interleaved" in text
        assert "mrr@10 of standard on set: 1 questions are scored in the base only: [b]odd[/b] (1)" in text
    assert "a\\|b" in as_markdown(compare(base, candidate))
    assert "a|b" in as_text(compare(base, candidate), 200)


def test_text_leaves_out_columns_until_it_fits_and_markdown_keeps_them() -> None:
    slices = ["a", "b"]
    base = make_result(make_run({"ndcg@10": [0.5, 0.6]}, slices=slices))
    comparison = compare(base, make_result(make_run({"ndcg@10": [0.4, 0.7]}, slices=slices)))
    spare = ("McNemar", "MDE", "needed", "worst slice")
    texts = [as_text(comparison, 200)]
    for _ in spare:
        texts.append(as_text(comparison, max(map(len, texts[-1].splitlines())) - 1))
    assert [[name in text for name in spare] for text in texts] == [[i >= n for i in range(4)] for n in range(5)]
    assert all(name in as_markdown(comparison) for name in spare)
    assert as_text(comparison, 20) == texts[-1]


def test_text_fits_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_result(make_run({"ndcg@10": [0.5, 0.6]}, slices=["a", "b"]))
    monkeypatch.setenv("COLUMNS", "200")
    wide = as_text(compare(base, base))
    monkeypatch.setenv("COLUMNS", "110")
    assert max(map(len, as_text(compare(base, base)).splitlines())) <= 110 < max(map(len, wide.splitlines()))


def test_why_something_is_not_comparable_stands_below_the_table() -> None:
    comparison = compare(make_result(BASE), make_result(BASE, make_run({"mrr@10": [1.0]}, data="new")))
    for text in (as_text(comparison, 100), as_markdown(comparison)):
        assert "mrr@10 of standard on new is not comparable: the base has no run of pipeline standard on new" in text


def test_data_sets_that_differ_are_told_once_with_short_checksums() -> None:
    runs = (BASE, make_run({"ndcg@10": [0.5]}, data="other"))
    base, other = make_result(*runs, checksum="a" * 64), make_result(*runs, checksum="b" * 64)
    candidate = msgspec.structs.replace(other, data=(other.data[0], base.data[1]))
    text = as_text(compare(base, candidate))
    assert text.count(f"checksum {'a' * 12} against {'b' * 12}") == 1
    assert "a" * 13 not in text


def test_a_data_set_of_which_a_result_has_no_record_is_not_compared() -> None:
    candidate = msgspec.structs.replace(make_result(BASE), data=())
    assert "data set set is not the same" in compare_metric(make_result(BASE), candidate, NDCG).reason


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [
        (None, "carbon_g", "-"),
        (0.0, "carbon_g", "0.0000"),
        (0.0000234, "carbon_g", "2.3e-05"),
        (-0.0000234, "", "-2.3e-05"),
        (0.0012, "carbon_g", "0.0012"),
        (12.34, "", "12.3"),
        (150.5 * 2**20, "peak_rss_bytes", "150.5 MiB"),
    ],
)
def test_figure_shows_at_least_two_digits_and_bytes_as_mib(value: float | None, name: str, shown: str) -> None:
    assert figure(value, name) == shown
