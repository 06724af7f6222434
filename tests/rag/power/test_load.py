from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError
from rag.power.load import results_load


def joules(value: object = 2, lo: object = 1, hi: object = 4, **changed: object) -> dict[str, object]:
    figure = {"value": value, "lo": lo, "hi": hi, "unit": "J", "method": "modelled", "source": "table", "boundary": "server_wall"}
    return figure | changed


def result(energy: object, **parts: object) -> str:
    return json.dumps({"measurement": {"energy_j": energy, "energy_parts_j": parts or None}})


@given(st.lists(st.floats(0, 1e20), min_size=1, max_size=20))
def test_results_are_added_up(values: list[float]) -> None:
    load = results_load([result(joules(value, value / 2, value * 2)) for value in values], "-")
    assert load.joules.value == pytest.approx(sum(values))
    assert (load.joules.lo, load.joules.hi) == pytest.approx((sum(values) / 2, sum(values) * 2))
    assert (load.joules.unit, load.joules.source, load.notes) == ("J", f"sum of {len(values)} results", ())


def test_sum_is_as_weak_as_the_weakest_result() -> None:
    lines = [result(joules(method=method)) for method in ("apportioned", "assumed", "modelled")]
    assert results_load(lines, "-").joules.method == "assumed"
    assert results_load(lines[:1], "-").joules.method == "apportioned"


def test_different_boundaries_are_joined_and_told() -> None:
    names = ("cpu_package+dram", "cpu_package", "server_wall", "cpu_package")
    joined = results_load([result(joules(boundary=name)) for name in names], "-").joules
    assert joined.boundary == "cpu_package+dram+server_wall"
    assert joined.source == "sum of 4 results of different boundaries: cpu_package+dram, cpu_package, server_wall"


def test_joules_elsewhere_are_left_out_with_their_boundary_and_method() -> None:
    active = joules(2, 1, 15, method="apportioned", boundary="cpu_package")
    remote = joules(80, 30, 140, boundary="remote_server")
    whole = joules(80, 30, 160, boundary="cpu_package+remote_server")
    load = results_load([result(whole, active=active, idle=None, remote=remote)], "-")
    # The difference of the rounded figures would be 0.
    assert (load.joules.value, load.joules.lo, load.joules.hi) == (2, 1, 15)
    assert (load.joules.method, load.joules.boundary) == ("apportioned", "cpu_package")
    assert len(load.notes) == 1
    assert "80 J (30 to 140, modelled) of 1 results" in load.notes[0]


def test_errors_are_counted_and_blank_lines_are_nothing() -> None:
    lines = ["", '{"_id": 1, "error": {"code": "query", "message": "empty"}}', result(joules()), " \n"]
    load = results_load(lines, "-")
    assert (load.n_skipped, load.joules.source) == (1, "sum of 1 results")


@pytest.mark.parametrize("lines", [[], [" "], ['{"error": {}}']])
def test_nothing_but_errors_is_no_load(lines: list[str]) -> None:
    with pytest.raises(InputError, match="holds 0 results") as caught:
        results_load(lines, "-")
    assert caught.value.code == "bad_record"


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "1",
        "[]",
        "null",
        '{"hits": []}',
        '{"error": "words"}',
        '{"measurement": null}',
        '{"measurement": []}',
        "[" * 200_000,
        '{"measurement":' * 200_000,
        "1" * 5000,
        result(None),
        result(3),
        result(joules(float("nan"))),
        result(joules(hi=float("nan"))),
        result(joules(hi=float("inf"))),
        result(joules(10**400, hi=10**401)),
        result(joules(1e300, hi=1e301)),
        result(joules(-1, lo=-2)),
        result(joules(lo=3)),
        result(joules(hi=1)),
        result(joules(True)),
        result(joules("2")),
        result(joules(None)),
        result(joules(unit="kWh")),
        result(joules(unit=None)),
        result(joules(method="guessed")),
        result(joules(method=["modelled"])),
        result(joules(boundary="")),
        result(joules(boundary=3)),
        result({"value": 1}),
        result(joules(), remote=joules(float("nan")), active=joules()),
        result(joules(), remote=joules()),
        result(joules(), remote=joules(), active=joules(-1)),
        '{"measurement": {"energy_j": ' + json.dumps(joules()) + ', "energy_parts_j": [1]}}',
    ],
)
def test_line_that_is_no_result_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(InputError) as caught:
        results_load([result(joules()), line], "results.jsonl")
    assert caught.value.code == "bad_record"
    assert str(caught.value).startswith("results.jsonl:2 has no measurement with energy_j: ")
    assert len(str(caught.value)) < 500


def test_value_far_below_its_end_is_a_result() -> None:
    assert results_load([result(joules(1e-30, 0, 1e5))], "-").joules.hi == 1e5
