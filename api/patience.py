"""How long work may go on: one value that the event loop, which gives up, shares with the thread that works.

The engine enters a stage of its meter every few milliseconds, so that is where work stops early: `PatientMeter` asks before each one.
A stage itself is never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from rag.clocks import CpuClock, Lane
from rag.ledger import Ledger
from rag.meter import Meter, Stage
from rag.power import Power
from rag.settings import ServiceSettings

QUEUE = "queue"
TOTAL = "total"
EMBED_STAGES = frozenset({"embed"})
SEARCH_STAGES = frozenset({"bm25", "vector", "fuse", "fetch", "assemble"})
GENERATE_STAGES = frozenset({"generate", "model", "rewrite"})


class StoppedError(Exception):
    """Nobody waits for this work any more."""


class LateError(Exception):
    """A stage, or the whole, took longer than allowed.

    Args:
        stage: Its name, or ``total``.
        limit_s: What was allowed.
    """

    def __init__(self, stage: str, limit_s: float) -> None:
        super().__init__(f"stage {stage} took longer than {limit_s:g} s")
        self.stage = stage
        self.limit_s = limit_s


class Patience:
    """What one attempt may still take.

    Args:
        options: The limits.
        deadline: End of the whole request, by `time.monotonic`.
        on_stage: Told the name of every stage that begins, in the thread that works.
    """

    def __init__(self, options: ServiceSettings, deadline: float, on_stage: Callable[[str], None] | None = None) -> None:
        self._options = options
        self._deadline = deadline
        self._on_stage = on_stage
        self._is_stopped = False
        self._current = (QUEUE, time.monotonic())  # one value, so that both threads see name and time together

    def begin(self, stage: str) -> None:
        """A stage begins.

        Args:
            stage: Its name.

        Raises:
            StoppedError: If nobody waits any more.
        """
        self.check()
        self._current = (stage, time.monotonic())
        if self._on_stage is not None:
            self._on_stage(stage)

    def check(self) -> None:
        """Raise StoppedError if nobody waits any more."""
        if self._is_stopped:
            raise StoppedError(self._current[0])

    def stop(self) -> None:
        """Let the work end before its next stage."""
        self._is_stopped = True

    def late(self) -> LateError | None:
        """What has taken too long, if anything has."""
        now = time.monotonic()
        if now >= self._deadline:
            return LateError(TOTAL, self._options.timeout_s)
        stage, began = self._current
        limit_s = self._limit_s(stage)
        return LateError(stage, limit_s) if now - began >= limit_s else None

    def _limit_s(self, stage: str) -> float:
        if stage in EMBED_STAGES:
            return self._options.embed_timeout_s
        if stage in SEARCH_STAGES:
            return self._options.search_timeout_s
        return self._options.generate_timeout_s if stage in GENERATE_STAGES else self._options.timeout_s


class PatientMeter(Meter):
    """A `Meter` of one request that begins no stage once nobody waits.

    Args:
        patience: Asked before every stage.
        power: Prices the request.
        ledger: The account of the process.
    """

    def __init__(self, patience: Patience, power: Power, ledger: Ledger) -> None:
        super().__init__("thread", power=power, ledger=ledger)
        self._patience = patience

    def stage(self, name: str, *, lane: Lane | None = None, child: CpuClock | None = None) -> Stage:
        """See `rag.meter.Meter.stage`; raises StoppedError once nobody waits."""
        self._patience.begin(name)
        return super().stage(name, lane=lane, child=child)
