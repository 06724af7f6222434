"""What this machine offers for energy figures, what it withholds, and the one line that would help.

Nothing is changed and nothing is guessed: every finding is something that was opened, listed or read just now. Counters are watched for
one window, because some are there and stand still. Interfaces that Ragwatt does not read itself (perf, MSR, hwmon) are listed all the
same: they tell whether the missing counters are one kernel module away.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rag.errors import MissingExtraError, PowerError
from rag.power.cpu import Cpu, identify, table_price
from rag.power.gpu import GpuCounters, open_gpus
from rag.power.grid import intensity
from rag.power.rapl import Rapl
from rag.power.window import machine_busy

Status = Literal["used", "available", "unreadable", "absent", "unset"]

POWERCAP = "powercap counters"
CALIBRATION = "calibration file"
FAMILY = "CPU family row"
# From strong to weak; the first that can be used gives the watts.
_WATTS = (POWERCAP, CALIBRATION, FAMILY)
# Counters that a host exports move every few seconds; people do not wait for a window of those.
_MAX_WAIT_S = 1.0
# Both makers of x86 share it, whatever its name says.
_MODULE = "sudo modprobe intel_rapl_msr"
_METER = "put a meter to the wall plug and run: rag energy calibrate"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for.

    Attributes:
        name: Of the thing, stable across releases.
        status: ``used`` goes into figures now, ``available`` would be if nothing better were there, if it were asked for, or in a
            process that runs for as long as the detail says, ``unreadable`` is there and of no use as it is, ``absent`` is not there,
            ``unset`` waits for a setting.
        detail: What was seen, one line.
        fix: A line to paste or to do; empty when nothing can be done or nothing needs to be.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where to look, and what the settings say.

    Attributes:
        powercap: Tree of the energy counters (``energy.powercap_root``).
        perf: PMU of the kernel for energy.
        msr: Registers of the first processor.
        hwmon: Sensors of the board.
        cpuinfo: Which processor this is.
        stat: How busy the processors are.
        cgroup: Root of the control groups.
        own_cgroup: Which group this process is in.
        calibration: File of the operator's wall meter, whether or not it exists.
        region: Setting ``energy.region``; empty is unset.
        pue: Setting ``energy.pue``; 1.0 is unset.
        gpu: Setting ``energy.gpu``.
        open_rapl: Opens the tree.
        open_gpus: Opens the GPU counters.
        wait: Sleeps for so many seconds, between the two readings of a window.
    """

    powercap: Path = Path("/sys/class/powercap")
    perf: Path = Path("/sys/bus/event_source/devices/power")
    msr: Path = Path("/dev/cpu/0/msr")
    hwmon: Path = Path("/sys/class/hwmon")
    cpuinfo: Path = Path("/proc/cpuinfo")
    stat: Path = Path("/proc/stat")
    cgroup: Path = Path("/sys/fs/cgroup")
    own_cgroup: Path = Path("/proc/self/cgroup")
    calibration: Path = Path("calibration.json")
    region: str = ""
    pue: float = 1.0
    gpu: Literal["off", "on"] = "off"
    open_rapl: Callable[[Path], Rapl] = Rapl
    open_gpus: Callable[[], GpuCounters] = open_gpus
    wait: Callable[[float], None] = time.sleep


def examine(places: Places) -> tuple[Finding, ...]:
    """Look for everything that an energy figure can rest on.

    Takes the length of one counter window, 0.1 s, where there are counters.

    Args:
        places: Where to look.

    Returns:
        Findings in a fixed order: sources of watts and their neighbours, then the machine, then what the settings tell. At most one of
        powercap, if it was seen to move, calibration and family row is ``used``; without any, the median of all families is.

    Raises:
        PowerError: If a shipped table is damaged; code ``cpu_table``.
    """
    cpu = identify(places.cpuinfo)
    powercap, perf = _powercap(places, cpu), _perf(places.perf)
    if powercap.status == "absent" and perf.status == "available":
        # The kernel has read the registers, so only the module that shows them as files is missing, even in a guest.
        powercap = replace(powercap, fix=_MODULE)
    found = (
        powercap,
        perf,
        _msr(places.msr),
        _hwmon(places.hwmon),
        _gpu(places),
        _calibration(places.calibration, cpu),
        _family(cpu),
        _machine(places, cpu),
        _quota(places),
        _clocks(),
        _region(places.region),
        _pue(places.pue),
    )
    # Counters that were not seen to move do not price the command that asks.
    others = () if powercap.status == "used" else _WATTS[1:]
    source = next((finding for finding in found if finding.name in others and finding.status == "available"), None)
    return tuple(replace(finding, status="used") if finding is source else finding for finding in found)


def chain(findings: Sequence[Finding]) -> str:
    """Say which source of watts is used and why the better ones are not.

    Args:
        findings: From `examine`.

    Returns:
        One sentence.
    """
    sources = [finding for finding in findings if finding.name in _WATTS]
    used = next((finding for finding in sources if finding.status == "used"), None)
    told = f"{used.name}: {used.detail}" if used else "median of all known CPU families"
    better = sources[: sources.index(used)] if used else sources
    passed_over = ", ".join(f"{finding.name} ({finding.status}: {finding.detail})" for finding in better)
    return f"Watts come from the {told}; passed over: {passed_over or 'nothing'}."


def _powercap(places: Places, cpu: Cpu) -> Finding:
    root = places.powercap
    if _is_masked(root):
        fix = "docker run -v /sys/devices/virtual/powercap:/powercap:ro -e RAG_ENERGY_POWERCAP_ROOT=/powercap ..."
        return Finding(POWERCAP, "unreadable", f"{root} lists zones whose folders are hidden, as in a container", fix)
    try:
        rapl = places.open_rapl(root)
    except PowerError as error:
        match error.code:
            case "counters_absent":
                is_x86 = cpu.vendor in ("GenuineIntel", "AuthenticAMD")
                return Finding(POWERCAP, "absent", f"no energy counters in {root}", _guest_fix(cpu) or (_MODULE if is_x86 else ""))
            case "counters_unreadable":
                # Since CVE-2020-8694 kernels keep the counters for root: fine readings tell what a processor computes.
                detail = f"{root} is present, but this user may not read it; kernels keep it for root since CVE-2020-8694"
                return Finding(POWERCAP, "unreadable", detail, _permission_fix(root))
            case _:
                return Finding(POWERCAP, "unreadable", str(error), _guest_fix(cpu))
    try:
        return _watched(rapl, places)
    except PowerError as error:
        return Finding(POWERCAP, "unreadable", str(error), _guest_fix(cpu) if error.code.startswith("counter") else "")
    finally:
        rapl.close()


def _watched(rapl: Rapl, places: Places) -> Finding:
    """What the counters show in one window, or a PowerError when they show nothing or no price can be made of it."""
    machine_busy(places.stat)
    zones = f"{', '.join(rapl.zones)} in {places.powercap}, boundary {rapl.boundary}"
    before = rapl.read()
    if rapl.min_window_s > _MAX_WAIT_S:
        detail = (
            f"{zones}, renewed every {rapl.step_s:g} s: prices what a process does once it has run for {rapl.min_window_s:g} s, if the "
            "numbers move by then, which cannot be told now; shorter commands take the next source"
        )
        return Finding(POWERCAP, "available", detail)
    places.wait(rapl.min_window_s)
    after = rapl.read()
    watts = rapl.joules(before, after) / (after.at_ns - before.at_ns) * 1e9
    return Finding(POWERCAP, "used", f"{zones}, {watts:.1f} W now")


def _is_masked(root: Path) -> bool:
    """Container engines hide the counters behind an empty folder, and the links to them lead nowhere."""
    try:
        zones = [entry for entry in root.iterdir() if entry.name.startswith("intel-rapl")]
    except OSError:
        return False
    return bool(zones) and not any(os.path.exists(zone) for zone in zones)


def _guest_fix(cpu: Cpu) -> str:
    if not cpu.is_guest:
        return ""
    return "ask the host to export its powercap tree into this guest (Scaphandre can), then set energy.powercap_root to that folder"


def _permission_fix(root: Path) -> str:
    if not _entries(root):
        return f"sudo chmod a+rx {root}"
    # The rule matters: the kernel makes the files for root alone at every boot.
    return (
        f"sudo chmod a+r {root}/intel-rapl*/energy_uj "
        f"# until the next boot; to keep it, put 'z {root}/intel-rapl*/energy_uj 0444' into /etc/tmpfiles.d/ragwatt.conf"
    )


def _perf(device: Path) -> Finding:
    name = "perf power events"
    events = [event for event in _entries(device / "events") if event.startswith("energy-") and "." not in event]
    if not events:
        # On virtual machines the PMU is often there without an event: the kernel knows the processor, the host keeps its registers.
        return Finding(name, "absent", f"no energy event in {device}")
    return Finding(name, "available", f"{', '.join(events)}; not read by Ragwatt, powercap shows the same registers")


def _msr(device: Path) -> Finding:
    name = "MSR device"
    try:
        device.open("rb").close()
    except FileNotFoundError:
        return Finding(name, "absent", f"no {device}")
    except OSError as error:
        return Finding(name, "unreadable", f"{device}: {error.strerror}; not read by Ragwatt, powercap shows the same registers")
    return Finding(name, "available", f"{device}; not read by Ragwatt, powercap shows the same registers")


def _hwmon(root: Path) -> Finding:
    name = "hwmon power sensors"
    sensors = list(_sensors(root))
    if not sensors:
        return Finding(name, "absent", f"no power or energy sensor in {root}")
    return Finding(name, "available", f"{', '.join(sensors)}; not read by Ragwatt, boards differ in what they cover")


def _sensors(root: Path) -> Iterator[str]:
    for chip in _entries(root):
        kinds = [entry for entry in _entries(root / chip) if _is_power(entry)]
        if kinds:
            yield f"{_text(root / chip / 'name') or chip} ({', '.join(kinds)})"


def _is_power(entry: str) -> bool:
    return entry.startswith(("power", "energy")) and entry.endswith(("_input", "_average"))


def _gpu(places: Places) -> Finding:
    name = "GPU (NVML)"
    try:
        gpus = places.open_gpus()
    except MissingExtraError as error:
        return Finding(
            name, "unset", "not looked for: the package nvidia-ml-py is not installed", f"pip install 'ragwatt[{error.extra}]'"
        )
    except PowerError as error:
        return Finding(name, "absent" if error.code == "gpu_absent" else "unreadable", str(error))
    detail = "; ".join((f"energy counters of {', '.join(gpus.names)}", *(f"none of {device}" for device in gpus.passed_over)))
    gpus.close()
    if places.gpu == "on":
        return Finding(name, "used", detail)
    return Finding(name, "available", f"{detail}; not counted", 'set energy.gpu = "on"')


def _calibration(path: Path, cpu: Cpu) -> Finding:
    from rag.power.calibration import calibrated_price, load

    try:
        price = calibrated_price(load(path), cpu.name, os.cpu_count() or 1)
    except PowerError as error:
        if error.code == "calibration_missing":
            return Finding(CALIBRATION, "unset", f"no {path}", _METER)
        return Finding(CALIBRATION, "unreadable", str(error), _METER)
    return Finding(CALIBRATION, "available", f"{price.source}, {price.active_w.value:.2g} W per busy hardware thread")


def _family(cpu: Cpu) -> Finding:
    price = table_price(cpu)
    numbers = f"vendor {cpu.vendor or 'unknown'}, family {cpu.family}, model {cpu.model}"
    if price is None:
        return Finding(FAMILY, "absent", f"no row for {cpu.name} ({numbers})", _METER)
    return Finding(FAMILY, "available", f"{price.source} ({numbers}), {price.active_w.value:.2g} W per busy hardware thread")


def _machine(places: Places, cpu: Cpu) -> Finding:
    name = "machine"
    if not cpu.vendor:
        return Finding(name, "absent", f"{places.cpuinfo} does not tell the processor, so whether this is a guest is unknown")
    kind = "guest of a hypervisor" if cpu.is_guest else "no hypervisor announces itself"
    threads = {True: "cores show their threads", False: "one thread a core", None: "threads a core unknown"}[cpu.smt_visible]
    stolen = _stolen(places.stat)
    told = "unknown" if stolen is None else f"{stolen:.1%}"
    return Finding(name, "used", f"{kind}; {threads}; time taken by the host since boot: {told}")


def _stolen(stat: Path) -> float | None:
    """Share of all CPU time since boot that a host gave to others; None where the kernel does not tell."""
    fields = _text(stat).partition("\n")[0].split()
    # user nice system idle iowait irq softirq steal; what follows is counted in user already.
    if len(fields) < 9 or fields[0] != "cpu" or not all(field.isdecimal() for field in fields[1:9]):
        return None
    ticks = [int(field) for field in fields[1:9]]
    return ticks[7] / sum(ticks) if sum(ticks) else None


def _quota(places: Places) -> Finding:
    name = "CPU quota"
    quotas = list(_quotas(places))
    if not quotas:
        return Finding(name, "absent", f"no CPU controller in {places.cgroup}")
    n_cpus = min(quotas)
    if n_cpus == math.inf:
        return Finding(name, "unset", f"none: all {os.cpu_count() or 1} hardware threads may be used")
    fix = f"for a service: set energy.reserved_threads = {math.ceil(n_cpus)}"
    return Finding(name, "available", f"{n_cpus:g} CPUs; the idle power that a service bears does not follow it", fix)


def _quotas(places: Places) -> Iterator[float]:
    """CPUs that each group around this process allows, infinite where it does not limit them."""
    for line in _text(places.own_cgroup).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = places.cgroup / "cpu" if controllers else places.cgroup  # version 1 has a tree for each controller
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _group_quota(folder)


def _group_quota(folder: Path) -> Iterator[float]:
    text = _text(folder / "cpu.max") or f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
    quota, _, period = text.partition(" ")
    if period.isdecimal() and int(period):
        yield int(quota) / int(period) if quota.isdecimal() else math.inf


def _clocks() -> Finding:
    name = "thread CPU clocks"
    if not hasattr(time, "pthread_getcpuclockid"):
        return Finding(
            name, "absent", "this system has no CPU clock per thread; work of several threads is counted by the process clock"
        )
    try:
        resolution_s = time.clock_getres(time.pthread_getcpuclockid(threading.get_ident()))
    except OSError as error:
        return Finding(name, "unreadable", f"CPU clock of a thread: {error}")
    return Finding(name, "used", f"CPU clock of a thread has a resolution of {resolution_s:g} s")


def _region(region: str) -> Finding:
    name = "grid region"
    fix = "set energy.region to a code that `rag energy regions` lists"
    try:
        row = intensity(region)
    except PowerError as error:
        return Finding(name, "absent", str(error), fix)
    told = f"{row.name}, {row.g_per_kwh.value:.0f} g/kWh ({row.g_per_kwh.lo:.0f} to {row.g_per_kwh.hi:.0f}, {row.year})"
    return Finding(name, "used", told) if row.is_known else Finding(name, "unset", f"{told} stands in", fix)


def _pue(pue: float) -> Finding:
    name = "PUE"
    if pue == 1.0:
        return Finding(
            name, "unset", "1.0 assumed: cooling and power supply of the site add nothing", "set energy.pue to that of the site"
        )
    return Finding(name, "used", f"{pue:g}")


def _entries(folder: Path) -> list[str]:
    """Sorted names; none where the folder cannot be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: Path) -> str:
    """Stripped text of a small file of the kernel; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
