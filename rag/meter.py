"""Wall-clock and CPU seconds per stage.

A `Meter` belongs to one piece of work (a query, an ingest run). Its clock is chosen once: ``process`` counts every thread of the
process, which is right for a command that does one thing; ``thread`` counts the calling thread only, which is right where several
requests share a process. Joules and grams are priced elsewhere; until then a measurement names them in ``not_modelled``.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from rag.types import Measurement, StageCost, TokenCounts

Clock = Literal["process", "thread"]

NOT_MODELLED = ("energy_j", "carbon_g")


class Meter:
    """Collects the cost of the stages of one piece of work.

    Args:
        clock: Which CPU clock is read.
        from_process_start: Count the CPU seconds since the process began, and report what passed before this call as stage
            ``start``.
    """

    def __init__(self, clock: Clock = "process", *, from_process_start: bool = False) -> None:
        self._cpu_ns = time.process_time_ns if clock == "process" else time.thread_time_ns
        self._wall_began = time.perf_counter_ns()
        self._cpu_began = 0 if from_process_start else self._cpu_ns()
        self._order: list[str] = []
        self._costs: dict[str, tuple[int, int]] = {}
        if from_process_start:
            self._add("start", 0, self._cpu_ns())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Charge the body to a stage, also when it raises; a stage entered again adds up.

        Args:
            name: Stage name, stable across releases.

        Yields:
            Nothing.
        """
        wall, cpu = time.perf_counter_ns(), self._cpu_ns()
        if name not in self._costs:  # in the order of beginning, not of ending
            self._add(name, 0, 0)
        try:
            yield
        finally:
            self._add(name, time.perf_counter_ns() - wall, self._cpu_ns() - cpu)

    def _add(self, name: str, wall_ns: int, cpu_ns: int) -> None:
        if name not in self._costs:
            self._order.append(name)
        wall_before, cpu_before = self._costs.get(name, (0, 0))
        self._costs[name] = (wall_before + wall_ns, cpu_before + cpu_ns)

    def finish(self, tokens: TokenCounts | None = None) -> Measurement:
        """Say what has passed so far.

        Args:
            tokens: Counts to report.

        Returns:
            The measurement; the sum of its stages is at most its total when stages are not nested.
        """
        return Measurement(
            wall_s=(time.perf_counter_ns() - self._wall_began) / 1e9,
            cpu_s=(self._cpu_ns() - self._cpu_began) / 1e9,
            energy_j=None,
            carbon_g=None,
            tokens=tokens or TokenCounts(),
            stages=tuple(StageCost(name, self._costs[name][0] / 1e9, self._costs[name][1] / 1e9) for name in self._order),
            cache="off",
            peak_rss_bytes=_peak_rss_bytes(),
            not_modelled=NOT_MODELLED,
        )


def _peak_rss_bytes() -> int:
    """Highest resident set of this process; getrusage counts KiB on Linux and bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
