"""Jobs: work that takes longer than a client waits. They are kept in ``jobs.sqlite`` of the data directory.

A job is ``queued``, ``running``, and then ``succeeded``, ``failed`` or ``cancelled``; one that a process did not finish is
``interrupted`` when the next one starts, and may be sent again. Uploads run one after another, and so do batches; one does not wait for
the other. The file is no table of the catalog, which has one writer at a time and would make a new job wait for an ingest.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from api.counted import PoolMeter
from api.errors import RefusedError
from api.schemas import Json
from rag.cost import Measurement
from rag.errors import RagError, SnapshotError

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

FILE_NAME = "jobs.sqlite"
JobKind = Literal["upload", "batch"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled", "interrupted"]
OVER: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
# A hundred jobs that wait hold their uploads in memory: 3.2 GB at the limits, so fewer.
_MAX_WAITING = 32
_BUSY_TIMEOUT_S = 5.0
# Progress is written down this often, not with every step.
_TELL_S = 0.5
_COLUMNS = "job_id, tenant, kind, collection, state, created, updated, progress, result, error, digest"
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS job (
  job_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, kind TEXT NOT NULL, collection TEXT NOT NULL, state TEXT NOT NULL,
  created REAL NOT NULL, updated REAL NOT NULL, progress TEXT NOT NULL, result TEXT, error TEXT, digest TEXT NOT NULL,
  idempotency_key TEXT, UNIQUE (tenant, idempotency_key)) STRICT;
PRAGMA user_version = 1;
"""


class CancelledError(Exception):
    """The job was cancelled."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is kept; times are seconds since the epoch, ``digest`` that of what was sent."""

    job_id: str
    tenant: str
    kind: JobKind
    collection: str
    state: JobState
    created: float
    updated: float
    progress: Json
    result: Json | None
    error: Json | None
    digest: str

    def as_json(self) -> Json:
        """What its owner sees."""
        return {
            "id": self.job_id,
            "kind": self.kind,
            "state": self.state,
            "collection": self.collection,
            "created": self.created,
            "updated": self.updated,
            "progress": self.progress,
            "result": self.result,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Order:
    """A job that is asked for.

    Attributes:
        tenant: Whose it will be.
        kind: Decides in which queue it waits.
        collection: Named in it.
        digest: Of what was sent: the same key with another digest is refused.
        run: Does it.
        idempotency_key: The same key gives the same job; empty means none.
    """

    tenant: str
    kind: JobKind
    collection: str
    digest: str
    run: Callable[[Steps, PoolMeter], Json]
    idempotency_key: str = ""


class Steps:
    """Progress of a running job; every step asks whether it was cancelled.

    Args:
        jobs: Where it is written down.
        job_id: Of the job.
    """

    def __init__(self, jobs: Jobs, job_id: str) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._value: Json = {"stage": "", "done": 0, "total": None}
        self._told = 0.0
        self.is_cancelled = False

    def begin(self, stage: str, total: int | None) -> None:
        """A stage begins; raises CancelledError if the job was cancelled."""
        self._value = {"stage": stage, "done": 0, "total": total}
        self._told = 0.0
        self._step()

    def advance(self, steps: int = 1) -> None:
        """Steps are done; raises CancelledError if the job was cancelled."""
        self._value["done"] += steps
        self._step()

    def _step(self) -> None:
        if self.is_cancelled:
            raise CancelledError
        if time.monotonic() - self._told >= _TELL_S:
            self._told = time.monotonic()
            self._jobs.tell(self._job_id, self._value)


class Jobs:
    """The jobs of a data directory; safe to share between threads.

    Args:
        data_dir: The data directory.
        keep_s: How long a job is kept after it is over.
        new_meter: Makes the meter of a job, in its thread.
        on_measured: Told what a job cost.
        log: Told of every job that begins or ends.
    """

    def __init__(
        self,
        data_dir: Path,
        keep_s: float,
        new_meter: Callable[[], PoolMeter],
        on_measured: Callable[[Measurement], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._path = data_dir / FILE_NAME
        self._keep_s, self._new_meter, self._on_measured, self._log = keep_s, new_meter, on_measured, log
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._queues: dict[JobKind, queue.SimpleQueue[tuple[str, Order] | None]] = {}
        self._running: dict[str, Steps] = {}
        self._n_waiting = 0

    def submit(self, order: Order) -> tuple[Job, bool]:
        """Take a job, or find the one that was taken with the same key.

        Args:
            order: The job.

        Returns:
            The job, and whether it is new.

        Raises:
            RefusedError: ``idempotency_key`` if that key came with something else; ``too_many`` if too many jobs wait.
            SnapshotError: If the file cannot be written.
        """
        with self._lock:
            if order.idempotency_key and (known := self._by_key(order)) is not None:
                if known.digest != order.digest:
                    raise RefusedError(
                        f"Idempotency-Key {order.idempotency_key[:80]!r} came before with another body; use a new key",
                        code="idempotency_key",
                    )
                return known, False
            if self._n_waiting >= _MAX_WAITING:
                raise RefusedError(f"{self._n_waiting} jobs are waiting; allowed: {_MAX_WAITING}; send it later", code="jobs_full")
            job_id, now = uuid.uuid4().hex, time.time()
            self._execute(
                f"INSERT INTO job ({_COLUMNS}, idempotency_key) VALUES (?, ?, ?, ?, 'queued', ?, ?, ?, NULL, NULL, ?, ?)",
                (job_id, order.tenant, order.kind, order.collection, now, now, "{}", order.digest, order.idempotency_key or None),
            )
            self._execute("DELETE FROM job WHERE updated < ? AND state NOT IN ('queued', 'running')", (now - self._keep_s,))
            self._n_waiting += 1
            self._queue_of(order.kind).put((job_id, order))
            return self._found(job_id), True

    def job(self, job_id: str, tenant: str) -> Job:
        """A job of a tenant.

        Args:
            job_id: Its id.
            tenant: Who asks.

        Returns:
            The job as it is now.

        Raises:
            RefusedError: ``unknown_job`` if the tenant has none of that id.
        """
        rows = self._execute(f"SELECT {_COLUMNS} FROM job WHERE job_id = ? AND tenant = ?", (job_id, tenant))
        if not rows:
            raise RefusedError(f"no job {job_id[:80]!r}; jobs are kept for a day after they are over", code="unknown_job")
        return _job(rows[0])

    def cancel(self, job_id: str, tenant: str) -> Job:
        """Let a job end early; nothing of an upload is published then.

        Args:
            job_id: Its id.
            tenant: Who asks.

        Returns:
            The job as it is now; one that is running ends at its next step.

        Raises:
            RefusedError: ``unknown_job``, or ``job_over`` if there is nothing left to cancel.
        """
        with self._lock:
            job = self.job(job_id, tenant)
            if job.state in OVER:
                raise RefusedError(f"job {job_id} is {job.state}; only what waits or runs can be cancelled", code="job_over")
            if job.state == "queued":
                self._set(job_id, "cancelled")
            elif job_id in self._running:
                self._running[job_id].is_cancelled = True
            return self._found(job_id)

    def tell(self, job_id: str, progress: Json) -> None:
        """Write down how far a job is."""
        self._execute("UPDATE job SET progress = ?, updated = ? WHERE job_id = ?", (json.dumps(progress), time.time(), job_id))

    def open(self) -> None:
        """Call what another process left unfinished interrupted; nothing where there were no jobs."""
        if self._path.exists():
            self._execute("UPDATE job SET state = 'interrupted', updated = ? WHERE state IN ('queued', 'running')", (time.time(),))

    def close(self) -> None:
        """Stop what runs, call what waits interrupted, and let the file go."""
        with self._lock:
            for steps in self._running.values():
                steps.is_cancelled = True
            for waiting in self._queues.values():
                waiting.put(None)
            if self._db is not None:
                self.open()
                self._db.close()
                self._db = None

    def _queue_of(self, kind: JobKind) -> queue.SimpleQueue[tuple[str, Order] | None]:
        if kind not in self._queues:
            waiting = self._queues[kind] = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(waiting,), name=f"{kind}s", daemon=True).start()
        return self._queues[kind]

    def _serve(self, waiting: queue.SimpleQueue[tuple[str, Order] | None]) -> None:
        while (item := waiting.get()) is not None:
            job_id, order = item
            steps = Steps(self, job_id)
            with self._lock:
                self._n_waiting -= 1
                if self._db is None or self._found(job_id).state != "queued":
                    continue
                self._running[job_id] = steps
                self._set(job_id, "running")
            self._log.info("job", job=job_id, kind=order.kind, collection=order.collection, state="running")
            state, result, error = self._outcome(order, steps)
            with self._lock:
                del self._running[job_id]
                if self._db is not None:
                    self._set(job_id, state, result, error)
            self._log.info(
                "job", job=job_id, kind=order.kind, collection=order.collection, state=state, error=(error or {}).get("code")
            )

    def _outcome(self, order: Order, steps: Steps) -> tuple[JobState, Json | None, Json | None]:
        try:
            with self._new_meter() as meter:
                try:
                    return "succeeded", order.run(steps, meter), None
                finally:
                    self._on_measured(meter.finish())
        except CancelledError:
            return "cancelled", None, None
        except RagError as error:
            return "failed", None, {"code": error.code, "message": " ".join(str(error).split())}
        except Exception as error:  # noqa: BLE001 - the border of a job: what we cannot explain must not end the thread
            self._log.error("bug", message=f"{type(error).__name__}: {error}", kind=order.kind)
            return (
                "failed",
                None,
                {"code": "bug", "message": "internal error; this is a bug, please report it with the id of the job"},
            )

    def _set(self, job_id: str, state: JobState, result: Json | None = None, error: Json | None = None) -> None:
        values = (state, time.time(), result and json.dumps(result), error and json.dumps(error), job_id)
        self._execute("UPDATE job SET state = ?, updated = ?, result = ?, error = ? WHERE job_id = ?", values)

    def _found(self, job_id: str) -> Job:
        return _job(self._execute(f"SELECT {_COLUMNS} FROM job WHERE job_id = ?", (job_id,))[0])

    def _by_key(self, order: Order) -> Job | None:
        rows = self._execute(
            f"SELECT {_COLUMNS} FROM job WHERE tenant = ? AND idempotency_key = ?", (order.tenant, order.idempotency_key)
        )
        return _job(rows[0]) if rows else None

    def _execute(self, sql: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            try:
                if self._db is None:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
                    self._db.executescript(_SCHEMA)
                return self._db.execute(sql, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                raise SnapshotError(
                    f"the job file {self._path} cannot be used: {error}; check the disk, or delete it: it holds no documents",
                    code="jobs",
                ) from error


def _job(row: tuple[Any, ...]) -> Job:
    job_id, tenant, kind, collection, state, created, updated, progress, result, error, digest = row
    told = (json.loads(progress), result and json.loads(result), error and json.loads(error))
    return Job(job_id, tenant, kind, collection, state, created, updated, *told, digest)
