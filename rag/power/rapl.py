"""Energy counters of the processor, from a powercap tree.

The tree is that of the kernel (``/sys/class/powercap``) or one of the same shape that a host writes for its guest. Which zones count:

- ``package-N`` and their ``dram``; subdomains (``core``, ``uncore``) lie inside the package and are never added.
- ``psys`` holds the packages and more, so it counts only where there is no package: boundary ``platform``.
- A zone of another interface (``intel-rapl-mmio``) with the name of one seen before is the same meter, and is dropped.
- Zones of one socket (``package-0-die-0``, ``package-0-die-1``, or one name twice) that show the same number are one counter seen
  several times, as on multi-die AMD parts, and the first counts. Real counters of two dies drift apart within seconds of a start.
  Sockets are never compared with each other.
- ``dram`` counts only where every socket has one, so that the boundary holds for the whole machine.

A top zone without a ``name`` file, as hosts write it, is a package.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rag.errors import PowerError

# Below it too few updates (about one a millisecond) and clock ticks (10 ms) fall into a window to tell anything.
MIN_WINDOW_S = 0.1

# More than any zone takes: the largest sockets of 2025 are sold as 500 W. A zone above it was reset or wrapped unseen.
MAX_ZONE_W = 1000.0

# The smallest range in use: 32 bits of 15.3 microjoules, the unit of server DRAM. For counters that do not tell theirs.
SMALLEST_RANGE_UJ = 65_000_000_000

# A range that `MAX_ZONE_W` runs through in less is no real one (the smallest of 32 bits known takes 65 s), and readings of once a second
# might miss a wrap of it.
MIN_WRAP_S = 10.0

# Seconds between two updates: the kernel reads a register that moves every millisecond; a host writes the file of a guest every 5 s.
KERNEL_STEP_S = 0.001
EXPORTED_STEP_S = 5.0

# Two reads of one counter may have an update or two between them: 2 ms at MAX_ZONE_W.
JITTER_UJ = 2_000_000

# A control type (``intel-rapl``), or with numbers a zone of it.
_FOLDER = re.compile(r"intel-rapl(?:-[a-z]+)?((?::\d+)*)")

_Kind = Literal["package", "psys", "dram"]


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one moment.

    Attributes:
        at_ns: Monotonic nanoseconds.
        microjoules: One number a zone, in the order of `Rapl.zones`; each runs from 0 to the range of its zone, then from 0 again.
    """

    at_ns: int
    microjoules: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Zone:
    """A counter that may count; ``package`` names the top zone that it belongs to."""

    path: Path
    interface: str
    name: str
    kind: _Kind
    package: str
    range_uj: int | None

    @property
    def socket(self) -> tuple[str, str]:
        # package-0-die-1 lies in package-0
        return self.kind, "-".join(self.package.split("-")[:2])


def open_counter(path: Path) -> int:
    """Open a counter for reading; returns a file descriptor."""
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


class Rapl:
    """The zones of one tree, found once and held open.

    Not safe for several threads at once: its owner holds a lock.

    Args:
        root: The tree, for example ``/sys/class/powercap``.
        opener: Opens an ``energy_uj`` file; returns a file descriptor.
        now_ns: Monotonic clock.

    Attributes:
        zones: Names of the zones that count, in the order of the tree, packages before memory.
        boundary: ``cpu_package``, ``cpu_package+dram``, or ``platform`` for psys, which holds memory too.
        step_s: Seconds between two updates of the counters, at most.
        min_window_s: Shortest window worth a price: `MIN_WINDOW_S`, or eight steps of slow counters.
        longest_window_s: Longest window in which no counter wraps twice at `MAX_ZONE_W`, 65 s for the smallest range in use; a second
            wrap cannot be seen.

    Raises:
        PowerError: ``counters_absent``, ``counters_unreadable``, or ``counters_useless`` when no zone stands for the processor.
    """

    zones: tuple[str, ...]
    boundary: str
    step_s: float
    min_window_s: float
    longest_window_s: float

    def __init__(
        self, root: Path, *, opener: Callable[[Path], int] = open_counter, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._opener = opener
        self._now_ns = now_ns
        self._fds: list[int] = []
        try:
            self._zones = _counting(root)
            self._fds = [-1] * len(self._zones)
            self._drop_mirrors()
        except PermissionError as error:
            self.close()
            raise PowerError(
                f"energy counters in {root} are present, unreadable ({error}); allow it with 'sudo chmod a+r {root}/intel-rapl*/energy_uj', "
                f"and again at every boot, for example by the tmpfiles.d line 'z {root}/intel-rapl*/energy_uj 0444'",
                code="counters_unreadable",
            ) from error
        except (OSError, ValueError) as error:
            self.close()
            raise PowerError(
                f"energy counters in {root} are present, but reading fails ({error}); every package must give a number, use another source",
                code="counters_useless",
            ) from error
        self.zones = tuple(zone.name for zone in self._zones)
        self.boundary = _boundary(self._zones)
        ranges = [zone.range_uj or SMALLEST_RANGE_UJ for zone in self._zones]
        # The kernel always tells the range, so a tree without one is written by a program.
        self.step_s = KERNEL_STEP_S if all(zone.range_uj for zone in self._zones) else EXPORTED_STEP_S
        self.min_window_s = max(MIN_WINDOW_S, 8 * self.step_s)
        self.longest_window_s = min(ranges) / 1e6 / MAX_ZONE_W

    def read(self) -> Reading:
        """Read all counters.

        Returns:
            The numbers, with the time before the first was read.

        Raises:
            PowerError: ``counter_vanished`` when a file is gone or holds no number; a later call tries to open it again.
        """
        at_ns = self._now_ns()
        try:
            return Reading(at_ns, self._values())
        except (OSError, ValueError) as error:
            raise PowerError(
                f"an energy counter can no longer be read ({error}); it must hold a number, see that its driver or exporter still runs",
                code="counter_vanished",
            ) from error

    def spent(self, before: Reading, after: Reading) -> tuple[int, ...]:
        """Energy of each zone between two readings.

        A counter of range r that fell has wrapped once: it went on from 0 after r, so r + 1 microjoules are added. (The kernel rounds
        the range down from 32 bits of its unit, so this is less than one unit, 61 microjoules, short.)

        Args:
            before: The earlier reading, at most `longest_window_s` before the other.
            after: The later reading.

        Returns:
            Microjoules, 0 or more, in the order of `zones`.

        Raises:
            PowerError: ``counter_wrapped`` when a counter without a range fell, ``counter_jumped`` when one took more than `MAX_ZONE_W`,
                as after a reset.
        """
        window_s = (after.at_ns - before.at_ns) / 1e9
        # Slow counters show the energy of a whole step at once.
        most_uj = MAX_ZONE_W * max(MIN_WINDOW_S, window_s + self.step_s) * 1e6
        moved = tuple(_moved(*each) for each in zip(self._zones, before.microjoules, after.microjoules, strict=True))
        for zone, spent in zip(self._zones, moved, strict=True):
            if not 0 <= spent <= most_uj:
                raise PowerError(
                    f"energy counter {zone.path} moved by {spent / 1e6:.0f} J in {window_s:.3f} s; allowed: 0 to {MAX_ZONE_W:.0f} W, "
                    "it was reset or the window is too long, take another window",
                    code="counter_jumped",
                )
        return moved

    def check_moved(self, spent: Sequence[int], window_s: float) -> None:
        """Refuse counters that do not work.

        Args:
            spent: Microjoules of each zone in a window.
            window_s: Its length.

        Raises:
            PowerError: ``counter_stuck`` when no package moved in `min_window_s` or more.
        """
        if window_s >= self.min_window_s and not any(
            uj for zone, uj in zip(self._zones, spent, strict=True) if zone.kind != "dram"
        ):
            raise PowerError(
                f"energy counters {', '.join(self.zones)} stood still for {window_s:.3f} s; a processor always takes energy, "
                "so they do not work here, use another source",
                code="counter_stuck",
            )

    def joules(self, before: Reading, after: Reading) -> float:
        """Energy of all zones between two readings.

        Args:
            before: The earlier reading, at most `longest_window_s` before the other.
            after: The later reading.

        Returns:
            Joules, 0 or more.

        Raises:
            PowerError: A code of `spent` or `check_moved`.
        """
        moved = self.spent(before, after)
        self.check_moved(moved, (after.at_ns - before.at_ns) / 1e9)
        return sum(moved) / 1e6

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        for place, fd in enumerate(self._fds):
            self._fds[place] = -1
            if fd >= 0:
                os.close(fd)

    def _drop_mirrors(self) -> None:
        # Whatever interrupts us, a mirror read once lies between two reads of its original.
        first, second = self._values(), self._values()
        kept: list[int] = []
        for place, zone in enumerate(self._zones):
            if not any(
                self._zones[other].socket == zone.socket and first[other] - JITTER_UJ <= first[place] <= second[other] + JITTER_UJ
                for other in kept
            ):
                kept.append(place)
        self.close()
        self._zones = [self._zones[place] for place in kept]
        self._fds = [-1] * len(kept)

    def _values(self) -> tuple[int, ...]:
        return tuple(self._value(place) for place in range(len(self._zones)))

    def _value(self, place: int) -> int:
        fd = self._fds[place]
        try:
            if fd < 0 or os.fstat(fd).st_nlink == 0:  # never opened, failed before, or replaced by a program
                self._fds[place] = -1
                if fd >= 0:
                    os.close(fd)
                fd = self._fds[place] = self._opener(self._zones[place].path)
            return int(os.pread(fd, 32, 0))
        except OSError:
            # After the driver was loaded anew, only a new descriptor works.
            if self._fds[place] >= 0:
                os.close(self._fds[place])
                self._fds[place] = -1
            raise


def _moved(zone: _Zone, before: int, after: int) -> int:
    """Microjoules between two numbers of one counter."""
    if after >= before:
        return after - before
    if zone.range_uj is None:
        raise PowerError(
            f"energy counter {zone.path} fell from {before} to {after} and tells no max_energy_range_uj; "
            "without one it may only grow, take another window",
            code="counter_wrapped",
        )
    return after - before + zone.range_uj + 1


def _boundary(zones: Sequence[_Zone]) -> str:
    kinds = {zone.kind for zone in zones}
    return "platform" if "psys" in kinds else "cpu_package+dram" if "dram" in kinds else "cpu_package"


def _counting(root: Path) -> list[_Zone]:
    """Zones that count, mirrors among them; packages before memory."""
    found = _distinct(_zones(root))
    packages = [zone for zone in found if zone.kind == "package"]
    drams = [zone for zone in found if zone.kind == "dram"]
    if packages:
        sockets = {zone.socket[1] for zone in packages}
        return packages + drams if sockets == {zone.socket[1] for zone in drams} else packages
    platform = [zone for zone in found if zone.kind == "psys"]
    if not platform:
        raise PowerError(
            f"no zone in {root} stands for the whole processor; needed: a zone named package-N or psys with energy_uj, use another source",
            code="counters_useless",
        )
    return platform


def _distinct(zones: Sequence[_Zone]) -> list[_Zone]:
    """Without zones that a second interface shows again; the interface of most zones, ``intel-rapl``, comes first."""
    seen: dict[tuple[str, str], str] = {}
    return [zone for zone in zones if seen.setdefault((zone.package, zone.kind), zone.interface) == zone.interface]


def _zones(root: Path) -> list[_Zone]:
    """Zones of known kinds with a counter, in the order of interface and number."""
    if not root.is_dir():
        raise PowerError(
            f"no energy counters: {root} is no folder; needed: the powercap tree of Linux, which a virtual machine or a container has only "
            "if its host gives it one, use another source",
            code="counters_absent",
        )
    folders = dict(_folders(root))
    names = {label: _name(label, folder) for label, folder in folders.items()}
    labels = sorted((label for label, folder in folders.items() if (folder / "energy_uj").exists()), key=_order)
    if not labels:
        raise PowerError(
            f"no energy counters: {root} has no intel-rapl zone with energy_uj; load the module intel_rapl_msr (for AMD too), give a "
            "container the tree of its host, or use another source",
            code="counters_absent",
        )
    zones: list[_Zone] = []
    for label in labels:
        kind = _kind(names[label])
        if kind is not None:
            interface, number, *_ = label.split(":")
            package = names.get(f"{interface}:{number}", "") if kind == "dram" else names[label]
            zones.append(_Zone(folders[label] / "energy_uj", interface, names[label], kind, package, _range_uj(folders[label])))
    return zones


def _folders(folder: Path, depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Zones by label: the class folder of the kernel is flat and nested at once, and both ways lead to one zone."""
    for child in sorted(folder.iterdir()):
        found = _FOLDER.fullmatch(child.name)
        if found is None or not child.is_dir():
            continue
        if found[1]:
            yield child.name, child
        if depth < 3:  # control type, package, memory
            yield from _folders(child, depth + 1)


def _order(label: str) -> tuple[str, list[int]]:
    interface, *numbers = label.split(":")
    return interface, [int(number) for number in numbers]


def _name(label: str, folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except FileNotFoundError:
        _, number, *below = label.split(":")
        return "" if below else f"package-{number}"


def _kind(name: str) -> _Kind | None:
    if name.startswith("package"):
        return "package"
    if name.startswith("psys"):
        return "psys"
    return "dram" if name == "dram" else None


def _range_uj(folder: Path) -> int | None:
    """Where a counter wraps; None where that is not told, or is told as something that no counter has."""
    try:
        range_uj = int((folder / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None
    return range_uj if range_uj >= MIN_WRAP_S * MAX_ZONE_W * 1e6 else None
