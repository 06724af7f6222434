from __future__ import annotations

import pytest

from eval.cost import cost_record, run_cost
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
