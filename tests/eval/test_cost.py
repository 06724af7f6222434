from __future__ import annotations

from dataclasses import replace

import pytest

from eval.cost import cost
from rag.cost import Measurement, TokenCounts
from rag.errors import InputError
from rag.meter import Meter
from rag.power import Power, Price
from rag.power.figure import Band
from rag.power.grid import intensity
from rag.settings import EnergySettings

PRICE = Price(Band(3.0, 2.0, 6.0), Band(0.5, 0.3, 1.0), "apportioned", "counters", "cpu_package+dram")


def answer(cpu_s: float, wall_s: float, price: Price | None = PRICE) -> Measurement:
    power = Power(price, intensity("FRA"), EnergySettings()) if price else None
    measured = Meter(power=power).finish(TokenCounts(context=100, completion=10))
    assert price is None or measured.energy is not None
    return replace(measured, cpu_s=cpu_s, wall_s=wall_s)


def test_means_are_over_answers() -> None:
    found = cost([answer(1.0, 2.0), answer(3.0, 4.0)])
    assert (found.n_answers, found.cpu_s_per_answer, found.tokens_per_answer) == (2, 2.0, 110)


def test_percentiles_are_of_wall_time() -> None:
    found = cost([answer(0.1, float(wall)) for wall in range(1, 21)])
    assert (found.wall_s_p50, found.wall_s_p95) == (10.5, 19.0)


def test_single_answer_is_its_own_percentile() -> None:
    found = cost([answer(0.1, 7.0)])
    assert (found.wall_s_p50, found.wall_s_p95) == (7.0, 7.0)


def test_energy_is_a_mean_with_its_band() -> None:
    answers = [answer(1.0, 1.0), answer(1.0, 1.0)]
    totals = [m.energy.total for m in answers if m.energy]
    found = cost(answers)
    assert found.energy_j_per_answer == pytest.approx(sum(t.value for t in totals) / 2)
    assert found.energy_j_per_answer_lo == pytest.approx(sum(t.lo for t in totals) / 2)
    assert found.energy_j_per_answer_hi == pytest.approx(sum(t.hi for t in totals) / 2)


def test_method_is_the_weakest_of_all_answers() -> None:
    found = cost([answer(1.0, 1.0), answer(1.0, 1.0, PRICE._replace(method="modelled", boundary="server_wall"))])
    assert (found.energy_method, found.energy_boundary) == ("modelled", "cpu_package+dram+server_wall")


def test_one_answer_without_energy_leaves_the_mean_unknown() -> None:
    found = cost([answer(1.0, 1.0), answer(1.0, 1.0, price=None)])
    assert (found.energy_j_per_answer, found.energy_method, found.carbon_g_per_answer) == (None, None, None)


def test_cost_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no measurements"):
        cost([])
