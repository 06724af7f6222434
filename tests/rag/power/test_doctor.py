from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag.errors import MissingExtraError, PowerError
from rag.power.calibration import Reading, fit, save
from rag.power.doctor import CALIBRATION, FAMILY, POWERCAP, Finding, Places, chain, examine
from rag.power.gpu import GpuCounters
from rag.power.rapl import Rapl
from rag.power.rapl import Reading as RaplReading

NAMES = [
    "powercap counters",
    "perf power events",
    "MSR device",
    "hwmon power sensors",
    "GPU (NVML)",
    "calibration file",
    "CPU family row",
    "machine",
    "CPU quota",
    "thread CPU clocks",
    "grid region",
    "PUE",
]
MODPROBE = "sudo modprobe intel_rapl_msr"


def no_gpu() -> GpuCounters:
    raise PowerError("no NVIDIA driver on this machine", code="gpu_absent")


def bare(root: Path) -> Places:
    """A machine on which nothing is found, not even a processor."""
    return Places(
        powercap=root / "powercap",
        perf=root / "perf",
        msr=root / "msr",
        hwmon=root / "hwmon",
        cpuinfo=root / "cpuinfo",
        stat=root / "stat",
        cgroup=root / "cgroup",
        own_cgroup=root / "own_cgroup",
        calibration=root / "calibration.json",
        open_gpus=no_gpu,
    )


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def with_cpu(places: Places, *, model: int = 2, flags: str = "fpu", vendor: str = "AuthenticAMD") -> Places:
    """EPYC 9xx5, unless told otherwise."""
    lines = (
        "processor : 0",
        f"vendor_id : {vendor}",
        "cpu family : 26",
        f"model : {model}",
        "model name : Some EPYC",
        "siblings : 2",
        "cpu cores : 1",
    )
    written(places.cpuinfo, "\n".join((*lines, f"flags : {flags}", "")))
    written(places.stat, "cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 50 0 50 350 0 0 0 50 0 0\ncpu1 50 0 50 350 0 0 0 50 0 0\n")
    return places


class Meter:
    """A powercap tree of one package that draws so many watts while somebody waits."""

    def __init__(self, root: Path, watts: float = 20.0, *, exported: bool = False) -> None:
        self.watts = watts
        self.waited_s: list[float] = []
        self.now_ns = 1_000_000_000
        written(root / "intel-rapl:0" / "name", "package-0\n")
        self.counter = written(root / "intel-rapl:0" / "energy_uj", "5000000\n")
        if not exported:
            written(root / "intel-rapl:0" / "max_energy_range_uj", "262143328850\n")

    def open(self, root: Path) -> Rapl:
        return Rapl(root, now_ns=lambda: self.now_ns)

    def wait(self, seconds: float) -> None:
        self.waited_s.append(seconds)
        self.now_ns += int(seconds * 1e9)
        self.counter.write_text(f"{int(self.counter.read_text()) + int(self.watts * seconds * 1e6)}\n")


def with_counters(places: Places, watts: float = 20.0, *, exported: bool = False) -> Places:
    meter = Meter(places.powercap, watts, exported=exported)
    return replace(places, open_rapl=meter.open, wait=meter.wait)


def with_calibration(places: Places, cpu: str = "Some EPYC") -> Places:
    n_threads = os.cpu_count() or 1
    save(places.calibration, fit([Reading(0, 50), Reading(n_threads, 50 + 4 * n_threads)], cpu, n_threads, "2025-01-31"))
    return places


def found(places: Places, name: str) -> Finding:
    return {finding.name: finding for finding in examine(places)}[name]


def test_empty_machine_has_every_finding_and_no_source(tmp_path: Path) -> None:
    findings = examine(bare(tmp_path))
    assert [finding.name for finding in findings] == NAMES
    assert {finding.name: finding.status for finding in findings} == {
        **dict.fromkeys(NAMES, "absent"),
        "calibration file": "unset",
        "thread CPU clocks": "used",
        "grid region": "unset",
        "PUE": "unset",
    }
    assert chain(findings).startswith(
        "Watts come from the median of all known CPU families; passed over: powercap counters (absent: "
    )


def test_this_machine_can_be_examined() -> None:
    findings = examine(Places())
    assert [finding.name for finding in findings] == NAMES
    assert all(finding.detail and "\n" not in finding.detail + finding.fix for finding in findings)


@pytest.mark.parametrize(("counters", "calibrated", "known"), list(itertools.product([False, True], repeat=3)))
def test_first_source_of_watts_is_used_and_those_behind_it_are_available(
    tmp_path: Path, counters: bool, calibrated: bool, known: bool
) -> None:
    places = with_cpu(bare(tmp_path), model=2 if known else 250)
    places = with_counters(places) if counters else places
    places = with_calibration(places) if calibrated else places
    findings = {finding.name: finding for finding in examine(places)}
    there = [name for name, is_there in ((POWERCAP, counters), (CALIBRATION, calibrated), (FAMILY, known)) if is_there]
    statuses = [findings[name].status for name in there]
    assert statuses == ["used", "available", "available"][: len(there)]
    told = chain(tuple(findings.values()))
    assert told.startswith(f"Watts come from the {there[0] if there else 'median'}")
    assert ("passed over: nothing" in told) == counters
    assert (f"{POWERCAP} (absent" in told) == (not counters)
    assert (f"{CALIBRATION} (unset" in told) == (not counters and not calibrated)


def test_readable_counters_tell_their_watts(tmp_path: Path) -> None:
    finding = found(with_counters(with_cpu(bare(tmp_path)), watts=20.0), POWERCAP)
    assert (finding.status, finding.fix) == ("used", "")
    assert "package-0" in finding.detail
    assert finding.detail.endswith("boundary cpu_package, 20.0 W now")


@pytest.mark.parametrize("watts", [20.0, 0.0])
def test_counters_of_a_host_price_long_processes_only_and_are_not_waited_for(tmp_path: Path, watts: float) -> None:
    places = with_cpu(bare(tmp_path), flags="hypervisor")
    meter = Meter(places.powercap, watts, exported=True)
    findings = examine(replace(places, open_rapl=meter.open, wait=meter.wait))
    assert (findings[0].name, findings[0].status, meter.waited_s) == (POWERCAP, "available", [])
    assert "renewed every 5 s: prices what a process does once it has run for 40 s, if the numbers move" in findings[0].detail
    assert chain(findings).startswith("Watts come from the CPU family row")
    assert f"passed over: {POWERCAP} (available: " in chain(findings)


def test_counters_of_a_host_alone_leave_the_median_to_short_commands(tmp_path: Path) -> None:
    findings = examine(with_counters(with_cpu(bare(tmp_path), model=250), exported=True))
    assert chain(findings).startswith("Watts come from the median of all known CPU families; ")
    assert not [finding for finding in findings if finding.name in (POWERCAP, CALIBRATION, FAMILY) and finding.status == "used"]


@pytest.mark.parametrize("range_uj", ["0", "-1", "-262143328850", "1", "nan", "inf", "1e12", "", "many"])
def test_range_that_no_counter_has_is_taken_as_none_and_the_counters_are_not_used(tmp_path: Path, range_uj: str) -> None:
    places = with_cpu(bare(tmp_path))
    meter = Meter(places.powercap)
    written(places.powercap / "intel-rapl:0" / "max_energy_range_uj", f"{range_uj}\n")
    finding = found(replace(places, open_rapl=meter.open, wait=meter.wait), POWERCAP)
    assert (finding.status, meter.open(places.powercap).min_window_s) == ("available", 40.0)


def test_counters_are_closed_whether_they_worked_or_not(tmp_path: Path) -> None:
    events: list[str] = []

    class WatchedRapl(Rapl):
        def read(self) -> RaplReading:
            events.append("read")
            return super().read()

        def close(self) -> None:
            events.append("close")
            super().close()

    meter = Meter(with_cpu(bare(tmp_path)).powercap)
    places = replace(bare(tmp_path), wait=meter.wait, open_rapl=lambda root: WatchedRapl(root, now_ns=lambda: meter.now_ns))
    for watts in (20.0, 0.0):
        meter.watts = watts
        examine(places)
        assert events[-2:] == ["read", "close"]


def test_unreadable_counters_come_with_the_line_that_opens_them(tmp_path: Path) -> None:
    def refuse(path: Path) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    places = with_counters(with_cpu(bare(tmp_path)))
    findings = examine(replace(places, open_rapl=lambda root: Rapl(root, opener=refuse)))
    assert findings[0].status == "unreadable"
    assert findings[0].fix.startswith(f"sudo chmod a+r {places.powercap}/intel-rapl*/energy_uj #")
    assert "tmpfiles.d" in findings[0].fix
    assert "powercap counters (unreadable: " in chain(findings)


def test_tree_that_may_not_be_listed_comes_with_the_line_that_opens_it(tmp_path: Path) -> None:
    def refuse(root: Path) -> Rapl:
        raise PowerError(f"{root} is present, unreadable", code="counters_unreadable")

    places = replace(with_cpu(bare(tmp_path)), open_rapl=refuse)
    assert found(places, POWERCAP).fix == f"sudo chmod a+rx {places.powercap}"


@pytest.mark.parametrize(("flags", "asks_host"), [("fpu", False), ("fpu hypervisor", True)])
def test_counters_that_stand_still_are_not_used(tmp_path: Path, flags: str, asks_host: bool) -> None:
    findings = examine(with_counters(with_cpu(bare(tmp_path), flags=flags), watts=0.0))
    assert findings[0].status == "unreadable"
    assert "stood still" in findings[0].detail
    assert findings[0].fix.startswith("ask the host") == asks_host
    assert chain(findings).startswith("Watts come from the CPU family row")


def test_zones_that_stand_for_no_processor_are_not_used(tmp_path: Path) -> None:
    places = with_cpu(bare(tmp_path))
    written(places.powercap / "intel-rapl:0" / "name", "uncore\n")
    written(places.powercap / "intel-rapl:0" / "energy_uj", "1\n")
    finding = found(places, POWERCAP)
    assert finding.status == "unreadable"
    assert "stands for the whole processor" in finding.detail


def test_counters_without_busy_times_give_no_price(tmp_path: Path) -> None:
    places = with_counters(with_cpu(bare(tmp_path), flags="hypervisor"))
    places.stat.unlink()
    finding = found(places, POWERCAP)
    assert (finding.status, finding.fix) == ("unreadable", "")
    assert str(places.stat) in finding.detail


def test_counters_that_a_container_hides_can_be_mounted(tmp_path: Path) -> None:
    places = with_cpu(bare(tmp_path))
    places.powercap.mkdir()
    (places.powercap / "intel-rapl:0").symlink_to(tmp_path / "masked" / "intel-rapl:0")
    finding = found(places, POWERCAP)
    assert finding.status == "unreadable"
    assert "-e RAG_ENERGY_POWERCAP_ROOT=/powercap" in finding.fix


@pytest.mark.parametrize(
    ("vendor", "flags", "fix"),
    [
        ("AuthenticAMD", "fpu", MODPROBE),
        ("GenuineIntel", "fpu", MODPROBE),
        ("HygonGenuine", "fpu", ""),
        ("AuthenticAMD", "fpu hypervisor", "ask the host to export its powercap tree"),
    ],
)
def test_missing_counters_are_one_module_or_one_host_away(tmp_path: Path, vendor: str, flags: str, fix: str) -> None:
    finding = found(with_cpu(bare(tmp_path), vendor=vendor, flags=flags), POWERCAP)
    assert finding.status == "absent"
    assert finding.fix.startswith(fix)
    assert bool(finding.fix) == bool(fix)


def test_perf_events_in_a_guest_mean_that_the_module_is_missing(tmp_path: Path) -> None:
    places = with_cpu(bare(tmp_path), flags="hypervisor")
    for event in ("energy-pkg", "energy-pkg.unit", "energy-pkg.scale"):
        written(places.perf / "events" / event, "")
    assert found(places, "perf power events").status == "available"
    assert found(places, "perf power events").detail.startswith("energy-pkg; ")
    assert found(places, POWERCAP).fix == MODPROBE


def test_pmu_without_an_energy_event_is_absent(tmp_path: Path) -> None:
    places = with_cpu(bare(tmp_path), flags="hypervisor")
    (places.perf / "events").mkdir(parents=True)
    assert found(places, "perf power events").status == "absent"
    assert found(places, POWERCAP).fix.startswith("ask the host")


def test_msr_device_that_opens_is_available(tmp_path: Path) -> None:
    places = bare(tmp_path)
    written(places.msr, "")
    assert found(places, "MSR device").status == "available"


def test_msr_device_that_does_not_open_is_unreadable(tmp_path: Path) -> None:
    places = bare(tmp_path)
    places.msr.mkdir()  # opening a folder fails, whoever asks
    assert found(places, "MSR device").status == "unreadable"


def test_power_sensors_are_listed_by_chip_and_others_are_not(tmp_path: Path) -> None:
    places = bare(tmp_path)
    for entry, text in (("name", "power_meter\n"), ("power1_average", "1\n"), ("power1_cap", "1\n"), ("temp1_input", "1\n")):
        written(places.hwmon / "hwmon0" / entry, text)
    written(places.hwmon / "hwmon1" / "energy1_input", "1\n")
    written(places.hwmon / "hwmon2" / "temp1_input", "1\n")
    finding = found(places, "hwmon power sensors")
    assert finding.status == "available"
    assert finding.detail.startswith("power_meter (power1_average), hwmon1 (energy1_input); ")


class Driver:
    """An NVML without devices, which knows how often it was left."""

    NVMLError: type[Exception] = RuntimeError

    def __init__(self) -> None:
        self.n_shutdowns = 0

    def nvmlInit(self) -> None:  # noqa: N802
        """Nothing."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.n_shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 0

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        return str(handle)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        return 0 if handle else 1


def test_gpu_is_used_when_it_is_asked_for_and_the_driver_is_left(tmp_path: Path) -> None:
    driver = Driver()
    places = replace(bare(tmp_path), open_gpus=lambda: GpuCounters(driver, (0,), ("H200",), ("T4000: Not Supported",)))
    off, on = found(places, "GPU (NVML)"), found(replace(places, gpu="on"), "GPU (NVML)")
    assert (off.status, off.fix) == ("available", 'set energy.gpu = "on"')
    assert (on.status, on.fix) == ("used", "")
    assert on.detail == "energy counters of H200; none of T4000: Not Supported"
    assert driver.n_shutdowns == 2


def raising(error: Exception) -> Callable[[], GpuCounters]:
    def opener() -> GpuCounters:
        raise error

    return opener


@pytest.mark.parametrize(
    ("error", "status", "fix"),
    [
        (MissingExtraError("GPU energy", "gpu"), "unset", "pip install 'ragwatt[gpu]'"),
        (PowerError("no driver", code="gpu_absent"), "absent", ""),
        (PowerError("no counter", code="gpu_unreadable"), "unreadable", ""),
    ],
)
def test_gpu_that_cannot_be_counted_says_why(tmp_path: Path, error: Exception, status: str, fix: str) -> None:
    finding = found(replace(bare(tmp_path), open_gpus=raising(error)), "GPU (NVML)")
    assert (finding.status, finding.fix) == (status, fix)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_calibration_of_no_use_says_so_and_is_passed_over(tmp_path: Path, is_damaged: bool) -> None:
    places = with_calibration(with_cpu(bare(tmp_path)), cpu="Another CPU")
    if is_damaged:
        places.calibration.write_text("{}")
    findings = examine(places)
    assert {finding.name: finding.status for finding in findings}[CALIBRATION] == "unreadable"
    assert f"{CALIBRATION} (unreadable: " in chain(findings)


def test_unknown_cpu_is_told_by_its_numbers(tmp_path: Path) -> None:
    finding = found(with_cpu(bare(tmp_path), model=250), FAMILY)
    assert finding.status == "absent"
    assert finding.detail == "no row for Some EPYC (vendor AuthenticAMD, family 26, model 250)"


@pytest.mark.parametrize(
    ("flags", "kind"), [("fpu", "no hypervisor announces itself"), ("fpu hypervisor", "guest of a hypervisor")]
)
def test_machine_tells_whether_it_is_a_guest_and_what_was_stolen(tmp_path: Path, flags: str, kind: str) -> None:
    finding = found(with_cpu(bare(tmp_path), flags=flags), "machine")
    assert finding.status == "used"
    assert finding.detail == f"{kind}; cores show their threads; time taken by the host since boot: 10.0%"


@pytest.mark.parametrize("stat", ["", "cpu 1 2 3\n", "cpu  a b c d e f g h\n", "cpu  0 0 0 0 0 0 0 0 0 0\n"])
def test_stolen_time_that_is_not_told_is_unknown(tmp_path: Path, stat: str) -> None:
    places = with_cpu(bare(tmp_path))
    places.stat.write_text(stat)
    assert found(places, "machine").detail.endswith("unknown")


def test_tightest_quota_of_the_groups_around_counts(tmp_path: Path) -> None:
    places = bare(tmp_path)
    written(places.own_cgroup, "0::/outer/inner\n")
    written(places.cgroup / "outer" / "cpu.max", "150000 100000\n")
    written(places.cgroup / "outer" / "inner" / "cpu.max", "max 100000\n")
    written(tmp_path / "cpu.max", "1000 100000\n")  # outside the tree of groups
    finding = found(places, "CPU quota")
    assert finding.status == "available"
    assert finding.detail.startswith("1.5 CPUs")
    assert finding.fix == "for a service: set energy.reserved_threads = 2"


def test_quota_of_version_1_is_read_from_its_controller(tmp_path: Path) -> None:
    places = bare(tmp_path)
    written(places.own_cgroup, "5:memory:/m\n4:cpu,cpuacct:/docker/abc\n0::/\n")
    written(places.cgroup / "cpu" / "docker" / "abc" / "cpu.cfs_quota_us", "50000\n")
    written(places.cgroup / "cpu" / "docker" / "abc" / "cpu.cfs_period_us", "100000\n")
    assert found(places, "CPU quota").detail.startswith("0.5 CPUs")


@pytest.mark.parametrize("text", ["max 100000\n", "-1 100000\n"])
def test_group_without_a_limit_is_no_quota(tmp_path: Path, text: str) -> None:
    places = bare(tmp_path)
    written(places.own_cgroup, "0::/\n")
    written(places.cgroup / "cpu.max", text)
    assert found(places, "CPU quota").status == "unset"


def test_known_region_is_used(tmp_path: Path) -> None:
    finding = found(replace(bare(tmp_path), region="FRA"), "grid region")
    assert (finding.status, finding.fix) == ("used", "")
    assert finding.detail.startswith("France, ")


def test_unknown_region_is_absent_and_the_list_is_named(tmp_path: Path) -> None:
    finding = found(replace(bare(tmp_path), region="Atlantis"), "grid region")
    assert finding.status == "absent"
    assert "rag energy regions" in finding.fix


def test_pue_of_the_site_is_used(tmp_path: Path) -> None:
    assert found(replace(bare(tmp_path), pue=1.4), "PUE") == Finding("PUE", "used", "1.4")
