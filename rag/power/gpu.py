"""Joules of NVIDIA boards from the energy counter of the driver (NVML, extra [gpu]).

The counter is that of the whole board and of every process on it, and the sensor behind it looks at part of the run time only: on
A100 and H100 at 25 % of it. So a figure from it is a share of a window, ``apportioned`` at best, with a band that is the wider the
shorter the window was. A counter that cannot be read, does not move, vanishes or falls is an error, never zero joules.

References:
    Yang, Adamek, Armour, SC24, arXiv:2312.02741 (part-time sampling); NVML API reference, nvmlDeviceGetTotalEnergyConsumption.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from rag.cost import Figure
from rag.errors import InputError, MissingExtraError, PowerError
from rag.power.figure import Band

# Drivers renew the counter every 20 to 100 ms: a shorter window may hold no renewal at all.
MIN_WINDOW_S = 0.1
# What NVML promises of its power sensor.
_SENSOR_ERROR = 0.05
# Part of the run time that the sensor of an A100 or H100 does not see; taken for every device, because NVML does not tell it.
_UNSEEN = 0.75
# NVML_ERROR_DRIVER_NOT_LOADED and NVML_ERROR_LIBRARY_NOT_FOUND: this machine has no driver, so there is nothing to repair.
_NO_DRIVER = (9, 12)


class NvmlApi(Protocol):
    """The part of the module ``pynvml`` that is used here, by its own names."""

    @property
    def NVMLError(self) -> type[Exception]:  # noqa: N802
        """Base class of what the functions raise; its ``value`` is the code of NVML."""

    def nvmlInit(self) -> None:  # noqa: N802
        """Attach to the driver; each call needs a shutdown of its own."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Detach from the driver."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Count the devices."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        """Handle of a device, counted from 0."""

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        """Product name."""

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: object) -> int:  # noqa: N802
        """Millijoules since the driver was loaded; from Volta (2017) on."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """The counters of all devices at one moment.

    Attributes:
        at_ns: Monotonic clock, nanoseconds.
        millijoules: One per device, in the order of ``GpuCounters.names``.
    """

    at_ns: int
    millijoules: tuple[int, ...]


class GpuCounters:
    """Energy counters of this machine's devices, opened by `open_gpus`.

    Args:
        nvml: Where to read them, attached to the driver.
        handles: Of the devices that have a counter.
        names: Their product names, in the same order.
        passed_over: Devices without a usable counter, each with the reason.
        clock: Monotonic nanoseconds.
    """

    def __init__(
        self,
        nvml: NvmlApi,
        handles: tuple[object, ...],
        names: tuple[str, ...],
        passed_over: tuple[str, ...] = (),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.names = names
        self.passed_over = passed_over
        self._nvml = nvml
        self._handles = handles
        self._clock = clock
        self._is_open = True

    def read(self) -> GpuReading:
        """Read every counter.

        Returns:
            The reading; two of them make a window.

        Raises:
            PowerError: ``counter_vanished`` when a device is lost or the counters are closed.
        """
        if not self._is_open:
            raise PowerError("GPU counters were read after they were closed; open them again", code="counter_vanished")
        at_ns = self._clock()
        values = []
        for name, handle in zip(self.names, self._handles, strict=True):
            try:
                values.append(int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(handle)))
            except self._nvml.NVMLError as error:
                raise PowerError(
                    f"energy counter of {name} cannot be read any more: {error}; see nvidia-smi, then restart",
                    code="counter_vanished",
                ) from error
        return GpuReading(at_ns, tuple(values))

    def joules(self, before: GpuReading, after: GpuReading) -> float:
        """Joules of all boards between two readings, whoever used them.

        Args:
            before: The earlier reading of these counters.
            after: The later one, at least `MIN_WINDOW_S` later.

        Returns:
            Joules, more than 0.

        Raises:
            PowerError: ``no_window`` when the window is too short or a counter did not move in it, ``counter_wrapped`` when one fell,
                ``counter_vanished`` when the readings are not of as many devices as these counters.
        """
        window_s = (after.at_ns - before.at_ns) / 1e9
        if window_s < MIN_WINDOW_S:
            raise PowerError(
                f"GPU window is {window_s:.3f} s; the counter needs {MIN_WINDOW_S} s or more, read it less often", code="no_window"
            )
        if not len(before.millijoules) == len(after.millijoules) == len(self.names):
            raise PowerError(
                f"GPU readings are of {len(before.millijoules)} and {len(after.millijoules)} devices; there are {len(self.names)}, "
                "read both again",
                code="counter_vanished",
            )
        for name, first, last in zip(self.names, before.millijoules, after.millijoules, strict=True):
            if last < first:
                raise PowerError(
                    f"energy counter of {name} fell from {first} to {last} mJ; the driver was reloaded, begin a new window",
                    code="counter_wrapped",
                )
            if last == first:  # a board that is on draws watts: it was not renewed yet
                raise PowerError(
                    f"energy counter of {name} stayed at {first} mJ for {window_s:.3f} s; take a longer window", code="no_window"
                )
        return (sum(after.millijoules) - sum(before.millijoules)) / 1000

    def apportioned(self, before: GpuReading, after: GpuReading, share: Band | float) -> Figure:
        """Joules that a piece of work stands for: its share of a window.

        Args:
            before: The earlier reading.
            after: The later one.
            share: Part of the window's device time that the work held, 0 to 1.

        Returns:
            The figure, ``apportioned`` even for the whole window: other processes may have used the device, and the sensor did not see
            all of it.

        Raises:
            InputError: If the share is out of range.
            PowerError: As for `joules`.
        """
        band = share if isinstance(share, Band) else Band(share, share, share)
        if not 0 <= band.lo <= band.value <= band.hi <= 1:
            raise InputError(f"share of the GPU is {share}; allowed: 0 to 1, in the order lo, value, hi", code="gpu_share")
        joules = self.joules(before, after)
        window_s = (after.at_ns - before.at_ns) / 1e9
        seen = Band(joules, joules, joules).by(_sampling(window_s)).by(band)
        return Figure(
            value=seen.value,
            lo=seen.lo,
            hi=seen.hi,
            unit="J",
            method="apportioned",
            source=f"NVML total energy of {' + '.join(self.names)}",
            boundary="gpu_board",
            window_s=window_s,
        )

    def close(self) -> None:
        """Detach from the driver; again does nothing."""
        if self._is_open:
            self._is_open = False
            _shutdown(self._nvml)


def open_gpus(nvml: NvmlApi | None = None, clock: Callable[[], int] = time.monotonic_ns) -> GpuCounters:
    """Find the devices of this machine that count their energy.

    Args:
        nvml: Another implementation than ``pynvml``.
        clock: Monotonic nanoseconds.

    Returns:
        Counters of one device or more, in NVML's order; the caller closes them.

    Raises:
        MissingExtraError: If pynvml is not installed.
        PowerError: ``gpu_absent`` without a driver or device, ``gpu_unreadable`` when no device lets its counter be read.
    """
    nvml = nvml or _pynvml()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if getattr(error, "value", None) in _NO_DRIVER:
            raise PowerError(f"no NVIDIA driver on this machine: {error}; GPU joules are left out", code="gpu_absent") from error
        raise PowerError(f"the NVIDIA driver cannot be used: {error}; see nvidia-smi", code="gpu_unreadable") from error
    try:
        return _counting(nvml, clock)
    except PowerError:
        _shutdown(nvml)
        raise


def _counting(nvml: NvmlApi, clock: Callable[[], int]) -> GpuCounters:
    """The devices whose counter answers once."""
    handles, names, passed_over = [], [], []
    try:
        n_devices = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise PowerError(f"NVIDIA devices cannot be listed: {error}; see nvidia-smi", code="gpu_unreadable") from error
    for index in range(n_devices):
        name = f"device {index}"
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            name = nvml.nvmlDeviceGetName(handle)
            nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except nvml.NVMLError as error:
            passed_over.append(f"{name}: {error}")
        else:
            handles.append(handle)
            names.append(name)
    if not n_devices:
        raise PowerError("the NVIDIA driver knows no device; GPU joules are left out", code="gpu_absent")
    if not handles:
        raise PowerError(
            f"no GPU lets its energy counter be read ({'; '.join(passed_over)}); devices before Volta (2017) have none",
            code="gpu_unreadable",
        )
    return GpuCounters(nvml, tuple(handles), tuple(names), tuple(passed_over), clock)


def _sampling(window_s: float) -> Band:
    """Truth over reading, for a window of so many seconds.

    A reading errs by at most ``_UNSEEN`` of the truth in the shortest window, where the quarter that the sensor saw may be all that
    there was (truth = 4 readings). Later looks fall on other work, so this part shrinks with the root of their number, one in every
    100 ms; the error of the sensor itself stays. 1 s: 0.79 to 1.37; 10 s: 0.89 to 1.14. Work that repeats in step with the sensor can
    lie outside: its looks never fall on anything else.
    """
    error = _SENSOR_ERROR + (_UNSEEN - _SENSOR_ERROR) * math.sqrt(MIN_WINDOW_S / window_s)
    return Band(1.0, 1 / (1 + error), 1 / (1 - error))


def _shutdown(nvml: NvmlApi) -> None:
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return  # the driver is gone already; there is nothing left to give back


def _pynvml() -> NvmlApi:
    import importlib

    try:
        return cast(NvmlApi, importlib.import_module("pynvml"))
    except ImportError as error:
        raise MissingExtraError("the energy of NVIDIA GPUs", "gpu") from error
