"""Who is let in: a fixed number of requests is worked on, a fixed number waits, and the next one is refused at once.

Work runs in threads of our own, for two reasons: a thread whose work nobody waits for any more is replaced, so that a slow server
behind one stage does not take the service down; and threads that never end must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal, TypeVar

from api.patience import Patience
from rag.errors import OverloadedError
from rag.settings import ServiceSettings

_T = TypeVar("_T")
# How late a stage may be noticed to be late.
_LOOK_S = 0.05
# Abandoned threads besides the workers; beyond that an abandoned request keeps its place until its thread is free.
_MAX_ABANDONED = 16
_MAX_RETRY_S = 30
# Between two lines of the log on refusals: a line each took a tenth of what a refusal costs, and two turns of the interpreter lock.
_TELL_S = 1.0


class GoneError(Exception):
    """The client has left."""


@dataclass(slots=True, eq=False)
class _Task:
    work: Callable[[], Any]
    patience: Patience
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    state: Literal["waiting", "running", "over", "abandoned"] = "waiting"
    is_settled: bool = False


class Admission:
    """The queue and its threads; every method but the work itself belongs to the event loop.

    Args:
        options: How many work and how many wait.
    """

    def __init__(self, options: ServiceSettings) -> None:
        self._options = options
        self._n_workers = options.workers or os.cpu_count() or 1
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._tasks: set[_Task] = set()
        self._coming: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._n_threads = 0  # that take work; abandoned ones are counted apart
        self._n_abandoned = 0
        self.n_in = 0
        self.n_running = 0
        self.is_draining = False
        self._n_untold = 0
        self._told = -_TELL_S
        self._mean_s = 0.02  # of the time that one piece of work takes; moves with what is seen

    @property
    def n_waiting(self) -> int:
        """Requests in the queue."""
        return max(0, self.n_in - self.n_running)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which the queue will have moved on."""
        wait_s = self._mean_s * (self.n_in + 1) / self._n_workers
        return max(1, min(_MAX_RETRY_S, math.ceil(wait_s)))

    def check(self, gone: asyncio.Future[None] | None = None) -> None:
        """Refuse if there is no place.

        Args:
            gone: Of the request that asks; one that is expected has its place.

        Raises:
            OverloadedError: ``draining`` if the service is going down, ``overloaded`` if the queue is full.
        """
        if self.is_draining:
            raise OverloadedError(
                "the service is going down; send the request to another one, or again in a moment", code="draining"
            )
        places = self._n_workers + self._options.queue
        n_taken = self.n_in + len(self._coming)
        if n_taken >= places and gone not in self._coming:
            raise OverloadedError(
                f"{n_taken} requests are in progress or waiting; allowed: {places} (api.workers and api.queue); try again in "
                f"{self.retry_after_s} s",
                code="overloaded",
            )

    def expect(self, gone: asyncio.Future[None]) -> None:
        """Keep a place for a request that is all there, until `arrived`: hundreds may come before the first of them is in `run`.

        Args:
            gone: Of the request, by which it is known; one that is expected already keeps its place.

        Raises:
            OverloadedError: If there is no place.
        """
        self.check(gone)
        self._coming.add(gone)

    def arrived(self, gone: asyncio.Future[None]) -> None:
        """Give up the place kept for a request: it takes its own now, or shares another's, or is over."""
        self._coming.discard(gone)

    def refused(self) -> int:
        """Count a request that was refused at the door.

        Returns:
            How many to tell of now: at most once a second it is not 0.
        """
        self._n_untold += 1
        now = time.monotonic()
        if now - self._told < _TELL_S:
            return 0
        self._told, n, self._n_untold = now, self._n_untold, 0
        return n

    async def run(self, work: Callable[[], _T], patience: Patience, gone: asyncio.Future[None]) -> _T:
        """Do a piece of work in a thread.

        Args:
            work: It must ask ``patience`` often.
            patience: How long it may take.
            gone: Done when nobody waits any more.

        Returns:
            What it returns.

        Raises:
            OverloadedError: If there is no place.
            GoneError: If nobody waits any more.
            LateError: If it took too long.
        """
        self.check()
        loop = asyncio.get_running_loop()
        task = _Task(work, patience, loop.create_future(), loop)
        self.n_in += 1
        self._tasks.add(task)
        if self._timer is None:
            self._timer = loop.call_later(_LOOK_S, self._look)
        self._start_threads()
        self._queue.put(task)
        try:
            await asyncio.wait({task.future, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not task.future.done():
                raise GoneError
            result: _T = task.future.result()
            return result
        finally:
            self._tasks.discard(task)
            if not task.is_settled:
                patience.stop()
                self._abandon(task)

    def close(self) -> None:
        """Let the threads end when they are free."""
        for _ in range(self._n_threads):
            self._queue.put(None)

    def _look(self) -> None:
        """Give up what has taken too long. One look for all: one of each for itself took a third of a core with a full queue."""
        self._timer = None
        for task in self._tasks:
            if not task.future.done() and (late := task.patience.late()):
                task.future.set_exception(late)
        if self._tasks:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _start_threads(self) -> None:
        with self._lock:
            while self._n_threads < min(self._n_workers, self.n_in):
                self._start_thread()

    def _start_thread(self) -> None:
        self._n_threads += 1
        threading.Thread(target=self._serve, name="worker", daemon=True).start()

    def _abandon(self, task: _Task) -> None:
        """Free the place of a task that nobody waits for, and put another thread in the place of the one that is at it."""
        with self._lock:
            if task.state == "running" and self._n_abandoned < _MAX_ABANDONED:
                self._n_abandoned += 1
                self._n_threads -= 1
                self.n_running -= 1
                self._start_thread()
            elif task.state != "waiting":
                return  # its place is free when it is over
            task.state = "abandoned"
        self.n_in -= 1

    def _serve(self) -> None:
        """The life of a thread."""
        while (task := self._queue.get()) is not None:
            with self._lock:
                if task.state == "abandoned":
                    continue
                task.state = "running"
                self.n_running += 1
            began = time.monotonic()
            result, error = None, None
            try:
                result = task.work()
            except BaseException as raised:  # noqa: BLE001 - whatever it is belongs to who waits
                error = raised
            with self._lock:
                if self._is_abandoned(task):  # another thread has taken over
                    self._n_abandoned -= 1
                    return
                task.state = "over"
                self.n_running -= 1
            self._mean_s += 0.1 * (time.monotonic() - began - self._mean_s)
            try:
                task.loop.call_soon_threadsafe(self._settle, task, result, error)
            except RuntimeError:  # the loop has ended: nobody waits
                return

    def _is_abandoned(self, task: _Task) -> bool:
        return task.state == "abandoned"

    def _settle(self, task: _Task, result: object, error: BaseException | None) -> None:
        self.n_in -= 1
        task.is_settled = True
        if task.future.done():
            return
        if error is None:
            task.future.set_result(result)
        else:
            task.future.set_exception(error)
            task.future.exception()  # seen, also when nobody waits any more


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Any]
    gone: asyncio.Future[None]
    n_waiting: int = 0


class Flights:
    """Identical requests in flight are one piece of work; it goes on for as long as one of them waits."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    def has(self, key: Hashable) -> bool:
        """Whether the work of a key is in flight."""
        return key in self._flights

    @property
    def n_waiting(self) -> int:
        """Requests that wait for work in flight, those that started it included."""
        return sum(flight.n_waiting for flight in self._flights.values())

    async def join(
        self, key: Hashable, start: Callable[[asyncio.Future[None]], Awaitable[_T]], gone: asyncio.Future[None]
    ) -> tuple[_T, bool]:
        """Wait for the work of a key, which is started unless it is in flight.

        Args:
            key: Everything that decides the result.
            start: Begins the work; it is given a future that is done when nobody waits any more.
            gone: Done when this client has left.

        Returns:
            The result, and whether another request had started it.

        Raises:
            GoneError: If this client has left. What the work raises is raised here too.
        """
        flight = self._flights.get(key)
        is_shared = flight is not None
        if flight is None:
            nobody = asyncio.get_running_loop().create_future()
            flight = self._flights[key] = _Flight(asyncio.ensure_future(_seen(start(nobody))), nobody)
            flight.task.add_done_callback(lambda _: self._drop(key, flight))
        flight.n_waiting += 1
        try:
            await asyncio.wait({flight.task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not flight.task.done():
                raise GoneError
            outcome = flight.task.result()
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome, is_shared
        finally:
            flight.n_waiting -= 1
            if not flight.n_waiting and not flight.gone.done():
                self._drop(key, flight)
                flight.gone.set_result(None)

    def _drop(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


async def _seen(work: Awaitable[_T]) -> _T | Exception:
    """The result or the error as a value: an error that nobody waits for is none of the loop's business."""
    try:
        return await work
    except Exception as error:  # noqa: BLE001 - handed on to who waits
        return error
