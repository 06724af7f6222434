from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.record import DataRecord, Estimate, RunRecord
from eval.report.figures import View, cautions, frontier, releases, scatters, stages, views
from tests.eval.report.maker import result, run
from tests.eval.results import make_result, make_run

PLANE = st.lists(st.tuples(st.integers(0, 5).map(float), st.integers(0, 5).map(float)), max_size=12)


def one_view(*runs: RunRecord) -> View:
    (view,) = views([make_result(*runs)])
    return view


@given(PLANE)
def test_the_frontier_is_what_no_other_point_dominates(points: list[tuple[float, float]]) -> None:
    def dominated(n: int) -> bool:
        cost, quality = points[n]
        return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)

    found = frontier(points)
    assert set(found) == {n for n in range(len(points)) if not dominated(n)}
    assert [points[n][0] for n in found] == sorted(points[n][0] for n in found)


def test_releases_of_a_pipeline_stand_side_by_side() -> None:
    before = result(run("no-model", share=0.6, joules=0.5, n=3), run("eco", share=0.7, joules=0.6, n=3))
    after = result(run("no-model", share=0.6, joules=0.5, n=3), run("eco", share=0.7, joules=0.6, n=3), version="1.1.0")
    (view,) = views([before, after])
    assert [entry.name for entry in view.entries] == [
        "no-model, 1.0.0 (1)",
        "no-model, 1.1.0 (2)",
        "eco, 1.0.0 (1)",
        "eco, 1.1.0 (2)",
    ]
    assert [entry.baseline for entry in view.entries] == [before.runs[0], after.runs[0], before.runs[0], after.runs[0]]


def test_a_single_result_has_no_name_of_its_own() -> None:
    assert releases([make_result(make_run({"mrr@10": [1.0]}))]) == ("",)


def test_two_results_of_one_version_have_two_names() -> None:
    one = make_result(make_run({"mrr@10": [1.0]}))
    assert len(set(releases([one, one]))) == 2


def test_every_data_set_has_a_view() -> None:
    found = views([make_result(make_run({"mrr@10": [1.0]}, data="b"), make_run({"mrr@10": [1.0]}, data="a"))])
    assert [view.data for view in found] == ["b", "a"]


@pytest.mark.parametrize(
    ("names", "correct", "headlines"),
    [
        (("groundedness", "containment"), "containment", ("containment", "groundedness")),
        (("exact_match", "token_f1"), "exact_match", ("exact_match",)),
        (("hallucination", "mrr@10"), "", ("mrr@10",)),
        (("context_tokens",), "", ()),
        (("of_another_version",), "", ()),
    ],
)
def test_the_plots_show_correctness_and_groundedness_else_what_there_is(
    names: tuple[str, ...], correct: str, headlines: tuple[str, ...]
) -> None:
    (view,) = views([make_result(make_run({name: [0.5, 1.0] for name in names}), correct=correct)])
    assert (view.correct, view.headlines) == (correct, headlines)


def test_a_metric_that_nobody_scored_makes_nothing_correct() -> None:
    view = one_view(make_run({"containment": [None], "exact_match": [1.0]}))
    assert (view.correct, view.headlines) == ("", ("exact_match",))


def test_joules_have_the_band_of_their_method() -> None:
    (view,) = views([result(run("eco", share=0.7, joules=2.0, method="measured"))])
    point = scatters(view)[0].points[0]
    assert (point.cost, point.cost_lo, point.cost_hi, point.method) == (2.0, 1.0, 6.0, "measured")


def test_where_one_run_has_no_joules_cpu_seconds_have_an_axis_of_their_own() -> None:
    (view,) = views([result(run("no-model", share=0.6, joules=0.5), run("eco", share=0.7, joules=None))])
    drawn = {scatter.kind: scatter for scatter in scatters(view) if scatter.metric == "containment"}
    assert [point.entry.pipeline for point in drawn["energy_j"].points] == ["no-model"]
    assert drawn["energy_j"].missing == ("eco: energy_j not measured",)
    assert [point.entry.pipeline for point in drawn["cpu_s"].points] == ["no-model", "eco"]


def test_with_joules_everywhere_there_is_no_axis_of_cpu_seconds() -> None:
    (view,) = views([result(run("eco", share=0.7, joules=0.6))])
    assert "cpu_s" not in {scatter.kind for scatter in scatters(view)}


def test_dominated_points_are_kept() -> None:
    (view,) = views([result(run("good", share=0.9, joules=0.5), run("bad", share=0.3, joules=5.0))])
    scatter = scatters(view)[0]
    assert (len(scatter.points), scatter.frontier) == (2, (0,))


@pytest.mark.parametrize(("value", "why"), [(0.0, "logarithmic"), (math.nan, "not measured"), (None, "not measured")])
def test_a_cost_that_cannot_be_drawn_is_named(value: float | None, why: str) -> None:
    whole = run("eco", share=0.7, joules=0.6)
    broken = msgspec.structs.replace(whole, pipeline="odd", cost=dict(whole.cost) | {"energy_j": Estimate(value)})
    (view,) = views([result(whole, broken)])
    assert len(scatters(view)[0].points) == 1
    (said,) = scatters(view)[0].missing
    assert said.startswith("odd: energy_j")
    assert why in said


def test_stages_and_the_rest_add_up_to_the_answer() -> None:
    (view,) = views([result(run("eco", share=0.7, joules=2.0))])
    (bars,) = stages(view)
    assert (bars.unit, bars.names) == ("J", ("embed", "search", "generate", "outside of stages"))
    assert bars.parts[0] == pytest.approx((0.6, 0.4, 0.8, 0.2))


def test_runs_without_joules_have_bars_in_cpu_seconds() -> None:
    (view,) = views([result(run("no-model", share=0.6, joules=0.5), run("eco", share=0.7, joules=None))])
    assert [(bars.unit, [entry.pipeline for entry in bars.entries]) for bars in stages(view)] == [
        ("J", ["no-model"]),
        ("CPU-s", ["eco"]),
    ]


def test_small_stages_are_one_bar_and_nothing_is_lost() -> None:
    whole = run("eco", share=0.7, joules=None, n=1)
    cost = whole.questions[0].cost
    assert cost is not None
    many = tuple(msgspec.structs.replace(cost.stages[0], name=f"stage {n}", cpu_s=0.01 * n) for n in range(9))
    question = msgspec.structs.replace(whole.questions[0], cost=msgspec.structs.replace(cost, cpu_s=1.0, stages=many))
    (view,) = views([result(msgspec.structs.replace(whole, questions=(question,)))])
    (bars,) = stages(view)
    assert bars.names == (*(f"stage {n}" for n in range(3, 9)), "other stages", "outside of stages")
    assert math.fsum(bars.parts[0]) == pytest.approx(1.0)


def test_a_run_without_any_measurement_has_no_bar() -> None:
    assert stages(one_view(make_run({"containment": [1.0]}))) == ()


def test_a_single_result_needs_no_caution() -> None:
    assert cautions([make_result(make_run({"mrr@10": [1.0]}))]) == ()


def test_the_same_twice_needs_no_caution() -> None:
    one = make_result(make_run({"mrr@10": [1.0]}))
    assert cautions([one, one]) == ()


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("scorer", "s2", "scorers"),
        ("judge", "another", "judges"),
        ("machine", "another", "machines"),
        ("seed", 1, "seeds"),
        ("data", (DataRecord("set", "c1", "unknown", 1, 100),), "Data set set differs"),
    ],
)
def test_what_keeps_results_from_being_compared_is_said(key: str, value: object, word: str) -> None:
    one = make_result(make_run({"mrr@10": [1.0]}))
    other = msgspec.structs.replace(one, **{key: value})
    (said,) = cautions([one, other])
    assert word in said
