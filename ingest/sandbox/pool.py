"""Processes that read files side by side, and what comes of the files in the order in which they were asked for.

One thread, the caller's, does it all: whenever it wants the next result of the first file, it takes what the processes have said,
gives them new files and ends those that are over a limit. Memory is bounded: only so many files are open at once, and of the files
behind the first one only so many bytes are taken; then their processes wait.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self

from ingest.read import Failure
from ingest.sandbox import frames
from ingest.sandbox.causes import Cause, died, timed_out, too_large
from ingest.sandbox.frames import Cut
from ingest.sandbox.job import Job, K
from rag.embed import Embedder, open_embedder
from rag.errors import RagError
from rag.settings import Settings

if TYPE_CHECKING:
    from ingest.sandbox.worker import Worker

# Files that are open or read ahead, a process: enough that none waits while the parent writes down a large one.
_FILES_A_WORKER = 4
# Taken of files behind the first one; half of it for one process that has read far ahead is plenty of work for the parent.
_MAX_AHEAD_BYTES = 32_000_000
# Limits of time are for so many bytes of a file: a reader and tokenizer at a tenth of their usual speed manage 4 MB in 20 s.
_SHARE_BYTES = 4_000_000
# A process is replaced after so many files, and when half of its memory is in use: leaks and fragments end with it.
_MAX_FILES = 200
# Another process is started when files have waited as long as a start takes; a handful of small files is not worth one.
_PATIENCE_S = 0.25
# Frames add names and numbers to the text; the child is exact.
_SLACK_BYTES = 1_000_000
_NONSENSE = Cause("crashed", "the process that read it sent what is no document; report the file")


@dataclass(slots=True, eq=False)
class _State(Generic[K]):
    """A job on its way."""

    job: Job[K]
    queue: deque[tuple[bytes, bytes]] = field(default_factory=deque)
    n_ahead: int = 0
    n_received: int = 0
    failure: Failure | None = None
    end: frames.End | None = None

    @property
    def n_shares(self) -> int:
        return 1 + (self.job.work.n_bytes if self.job.work else 0) // _SHARE_BYTES

    @property
    def is_done(self) -> bool:
        return self.job.work is None or self.end is not None


@dataclass(slots=True, eq=False)
class _Seat(Generic[K]):
    """A process and what it does now."""

    worker: Worker
    state: _State[K] | None = None
    left_s: float = 0.0
    since: float = 0.0


class Reading(Generic[K]):
    """What comes of one job; iterate over it once, then ask how it ended.

    Args:
        pool: Reads it.
        state: How far it is.
    """

    def __init__(self, pool: Pool[K], state: _State[K]) -> None:
        self._pool = pool
        self._state = state

    def __iter__(self) -> Iterator[Cut | Failure]:
        """Documents and failures in the order of the file; one that was given up ends with a failure that says why."""
        return self._pool._results(self._state)

    @property
    def key(self) -> K:
        """The caller's."""
        return self._state.job.key

    @property
    def is_read(self) -> bool:
        """Whether there was anything to read."""
        return self._state.job.work is not None

    @property
    def digest(self) -> str:
        """SHA-256 of salt and bytes as they were read; empty for a process that died."""
        return self._state.end.digest if self._state.end else ""

    @property
    def is_whole(self) -> bool:
        """Whether the reader came to the end of the file; what it did not come to is not known."""
        return self._state.end is not None and self._state.end.is_whole


class Pool(Generic[K]):
    """Reads files in child processes; to be used in a ``with`` statement, whose end, however it comes, kills them all.

    Nothing is started before there is a file to read.

    Args:
        settings: Limits, number of processes, and which embedder a child may open for its tokenizer.
        embedder: Whose tokens count. Where the settings open another one, documents come uncut.
        max_tokens: Of a chunk.
        module: What a child runs; only tests have another one.
        patience_s: How long files wait before another process is started.
    """

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        max_tokens: int,
        *,
        module: str = "ingest.sandbox.child",
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._settings = settings
        self._limits = settings.ingest
        self._embedder = embedder
        self._max_tokens = max_tokens
        self._module = module
        self._patience_s = patience_s
        self._n_seats = self._limits.workers or os.cpu_count() or 1
        self._seats: list[_Seat[K]] = []
        self._window: deque[_State[K]] = deque()
        self._waiting: deque[_State[K]] = deque()
        self._cpu_ns = 0
        self._pumped_at = self._hired_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._seats:
            self._dismiss(self._seats[-1])
        while self._waiting:
            _close(self._waiting.pop())

    def cpu_ns(self) -> int:
        """CPU nanoseconds of the processes that have ended; after the ``with`` statement, of all."""
        return self._cpu_ns

    @property
    def n_processes(self) -> int:
        """Processes that run now."""
        return len(self._seats)

    def read(self, jobs: Iterable[Job[K]]) -> Iterator[Reading[K]]:
        """Read files.

        Args:
            jobs: Taken one by one, not much ahead of what is given.

        Yields:
            One reading a job, in the order of the jobs. Each must be used before the next one is asked for; the rest of one that was
            not is lost.

        Raises:
            RagError: With code ``sandbox``, if no process can be started.
        """
        source = iter(jobs)
        while True:
            self._look_ahead(source)
            if not self._window:
                return
            state = self._window.popleft()
            yield Reading(self, state)
            for _ in self._results(state):
                pass

    def _look_ahead(self, source: Iterator[Job[K]]) -> None:
        while len(self._window) < _FILES_A_WORKER * self._n_seats and (job := next(source, None)) is not None:
            state = _State(job)
            self._window.append(state)
            if job.work is not None:
                self._waiting.append(state)
                self._employ()

    def _results(self, head: _State[K]) -> Iterator[Cut | Failure]:
        while True:
            while head.queue:
                tag, body = head.queue.popleft()
                head.n_ahead -= len(body)
                try:
                    yield frames.parse_document(body) if tag == b"D" else frames.parse_failure(body)
                except (ValueError, TypeError, RecursionError):
                    yield Failure(_path(head), *_NONSENSE)
            if head.failure:
                failure, head.failure = head.failure, None
                yield failure
            if head.is_done:
                return
            self._pump(head)

    def _pump(self, head: _State[K]) -> None:
        """Wait until a process says something or is over its time."""
        self._employ()
        n_ahead = sum(seat.worker.n_waiting_bytes for seat in self._seats) + sum(state.n_ahead for state in self._window)
        heard = [seat for seat in self._seats if seat.state and (seat.state is head or n_ahead < _MAX_AHEAD_BYTES)]
        patience = min(seat.left_s for seat in heard)
        if self._waiting and len(self._seats) < self._n_seats:
            patience = min(patience, max(0.0, self._hired_at + self._patience_s - time.monotonic()) + 0.001)
        began = time.monotonic()
        ready = _ready(heard, max(patience, 0.0))
        now = time.monotonic()
        for seat in heard:
            if seat in ready:  # it may have waited for the parent, so only the time of the wait counts
                seat.left_s -= now - began
                self._listen(seat)
            else:
                seat.left_s -= now - max(self._pumped_at, seat.since)
                if seat.left_s <= 0 and seat.state:
                    self._give_up(seat, timed_out(self._limits, seat.state.n_shares))
        self._pumped_at = now

    def _employ(self) -> None:
        """Give waiting files to processes that have nothing to do."""
        while self._waiting and (seat := self._free_seat()):
            state = self._waiting[0]
            work = state.job.work
            if work is None:
                raise RuntimeError("a job without work waits; this is a bug")
            task = frames.Task(work.origin, work.kind, work.salt, work.cut, state.n_shares)
            try:
                seat.worker.give(frames.task_frame(task), work.file)
            except OSError:  # it has died since its last file, or as it started
                self._refuse_stillborn(seat)
                continue
            self._waiting.popleft()
            _close(state)
            seat.state = state
            seat.left_s = self._limits.file_timeout_s * state.n_shares
            seat.since = time.monotonic()

    def _free_seat(self) -> _Seat[K] | None:
        for seat in self._seats:
            if seat.state is None:
                return seat
        now = time.monotonic()
        if len(self._seats) >= self._n_seats or (self._seats and now < self._hired_at + self._patience_s):
            return None
        from ingest.sandbox.worker import Worker  # with all that it takes to start processes; most runs find nothing new

        self._hired_at = now
        self._seats.append(_Seat(Worker(self._module, self._start)))
        return self._seats[-1]

    @cached_property
    def _start(self) -> bytes:
        models_dir = self._settings.data_dir / "models"
        chosen = None
        try:
            if open_embedder(self._settings.embedder, models_dir).id == self._embedder.id:
                chosen = self._settings.embedder
        except RagError:  # the one that was given came another way; its tokens are counted here
            pass
        return frames.start_frame(frames.Start(self._limits, chosen, models_dir.absolute(), self._max_tokens))

    def _listen(self, seat: _Seat[K]) -> None:
        """Take what a process says."""
        state = seat.state
        if state is None:
            raise RuntimeError("a process without a file is heard; this is a bug")
        most = self._limits.max_output_bytes + _SLACK_BYTES - state.n_received
        try:
            found = seat.worker.take(most)
        except ValueError:
            self._give_up(seat, too_large(self._limits))
            return
        if found is None:
            self._bury(seat, state)
            return
        for tag, body in found:
            state.n_received += len(body)
            try:
                self._note(seat, state, tag, body)
            except (ValueError, TypeError, RecursionError):
                self._give_up(seat, _NONSENSE)
            if seat.state is None:
                return

    def _note(self, seat: _Seat[K], state: _State[K], tag: bytes, body: bytes) -> None:
        match tag:
            case b"D" | b"F":
                state.queue.append((tag, body))
                state.n_ahead += len(body)
            case b"E":
                self._finish(seat, state, frames.parse_end(body))
            case b"R":
                seat.worker.isolation = str(frames.loads(body))
                if seat.worker.isolation == "none":
                    _tell_once()
            case _:
                raise ValueError(f"no such frame: {tag!r}")

    def _finish(self, seat: _Seat[K], state: _State[K], end: frames.End) -> None:
        state.end = end
        seat.state = None
        seat.worker.n_files += 1
        if seat.worker.n_files >= _MAX_FILES or end.rss_bytes > self._limits.file_memory_bytes / 2:
            self._dismiss(seat)

    def _bury(self, seat: _Seat[K], state: _State[K]) -> None:
        """A process has died over a file: the file failed, the others go on."""
        if not seat.worker.isolation:
            self._refuse_stillborn(seat)
        status, said = self._dismiss(seat)
        self._fail(seat, state, died(self._limits, state.n_shares, status, said, seat.worker.peak_bytes))

    def _give_up(self, seat: _Seat[K], cause: Cause) -> None:
        """Kill a process over its file."""
        self._dismiss(seat)
        if seat.state:
            self._fail(seat, seat.state, cause)

    def _fail(self, seat: _Seat[K], state: _State[K], cause: Cause) -> None:
        seat.state = None
        state.failure = Failure(_path(state), *cause)
        state.end = frames.End("", is_whole=False, rss_bytes=0)

    def _refuse_stillborn(self, seat: _Seat[K]) -> None:
        """End a process that can take no file; one that never could is an error, for the next would not either."""
        status, said = self._dismiss(seat)
        if not seat.worker.isolation:
            lines = said.decode("utf-8", "replace").strip().splitlines() or [f"it ended with status {status}"]
            raise RagError(
                f"the process that reads files cannot start: {lines[-1][:300]}; ingest.file_memory_bytes is "
                f"{self._limits.file_memory_bytes}, and 300000000 or more are needed",
                code="sandbox",
            )

    def _dismiss(self, seat: _Seat[K]) -> tuple[int, bytes]:
        self._seats.remove(seat)
        status, used_ns = seat.worker.end()
        self._cpu_ns += used_ns
        return status, seat.worker.last_words()


def _ready(seats: list[_Seat[K]], patience_s: float) -> list[_Seat[K]]:
    """Those of some processes that have something to say, within some time."""
    poll = select.poll()
    by_file = {seat.worker.fileno(): seat for seat in seats}
    for file in by_file:
        poll.register(file, select.POLLIN)
    return [by_file[file] for file, _ in poll.poll(patience_s * 1000)]


def _path(state: _State[K]) -> str:
    return str(state.job.work.origin.path) if state.job.work else ""


def _close(state: _State[K]) -> None:
    if state.job.work:
        os.close(state.job.work.file)


def _tell_once() -> None:
    logging.getLogger(__name__).warning(
        "files are read by processes that could reach the network: this system has neither seccomp nor network namespaces"
    )
