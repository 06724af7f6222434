"""CPU seconds by ownership: what a piece of work used, stage by stage, and what nobody did.

A `Meter` belongs to one piece of work and to the thread that does it. Its clock is chosen once: ``process`` counts every thread of
the process, which is right for a command that does one thing; ``thread`` counts the calling thread, which is right where several
requests share a process. What works for a stage outside that clock is named with the stage: a `Lane` of native threads, or the clock
of a child process. A `Ledger` shares out the time of an event loop and keeps the account of the whole process.

Every nanosecond is charged once: a stage entered inside another one interrupts it, a lane has one caller at a time. Joules and grams
are priced by `rag.power`.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import ContextDecorator
from types import TracebackType
from typing import Literal

from rag.clocks import CpuClock, Lane
from rag.cost import Energy, Figure, Measurement, StageCost, TokenCounts
from rag.ledger import Entry, Ledger, Share
from rag.power import Power, Work

_NO_TOKENS = TokenCounts()

Clock = Literal["process", "thread"]


class _Cost:
    """Nanoseconds of a stage, while it runs."""

    __slots__ = ("cpu", "wall")

    def __init__(self) -> None:
        self.wall = self.cpu = 0


class Stage(ContextDecorator):
    """Charges its body to a stage of a meter."""

    __slots__ = ("_child", "_lane", "_meter", "_name")

    def __init__(self, meter: Meter, name: str, lane: Lane | None, child: CpuClock | None) -> None:
        self._meter = meter
        self._name = name
        self._lane = lane
        self._child = child

    def __enter__(self) -> None:
        self._meter._begin(self._name, self._lane, self._child)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._meter._end(self._lane, self._child)


class Meter:
    """Collects the cost of the stages of one piece of work, done by the thread that made the meter.

    Args:
        clock: Which CPU clock is read.
        power: Prices CPU seconds; None leaves joules and grams unknown.
        ledger: The account of the process. The meter must then be used in a ``with`` statement, which settles with the ledger also
            when the work raises or is cancelled.
        from_process_start: Count the CPU seconds since the process began, and report what passed before this call as stage
            ``start``.

    Raises:
        ValueError: If a ledger is given to a meter of the process clock, which would charge one request with the work of others.
    """

    def __init__(
        self,
        clock: Clock = "process",
        *,
        power: Power | None = None,
        ledger: Ledger | None = None,
        from_process_start: bool = False,
    ) -> None:
        if ledger and clock == "process":
            raise ValueError("a ledger shares out a process among requests: its meters need the clock 'thread'")
        # The thread that the clock counts; a process clock counts whoever asks.
        self._thread = threading.get_ident() if clock == "thread" else 0
        self._counts_threads = clock == "process"
        self._cpu_ns = time.process_time_ns if clock == "process" else time.thread_time_ns
        self._power = power
        self._ledger = ledger
        self._entered: Entry | None = None
        self._costs: dict[str, _Cost] = {}
        self._stack: list[tuple[_Cost, int]] = []
        self._outside = 0  # CPU nanoseconds of lanes and child processes, which the meter's own clock does not see
        self._remote: list[Figure] = []
        self._unknown: list[str] = []
        self._gpu = power.gpu_reading() if power else None
        self._began_ns = time.monotonic_ns()
        self._wall_began = self._wall = time.perf_counter_ns()
        self._cpu = self._cpu_ns()
        self._cpu_began = 0 if from_process_start else self._cpu
        if from_process_start:
            self._costs["start"] = _Cost()
            self._costs["start"].cpu = self._cpu

    def __enter__(self) -> Meter:
        if self._ledger:
            if self._entered:
                raise RuntimeError("a meter is entered once: it stands for one request")
            self._entered = self._ledger.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ledger and self._entered:
            is_own = self._thread == threading.get_ident()
            self._ledger.leave(self._entered, self._own_ns() if is_own else 0)
            self._check_thread()

    def stage(self, name: str, *, lane: Lane | None = None, child: CpuClock | None = None) -> Stage:
        """Charge the body to a stage, also when it raises; a stage entered again adds up.

        Inside another stage it interrupts that one. A lane or child clock is charged to the stage that names it; an outer stage must
        not name the same one.

        Args:
            name: Stage name, stable across releases.
            lane: Native threads that work for the body besides the calling thread.
            child: Clock of a process that works for the body alone (`process_clock`).

        Returns:
            A context manager, which is a decorator too.
        """
        return Stage(self, name, lane, child)

    def remote(self, energy: Figure | None) -> None:
        """Add work done on another machine.

        Args:
            energy: Its joules, or None when nothing is known: then the measurement says so.

        Raises:
            ValueError: If it is no energy above 0 with its band.
        """
        if energy is not None:
            if energy.unit != "J" or not 0 <= energy.lo <= energy.value <= energy.hi < float("inf") or energy.value == 0:
                raise ValueError(
                    f"remote energy is {energy.value} ({energy.lo} to {energy.hi}) {energy.unit}; allowed: joules above 0"
                )
            self._remote.append(energy)
        else:
            self._not_known("remote_energy")

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far, without the share of the event loop."""
        return self._own_ns() / 1e9

    def cpu_left_s(self, max_energy_j: float) -> float | None:
        """CPU seconds that a budget still buys.

        Args:
            max_energy_j: Active joules of the whole piece of work.

        Returns:
            0.0 or more; None without a power model, or when work elsewhere has joules that nobody knows.
        """
        if self._power is None or self._unknown:
            return None
        left_j = max_energy_j - sum(figure.value for figure in self._remote)
        return max(0.0, left_j / self._power.price(self._began_ns).active_w.value - self.cpu_s)

    def finish(self, tokens: TokenCounts | None = None) -> Measurement:
        """Say what has passed so far.

        Args:
            tokens: Counts to report.

        Returns:
            The measurement; the sum of its stages is at most its total. With a ledger, the last stage is ``framework``, the share of
            the event loop so far.
        """
        self._check_thread()
        if self._stack:
            self._lap()  # a stage that is still open has what it took so far
        wall_s = (time.perf_counter_ns() - self._wall_began) / 1e9
        cpu_s = self._own_ns() / 1e9
        share = self._ledger.share(self._entered) if self._ledger and self._entered else None
        if share:
            cpu_s += share.framework_s
        rss_bytes = _peak_rss_bytes()
        energy = self._energy(cpu_s, wall_s, share, rss_bytes)
        joules_each = energy.active.value / cpu_s if energy and cpu_s > 0 else None
        joules_ns = None if joules_each is None else joules_each / 1e9
        stages = [StageCost(name, c.wall / 1e9, c.cpu / 1e9, joules_ns and joules_ns * c.cpu) for name, c in self._costs.items()]
        if share:
            stages.append(StageCost("framework", 0.0, share.framework_s, joules_each and joules_each * share.framework_s))
        return Measurement(wall_s, cpu_s, energy, tokens or _NO_TOKENS, tuple(stages), "off", rss_bytes)

    def _energy(self, cpu_s: float, wall_s: float, share: Share | None, rss_bytes: int) -> Energy | None:
        if self._power is None:
            return None
        share_s = share.wall_s if share else wall_s
        remote, unknown = tuple(self._remote), tuple(self._unknown)
        work = Work(cpu_s, wall_s, share_s, rss_bytes, self._began_ns, self._gpu, remote, unknown)
        return self._power.energy(work)

    def _own_ns(self) -> int:
        return self._cpu_ns() - self._cpu_began + self._outside

    def _begin(self, name: str, lane: Lane | None, child: CpuClock | None) -> None:
        self._check_thread()
        outside = self._outside_ns(lane, child) if lane or child else 0
        self._lap()
        cost = self._costs.get(name)
        if cost is None:  # in the order of beginning, not of ending
            cost = self._costs[name] = _Cost()
        self._stack.append((cost, outside))

    def _end(self, lane: Lane | None, child: CpuClock | None) -> None:
        self._lap()
        cost, before = self._stack.pop()
        if lane or child:
            outside = max(0, self._outside_ns(lane, child) - before)
            cost.cpu += outside
            self._outside += outside

    def _lap(self) -> None:
        """Charge what passed since the last lap to the stage on top, if there is one."""
        wall, cpu = time.perf_counter_ns(), self._cpu_ns()
        if self._stack:
            cost, _ = self._stack[-1]
            cost.wall += wall - self._wall
            cost.cpu += cpu - self._cpu
        self._wall, self._cpu = wall, cpu

    def _outside_ns(self, lane: Lane | None, child: CpuClock | None) -> int:
        """The clocks that the meter's own does not see: a child's always, a lane's when only the calling thread is counted."""
        native = lane.charged_ns() if lane and not self._counts_threads else 0
        try:
            return native + (child() if child else 0)
        except ProcessLookupError:  # it ended inside the stage: what it took is lost, and that is said
            self._not_known("child_cpu")
            return native

    def _not_known(self, name: str) -> None:
        if name not in self._unknown:
            self._unknown.append(name)

    def _check_thread(self) -> None:
        if self._thread and self._thread != threading.get_ident():
            raise RuntimeError("a meter of the clock 'thread' belongs to the thread that made it; make one where the work is done")


def _peak_rss_bytes() -> int:
    """Highest resident set of this process; getrusage counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
