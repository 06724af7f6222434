from __future__ import annotations

import threading
import time

import pytest

from rag.meter import NOT_MODELLED, Meter
from rag.types import StageCost, TokenCounts


def burn(cpu_s: float = 0.02) -> None:
    """Compute until the calling thread has used so much CPU."""
    began = time.thread_time()
    while time.thread_time() - began < cpu_s:
        sum(range(1000))


def stages(meter: Meter) -> dict[str, StageCost]:
    return {stage.name: stage for stage in meter.finish().stages}


def test_stages_are_told_in_the_order_in_which_they_began() -> None:
    meter = Meter()
    with meter.stage("outer"), meter.stage("inner"):
        pass
    with meter.stage("last"):
        pass
    assert [stage.name for stage in meter.finish().stages] == ["outer", "inner", "last"]


def test_stage_is_charged_what_its_body_took() -> None:
    meter = Meter()
    with meter.stage("work"):
        burn()
    with meter.stage("idle"):
        pass
    assert stages(meter)["work"].cpu_s >= 0.02 > stages(meter)["idle"].cpu_s


def test_stage_that_raises_is_charged_and_the_error_goes_on() -> None:
    meter = Meter()

    @meter.stage("work")
    def fail() -> None:
        burn()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert stages(meter)["work"].cpu_s >= 0.02


def test_stage_entered_again_adds_up() -> None:
    meter = Meter()
    for _ in range(3):
        with meter.stage("work"):
            burn()
    assert [stage.name for stage in meter.finish().stages] == ["work"]
    assert stages(meter)["work"].cpu_s >= 0.06


def test_total_is_at_least_the_sum_of_stages() -> None:
    meter = Meter()
    for name in ("one", "two"):
        with meter.stage(name):
            burn()
    measured = meter.finish()
    assert measured.cpu_s >= sum(stage.cpu_s for stage in measured.stages)
    assert measured.wall_s >= sum(stage.wall_s for stage in measured.stages)


def test_process_clock_charges_other_threads() -> None:
    meter = Meter("process")
    with meter.stage("work"):
        worker = threading.Thread(target=burn, args=(0.05,))
        worker.start()
        worker.join()
    assert stages(meter)["work"].cpu_s >= 0.05


def test_thread_clock_charges_only_its_own_thread() -> None:
    meter = Meter("thread")
    with meter.stage("work"):
        worker = threading.Thread(target=burn, args=(0.2,))
        worker.start()
        worker.join()
    assert stages(meter)["work"].cpu_s < 0.2


def test_what_passed_before_the_meter_is_stage_start() -> None:
    burn()
    measured = Meter(from_process_start=True).finish()
    assert [stage.name for stage in measured.stages] == ["start"]
    assert measured.cpu_s >= measured.stages[0].cpu_s >= 0.02


def test_new_meter_counts_from_its_own_beginning() -> None:
    burn(0.2)
    assert Meter().finish().cpu_s < 0.2


def test_measurement_names_what_it_does_not_know() -> None:
    measured = Meter().finish()
    assert (measured.energy_j, measured.carbon_g, measured.not_modelled) == (None, None, NOT_MODELLED)
    assert measured.peak_rss_bytes > 1_000_000
    assert measured.cache == "off"


def test_measurement_reports_the_token_counts_given() -> None:
    assert Meter().finish().tokens == TokenCounts()
    assert Meter().finish(TokenCounts(context=5, saved=7)).tokens == TokenCounts(context=5, saved=7)


def test_finishing_twice_counts_on() -> None:
    meter = Meter()
    first = meter.finish()
    burn()
    assert meter.finish().cpu_s > first.cpu_s
