"""Watts of a CPU from a table of families: what is left where no counter can be read and nobody has put a meter to the wall.

The CPU is known by the family and model numbers that it reports, because cloud providers mask its name but not those. The table holds
medians of published server measurements, per hardware thread and at the wall, so memory, fans and power supply are inside. A price is
the slope of the straight line from idle to full load; idle power is a line of its own.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rag.errors import PowerError
from rag.power.figure import Band
from rag.power.price import Price

TABLE = Path(__file__).with_name("cpu_families.csv")

# A processor takes 1 to 3 KiB of the file, which the kernel makes anew at each reading, one processor after the other.
_HEAD_BYTES = 8192
_COLUMNS = ("name", "vendor", "family", "models", "idle_w", "full_w", "full_lo_w", "full_hi_w", "n_results", "year", "source")

# Servers of one family differ by memory, clocks and cooling: the spread of the table, and the bend of the curve at middle load.
_KNOWN = (0.6, 2.0)
# Between the medians of the table lies a factor of 3.7, and a CPU outside it may be older than all of them.
_UNKNOWN = (0.3, 3.0)
# Power rises steeply first: at 10 % load published curves have 1.8 and 2.9 times the slope of the straight line.
_BENT = 1.5
# A guest that shows no SMT may have been given whole cores, that is two threads a CPU.
_CORE = 2.0


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor of this machine, as its kernel reports it.

    Attributes:
        vendor: ``AuthenticAMD``, ``GenuineIntel``; of ARM the implementer, such as ``0x41``; empty where unknown.
        family: CPUID family, of ARM the version of the architecture; 0 where unknown.
        model: CPUID model, of ARM the part number; 0 where unknown.
        name: For people; ``unknown`` where it has none.
        is_guest: Whether a hypervisor announces itself. ARM has no such flag, so there it is False.
        smt_visible: Whether a core shows more than one thread; None where the kernel does not tell.
    """

    vendor: str
    family: int
    model: int
    name: str
    is_guest: bool
    smt_visible: bool | None


class Family(NamedTuple):
    """A row of the table: watts at the wall per hardware thread.

    A named tuple, because a data class of so many fields takes a millisecond of every start.

    Attributes:
        name: For people.
        vendor: As in `Cpu`.
        family: As in `Cpu`.
        models: The models that are of this family, at least one.
        idle_w: Median of the idle servers, more than 0.
        full_w: Median at full load, more than ``idle_w``.
        full_lo_w: Least at full load.
        full_hi_w: Most at full load.
        n_results: Servers measured, 1 or more.
        year: In which they were collected.
        source: Who measured.
    """

    name: str
    vendor: str
    family: int
    models: tuple[int, ...]
    idle_w: float
    full_w: float
    full_lo_w: float
    full_hi_w: float
    n_results: int
    year: int
    source: str

    @property
    def active_w(self) -> float:
        """Watts that a busy thread adds to an idle machine."""
        return self.full_w - self.idle_w


def identify(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Read which processor this is.

    Only the first processor is read: machines with unlike ones (big and little cores) are described by it.

    Args:
        cpuinfo: The file of the Linux kernel.

    Returns:
        The processor; one of which everything is unknown where the file is missing or says nothing, as outside Linux.
    """
    fields = _first_block(cpuinfo)
    if "vendor_id" in fields:
        siblings, cores = _integer(fields.get("siblings", "")), _integer(fields.get("cpu cores", ""))
        return Cpu(
            vendor=fields["vendor_id"],
            family=_integer(fields.get("cpu family", "")),
            model=_integer(fields.get("model", "")),
            name=fields.get("model name") or "unknown",
            is_guest="hypervisor" in fields.get("flags", "").split(),
            smt_visible=siblings > cores if siblings and cores else None,
        )
    if "CPU implementer" in fields:
        vendor, part = fields["CPU implementer"].lower(), fields.get("CPU part", "").lower()
        name = fields.get("model name") or f"ARM implementer {vendor} part {part}"
        return Cpu(vendor, _integer(fields.get("CPU architecture", "")), _integer(part), name, is_guest=False, smt_visible=None)
    return Cpu("", 0, 0, "unknown", is_guest=False, smt_visible=None)


def _first_block(cpuinfo: Path) -> dict[str, str]:
    try:
        with cpuinfo.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").lstrip("\n").split("\n"):
        key, colon, value = line.partition(":")
        if not line.strip():
            break
        if colon:
            fields[key.strip()] = " ".join(value.split())
    return fields


def _integer(text: str) -> int:
    """Of a decimal or ``0x`` number of at most nine characters; 0 for anything else."""
    try:
        return max(0, int(text, 0)) if len(text) <= 9 and text.isascii() else 0
    except ValueError:
        return 0


def read_families(path: Path = TABLE) -> tuple[Family, ...]:
    """Read and check a table of families.

    Args:
        path: Text with comma-separated columns, none of them quoted; lines that begin with ``#`` are comments.

    Returns:
        The rows in the order of the file, at least one; no CPU is in two of them.

    Raises:
        PowerError: If the file cannot be read or a row is wrong; code ``cpu_table``.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise PowerError(
            f"{path}: the table of CPU families cannot be read ({error}); install the package again", code="cpu_table"
        ) from error
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    if len(rows) < 2 or tuple(rows[0][1].split(",")) != _COLUMNS:
        raise PowerError(f"{path}: expected the header {','.join(_COLUMNS)!r} and at least one row", code="cpu_table")
    families: list[Family] = []
    claimed: dict[tuple[str, int, int], str] = {}
    for number, line in rows[1:]:
        try:
            family = _family(line)
            for model in family.models:
                cpu = (family.vendor, family.family, model)
                if cpu in claimed:
                    raise ValueError(f"model {model} is claimed by {claimed[cpu]} already")
                claimed[cpu] = family.name
        except ValueError as error:
            raise PowerError(f"{path}:{number}: {error}; got {line[:80]!r}", code="cpu_table") from error
        families.append(family)
    return tuple(families)


def _family(line: str) -> Family:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(_COLUMNS):
        raise ValueError(f"expected {len(_COLUMNS)} columns, found {len(cells)}")
    for column, cell in zip(_COLUMNS, cells, strict=True):
        if not cell:
            raise ValueError(f"column {column} is empty")
    name, vendor, family, models, idle, full, lo, hi, n_results, year, source = cells
    row = Family(
        name=name,
        vendor=vendor,
        family=int(family, 0),
        models=tuple(int(model, 0) for model in models.split()),
        idle_w=float(idle),
        full_w=float(full),
        full_lo_w=float(lo),
        full_hi_w=float(hi),
        n_results=int(n_results),
        year=int(year),
        source=source,
    )
    # A thread of any server lies far below 1,000 W; the comparisons are false for a number that is not one.
    if not 0 < row.idle_w < row.full_lo_w <= row.full_w <= row.full_hi_w < 1000:
        raise ValueError("watts must be 0 < idle_w < full_lo_w <= full_w <= full_hi_w < 1000")
    if row.n_results < 1 or not 2007 <= row.year <= 2100:  # the benchmark began in 2007
        raise ValueError("n_results must be 1 or more and year 2007 to 2100")
    return row


@functools.cache
def _families() -> tuple[Family, ...]:
    return read_families()


def _find(cpu: Cpu) -> Family | None:
    return next(
        (row for row in _families() if (row.vendor, row.family) == (cpu.vendor, cpu.family) and cpu.model in row.models), None
    )


def table_price(cpu: Cpu) -> Price | None:
    """Price a CPU by its family.

    The active price is what a busy thread adds, full load less idle. It is taken as known within 0.6 to 2.0 times. On top, its upper end
    is always raised by the half that low load asks for: how busy the whole machine is cannot be seen from a request, guests cannot see it
    at all, and a question-answering service idles most of the day. A guest that shows no SMT may have been given whole cores, so there
    the upper ends of both prices are doubled.

    Args:
        cpu: From `identify`.

    Returns:
        The price, at the wall; None where the table has no such family.

    Raises:
        PowerError: If the table is damaged; code ``cpu_table``.
    """
    row = _find(cpu)
    if row is None:
        return None
    return _price(cpu, (row.active_w, row.idle_w), _KNOWN, f"SPECpower medians, {row.name}", row.year)


def default_price(cpu: Cpu) -> Price:
    """Price a CPU that is in no table.

    The medians over all rows, within 0.3 to 3.0 times; the upper ends are raised for low load and for guests as in `table_price`, so that
    an unknown CPU never seems better known than one of the table.

    Args:
        cpu: From `identify`, for its name and for what it is as a guest.

    Returns:
        The price, at the wall, dated by the oldest row.

    Raises:
        PowerError: If the table is damaged; code ``cpu_table``.
    """
    rows = _families()
    watts = (_median([row.active_w for row in rows]), _median([row.idle_w for row in rows]))
    source = f"median of the CPU families in the table: this CPU ({cpu.name}) is not one of them"
    return _price(cpu, watts, _UNKNOWN, source, min(row.year for row in rows))


def idle_ratio(cpu: Cpu) -> Band:
    """Power of an idle machine as a share of its power at full load.

    Args:
        cpu: From `identify`.

    Returns:
        The share of the family of this CPU, or the median of all rows where it is in none; the ends are the least and the most of all
        rows.

    Raises:
        PowerError: If the table is damaged; code ``cpu_table``.
    """
    row = _find(cpu)
    shares = [other.idle_w / other.full_w for other in _families()]
    return Band(_median(shares) if row is None else row.idle_w / row.full_w, min(shares), max(shares))


def _price(cpu: Cpu, watts: tuple[float, float], band: tuple[float, float], source: str, year: int) -> Price:
    active, idle = watts
    lo, hi = band
    if cpu.is_guest and cpu.smt_visible is False:
        hi *= _CORE
    return Price(
        active_w=Band(active, active * lo, active * hi * _BENT),
        idle_w=Band(idle, idle * lo, idle * hi),
        method="modelled",
        source=source,
        boundary="server_wall",
        year=year,
    )


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else math.fsum(ordered[middle - 1 : middle + 1]) / 2
