"""The account of a process that serves several requests at once: what each bears, and what nobody does.

Time of the event loop cannot be told apart by request, so it is split evenly among the requests in flight, instant by instant; so are
the seconds for which the machine is reserved. Both are integrals over the number in flight: shares add up to the whole exactly.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from rag.clocks import CpuClock, read_clock, task_clock_id


class Account(NamedTuple):
    """Where the CPU time of a process went since its ledger was opened.

    Attributes:
        wall_s: Age of the ledger.
        process_s: CPU seconds of the process, all threads, user and system.
        attributed_s: Of these, what finished requests used in their own threads and lanes.
        framework_s: Of these, time of the event loop while requests were in flight, shared among them.
        in_flight_s: Of these, what requests that have not finished have used so far, in their own threads; on Linux only.
        unattributed_s: The rest: event loop and other threads while there was nothing to do.
        idle_s: Wall-clock seconds without a request in flight.
        n_requests: Finished requests.
    """

    wall_s: float
    process_s: float
    attributed_s: float
    framework_s: float
    in_flight_s: float
    unattributed_s: float
    idle_s: float
    n_requests: int


class Share(NamedTuple):
    """What one request bears of what all in flight use together: seconds of the event loop, and of the reserved machine."""

    framework_s: float
    wall_s: float


class Entry:
    """A request in flight: the state of the integrals when it began, its thread, and what that had used."""

    __slots__ = ("cpu", "loop", "task_id", "wall")

    def __init__(self, loop: float, wall: float) -> None:
        self.loop = loop
        self.wall = wall
        self.task_id = threading.get_native_id()
        self.cpu = time.thread_time_ns()


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
        self._in_flight: set[Entry] = set()
        self._n_requests = 0
        self._loop_each = self._wall_each = 0.0  # integrals of d(loop)/n and d(wall)/n
        self._attributed = self._loop_attributed = self._idle = 0

    def enter(self) -> Entry:
        """A request begins, in the calling thread.

        Returns:
            What `share` and `leave` know it by.
        """
        with self._lock:
            self._advance()
            entry = Entry(self._loop_each, self._wall_each)
            self._in_flight.add(entry)
            return entry

    def share(self, entry: Entry) -> Share:
        """What a request in flight bears so far.

        Args:
            entry: As `enter` gave it.

        Returns:
            Seconds of the event loop and of the reserved machine.
        """
        with self._lock:
            self._advance()
            return Share((self._loop_each - entry.loop) / 1e9, (self._wall_each - entry.wall) / 1e9)

    def leave(self, entry: Entry, cpu_ns: int) -> None:
        """A request ends, with an answer or without.

        Args:
            entry: As `enter` gave it.
            cpu_ns: What it used in its own thread and lanes, without its share of the event loop.
        """
        with self._lock:
            self._advance()
            self._in_flight.remove(entry)
            self._n_requests += 1
            self._attributed += cpu_ns

    def account(self) -> Account:
        """The account so far."""
        with self._lock:
            self._advance()
            in_flight = sum(max(0, read_clock(task_clock_id(entry.task_id)) - entry.cpu) for entry in self._in_flight)
            process = time.process_time_ns() - self._opened_process
            return Account(
                wall_s=(self._wall - self._opened_wall) / 1e9,
                process_s=process / 1e9,
                attributed_s=self._attributed / 1e9,
                framework_s=self._loop_attributed / 1e9,
                in_flight_s=in_flight / 1e9,
                unattributed_s=(process - self._attributed - self._loop_attributed - in_flight) / 1e9,
                idle_s=self._idle / 1e9,
                n_requests=self._n_requests,
            )

    def _advance(self) -> None:
        wall, loop = time.perf_counter_ns(), self._framework()
        if n_in_flight := len(self._in_flight):
            self._wall_each += (wall - self._wall) / n_in_flight
            self._loop_each += (loop - self._loop) / n_in_flight
            self._loop_attributed += loop - self._loop
        else:
            self._idle += wall - self._wall
        self._wall, self._loop = wall, loop
