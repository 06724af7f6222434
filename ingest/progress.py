"""Progress of long work for people, on standard error: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# In a log file a line now and then says enough.
_SECONDS_BETWEEN_LINES = 5.0


def open_progress() -> LineProgress | BarProgress:
    """Progress fit for where standard error goes; to be closed."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class LineProgress:
    """Plain lines, for logs and pipes."""

    def __init__(self) -> None:
        self._stage = ""
        self._total: int | None = None
        self._done = 0
        self._began = self._last = time.monotonic()

    def begin(self, stage: str, total: int | None) -> None:
        """See `ingest.report.Progress`."""
        self._stage, self._total, self._done = stage, total, 0
        self._began = self._last = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """See `ingest.report.Progress`."""
        self._done += steps
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = self._done / max(now - self._began, 1e-9)
        left = f", {(self._total - self._done) / rate:.0f} s left" if self._total and rate else ""
        sys.stderr.write(f"{self._stage}: {self._done} of {self._total or '?'} ({rate:.1f} a second{left})\n")

    def close(self) -> None:
        """Nothing to tidy up."""


class BarProgress:
    """Bars with rate and time left, for terminals."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None
        self._task: TaskID | None = None

    def begin(self, stage: str, total: int | None) -> None:
        """See `ingest.report.Progress`."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        if self._bars is None:
            columns = (
                TextColumn("{task.description:>8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TaskProgressColumn(show_speed=True),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(stage, total=total)

    def advance(self, steps: int = 1) -> None:
        """See `ingest.report.Progress`."""
        if self._bars is not None and self._task is not None:
            self._bars.advance(self._task, steps)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
