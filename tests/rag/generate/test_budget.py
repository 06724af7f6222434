from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generate.budget import CostModel

WEIGHTS = 98_400_000


def test_nothing_is_known_of_a_model_without_a_size() -> None:
    assert CostModel().max_written(100, 10.0) is None


def test_larger_weights_cost_more_from_the_start() -> None:
    small, large = CostModel(WEIGHTS).max_written(100, 10.0), CostModel(10 * WEIGHTS).max_written(100, 10.0)
    assert small is not None
    assert large is not None
    assert small > 5 * large


@given(speed=st.floats(0.05, 20.0))
def test_what_calls_took_is_learnt(speed: float) -> None:
    costs = CostModel(WEIGHTS)
    for _ in range(12):
        costs.observe(100, 20, speed * (100 / 236 + 20 / 90))
    written = costs.max_written(0, 1000.0)
    assert written is not None
    assert written == pytest.approx(1000.0 * 90 / speed, rel=0.02)


def test_first_call_of_a_model_without_a_size_is_believed() -> None:
    costs = CostModel()
    costs.observe(236, 90, 4.0)  # twice what the reference takes
    assert costs.max_written(0, 2.0) == 90


@given(n_prompt=st.integers(0, 5000), cpu_s=st.floats(0, 100))
def test_answer_that_is_allowed_costs_no_more_than_there_is(n_prompt: int, cpu_s: float) -> None:
    written = CostModel(WEIGHTS).max_written(n_prompt, cpu_s)
    assert written is not None
    assert written == 0 or n_prompt / 236 + written / 90 <= cpu_s + 1e-9


@pytest.mark.parametrize(("n_read", "n_written", "cpu_s"), [(0, 0, 1.0), (10, 5, 0.0)])
def test_call_that_tells_nothing_changes_nothing(n_read: int, n_written: int, cpu_s: float) -> None:
    costs = CostModel(WEIGHTS)
    before = costs.max_written(10, 5.0)
    costs.observe(n_read, n_written, cpu_s)
    assert costs.max_written(10, 5.0) == before
