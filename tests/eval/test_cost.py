from __future__ import annotations

from pathlib import Path

import pytest

from eval.cost import PeakMark, cost_record, run_cost
from eval.record import CostRecord, QuestionRecord, StageRecord
from rag.cost import Measurement, StageCost, TokenCounts
from rag.wire import measurement_json


def asked(name: str, cost: CostRecord | None, correct: float | None = None) -> QuestionRecord:
    return QuestionRecord(name, name, "s", {} if correct is None else {"containment": correct}, cost=cost)


def cost(cpu_s: float, joules: float | None = None, method: str = "modelled", boundary: str = "cpu") -> CostRecord:
    if joules is None:
        return CostRecord(cpu_s, 2 * cpu_s, 100)
    return CostRecord(cpu_s, 2 * cpu_s, 100, joules, joules / 2, joules * 2, joules / 1e4, method, boundary)


def test_means_are_over_answers_and_per_correct_counts_the_wrong_ones_too() -> None:
    found = run_cost([asked("a", cost(1.0, 4.0), 1.0), asked("b", cost(3.0, 8.0), 0.0)], "containment", 0)
    assert found.estimates["cpu_s"].value == 2.0
    assert found.estimates["energy_j"].value == 6.0
    assert found.estimates["energy_lo_j"].value == 3.0
    assert found.estimates["cpu_s_per_correct"].value == 4.0
    assert found.estimates["energy_j_per_correct"].value == 12.0


def test_without_a_correct_answer_its_cost_is_not_known() -> None:
    found = run_cost([asked("a", cost(1.0), 0.5)], "containment", 0)
    assert found.estimates["cpu_s_per_correct"].value is None


def test_percentile_is_the_next_higher_answer() -> None:
    found = run_cost([asked(str(n), cost(n / 2)) for n in range(1, 21)], "", 0)
    assert (found.estimates["wall_s_p50"].value, found.estimates["wall_s_p95"].value) == (10.5, 19.0)


def test_joules_of_some_answers_are_no_mean_of_all() -> None:
    found = run_cost([asked("a", cost(1.0, 4.0)), asked("b", cost(1.0))], "", 0)
    assert (found.estimates["energy_j"].value, found.estimates["energy_j"].n, found.estimates["energy_j"].n_unscored) == (
        None,
        1,
        1,
    )
    assert (found.method, found.boundary) == ("", "")


def test_method_is_the_weakest_and_boundaries_are_joined() -> None:
    found = run_cost([asked("a", cost(1.0, 1.0, "measured", "x")), asked("b", cost(1.0, 1.0, "assumed", "y"))], "", 0)
    assert (found.method, found.boundary) == ("assumed", "x + y")


def test_failed_questions_are_counted_and_not_free() -> None:
    found = run_cost([asked("a", cost(2.0)), asked("b", None)], "", 0)
    assert (found.estimates["cpu_s"].value, found.estimates["cpu_s"].n, found.estimates["cpu_s"].n_unscored) == (2.0, 1, 1)


@pytest.mark.parametrize("questions", [[], [asked("a", None)]])
def test_a_run_without_answers_cost_nothing_that_is_known(questions: list[QuestionRecord]) -> None:
    found = run_cost(questions, "containment", 0)
    assert {estimate.value for estimate in found.estimates.values()} == {None}
    assert found.method == ""


def test_interval_is_that_of_groups() -> None:
    found = run_cost([asked(str(n), cost(float(n))) for n in range(1, 9)], "", 0).estimates["cpu_s"]
    assert found.lo is not None
    assert found.hi is not None
    assert 1.0 < found.lo < 4.5 < found.hi < 8.0


def test_record_keeps_what_the_measurement_said() -> None:
    measurement = Measurement(0.2, 0.1, None, TokenCounts(), (StageCost("embed", 0.2, 0.1),), "off", 5)
    assert cost_record(measurement_json(measurement)) == CostRecord(0.1, 0.2, 5, stages=(StageRecord("embed", 0.1),))


def failed(name: str, cost: CostRecord | None) -> QuestionRecord:
    return QuestionRecord(name, name, "s", {}, cost=cost, error="model: it failed")


def test_correct_answers_pay_for_the_questions_that_failed_and_means_do_not() -> None:
    found = run_cost([asked("a", cost(1.0, 4.0), 1.0), failed("b", cost(5.0, 6.0))], "containment", 0)
    assert (found.estimates["cpu_s"].value, found.estimates["cpu_s"].n_unscored) == (1.0, 1)
    assert found.estimates["cpu_s_per_correct"].value == 6.0
    assert found.estimates["energy_j_per_correct"].value == 10.0
    assert found.notes == ()


def test_price_of_a_correct_answer_is_not_known_where_a_failure_did_not_tell_its_cost() -> None:
    found = run_cost([asked("a", cost(1.0), 1.0), failed("b", None), failed("c", cost(1.0))], "containment", 0)
    assert found.estimates["cpu_s"].value == 1.0
    assert found.estimates["cpu_s_per_correct"].value is None
    assert found.notes == ("cost per correct answer is not known: 1 failed questions did not tell what they spent",)


def test_joules_of_a_failure_that_are_not_known_leave_the_cpu_seconds_known() -> None:
    found = run_cost([asked("a", cost(1.0, 4.0), 1.0), failed("b", cost(1.0))], "containment", 0)
    assert found.estimates["cpu_s_per_correct"].value == 2.0
    assert found.estimates["energy_j_per_correct"].value is None


def test_peak_of_the_run_goes_before_those_of_the_answers() -> None:
    assert run_cost([asked("a", cost(1.0))], "", 0).estimates["peak_rss_bytes"].value == 100
    assert run_cost([asked("a", cost(1.0))], "", 0, 70).estimates["peak_rss_bytes"].value == 70


def test_peak_forgets_what_was_before_and_keeps_what_came_after() -> None:
    n_big = 200 << 20
    block = bytearray(n_big)
    block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
    del block
    mark = PeakMark()
    before = mark.n_bytes()
    if before is None:
        pytest.skip("this system cannot reset the mark")
    grown = bytearray(b"y") * n_big
    del grown
    after = mark.n_bytes()
    assert after is not None
    assert after - before > n_big * 0.8
    forgotten = PeakMark().n_bytes()
    assert forgotten is not None
    assert after - forgotten > n_big * 0.8


def test_peak_that_cannot_be_reset_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "clear_refs").mkdir()
    (tmp_path / "status").write_text("VmHWM: 5 kB\n")
    assert PeakMark(tmp_path).n_bytes() is None


def test_peak_that_is_reset_is_read_in_bytes(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmPeak:\t9 kB\nVmHWM:\t5 kB\n")
    mark = PeakMark(tmp_path)
    assert (mark.n_bytes(), (tmp_path / "clear_refs").read_text()) == (5 * 1024, "5")
