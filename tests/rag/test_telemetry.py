from __future__ import annotations

import re
from collections import defaultdict

import pytest

from rag.cost import Figure, Measurement, TokenCounts
from rag.ledger import Account
from rag.meter import Meter
from rag.power import Power, Price
from rag.power.figure import Band
from rag.power.grid import intensity
from rag.settings import EnergySettings
from rag.telemetry import Sample, request_samples, span_attributes, unattributed_joules

PRICE = Price(Band(3.0, 2.0, 6.0), Band(0.5, 0.3, 1.0), "modelled", "a table", "cpu_package")


def measured(*, priced: bool = True) -> Measurement:
    power = Power(PRICE, intensity("FRA"), EnergySettings(pue=1.2)) if priced else None
    meter = Meter(power=power)
    for name in ("embed", "bm25"):
        with meter.stage(name):
            sum(range(200_000))
    sum(range(200_000))  # in no stage
    if priced:
        meter.remote(Figure(5.0, 1.0, 9.0, "J", "modelled", "formula", "remote_server"))
    return meter.finish(TokenCounts(prompt=120, completion=7))


def sums(samples: tuple[Sample, ...]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for sample in samples:
        found[sample.name] += sample.value
    return found


def test_cpu_seconds_of_the_stages_add_up_to_those_of_the_request() -> None:
    request = measured()
    assert sums(request_samples(request))["rag_cpu_seconds_total"] == pytest.approx(request.cpu_s)


def test_joules_of_stages_and_components_add_up_to_the_total() -> None:
    request = measured()
    assert request.energy is not None
    found = sums(request_samples(request))
    assert found["rag_energy_joules_total"] == pytest.approx(request.energy.total.value)
    assert found["rag_request_energy_joules"] == pytest.approx(request.energy.total.value)
    assert found["rag_carbon_grams_total"] == pytest.approx(request.energy.carbon.value)


def test_every_part_is_a_component_with_its_method() -> None:
    joules = [dict(s.labels) for s in request_samples(measured()) if s.name == "rag_energy_joules_total"]
    assert {labels["component"] for labels in joules} == {"active", "idle", "dram", "remote", "facility"}
    assert {labels["stage"] for labels in joules} == {"embed", "bm25", "none"}
    assert {labels["method"] for labels in joules} == {"modelled"}


def test_request_without_a_power_model_has_no_joules_rather_than_zero() -> None:
    assert set(sums(request_samples(measured(priced=False)))) == {"rag_cpu_seconds_total"}
    assert not [name for name in span_attributes(measured(priced=False)) if "energy" in name or "carbon" in name]


def test_names_of_metrics_end_in_their_unit_and_do_not_collide() -> None:
    names = {(sample.name, sample.kind) for sample in request_samples(measured())}
    for name, kind in names:
        assert re.fullmatch(r"rag_[a-z_]+", name)
        assert name.endswith("_total") is (kind == "counter")
        assert re.search(r"(seconds|joules|grams)(_total)?$", name)
    bases = [name.removesuffix("_total") for name, _ in names]
    assert len(bases) == len(set(bases))


def test_labels_of_a_metric_have_one_order() -> None:
    orders = defaultdict(set)
    for sample in request_samples(measured()):
        orders[sample.name].add(tuple(name for name, _ in sample.labels))
    assert all(len(order) == 1 for order in orders.values())


def test_span_tells_tokens_by_the_names_of_the_conventions_and_energy_by_ours() -> None:
    request = measured()
    assert request.energy is not None
    attributes = span_attributes(request)
    assert attributes["gen_ai.usage.input_tokens"] == 120
    assert attributes["gen_ai.usage.output_tokens"] == 7
    assert attributes["ragwatt.request.energy"] == request.energy.total.value
    assert attributes["ragwatt.request.energy.method"] == "modelled"
    assert attributes["ragwatt.request.carbon"] == request.energy.carbon.value


def test_unattributed_joules_are_those_of_idle_time_and_of_threads_without_a_request() -> None:
    before = Account(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    account = Account(
        wall_s=10.0, process_s=5.0, attributed_s=2.0, framework_s=1.0, in_flight_s=0.0, unattributed_s=2.0, idle_s=4.0, n_requests=3
    )
    assert unattributed_joules(before, account, PRICE, 2) == 3.0 * 2.0 + 0.5 * 2 * 4.0
    assert unattributed_joules(before, account, PRICE, 2, pue=2.0) == 2 * (3.0 * 2.0 + 0.5 * 2 * 4.0)


def test_unattributed_joules_never_fall() -> None:
    before = Account(1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0)
    after = before._replace(attributed_s=1.0, unattributed_s=0.0)
    assert unattributed_joules(before, after, PRICE, 2) == 0.0
