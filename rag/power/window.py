"""Prices from counter windows: what a CPU-second costs now, by the energy that the machine took and the time that it was busy.

In a window of ``dt`` seconds the counters moved by ``dE`` joules while ``busy`` of the ``n * dt`` CPU-seconds were used, so the load is
``U = busy / (n * dt)``. With ``r``, the power of an idle machine over that of a full one, power is taken as linear in load::

    dE / dt = full * (r + (1 - r) * U)
    idle_w = r * full / n          active_w = (1 - r) * full / n

Then ``active_w * busy + idle_w * n * dt == dE``: whatever ``r`` is, what is shared out is what was counted; ``r`` only moves joules
between the two, and its ends make the band.

There is no thread of its own: a call that wants a price reads the counters, at most once a second while a window fits.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rag.errors import InputError, PowerError
from rag.power.figure import Band
from rag.power.price import Price
from rag.power.rapl import Rapl, Reading

# A window is good for so long: a request of some milliseconds must not pay for reading registers of other sockets.
MAX_AGE_S = 1.0

# Load of a longer window tells little of now, unless the work itself took that long.
MAX_WINDOW_S = 60.0

# Share of a package by CPU seconds against the truth: contention and the sharing of cores by hardware threads.
ATTRIBUTION_LO = 0.9
ATTRIBUTION_HI = 1.15


@dataclass(frozen=True, slots=True)
class BusyTimes:
    """What the processors of the machine did since it started.

    Attributes:
        busy_s: CPU-seconds of user and system work, interrupts included, of all hardware threads.
        n_threads: Hardware threads online.
    """

    busy_s: float
    n_threads: int


def machine_busy(stat: Path = Path("/proc/stat")) -> BusyTimes:
    """Read how long the processors of the machine were busy.

    Time for guests is inside user time already; idle, waiting for disks and time that a host took away do not count.

    Args:
        stat: The file of the kernel.

    Returns:
        Seconds in steps of the clock tick, mostly 0.01 s.

    Raises:
        PowerError: ``busy_unreadable`` if the file is missing or of another form.
    """
    try:
        lines = stat.read_text().splitlines()
        label, *fields = lines[0].split()
        if label != "cpu":
            raise ValueError(f"the first line is of {label}")
        user, nice, system, _, _, irq, softirq = (int(field) for field in fields[:7])
    except (OSError, ValueError, IndexError) as error:
        raise PowerError(
            f"{stat} does not tell how busy the processors are ({error}); needed: the form of Linux, use another source of watts",
            code="busy_unreadable",
        ) from error
    n_threads = sum(line.startswith("cpu") for line in lines) - 1
    return BusyTimes((user + nice + system + irq + softirq) * _tick_s(), max(n_threads, 1))


@dataclass(frozen=True, slots=True)
class _Sample:
    reading: Reading
    busy: BusyTimes


@dataclass(frozen=True, slots=True)
class _Window:
    price: Price
    length_s: float
    ended_ns: int


class CounterWindows:
    """The newest window between two readings of the counters, and its price; safe for several threads.

    Args:
        rapl: Open counters; read once at construction.
        idle_ratio: Power of an idle machine over that of a full one, 0.0 to 1.0.
        busy: Tells how busy the machine was.
        now_ns: Monotonic clock, the same as that of ``rapl``.

    Raises:
        InputError: If the ratio is out of range.
        PowerError: If the counters or the busy times cannot be read.
    """

    def __init__(
        self,
        rapl: Rapl,
        idle_ratio: Band,
        busy: Callable[[], BusyTimes] = machine_busy,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if not 0.0 <= idle_ratio.lo <= idle_ratio.value <= idle_ratio.hi <= 1.0:
            raise InputError(
                f"idle ratio is {idle_ratio.value}, {idle_ratio.lo} to {idle_ratio.hi}; allowed: 0.0 to 1.0 with the value inside",
                code="idle_ratio",
            )
        self._rapl = rapl
        self._idle_ratio = idle_ratio
        self._busy = busy
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._window: _Window | None = None
        self._fault = ""
        self._samples = [self._sample()]  # oldest first; none older than the start of the newest window

    def price(self, began_ns: int) -> Price:
        """Price work that ends now.

        The window ended at most `MAX_AGE_S` ago, is at least `Rapl.min_window_s` long, and at most `MAX_WINDOW_S` or the age of the
        work plus one second, whichever is longer, but never so long that a counter could wrap twice. Where a new one is longer, its
        end is the start of the next. After a fault of the counters, which the call that meets it raises, the next call starts anew.

        Args:
            began_ns: When the work began, on the clock of the constructor.

        Returns:
            The price of the newest window; ``window_s`` is its length.

        Raises:
            PowerError: ``no_window`` when there is none that fits yet, a code of `Rapl.read` and `Rapl.joules`, or ``busy_unreadable``.
        """
        with self._lock:
            now_ns = self._now_ns()
            longest_s = min(max(MAX_WINDOW_S, (now_ns - began_ns) / 1e9 + 1.0), self._rapl.longest_window_s)
            window = self._window
            if window is not None and window.length_s <= longest_s and now_ns - window.ended_ns <= MAX_AGE_S * 1e9:
                return window.price
            try:
                self._window = self._rolled(now_ns, longest_s)
            except PowerError as error:
                if error.code != "no_window":
                    self._window = None
                    self._samples = []
                    self._fault = str(error)
                raise
            self._fault = ""
            return self._window.price

    def _rolled(self, now_ns: int, longest_s: float) -> _Window:
        """The window that ends with a new reading."""
        if not self._samples:
            self._samples = [self._sample()]
            raise self._no_window("the counters start anew")
        waited_s = (now_ns - self._samples[-1].reading.at_ns) / 1e9
        # Slow counters are read once a second while the first window grows.
        if waited_s < min(self._rapl.min_window_s, MAX_AGE_S):
            raise self._no_window(f"the counters were read {waited_s:.3f} s ago")
        end = self._sample()
        self._samples.append(end)
        starts = [place for place, sample in enumerate(self._samples) if _length_s(sample, end) >= self._rapl.min_window_s]
        if not starts:
            raise self._no_window(f"the counters are known since {_length_s(self._samples[0], end):.3f} s")
        del self._samples[: starts[-1]]
        start = self._samples[0]
        length_s = _length_s(start, end)
        if length_s > longest_s:
            raise self._no_window(f"the last one is {length_s:.0f} s long, allowed for this work: {longest_s:.0f} s")
        return _Window(self._priced(start, end), length_s, end.reading.at_ns)

    def _no_window(self, reason: str) -> PowerError:
        since = f" after: {self._fault}" if self._fault else ""
        return PowerError(
            f"no counter window to price this work: {reason}{since}; needed: two readings at least {self._rapl.min_window_s:g} s apart, "
            "use another source for now",
            code="no_window",
        )

    def _sample(self) -> _Sample:
        return _Sample(self._rapl.read(), self._busy())

    def _priced(self, start: _Sample, end: _Sample) -> Price:
        n_threads = end.busy.n_threads
        length_s = _length_s(start, end)
        watts = self._rapl.joules(start.reading, end.reading) / length_s
        # Ticks may show nothing in a short window, or one too many; work was done, because someone asks for its price.
        busy_s = min(max(end.busy.busy_s - start.busy.busy_s, _tick_s()), n_threads * length_s)
        load = busy_s / (n_threads * length_s)
        ratios = (self._idle_ratio.value, self._idle_ratio.lo, self._idle_ratio.hi)
        full = [watts / n_threads / (ratio + (1.0 - ratio) * load) for ratio in ratios]
        # The energy of one update more or less may lie in the window.
        step = self._rapl.step_s / length_s
        return Price(
            active_w=_band([(1.0 - ratio) * each for ratio, each in zip(ratios, full, strict=True)], step),
            idle_w=_band([ratio * each for ratio, each in zip(ratios, full, strict=True)], step),
            method="apportioned",
            source=f"RAPL {', '.join(dict.fromkeys(self._rapl.zones))}",
            boundary=self._rapl.boundary,
            window_s=length_s,
        )


def _band(watts: list[float], step: float) -> Band:
    """The first of the watts, between the ends of all, widened by what counters and shares get wrong."""
    return Band(watts[0], min(watts) * ATTRIBUTION_LO * (1.0 - step), max(watts) * ATTRIBUTION_HI * (1.0 + step))


def _length_s(start: _Sample, end: _Sample) -> float:
    return (end.reading.at_ns - start.reading.at_ns) / 1e9


def _tick_s() -> float:
    return 1.0 / os.sysconf("SC_CLK_TCK")
