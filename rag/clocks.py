"""CPU clocks of threads, native thread pools and other processes: what a meter's own clock does not see."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CpuClock = Callable[[], int]
"""CPU nanoseconds so far, never falling."""

_MAX_PID = 1 << 22  # PID_MAX_LIMIT of Linux


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
        A clock of its user and system time; reading it raises ProcessLookupError when the process has ended and was waited for.

    Raises:
        ProcessLookupError: If there is no such process.
    """

    def read() -> int:
        # CPUCLOCK_SCHED of a process, as clock_getcpuclockid(3) makes it on Linux; 0 would be the calling one.
        if not 0 < pid < _MAX_PID or (ns := read_clock((~pid << 3) | 2)) < 0:
            raise ProcessLookupError(f"no process {pid}")
        return ns

    read()
    return read


def task_clock_id(task_id: int) -> int:
    """The CPU clock of a thread by its number in the system; of a thread that has ended it cannot be read, and no harm is done."""
    return (~task_id << 3) | 6  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED, as Linux makes it


def read_clock(clock_id: int) -> int:
    """Nanoseconds of a clock of the system; -1 when what it belongs to has ended."""
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
        self._clock_ids += tuple(task_clock_id(tid) for tid in found)

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
        return sum(max(0, read_clock(clock_id)) for clock_id in self._clock_ids)


def _task_ids() -> frozenset[int]:
    return frozenset(map(int, os.listdir("/proc/self/task"))) if sys.platform == "linux" else frozenset()
