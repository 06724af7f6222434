"""Prices of whole pieces of work: which source is used, what a result says of it, and that nothing claims more than was read."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag.cost import Energy, Figure
from rag.meter import Meter
from rag.power import Power, Price, Told, Work, open_power
from rag.power.calibration import Calibration, Reading, fit, save
from rag.power.cpu import identify
from rag.power.figure import METHODS, Band
from rag.power.gpu import GpuCounters, open_gpus
from rag.power.grid import intensity, world
from rag.power.rapl import Rapl
from rag.power.window import BusyTimes, CounterWindows
from rag.settings import EnergySettings
from tests.powercap import Powercap

PRICE = Price(Band(3.0, 2.0, 6.0), Band(0.5, 0.3, 1.0), "modelled", "a table", "server_wall", year=2026)
PARTS = ("active", "idle", "dram", "gpu", "remote", "facility")


def power(price: Price = PRICE, windows: CounterWindows | None = None, **changed: object) -> Power:
    options = replace(EnergySettings(region="FRA"), **changed)  # type: ignore[arg-type]
    return Power(price, intensity("FRA"), options, windows=windows)


def work(cpu_s: float = 2.0, wall_s: float = 4.0, share_s: float | None = None, remote: tuple[Figure, ...] = ()) -> Work:
    return Work(cpu_s, wall_s, wall_s if share_s is None else share_s, 1_000_000_000, time.monotonic_ns(), remote=remote)


def figures(energy: Energy) -> list[Figure]:
    every = [getattr(energy, name) for name in ("total", *PARTS, "carbon", "embodied", "sci")]
    return [figure for figure in every if figure is not None]


def test_active_joules_are_cpu_seconds_by_price() -> None:
    active = power().energy(work(cpu_s=2.0)).active
    assert (active.value, active.lo, active.hi) == (6.0, 4.0, 12.0)
    assert (active.method, active.source, active.boundary, active.year) == ("modelled", "a table", "server_wall", 2026)


def test_idle_joules_are_reserved_thread_seconds_by_price() -> None:
    assert power(reserved_threads=4).energy(work(cpu_s=2.0, wall_s=4.0)).idle.value == 4 * 4.0 * 0.5


def test_alone_work_reserves_at_least_the_threads_that_it_used() -> None:
    assert power().energy(work(cpu_s=8.0, wall_s=4.0)).idle.value == 8.0 * 0.5


def test_work_beside_others_bears_its_share_of_the_idle_power() -> None:
    assert power(reserved_threads=4).energy(work(wall_s=4.0, share_s=1.0)).idle.value == 4 * 1.0 * 0.5


def test_total_is_the_sum_of_its_parts() -> None:
    package = PRICE._replace(boundary="cpu_package")
    remote = Figure(50.0, 20.0, 90.0, "J", "modelled", "formula", "remote_server")
    energy = power(package, pue=1.5).energy(work(remote=(remote,)))
    parts = [getattr(energy, name) for name in PARTS if getattr(energy, name) is not None]
    assert len(parts) == 5
    assert energy.total.value == pytest.approx(sum(part.value for part in parts))
    assert energy.total.boundary == "cpu_package+dram+remote_server"


def test_memory_is_a_line_of_its_own_only_where_the_price_does_not_hold_it() -> None:
    assert power().energy(work()).dram is None
    dram = power(PRICE._replace(boundary="cpu_package")).energy(work(wall_s=4.0)).dram
    assert dram is not None
    assert dram.lo == pytest.approx(0.4)
    assert dram.hi == pytest.approx(1.6)


def test_site_is_a_line_of_its_own() -> None:
    assert power().energy(work()).facility is None
    energy = power(pue=1.2).energy(work())
    assert energy.facility is not None
    assert energy.facility.value == pytest.approx(0.2 * (energy.active.value + energy.idle.value))
    assert "PUE 1.2" in energy.total.source


def test_remote_joules_bear_the_world_and_not_the_region_nor_the_site_here() -> None:
    remote = Figure(3.6e6, 3.6e6, 3.6e6, "J", "modelled", "formula", "remote_server")
    energy = power(pue=2.0).energy(work(cpu_s=0.0, wall_s=0.0, remote=(remote,)))
    assert energy.carbon.value == pytest.approx(world().g_per_kwh.value)
    assert "remote_region" in energy.assumed
    assert "remote_prompt" in energy.not_modelled


def test_remote_work_of_unknown_energy_is_named_and_not_zero() -> None:
    meter = Meter(power=power())
    meter.remote(None)
    energy = meter.finish().energy
    assert energy is not None
    assert energy.remote is None
    assert "remote_energy" in energy.not_modelled


def test_carbon_is_joules_by_intensity() -> None:
    energy = power().energy(work())
    grams = energy.total.value / 3.6e6 * intensity("FRA").g_per_kwh.value
    assert energy.carbon.value == pytest.approx(grams)
    assert energy.carbon.year == intensity("FRA").year


def test_sci_is_operation_plus_making_for_an_answer() -> None:
    energy = power(embodied_g_per_thread_s=1e-3).energy(work(wall_s=4.0))
    assert energy.embodied is not None
    assert energy.embodied.value == pytest.approx(4e-3)
    assert energy.sci.value == pytest.approx(energy.carbon.value + energy.embodied.value)
    assert energy.sci.unit == "g/answer"


def test_embodied_carbon_can_be_left_out() -> None:
    energy = power(embodied_g_per_thread_s=0.0).energy(work())
    assert energy.embodied is None
    assert energy.sci.value == energy.carbon.value


def test_without_counters_everything_is_modelled(tmp_path: Path) -> None:
    opened = open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path)
    assert {figure.method for figure in figures(opened.energy(work()))} == {"modelled"}


def test_region_that_nobody_told_is_the_flagged_world_average(tmp_path: Path) -> None:
    energy = open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path).energy(work())
    assert "region" in energy.assumed
    assert "no region set" in energy.carbon.source


def test_unknown_region_is_noted_and_the_world_average_used(tmp_path: Path) -> None:
    energy = open_power(EnergySettings(region="Atlantis", powercap_root=tmp_path / "none"), tmp_path).energy(work())
    assert "region" in energy.assumed
    assert any("Atlantis" in note for note in energy.notes)


def calibration(**changed: object) -> Calibration:
    readings = [Reading(0.0, 20.0), Reading(1.0, 30.0), Reading(2.0, 40.0)]
    fitted = fit(readings, identify().name, os.cpu_count() or 1, "2026-11-21")
    return replace(fitted, **changed)  # type: ignore[arg-type]


def test_calibration_comes_before_the_table(tmp_path: Path) -> None:
    save(tmp_path / "calibration.json", calibration())
    energy = open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path).energy(work(cpu_s=2.0))
    assert energy.active.value == pytest.approx(20.0)
    assert energy.active.source.startswith("calibration of 2026-11-21")
    assert not any(note.startswith("calibration") for note in energy.notes)


@pytest.mark.parametrize("damage", ["not json", "[]", json.dumps({"format": 99})])
def test_bad_calibration_is_noted_and_the_next_source_used(tmp_path: Path, damage: str) -> None:
    (tmp_path / "calibration.json").write_text(damage)
    energy = open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path).energy(work())
    assert not energy.active.source.startswith("calibration")
    assert any("calibration.json" in note for note in energy.notes)


def test_calibration_of_another_machine_is_noted_and_not_used(tmp_path: Path) -> None:
    save(tmp_path / "calibration.json", calibration(cpu="Another CPU"))
    energy = open_power(EnergySettings(powercap_root=tmp_path / "none"), tmp_path).energy(work())
    assert not energy.active.source.startswith("calibration")
    assert any("Another CPU" in note for note in energy.notes)


def test_named_calibration_that_is_missing_is_noted(tmp_path: Path) -> None:
    options = EnergySettings(powercap_root=tmp_path / "none", calibration=str(tmp_path / "gone.json"))
    assert any("gone.json" in note for note in open_power(options, tmp_path).energy(work()).notes)


class Machine:
    """A fake tree, its clock and its processors."""

    def __init__(self, folder: Path) -> None:
        self.tree = Powercap(folder / "powercap")
        self.tree.add("intel-rapl:0", "package-0")
        self.now_ns = 10**12
        self.busy_s = 100.0
        self.rapl = Rapl(self.tree.root, now_ns=lambda: self.now_ns)
        busy = lambda: BusyTimes(self.busy_s, 2)  # noqa: E731
        self.windows = CounterWindows(self.rapl, Band(0.2, 0.1, 0.4), busy, lambda: self.now_ns, every_s=None)

    def run(self, seconds: float, watts: float, busy_threads: float = 1.0) -> None:
        self.now_ns += round(seconds * 1e9)
        self.busy_s += seconds * busy_threads
        self.tree.advance(seconds * watts)


def test_counters_come_before_the_table(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(1.0, watts=20.0)
    energy = power(windows=machine.windows).energy(Work(1.0, 1.0, 1.0, 0, machine.now_ns - 10**9))
    assert (energy.active.method, energy.active.source) == ("apportioned", "RAPL package-0")
    assert energy.active.window_s == pytest.approx(1.0)
    # One thread of two was busy and reserved for the whole window: with its idle share it bears 8/12 + 1/6 of the package.
    assert energy.active.value + energy.idle.value == pytest.approx(20.0 * (0.8 / 1.2 + 0.2 / 1.2))


def test_counters_that_stand_still_are_noted_and_the_next_source_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.run(1.0, watts=0.0)
    energy = power(windows=machine.windows).energy(Work(1.0, 1.0, 1.0, 0, machine.now_ns - 10**9))
    assert energy.active.method == "modelled"
    assert any("energy counters not used" in note for note in energy.notes)


class Nvml:
    """One device whose counter moves by a joule at every reading."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.millijoules = 0

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing to start."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Nothing to stop."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        return f"GPU {handle}"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        self.millijoules += 1000
        return self.millijoules


def gpu_power(seconds: float) -> tuple[Power, Work]:
    """Power with one GPU, and work that takes so long on its clock."""
    now = [10**12]
    gpus: GpuCounters = open_gpus(Nvml(), lambda: now[0])
    opened = Power(PRICE, intensity("FRA"), EnergySettings(), gpus=gpus)
    began = opened.gpu_reading()
    now[0] += round(seconds * 1e9)
    return opened, Work(1.0, seconds, seconds, 0, 0, gpu=began)


def test_gpu_joules_are_a_part_of_their_own() -> None:
    opened, done = gpu_power(2.0)
    energy = opened.energy(done)
    assert energy.gpu is not None
    assert energy.gpu.value == pytest.approx(1.0)
    assert energy.gpu.method == "apportioned"
    assert energy.total.method == "modelled"


def test_gpu_whose_window_is_too_short_is_named_and_not_zero() -> None:
    opened, done = gpu_power(0.001)
    energy = opened.energy(done)
    assert energy.gpu is None
    assert "gpu" in energy.not_modelled


steps = st.tuples(
    st.floats(0.0, 90.0),  # seconds
    st.sampled_from([0.0, 5.0, 300.0]),  # watts
    st.sampled_from(["", "vanish", "restore", "sample", "sample", "ask", "ask"]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(steps, max_size=25), has_tree=st.booleans(), pue=st.sampled_from([1.0, 1.4]))
def test_nothing_says_measured_and_apportioned_only_with_a_counter_read_in_its_window(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[float, float, str]], has_tree: bool, pue: float
) -> None:
    machine = Machine(tmp_path_factory.mktemp("machine"))
    opened = power(windows=machine.windows if has_tree else None, pue=pue)
    reads: list[int] = [machine.now_ns]
    is_there = True
    for seconds, watts, event in events:
        machine.run(seconds, watts)
        if event == "vanish":
            machine.tree.remove("intel-rapl:0")
            is_there = False
        elif event == "restore":
            machine.tree.restore("intel-rapl:0")
            is_there = True
        elif event == "sample":
            machine.windows.sample()
            reads += [machine.now_ns] * is_there
        elif event == "ask":
            began = machine.now_ns - round(seconds * 1e9)
            energy = opened.energy(Work(seconds, seconds, seconds, 0, began))
            reads += [machine.now_ns] * is_there
            for figure in figures(energy):
                assert figure.method != "measured"
                assert 0 <= figure.lo <= figure.value <= figure.hi
            if energy.active.method == "apportioned":
                assert has_tree
                assert energy.active.window_s is not None
                assert energy.active.window_s >= 0.1
                ends = [end for end in reads if end > began - 10**8]
                assert any(
                    abs((end - start) / 1e9 - energy.active.window_s) < 1e-6 for end in ends for start in reads if start < end
                )
            else:
                assert energy.active.method == "modelled"
                assert energy.active.window_s is None
            parts = [getattr(energy, name) for name in PARTS if getattr(energy, name) is not None]
            assert METHODS.index(energy.total.method) == max(
                METHODS.index(part.method) for part in parts if part.hi > 0 or part is parts[0]
            )


def test_gpu_that_is_wanted_and_not_there_is_named(tmp_path: Path) -> None:
    energy = open_power(EnergySettings(powercap_root=tmp_path / "none", gpu="on"), tmp_path).energy(work())
    assert "gpu" in energy.not_modelled
    assert any("GPU" in note for note in energy.notes)


@pytest.mark.parametrize("root", ["none", "a" * 5000])
def test_named_root_of_counters_that_is_none_is_noted_and_stops_nothing(tmp_path: Path, root: str) -> None:
    energy = open_power(EnergySettings(powercap_root=tmp_path / root), tmp_path).energy(work())
    assert any("energy.powercap_root" in note for note in energy.notes)
    assert energy.active.method == "modelled"


def test_told_is_in_every_result() -> None:
    opened = Power(PRICE, world(), EnergySettings(), told=Told(("region",), ("a note",)))
    energy = opened.energy(work())
    assert (energy.assumed, energy.notes) == (("region",), ("a note",))
    assert {"water", "network"} <= set(energy.not_modelled)
