"""Whether the CPU seconds of requests, of the event loop and of nobody add up to those of the process, at several requests at once.

Real searches run in a thread each, dispatched by an event loop that also does a little work for each. The ledger says what requests
and loop used. Everything else is counted apart from it: by the kernel's clock of every thread, by the thread clock around each request,
and by the loop's clock at the ends of each request. What the ledger charges twice or loses shows as an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rag.clocks import CpuClock, thread_clock
from rag.engine import Engine
from rag.ledger import Account, Ledger
from rag.meter import Meter
from rag.power import Power
from rag.types import Query, SearchResult


@dataclass(frozen=True, slots=True)
class Window:
    """CPU seconds of a stretch of service; only the first two come from the ledger.

    Attributes:
        attributed_s: What finished requests used, as the ledger says.
        framework_s: Of the event loop while requests were in flight, as the ledger says.
        process_s: Of the whole process.
        threads_s: Of all its threads, added up; less than ``process_s`` where a thread ended meanwhile.
        told_s: Sum of ``cpu_s`` of the results.
        bracketed_s: Of the worker threads between beginning and end of a request, with the threads that work for them.
        between_s: Of the worker threads otherwise.
        loop_idle_s: Of the event loop without a request in flight.
        others_s: Of all other threads.
        naive_s: What the clock of the process would have charged to the requests.
    """

    attributed_s: float
    framework_s: float
    process_s: float
    threads_s: float
    told_s: float
    bracketed_s: float
    between_s: float
    loop_idle_s: float
    others_s: float
    naive_s: float

    @property
    def nobody_s(self) -> float:
        """What belongs to no request, counted without the ledger."""
        return self.between_s + self.loop_idle_s + self.others_s

    @property
    def error(self) -> float:
        """Share of the CPU seconds of the process that was charged too much (positive) or to nobody (negative)."""
        return (self.attributed_s + self.framework_s + self.nobody_s) / self.process_s - 1

    @property
    def told_error(self) -> float:
        """The same for what the results say, which are made a moment before their request ends."""
        return (self.told_s + self.nobody_s) / self.process_s - 1


@dataclass(frozen=True, slots=True)
class Conservation:
    """Windows of one kind: medians over rounds.

    Attributes:
        n_concurrent: Requests in flight.
        threads: Threads that embed one text.
        n_requests: In a window.
        n_rounds: Windows.
        error: Of the account, as `Window.error`.
        worst_error: Largest magnitude of a round.
        told_error: Of what the results say.
        threads_error: Sum of the clocks of all threads against that of the process, less 1.
        attributed_share: Of the CPU seconds of the process, to requests.
        framework_share: To the event loop, shared among requests.
        nobody_share: Belongs to no request.
        others_share: Of these, threads that are neither worker nor loop nor known to work for a request. What they do for requests is
            charged to nobody, and no error of the account shows it.
        naive_factor: What the clock of the process would have charged to the requests, by what it used.
        process_ms: CPU milliseconds of the process a request.
    """

    n_concurrent: int
    threads: int
    n_requests: int
    n_rounds: int
    error: float
    worst_error: float
    told_error: float
    threads_error: float
    attributed_share: float
    framework_share: float
    nobody_share: float
    others_share: float
    naive_factor: float
    process_ms: float


@dataclass(frozen=True, slots=True)
class Load:
    """A kind of window.

    Attributes:
        engine: Answers.
        n_concurrent: Requests in flight.
        threads: Threads of the engine's embedder.
        lane: Ids of its native threads besides the caller's.
    """

    engine: Engine
    n_concurrent: int
    threads: int = 1
    lane: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Bracket:
    """Clocks around one request, in nanoseconds."""

    own: int
    process: int
    loop_began: int
    loop_ended: int
    told: int


def measure_conservation(
    loads: Sequence[Load], texts: Sequence[str], n_rounds: int, power: Power | None
) -> tuple[Conservation, ...]:
    """Run windows of every kind in turns.

    Args:
        loads: The kinds; their engines are warm.
        texts: Queries of a window, one request each.
        n_rounds: Windows of each kind.
        power: Prices the requests.

    Returns:
        One entry a kind, in order.
    """
    found: list[list[Window]] = [[] for _ in loads]
    for _ in range(n_rounds):
        for windows, load in zip(found, loads, strict=True):
            windows.append(serve(load, texts, power))
    return tuple(_summary(load, len(texts), windows) for load, windows in zip(loads, found, strict=True))


def serve(load: Load, texts: Sequence[str], power: Power | None) -> Window:
    """One window of service.

    Args:
        load: Its kind.
        texts: Queries, one request each.
        power: Prices the requests.

    Returns:
        What every clock says.
    """
    return asyncio.run(_serve(load, texts, power))


async def _serve(load: Load, texts: Sequence[str], power: Power | None) -> Window:
    loop, n = asyncio.get_running_loop(), load.n_concurrent
    loop_clock = thread_clock(threading.get_ident())
    with ThreadPoolExecutor(n) as pool:
        barrier = threading.Barrier(n)
        started = [loop.run_in_executor(pool, _started, barrier, load.engine, texts[0]) for _ in range(n)]
        workers = frozenset(await asyncio.gather(*started))
        bodies = iter([json.dumps({"text": text, "k": 10}) for text in texts])
        brackets: list[_Bracket] = []
        ledger = Ledger(framework=loop_clock)

        def request(text: str) -> tuple[SearchResult, _Bracket]:
            return _bracketed(lambda meter: load.engine.search(Query(text), meter), ledger, loop_clock, power)

        async def client() -> None:
            for body in bodies:  # shared: every client takes the next
                result, bracket = await loop.run_in_executor(pool, request, json.loads(body)["text"])
                brackets.append(bracket)
                json.dumps([(hit.chunk.chunk_id, hit.chunk.text, hit.score) for hit in result.hits])

        process, before = time.process_time_ns(), thread_times()
        await asyncio.gather(*(client() for _ in range(n)))
        account = ledger.account()
        process, after = time.process_time_ns() - process, thread_times()
    used = {tid: ns - before.get(tid, 0) for tid, ns in after.items()}
    return _window(account, process, used, brackets, _Roles(workers, load.lane, threading.get_native_id()))


def _started(barrier: threading.Barrier, engine: Engine, text: str) -> int:
    """Wait until every worker has a thread, and warm this one up."""
    barrier.wait()
    engine.search(Query(text), Meter("thread"))
    return threading.get_native_id()


def _bracketed(
    work: Callable[[Meter], SearchResult], ledger: Ledger, loop_clock: CpuClock, power: Power | None
) -> tuple[SearchResult, _Bracket]:
    loop_began, process, own = loop_clock(), time.process_time_ns(), time.thread_time_ns()
    with Meter("thread", ledger=ledger, power=power) as meter:
        result = work(meter)
    own, process = time.thread_time_ns() - own, time.process_time_ns() - process
    return result, _Bracket(own, process, loop_began, loop_clock(), round(result.measurement.cpu_s * 1e9))


@dataclass(frozen=True, slots=True)
class _Roles:
    """Thread ids by what they do; the rest does neither."""

    workers: frozenset[int]
    lane: frozenset[int]
    loop: int


def _window(account: Account, process: int, used: dict[int, int], brackets: Sequence[_Bracket], roles: _Roles) -> Window:
    def cpu(tids: Iterable[int]) -> int:
        return sum(used.get(tid, 0) for tid in tids)

    bracketed, lane = sum(bracket.own for bracket in brackets), cpu(roles.lane)
    in_flight = covered([(bracket.loop_began, bracket.loop_ended) for bracket in brackets])
    return Window(
        attributed_s=account.attributed_s,
        framework_s=account.framework_s,
        process_s=process / 1e9,
        threads_s=sum(used.values()) / 1e9,
        told_s=sum(bracket.told for bracket in brackets) / 1e9,
        bracketed_s=(bracketed + lane) / 1e9,
        between_s=(cpu(roles.workers) - bracketed) / 1e9,
        loop_idle_s=(used[roles.loop] - in_flight) / 1e9,
        others_s=cpu(used.keys() - roles.workers - roles.lane - {roles.loop}) / 1e9,
        naive_s=sum(bracket.process for bracket in brackets) / 1e9,
    )


def covered(intervals: Iterable[tuple[int, int]]) -> int:
    """Length of the union of intervals.

    On the axis of the loop's own CPU time this is what the loop worked while at least one request was in flight, whatever the order in
    which threads came to read it.

    Args:
        intervals: Begin and end of each, the end not before the begin.

    Returns:
        The length, 0 for none.
    """
    length, reached = 0, -(2**63)
    for begin, end in sorted(intervals):
        length += max(0, end - max(begin, reached))
        reached = max(reached, end)
    return length


def thread_times() -> dict[int, int]:
    """CPU nanoseconds of every thread of this process by kernel id; Linux only.

    Raises:
        SystemExit: On another system.
    """
    if sys.platform != "linux":
        raise SystemExit("the clocks of all threads of a process can be read on Linux only; run this benchmark there")
    return dict(_thread_times())


def _thread_times() -> Iterator[tuple[int, int]]:
    for tid in map(int, os.listdir("/proc/self/task")):
        try:
            yield tid, time.clock_gettime_ns((~tid << 3) | 6)  # CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED
        except OSError:  # ended since it was listed
            continue


def _summary(load: Load, n_requests: int, windows: Sequence[Window]) -> Conservation:
    def median(value: Callable[[Window], float]) -> float:
        return statistics.median(map(value, windows))

    return Conservation(
        n_concurrent=load.n_concurrent,
        threads=load.threads,
        n_requests=n_requests,
        n_rounds=len(windows),
        error=median(lambda w: w.error),
        worst_error=max((w.error for w in windows), key=abs),
        told_error=median(lambda w: w.told_error),
        threads_error=median(lambda w: w.threads_s / w.process_s - 1),
        attributed_share=median(lambda w: w.attributed_s / w.process_s),
        framework_share=median(lambda w: w.framework_s / w.process_s),
        nobody_share=median(lambda w: w.nobody_s / w.process_s),
        others_share=median(lambda w: w.others_s / w.process_s),
        naive_factor=median(lambda w: w.naive_s / w.process_s),
        process_ms=median(lambda w: w.process_s * 1e3 / n_requests),
    )
