from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.attribution import Kind, Turn, charged
from bench.conservation import Conservation, Load, Window, covered, serve, thread_times
from bench.energy import Measured, bars_of, main, parts_of
from bench.metering import Import, foreign
from rag.cost import Energy, Figure
from tests.corpus import QUESTIONS, ingest_into, open_library, write_documents

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="clocks of single threads are read on Linux only")

# A second of CPU of which requests used 0.6, the loop 0.1 for them, and others the rest.
FAIR = Window(
    attributed_s=0.6,
    framework_s=0.1,
    process_s=1.0,
    threads_s=1.0,
    told_s=0.7,
    bracketed_s=0.6,
    between_s=0.1,
    loop_idle_s=0.05,
    others_s=0.15,
    naive_s=2.4,
)


def test_window_in_which_everything_is_charged_once_has_no_error() -> None:
    assert FAIR.error == pytest.approx(0)
    assert FAIR.told_error == pytest.approx(0)


def test_what_is_charged_twice_is_a_positive_error() -> None:
    assert replace(FAIR, attributed_s=0.7).error == pytest.approx(0.1)
    assert replace(FAIR, framework_s=0.2).error == pytest.approx(0.1)


def test_what_is_lost_is_a_negative_error() -> None:
    assert replace(FAIR, attributed_s=0.5).error == pytest.approx(-0.1)
    assert replace(FAIR, told_s=0.5).told_error == pytest.approx(-0.2)


def test_clock_of_the_process_around_requests_would_be_seen_as_an_error() -> None:
    assert replace(FAIR, attributed_s=FAIR.naive_s).error == pytest.approx(1.8)


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 20)).map(lambda pair: (pair[0], pair[0] + pair[1]))))
def test_covered_length_counts_every_unit_once(intervals: list[tuple[int, int]]) -> None:
    assert covered(intervals) == len({unit for begin, end in intervals for unit in range(begin, end)})


@linux_only
def test_served_requests_are_charged_within_the_clocks_around_them(tmp_path: Path) -> None:
    ingest_into(tmp_path / "data", write_documents(tmp_path / "documents"))
    with open_library(tmp_path / "data") as engine:
        window = serve(Load(engine, n_concurrent=3), QUESTIONS, None)
    # The readings lie inside one another, so this holds on any machine; the sums of floats need a nanosecond.
    assert 0 < window.attributed_s <= window.bracketed_s + 1e-9
    assert 0 < window.told_s <= window.attributed_s + window.framework_s + 1e-9
    assert window.bracketed_s <= window.naive_s + 1e-9
    assert window.framework_s >= 0
    assert window.between_s > 0


@linux_only
def test_threads_of_this_process_are_seen_with_their_time() -> None:
    assert all(ns >= 0 for ns in thread_times().values())
    assert sum(thread_times().values()) > 0


def test_charged_compares_each_round_with_its_own_truth() -> None:
    turns = [Turn(10, 11, 11, 40), Turn(20, 20, 22, 80), Turn(10, 12, 12, 40)]
    found = charged(Kind("text", 7, 3), turns)
    assert (found.n_tokens, found.alone_ms, found.beside_ms, found.together_ms, found.naive_ms) == (7, 10, 12, 12, 40)
    assert found.error == pytest.approx(0.1)
    assert found.error_beside == pytest.approx(0)


def test_modules_of_others_are_told_from_ours_and_those_of_python() -> None:
    assert foreign(["json.decoder", "rag.meter", "numpy", "numpy.linalg", "_heapq"]) == ("numpy", "numpy.linalg")


def test_parts_of_an_energy_are_those_that_there_are() -> None:
    figure = Figure(1.0, 0.5, 2.0, "J", "modelled", "table", "server_wall")
    energy = Energy(
        total=figure,
        active=figure,
        idle=figure,
        dram=None,
        gpu=None,
        remote=None,
        facility=None,
        carbon=figure,
        embodied=None,
        sci=figure,
        assumed=(),
        not_modelled=(),
        notes=(),
    )
    assert [part.name for part in parts_of(energy)] == ["total", "active", "idle", "carbon", "sci"]
    assert {(part.value, part.lo, part.hi, part.method) for part in parts_of(energy)} == {(1.0, 0.5, 2.0, "modelled")}


def conservation(worst_error: float, others_share: float) -> Conservation:
    return Conservation(
        n_concurrent=4,
        threads=1,
        n_requests=100,
        n_rounds=3,
        error=0.0,
        worst_error=worst_error,
        told_error=0.0,
        threads_error=0.0,
        attributed_share=0.9,
        framework_share=0.05,
        nobody_share=0.05,
        others_share=others_share,
        naive_factor=3.5,
        process_ms=5.0,
    )


@pytest.mark.parametrize("error", [0.021, -0.021])
def test_bar_of_conservation_is_missed_by_errors_of_either_sign(error: float) -> None:
    bars = bars_of(Measured(conservation=[conservation(0.019, 0.0), conservation(error, 0.03)]))
    assert [bar.met for bar in bars] == [True, False, False]
    assert [bar.figure for bar in bars] == [0.019, 0.021, 0.03]


def test_bar_of_the_import_is_missed_by_a_module_of_others() -> None:
    fast = Import(n_rounds=1, all_ms=50.0, added_ms=4.0, every_ms=20.0, open_ms=5.0, modules=())
    assert [bar.met for bar in bars_of(Measured(imports=fast))] == [True, True]
    assert [bar.met for bar in bars_of(Measured(imports=replace(fast, added_ms=5.1, modules=("numpy",))))] == [False, False]


@pytest.mark.slow
@linux_only
def test_quick_run_writes_every_part_with_its_bars(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents")
    main(["--quick", "--docs", str(documents), "--out", str(tmp_path / "out")])
    [path] = (tmp_path / "out").glob("energy-*-quick.json")
    result = json.loads(path.read_text(encoding="utf-8"))
    measured = result["measured"]
    assert [(one["n_concurrent"], one["threads"]) for one in measured["conservation"]] == [(1, 1), (4, 1), (16, 1), (4, 2)]
    assert [pair["threads"] for pair in measured["attribution"]] == [1, 2]
    assert measured["overhead"]["n_stages"] == 5
    assert measured["imports"]["modules"] == []
    assert measured["sample"]["n_outside"] == 0
    assert measured["sample"]["parts"][0]["unit"] == "J"
    assert len(result["bars"]) == 13
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
