"""An embedder whose threads are counted: ingest embeds in a pool, which the meter of a job's own thread does not see."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from rag.clocks import CpuClock, Lane
from rag.embed import Embedder
from rag.embed.around import AroundEmbedder
from rag.ledger import Ledger
from rag.meter import Meter, Stage
from rag.power import Power
from rag.types import TextRole, Vectors


class CountedEmbedder(AroundEmbedder):
    """Another embedder, and the CPU time of all threads that called it; see `rag.embed.Embedder`.

    Args:
        embedder: Does the work.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._lock = threading.Lock()
        self._ns = 0

    def cpu_ns(self) -> int:
        """CPU nanoseconds so far."""
        return self._ns

    @property
    def lane(self) -> Lane | None:
        """None: its lane is counted here."""
        return None

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """See `rag.embed.Embedder.embed`; the time of the calling thread and of the lane is counted."""
        before = self._thread_ns()
        try:
            return self._embedder.embed(texts, role)
        finally:
            with self._lock:
                self._ns += self._thread_ns() - before

    def _thread_ns(self) -> int:
        lane = self._embedder.lane
        return time.thread_time_ns() + (lane.charged_ns() if lane else 0)


class PoolMeter(Meter):
    """A `Meter` of a job, whose stage ``embed`` is that of a pool.

    Args:
        power: Prices the job.
        ledger: The account of the process.
    """

    def __init__(self, power: Power, ledger: Ledger) -> None:
        super().__init__("thread", power=power, ledger=ledger)
        self.pool: CpuClock | None = None

    def __enter__(self) -> PoolMeter:
        super().__enter__()
        return self

    def stage(self, name: str, *, lane: Lane | None = None, child: CpuClock | None = None) -> Stage:
        """See `rag.meter.Meter.stage`."""
        return super().stage(name, lane=lane, child=self.pool if name == "embed" and self.pool else child)
