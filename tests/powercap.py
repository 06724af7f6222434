"""Powercap trees in a folder, with counters that move when a test says so, and clocks that go with them."""

from __future__ import annotations

import os
from pathlib import Path

from rag.power.rapl import Rapl, Reading
from rag.power.window import BusyTimes

# 32 bits of 61 microjoules, as most client and server packages have it.
RANGE_UJ = 262_143_328_850
# Any 64-bit number and a line end.
_COUNTER_BYTES = 21


class Powercap:
    """A tree as the kernel shows it: nested zones, and every zone again as a link in the root.

    Args:
        root: Folder that is made; real zones lie in ``devices`` beside it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devices = root.parent / f"{root.name}-devices"
        self._ranges: dict[str, int | None] = {}
        self._values: dict[str, int] = {}
        self._gone: set[str] = set()
        root.mkdir(parents=True)

    def add(self, label: str, name: str | None, energy_uj: int = 1_000_000_000, range_uj: int | None = RANGE_UJ) -> None:
        """Make a zone, for example ``intel-rapl:0:1``; its parent comes first. No name or no range: no such file."""
        control, *numbers = label.split(":")
        labels = [":".join([control, *numbers[: place + 1]]) for place in range(len(numbers))]
        folder = self._devices.joinpath(control, *labels)
        folder.mkdir(parents=True)
        link = self.root / label
        link.symlink_to(folder)
        if not (self.root / control).exists():
            (self.root / control).symlink_to(self._devices / control)
        (folder / "subsystem").symlink_to(self.root)
        if name is not None:
            (folder / "name").write_text(f"{name}\n")
        if range_uj is not None:
            (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        self._ranges[label] = range_uj
        self._values[label] = energy_uj
        self._write(label)

    def advance(self, joules: float, *labels: str) -> None:
        """Let zones take energy, all of them unless some are named; counters go on while their files are gone."""
        for label in labels or tuple(self._values):
            range_uj = self._ranges[label]
            value = self._values[label] + round(joules * 1e6)
            self._values[label] = value if range_uj is None else value % (range_uj + 1)
            self._write(label)

    def put(self, label: str, energy_uj: int) -> None:
        """Set a counter."""
        self._values[label] = energy_uj
        self._write(label)

    def counter(self, label: str) -> Path:
        """The file of a counter."""
        return self.root / label / "energy_uj"

    def remove(self, label: str) -> None:
        """Let the file of a counter vanish."""
        self._gone.add(label)
        self.counter(label).unlink(missing_ok=True)

    def restore(self, label: str) -> None:
        """Let it come back."""
        self._gone.discard(label)
        self._write(label)

    def _write(self, label: str) -> None:
        if label not in self._gone:
            # In place and as long as before: a reader in another thread never finds an emptied file.
            handle = os.open(self.counter(label), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(handle, f"{self._values[label]}\n".ljust(_COUNTER_BYTES).encode())
            os.close(handle)


class FakeClock:
    """Monotonic nanoseconds that pass when told to."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ns

    def pass_s(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class FakeBusy:
    """Busy times of a machine that works when told to."""

    def __init__(self, n_threads: int = 4) -> None:
        self.n_threads = n_threads
        self.busy_s = 500.0

    def __call__(self) -> BusyTimes:
        return BusyTimes(self.busy_s, self.n_threads)


class RecordingRapl(Rapl):
    """Counters that keep every reading that succeeded."""

    def __init__(self, root: Path, clock: FakeClock) -> None:
        super().__init__(root, now_ns=clock)
        self.readings: list[Reading] = []

    def read(self) -> Reading:
        reading = super().read()
        self.readings.append(reading)
        return reading


def refuse(path: Path) -> int:
    """Open a counter as a user who may not, which root never is."""
    raise PermissionError(13, os.strerror(13), str(path))
