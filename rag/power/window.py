"""Prices from counter windows: what a CPU-second costs now, by the energy that the machine took and the time that it was busy.

In a window of ``dt`` seconds the counters moved by ``dE`` joules while ``busy`` of the ``n * dt`` CPU-seconds were used, so the load is
``U = busy / (n * dt)``. With ``r``, the power of an idle machine over that of a full one, power is taken as linear in load::

    dE / dt = full * (r + (1 - r) * U)
    idle_w = r * full / n          active_w = (1 - r) * full / n

Then ``active_w * busy + idle_w * n * dt == dE``: whatever ``r`` is, what is shared out is what was counted; ``r`` only moves joules
between the two, and its ends make the band.

A thread of its own reads the counters once a second, so that no wrap is missed and a window reaches back to where any work began; a
call that wants a price adds the reading at its end. What is kept is the energy since the first reading: a window is a difference.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rag.errors import InputError, PowerError, RagError
from rag.power.figure import Band
from rag.power.price import Price
from rag.power.rapl import Rapl, Reading

# Work that began between two readings has a window that is longer than itself by about this much.
SAMPLE_S = 1.0

# A reading is new for so long: requests of some milliseconds share those of other sockets, which are slow.
FRESH_NS = 100_000_000

# One reading a second is kept for an hour; of older ones so many that a window is at most a sixtieth longer than the work.
KEPT_NS = 3_600_000_000_000
OLD_SHARE = 60
# Two readings are left this far apart within the hour: less than two steps, so that those of the thread stay.
KEPT_GAP_NS = 1_500_000_000
# Looking through all readings takes a millisecond or two.
THIN_NS = 60_000_000_000

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


class _Sample(NamedTuple):
    """One reading; ``spent`` is the microjoules of each zone since the first."""

    at_ns: int
    spent: tuple[int, ...]
    busy: BusyTimes


class CounterWindows:
    """Windows between any two readings of the counters, and their prices; safe for several threads.

    Its thread ends with `close`, with the last reference to this object, and with the process.

    Args:
        rapl: Open counters, owned from now on; read once at construction.
        idle_ratio: Power of an idle machine over that of a full one, 0.0 to 1.0.
        busy: Tells how busy the machine was.
        now_ns: Monotonic clock, the same as that of ``rapl``.
        every_s: Seconds between two readings of the thread; None starts none, then `sample` must be called at least every
            `Rapl.longest_window_s`.

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
        every_s: float | None = SAMPLE_S,
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
        self._min_ns = round(rapl.min_window_s * 1e9)
        self._lock = threading.Lock()
        self._samples: list[_Sample] = []  # oldest first; a fault empties it
        self._times: list[int] = []  # theirs, because a search in numbers is faster
        self._latest = -1  # place of the newest sample that begins a window long enough
        self._prices: dict[int, Price] = {}  # of the windows that end with the newest sample, by the place of their start
        self._fault = ""
        self._tried_ns = self._thinned_ns = now_ns()
        self._last = rapl.read()
        self._start(self._last, busy())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if every_s is not None:
            arguments = (weakref.ref(self), self._stop, every_s)
            self._thread = threading.Thread(target=_sample_often, args=arguments, name="energy-counters", daemon=True)
            self._thread.start()

    def price(self, began_ns: int) -> Price:
        """Price work that ends now.

        The window begins with the newest reading at or before the beginning of the work, the first where there is none, but so early
        that it is at least `Rapl.min_window_s` long. It ends with the newest reading, which is less than 0.1 s old: if there is none,
        the counters are read now. So it overlaps the work or ended less than 0.1 s before.

        Args:
            began_ns: When the work began, on the clock of the constructor.

        Returns:
            The price of that window; ``window_s`` is its length.

        Raises:
            PowerError: ``no_window`` when the counters are not known for long enough, as after a fault, which the message then tells; or
                the fault that this call met: ``counter_vanished``, ``counter_wrapped``, ``counter_jumped``, ``counter_stuck``,
                ``counter_unread`` or ``busy_unreadable``. After a fault no window reaches to before it.
        """
        with self._lock:
            now_ns = self._now_ns()
            if now_ns - self._tried_ns >= FRESH_NS or (
                self._latest < 0 and self._times and now_ns - self._times[0] >= self._min_ns
            ):
                self._read()
            if self._latest < 0:
                raise self._no_window(now_ns)
            start = bisect_right(self._times, began_ns, 1, self._latest + 1) - 1  # from the first to the latest place
            price = self._prices.get(start)
            if price is None:
                price = self._prices[start] = self._priced(self._samples[start], self._samples[-1])
                self._fault = ""
            return price

    def sample(self) -> None:
        """Read the counters, as the thread does; a fault is told by the next `price`."""
        with self._lock:
            try:
                self._read()
            except RagError:
                return  # kept by _read

    def close(self) -> None:
        """End the thread and close the counters; a price asked for later reads them again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(SAMPLE_S)  # it may be reading
        with self._lock:
            self._rapl.close()

    def _read(self) -> None:
        """Add a sample; after a fault, only those from then on remain."""
        self._tried_ns = self._now_ns()
        try:
            reading, busy = self._rapl.read(), self._busy()
            before, self._last = self._last, reading
            if self._samples:
                self._add(before, reading, busy)
            elif reading.microjoules != before.microjoules:  # what still stands may come back to life in the middle of a window
                self._start(reading, busy)
        except RagError as error:
            self._samples, self._times, self._latest = [], [], -1
            self._prices.clear()
            self._fault = str(error)
            raise

    def _start(self, reading: Reading, busy: BusyTimes) -> None:
        self._samples = [_Sample(reading.at_ns, (0,) * len(reading.microjoules), busy)]
        self._times = [reading.at_ns]

    def _add(self, before: Reading, after: Reading, busy: BusyTimes) -> None:
        gap_s = (after.at_ns - before.at_ns) / 1e9
        if gap_s > self._rapl.longest_window_s:
            raise PowerError(
                f"the energy counters were not read for {gap_s:.0f} s and may have wrapped twice; allowed: "
                f"{self._rapl.longest_window_s:.0f} s, windows start anew",
                code="counter_unread",
            )
        moved = self._rapl.spent(before, after)
        sample = _Sample(after.at_ns, tuple(map(int.__add__, self._samples[-1].spent, moved)), busy)
        # Callers read up to ten times a second.
        if len(self._samples) > 1 and sample.at_ns - self._times[-2] <= SAMPLE_S * 1e9:
            self._samples.pop()
            self._times.pop()
        self._samples.append(sample)
        self._times.append(sample.at_ns)
        if sample.at_ns - self._thinned_ns >= THIN_NS:
            self._thinned_ns = sample.at_ns
            self._samples = _thinned(self._samples)
            self._times = [each.at_ns for each in self._samples]
        self._latest = bisect_right(self._times, sample.at_ns - self._min_ns) - 1
        self._prices.clear()
        if self._latest >= 0:
            self._moved(self._samples[self._latest], sample)

    def _moved(self, start: _Sample, end: _Sample) -> int:
        """Microjoules of all zones in a window."""
        spent = tuple(map(int.__sub__, end.spent, start.spent))
        self._rapl.check_moved(spent, _length_s(start, end))
        return sum(spent)

    def _no_window(self, now_ns: int) -> PowerError:
        known = f"the counters are known for {(now_ns - self._times[0]) / 1e9:.3f} s" if self._times else "the counters start anew"
        since = f" after: {self._fault}" if self._fault else ""
        return PowerError(
            f"no counter window to price this work: {known}{since}; needed: two readings at least {self._rapl.min_window_s:g} s apart, "
            "use another source for now",
            code="no_window",
        )

    def _priced(self, start: _Sample, end: _Sample) -> Price:
        n_threads = end.busy.n_threads
        length_s = _length_s(start, end)
        watts = self._moved(start, end) / 1e6 / length_s
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


def _sample_often(windows: weakref.ref[CounterWindows], stop: threading.Event, every_s: float) -> None:
    """Read for as long as somebody holds the windows."""
    while not stop.wait(every_s):
        held = windows()
        if held is None:
            return
        held.sample()
        del held


def _thinned(samples: list[_Sample]) -> list[_Sample]:
    """The first, the newest and as many between as windows need."""
    now_ns = samples[-1].at_ns
    kept = samples[:1]
    for sample, after in zip(samples[1:], samples[2:], strict=False):
        age_ns = now_ns - sample.at_ns
        if after.at_ns - kept[-1].at_ns > (KEPT_GAP_NS if age_ns < KEPT_NS else age_ns // OLD_SHARE):
            kept.append(sample)
    return [*kept, *samples[1:][-1:]]


def _band(watts: list[float], step: float) -> Band:
    """The first of the watts, between the ends of all, widened by what counters and shares get wrong."""
    return Band(watts[0], min(watts) * ATTRIBUTION_LO * (1.0 - step), max(watts) * ATTRIBUTION_HI * (1.0 + step))


def _length_s(start: _Sample, end: _Sample) -> float:
    return (end.at_ns - start.at_ns) / 1e9


def _tick_s() -> float:
    return 1.0 / os.sysconf("SC_CLK_TCK")
