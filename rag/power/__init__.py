"""Watts, grid intensity, joules and grams: prices what `rag.meter` has counted.

A `Power` is opened once a process. It takes the first source of watts that can be used, in this order: energy counters of the
processor (`rapl`), the operator's wall-meter calibration (`calibration`), the table by CPU family (`cpu`), the median of that table.
What was passed over because it is broken, not because it is absent, is said in the notes of every result. A piece of work is priced
by multiplication; counters are read by a thread of their own once a second, and for a result every 0.1 s at most.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rag.cost import Energy, Figure, Unit
from rag.errors import RagError
from rag.power.figure import Band, product, total
from rag.power.price import Price
from rag.settings import EnergySettings

__all__ = ["Power", "Price", "Told", "Work", "calibration_path", "open_power"]

if TYPE_CHECKING:
    from rag.power.gpu import GpuCounters, GpuReading
    from rag.power.grid import Intensity
    from rag.power.window import CounterWindows

_J_PER_KWH = 3.6e6
# Modelled memory where the price holds only the package: W per GB of resident memory, and its range (Green Algorithms states 0.37,
# wall tests found below 0.1; energy counters of DRAM in between). The middle is the geometric mean.
_DRAM_W_PER_GB = Band(0.2, 0.1, 0.4)
# A server of about 1000 kg CO2e, five years, 256 hardware threads; life-cycle figures of servers differ by a factor of three.
_EMBODIED_BAND = (1 / 3, 3.0)
# No figure covers these: nobody counts the water of a power station or the network between a client and this machine here.
_NEVER_MODELLED = ("water", "network")


class Work(NamedTuple):
    """What is to be priced; a named tuple, because every request makes one.

    Attributes:
        cpu_s: CPU seconds, user and system.
        wall_s: Wall-clock seconds from beginning to end.
        share_s: Seconds for which the work bears the idle power of the machine: ``wall_s`` alone, less where others were in flight.
        rss_bytes: Resident memory.
        began_ns: `time.monotonic_ns` at its beginning.
        gpu: GPU counters at its beginning, where they are read.
        remote: Joules of other machines.
        unknown: Names of quantities that are known to be missing.
    """

    cpu_s: float
    wall_s: float
    share_s: float
    rss_bytes: int
    began_ns: int
    gpu: GpuReading | None = None
    remote: tuple[Figure, ...] = ()
    unknown: tuple[str, ...] = ()


class Told(NamedTuple):
    """What a result must say of its own sources.

    Attributes:
        assumed: Inputs that nobody told.
        notes: Sources that were passed over, and why.
        sci_unit: Grams by functional unit: an answer, or a run of a command that gives none.
        missing: Quantities that were to be counted and cannot be.
    """

    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sci_unit: Unit = "g/answer"
    missing: tuple[str, ...] = ()


class Power:
    """Prices work in joules and grams; safe to share between threads.

    Args:
        price: What a CPU-second costs when no counter tells.
        intensity: Of the grid.
        settings: PUE, embodied carbon, reserved threads.
        windows: Energy counters, where this machine has them.
        gpus: Counters of its GPUs, where they are wanted and readable.
        told: What every result says of these sources.
    """

    def __init__(
        self,
        price: Price,
        intensity: Intensity,
        settings: EnergySettings,
        windows: CounterWindows | None = None,
        gpus: GpuCounters | None = None,
        told: Told | None = None,
    ) -> None:
        self._price = price
        self._settings = settings
        self._windows = windows
        self._gpus = gpus
        self._told = told or Told()
        self.intensity = intensity
        self._g_per_j = intensity.g_per_kwh.times(1 / _J_PER_KWH)
        self._embodied_source = (
            f"{settings.embodied_g_per_thread_s:g} g per reserved thread-second (energy.embodied_g_per_thread_s)"
        )
        self._reserved_threads = settings.reserved_threads or 1

    @property
    def notes(self) -> tuple[str, ...]:
        """Sources that were passed over when this was opened, and why."""
        return self._told.notes

    def close(self) -> None:
        """Let the counters go; work can still be priced."""
        if self._windows is not None:
            self._windows.close()
        if self._gpus is not None:
            self._gpus.close()

    def gpu_reading(self) -> GpuReading | None:
        """GPU counters now, to be handed back with the work; None where they are not counted or just now cannot be read."""
        if self._gpus is None:
            return None
        try:
            return self._gpus.read()
        except RagError:
            return None

    def energy(self, work: Work) -> Energy:
        """Price a piece of work that ends now.

        Args:
            work: What it used.

        Returns:
            Joules and grams with their bands. Counters that fail are noted, and the next source prices the work.
        """
        price, notes = self._priced(work.began_ns)
        # Alone, work cannot have used more threads than were reserved for it.
        is_alone = work.share_s == work.wall_s
        reserved_s = self._reserved_threads * work.share_s
        if is_alone and work.cpu_s > reserved_s:
            reserved_s = work.cpu_s
        active = _figure(price.active_w, work.cpu_s, price)
        idle = _figure(price.idle_w, reserved_s, price)
        local = [active, idle]
        dram = gpu = facility = remote = None
        unknown = work.unknown
        if not price.holds_dram:
            dram = self._dram(work)
            local.append(dram)
        if self._gpus is not None:
            gpu, missing = self._gpu(work)
            unknown += missing
            if gpu is not None:
                local.append(gpu)
        whole = total(local)
        if self._settings.pue > 1.0:
            facility = self._facility(whole)
            whole = total([whole, facility])
        carbon = product(whole, self._g_per_j, "g", "modelled", self.intensity.source, self.intensity.year)
        assumed = self._told.assumed
        if work.remote:  # its formula holds the PUE of the other site; where that site is, nobody tells
            remote = total(work.remote)
            whole = total([whole, remote])
            carbon = total([carbon, _remote_carbon(remote)])
            assumed += ("remote_region",)
            unknown += ("remote_prompt",)  # the formula counts completion tokens only
        embodied = self._embodied(reserved_s)
        sci = total([carbon, embodied] if embodied else [carbon], self._told.sci_unit)
        not_modelled = unknown + self._told.missing + _NEVER_MODELLED
        notes = self._told.notes + notes
        return Energy(whole, active, idle, dram, gpu, remote, facility, carbon, embodied, sci, assumed, not_modelled, notes)

    def price(self, began_ns: int) -> Price:
        """What a CPU-second costs for work that began then and goes on.

        Args:
            began_ns: `time.monotonic_ns` at its beginning.

        Returns:
            The price by counters if one of their windows covers the work, else that of the next source.
        """
        return self._priced(began_ns)[0]

    def _priced(self, began_ns: int) -> tuple[Price, tuple[str, ...]]:
        if self._windows is None:
            return self._price, ()
        try:
            return self._windows.price(began_ns), ()
        except RagError as error:
            return self._price, (f"energy counters not used: {error}",)

    def _dram(self, work: Work) -> Figure:
        band = _DRAM_W_PER_GB.times(work.rss_bytes / 1e9 * work.share_s)
        return Figure(band.value, band.lo, band.hi, "J", "modelled", "0.1 to 0.4 W per GB of resident memory", "dram")

    def _gpu(self, work: Work) -> tuple[Figure | None, tuple[str, ...]]:
        """Joules of the GPUs, or the name of what is missing: also of work too short for their counters."""
        if self._gpus is None or work.gpu is None:
            return None, ("gpu",)
        try:
            share = min(1.0, work.share_s / work.wall_s) if work.wall_s else 1.0
            return self._gpus.apportioned(work.gpu, self._gpus.read(), share), ()
        except RagError:
            return None, ("gpu",)

    def _facility(self, local: Figure) -> Figure:
        pue = self._settings.pue
        return product(local, Band(pue - 1, pue - 1, pue - 1), "J", "modelled", f"PUE {pue:g} of the settings")

    def _embodied(self, reserved_s: float) -> Figure | None:
        grams = self._settings.embodied_g_per_thread_s
        if grams == 0:
            return None
        value = grams * reserved_s
        low, high = _EMBODIED_BAND
        return Figure(value, value * low, value * high, "g", "modelled", self._embodied_source, "hardware")


def _remote_carbon(energy: Figure) -> Figure:
    """Grams of another site, of which nobody knows where it is."""
    grid = _world()
    return product(energy, grid.g_per_kwh.times(1 / _J_PER_KWH), "g", "modelled", grid.source, grid.year)


def _figure(watts: Band, seconds: float, price: Price) -> Figure:
    return Figure(
        watts.value * seconds,
        watts.lo * seconds,
        watts.hi * seconds,
        "J",
        price.method,
        price.source,
        price.boundary,
        price.window_s,
        price.year,
    )


def open_power(settings: EnergySettings, data_dir: Path, *, service: bool = False, sci_unit: Unit = "g/answer") -> Power:
    """Open the sources that the settings and this machine offer.

    Args:
        settings: Where they are.
        data_dir: Holds the calibration file, unless the settings name another.
        service: Whether the process serves requests and keeps all its processors reserved; a command reserves one thread.
        sci_unit: See `Told`.

    Returns:
        Power that prices whatever is there; it always has a price. Sources that are broken are in its notes.
    """
    from rag.power.cpu import default_price, identify, idle_ratio, table_price

    notes: list[str] = []
    assumed: list[str] = []
    cpu = identify()
    n_threads = os.cpu_count() or 1
    price = _calibrated(settings, data_dir, cpu.name, n_threads, notes) or table_price(cpu)
    if price is None:
        price = default_price(cpu)
        assumed.append("cpu_family")
    grid = _grid(settings.region, notes)
    if not grid.is_known:
        assumed.append("region")
    if settings.pue == 1.0:
        assumed.append("pue")
    if settings.embodied_g_per_thread_s == EnergySettings().embodied_g_per_thread_s:
        assumed.append("embodied")
    windows = _windows(settings.powercap_root, idle_ratio(cpu), notes)
    gpus = _gpus(notes) if settings.gpu == "on" else None
    reserved = settings.reserved_threads or (_allowed_threads() if service else 1)
    return Power(
        price,
        grid,
        replace(settings, reserved_threads=reserved),
        windows=windows,
        gpus=gpus,
        told=Told(tuple(assumed), tuple(notes), sci_unit, ("gpu",) if settings.gpu == "on" and gpus is None else ()),
    )


def calibration_path(settings: EnergySettings, data_dir: Path) -> Path:
    """Where the calibration file of this machine lies, whether or not it exists.

    Args:
        settings: May name it.
        data_dir: Holds it otherwise.

    Returns:
        The path.
    """
    return Path(settings.calibration).expanduser() if settings.calibration else data_dir / "calibration.json"


def _calibrated(settings: EnergySettings, data_dir: Path, cpu_name: str, n_threads: int, notes: list[str]) -> Price | None:
    path = calibration_path(settings, data_dir)
    if not settings.calibration and not path.exists():
        return None
    from rag.power.calibration import calibrated_price, load

    try:
        return calibrated_price(load(path), cpu_name, n_threads)
    except RagError as error:
        notes.append(f"calibration not used: {error}")
        return None


def _grid(region: str, notes: list[str]) -> Intensity:
    from rag.power.grid import intensity

    try:
        return intensity(region)
    except RagError as error:
        notes.append(f"world average used: {error}")
        return _world()


def _world() -> Intensity:
    from rag.power.grid import world

    return world()


def _windows(root: Path, ratio: Band, notes: list[str]) -> CounterWindows | None:
    """Energy counters, if there are any; that there are none is no fault, that they cannot be read is."""
    try:
        if not root.is_dir():
            if root != EnergySettings().powercap_root:
                notes.append(f"energy counters not used: {root} is no folder; correct energy.powercap_root")
            return None
    except OSError as error:  # a parent that may not be searched, a name that is too long
        notes.append(f"energy counters not used: {str(root)[:200]}: {error.strerror}; correct energy.powercap_root")
        return None
    from rag.power.rapl import Rapl
    from rag.power.window import CounterWindows

    try:
        return CounterWindows(Rapl(root), ratio)
    except RagError as error:
        if error.code != "counters_absent":
            notes.append(f"energy counters not used: {error}")
        return None


def _gpus(notes: list[str]) -> GpuCounters | None:
    from rag.power.gpu import open_gpus

    try:
        return open_gpus()
    except RagError as error:
        notes.append(f"GPU not counted: {error}")
        return None


def _allowed_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
