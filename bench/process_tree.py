"""Memory of this or another process and of all that it started, watched from ``/proc`` while something runs. Linux only."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """Looks at a process and its descendants again and again; to be used in a ``with`` statement.

    Pages that processes share count for each of them, so the sum is an upper limit. ``peak_sum_bytes`` is the largest sum of resident
    memory of all processes, as seen, ``peak_own_bytes`` that of the process itself, ``peak_child_bytes`` the largest of any descendant
    by the system's own high-water mark. ``children`` are the processes that became its direct children meanwhile; those that
    ended between two looks are missed.

    Args:
        pid: The process.
        every_s: Seconds between two looks.
    """

    def __init__(self, pid: int, every_s: float = 0.05) -> None:
        self.peak_sum_bytes = self.peak_own_bytes = self.peak_child_bytes = 0
        self.children: set[int] = set()
        self._before: set[int] = set()
        self._pid = pid
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._before = {pid for pid, parent in _parents().items() if parent == self._pid}
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            parents = _parents()
            self.children |= {pid for pid, parent in parents.items() if parent == self._pid} - self._before
            family = {self._pid}
            while grown := {pid for pid, parent in parents.items() if parent in family} - family:
                family |= grown
            own = rss_bytes(self._pid)
            below = family - {self._pid}
            self.peak_own_bytes = max(self.peak_own_bytes, own)
            self.peak_sum_bytes = max(self.peak_sum_bytes, own + sum(map(rss_bytes, below)))
            self.peak_child_bytes = max(self.peak_child_bytes, *map(_high_water_bytes, below), 0)


def rss_bytes(pid: int) -> int:
    """Resident memory of a process now; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _high_water_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _parents() -> dict[int, int]:
    """Parent by process id, of all processes that can be seen."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                stat = Path(f"/proc/{name}/stat").read_bytes()
            except OSError:
                continue
            found[int(name)] = int(stat.rpartition(b")")[2].split()[1])
    return found
