"""CPU seconds by ownership: what a piece of work used, stage by stage, and what nobody did.

A `Meter` belongs to one piece of work and to the thread that does it. Its clock is chosen once: ``process`` counts every thread of
the process, which is right for a command that does one thing; ``thread`` counts the calling thread, which is right where several
requests share a process. What works for a stage outside that clock is named with the stage: a `Lane` of native threads, or the clock
of a child process. A `Ledger` shares out the time of an event loop and keeps the account of the whole process.

Every nanosecond is charged once: a stage entered inside another one interrupts it, a lane has one caller at a time. Joules and grams
are priced by `rag.power`.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator, contextmanager
from types import TracebackType
from typing import Literal, NamedTuple

from rag.power import Power, Work
from rag.types import Energy, Figure, Measurement, StageCost, TokenCounts

_NO_TOKENS = TokenCounts()

Clock = Literal["process", "thread"]
CpuClock = Callable[[], int]
"""CPU nanoseconds so far, never falling."""


def thread_clock(ident: int) -> CpuClock:
    """The CPU clock of another thread of this process.

    Args:
        ident: As `threading.get_ident` gives it in that thread, which must outlive the clock.

    Returns:
        A clock of its user and system time.
    """
    clock_id = time.pthread_getcpuclockid(ident)
    return lambda: time.clock_gettime_ns(clock_id)


def process_clock(pid: int) -> CpuClock:
    """The CPU clock of another process on this machine, all its threads, without its children.

    Args:
        pid: A running process, for example a model server.

    Returns:
        A clock of its user and system time. When the process has ended it stands still at the last reading.

    Raises:
        ProcessLookupError: If there is no such process.
    """
    clock_id = (~pid << 3) | 2  # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it on Linux
    last = [_read(clock_id)]
    if last[0] < 0:
        raise ProcessLookupError(f"no process {pid}")

    def read() -> int:
        last[0] = max(last[0], _read(clock_id))
        return last[0]

    return read


def _read(clock_id: int) -> int:
    try:
        return time.clock_gettime_ns(clock_id)
    except OSError:
        return -1


class Lane:
    """A native thread pool that one caller uses at a time, and whose CPU time is charged to that caller's thread.

    Linux tells the clock of every thread of a process, so the pool's threads are counted exactly. Elsewhere the clock of the process
    less that of the caller stands for them, which is right as long as nothing else runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock_ids: tuple[int, ...] = ()
        self._charged = threading.local()

    @contextmanager
    def discovering(self) -> Iterator[None]:
        """Take the native threads that appear in the body as the pool: those that Python did not start.

        No other pool may be made meanwhile. Call it around what creates the pool, once or more.

        Yields:
            Nothing.
        """
        before = _task_ids()
        yield
        # Workers of an executor may start meanwhile; they have meters of their own.
        found = sorted(_task_ids() - before - {thread.native_id for thread in threading.enumerate()})
        self._clock_ids += tuple((~tid << 3) | 6 for tid in found)  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED

    @contextmanager
    def held(self) -> Iterator[None]:
        """Use the pool alone; others wait.

        Yields:
            Nothing. What the pool works meanwhile is charged to the calling thread, also when the body raises.
        """
        with self._lock:
            before = self._pool_ns()
            try:
                yield
            finally:
                self._charged.ns = self.charged_ns() + self._pool_ns() - before

    def charged_ns(self) -> int:
        """CPU nanoseconds of the pool that were charged to the calling thread so far."""
        return getattr(self._charged, "ns", 0)

    def _pool_ns(self) -> int:
        if sys.platform != "linux":
            return time.process_time_ns() - time.thread_time_ns()
        return sum(max(0, _read(clock_id)) for clock_id in self._clock_ids)


def _task_ids() -> frozenset[int]:
    return frozenset(map(int, os.listdir("/proc/self/task"))) if sys.platform == "linux" else frozenset()


class Account(NamedTuple):
    """Where the CPU time of a process went since its ledger was opened.

    Attributes:
        wall_s: Age of the ledger.
        process_s: CPU seconds of the process, all threads, user and system.
        attributed_s: Of these, what finished requests used in their own threads and lanes.
        framework_s: Of these, time of the event loop while requests were in flight, shared among them.
        unattributed_s: The rest: event loop and other threads while there was nothing to do, and requests still in flight.
        idle_s: Wall-clock seconds without a request in flight.
        n_requests: Finished requests.
    """

    wall_s: float
    process_s: float
    attributed_s: float
    framework_s: float
    unattributed_s: float
    idle_s: float
    n_requests: int


class Share(NamedTuple):
    """What one request bears of what all in flight use together: seconds of the event loop, and of the reserved machine."""

    framework_s: float
    wall_s: float


class Ledger:
    """Keeps the account of a process that serves several requests at once; safe to share between threads.

    Time of the event loop cannot be told apart by request, so it is split evenly among the requests in flight, instant by instant;
    so are the seconds for which the machine is reserved. Both are integrals over the number in flight, so that shares add up to the
    whole exactly and a request costs two additions.

    Args:
        framework: CPU clock of the event loop's thread (`thread_clock`); None when there is none.
    """

    def __init__(self, framework: CpuClock | None = None) -> None:
        self._framework = framework or (lambda: 0)
        self._lock = threading.Lock()
        self._opened_wall = self._wall = time.perf_counter_ns()
        self._opened_process = time.process_time_ns()
        self._loop = self._framework()
        self._n_in_flight = self._n_requests = 0
        self._loop_each = self._wall_each = 0.0  # integrals of d(loop)/n and d(wall)/n
        self._attributed = self._loop_attributed = self._idle = 0

    def enter(self) -> Share:
        """A request begins.

        Returns:
            The state of the integrals, to be given to `share` and `leave`.
        """
        with self._lock:
            self._advance()
            self._n_in_flight += 1
            return Share(self._loop_each, self._wall_each)

    def share(self, entered: Share) -> Share:
        """What a request in flight bears so far.

        Args:
            entered: As `enter` gave it.

        Returns:
            Seconds of the event loop and of the reserved machine.
        """
        with self._lock:
            self._advance()
            return Share((self._loop_each - entered.framework_s) / 1e9, (self._wall_each - entered.wall_s) / 1e9)

    def leave(self, cpu_ns: int) -> None:
        """A request ends, with an answer or without.

        Args:
            cpu_ns: What it used in its own thread and lanes, without its share of the event loop.
        """
        with self._lock:
            self._advance()
            self._n_in_flight -= 1
            self._n_requests += 1
            self._attributed += cpu_ns

    def account(self) -> Account:
        """The account so far."""
        with self._lock:
            self._advance()
            process = time.process_time_ns() - self._opened_process
            return Account(
                wall_s=(self._wall - self._opened_wall) / 1e9,
                process_s=process / 1e9,
                attributed_s=self._attributed / 1e9,
                framework_s=self._loop_attributed / 1e9,
                unattributed_s=(process - self._attributed - self._loop_attributed) / 1e9,
                idle_s=self._idle / 1e9,
                n_requests=self._n_requests,
            )

    def _advance(self) -> None:
        wall, loop = time.perf_counter_ns(), self._framework()
        if self._n_in_flight:
            self._wall_each += (wall - self._wall) / self._n_in_flight
            self._loop_each += (loop - self._loop) / self._n_in_flight
            self._loop_attributed += loop - self._loop
        else:
            self._idle += wall - self._wall
        self._wall, self._loop = wall, loop


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
    """

    def __init__(
        self,
        clock: Clock = "process",
        *,
        power: Power | None = None,
        ledger: Ledger | None = None,
        from_process_start: bool = False,
    ) -> None:
        self._counts_threads = clock == "process"
        self._cpu_ns = time.process_time_ns if clock == "process" else time.thread_time_ns
        self._power = power
        self._ledger = ledger
        self._entered: Share | None = None
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
            self._entered = self._ledger.enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._ledger:
            self._ledger.leave(self._own_ns())

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
        """
        if energy is not None:
            self._remote.append(energy)
        elif "remote_energy" not in self._unknown:
            self._unknown.append("remote_energy")

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
        wall_s = (time.perf_counter_ns() - self._wall_began) / 1e9
        cpu_s = self._own_ns() / 1e9
        share = self._ledger.share(self._entered) if self._ledger and self._entered else None
        if share:
            cpu_s += share.framework_s
        rss_bytes = _peak_rss_bytes()
        energy = self._energy(cpu_s, wall_s, share, rss_bytes)
        joules_each = energy.active.value / cpu_s if energy and cpu_s > 0 else None
        stages = [
            StageCost(name, c.wall / 1e9, c.cpu / 1e9, joules_each and joules_each * c.cpu / 1e9) for name, c in self._costs.items()
        ]
        if share:
            stages.append(StageCost("framework", 0.0, share.framework_s, joules_each and joules_each * share.framework_s))
        return Measurement(wall_s, cpu_s, energy, tokens or _NO_TOKENS, tuple(stages), "off", rss_bytes)

    def _energy(self, cpu_s: float, wall_s: float, share: Share | None, rss_bytes: int) -> Energy | None:
        if self._power is None:
            return None
        work = Work(
            cpu_s=cpu_s,
            wall_s=wall_s,
            share_s=share.wall_s if share else wall_s,
            rss_bytes=rss_bytes,
            began_ns=self._began_ns,
            gpu=self._gpu,
            remote=tuple(self._remote),
            unknown=tuple(self._unknown),
        )
        return self._power.energy(work)

    def _own_ns(self) -> int:
        return self._cpu_ns() - self._cpu_began + self._outside

    def _begin(self, name: str, lane: Lane | None, child: CpuClock | None) -> None:
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
            outside = self._outside_ns(lane, child) - before
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
        return native + (child() if child else 0)


def _peak_rss_bytes() -> int:
    """Highest resident set of this process; getrusage counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
