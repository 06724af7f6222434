"""Watts of this very machine, from a meter that its operator put to the wall.

The operator notes watts at several loads, among them none and nearly all. A straight line through them gives the watts of the idle
machine and those that each busy hardware thread adds. The line is kept with the readings it came from, so that a file that was changed
is noticed: the stored line must be the line of the stored readings, and a check number covers the rest.

No counter is read while a request runs, so a price from here is ``modelled`` however good the meter is.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

from rag.errors import InputError, PowerError
from rag.power.figure import Band
from rag.power.line import GAIN, Line, least_squares, slope_band
from rag.power.price import Price

FORMAT = 1

_MAX_WATTS = 100_000.0  # a full rack takes a third of it
_MAX_THREADS = 65_536  # eight times what Linux can be built for
_MAX_READINGS = 10_000  # a reading a second for three hours
_MAX_BYTES = 2 << 20  # of a file; 10,000 readings take 1 MiB at the most
# What a service manager and a shell keep busy: this share of all threads, or a tenth of one thread, still counts as idle.
_IDLE_LOAD = 0.05

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
# Of a word without digits; a meter that is off or out of range may show the others.
_NAME = r"(?!(?:nan|inf|infinity)$)[^\W\d]+"
_ADVICE = "note the watts at rest and with a quarter, half and all of the threads busy, each for a minute or more"


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the meter.

    Attributes:
        busy_threads: Mean number of busy hardware threads meanwhile, 0 or more.
        watts: Of the whole machine at the wall, above 0 and below 100,000.
    """

    busy_threads: float
    watts: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """A machine and the line through its readings.

    Attributes:
        cpu: Name of its CPU.
        n_threads: Hardware threads, 1 to 65,536.
        made: Day of the readings, ``YYYY-MM-DD``.
        readings: As they were noted.
        idle_w: Watts of the whole idle machine, 0 or more.
        active_w: Watts that a busy thread adds, more than 0.
        active_lo_w: What it may add at the least, 0 or more.
        active_hi_w: And at the most.
    """

    cpu: str
    n_threads: int
    made: str
    readings: tuple[Reading, ...]
    idle_w: float
    active_w: float
    active_lo_w: float
    active_hi_w: float


def parse_readings(lines: Iterable[str], origin: str) -> tuple[Reading, ...]:
    """Read the notes of an operator.

    Args:
        lines: Two columns, busy threads and watts, with a comma, a semicolon, a tab or blanks between them and a point for decimals; text
            from ``#`` on is a comment, and one line of column names, words without digits, may come first.
        origin: Name of the file, for messages.

    Returns:
        The readings in their order, at least one.

    Raises:
        InputError: If a line is not a reading or there is none; code ``calibration_reading``.
    """
    readings: list[Reading] = []
    is_first = True
    for number, line in enumerate(lines, 1):
        text = line.removeprefix("\ufeff").partition("#")[0].strip()
        if not text:
            continue
        cells = re.split(r"\s*[,;]\s*|\s+", text)
        numbers = [float(cell) for cell in cells if re.fullmatch(_NUMBER, cell, re.ASCII)]
        is_header = is_first and all(re.fullmatch(_NAME, cell, re.IGNORECASE) for cell in cells)
        is_first = False
        if is_header:
            continue
        if len(cells) != 2 or len(numbers) != 2 or not _is_reading(*numbers):
            raise InputError(
                f"{origin}:{number}: {text[:60]!r} is not a reading; allowed: two numbers, busy threads (0 or more) and watts (above 0, "
                "below 100000), with a point for decimals; correct or remove the line",
                code="calibration_reading",
            )
        readings.append(Reading(*numbers))
    if not readings:
        raise InputError(
            f"{origin}: no readings found; {_ADVICE}, one line of busy threads and watts for each", code="calibration_reading"
        )
    return tuple(readings)


def _is_reading(busy_threads: float, watts: float) -> bool:
    return 0 <= busy_threads <= 2 * _MAX_THREADS and 0 < watts < _MAX_WATTS


def fit(readings: Sequence[Reading], cpu: str, n_threads: int, made: str) -> Calibration:
    """Lay the line of least squares ``watts = idle_w + active_w * busy_threads`` through the readings.

    Power bends: the first busy threads cost more than the last. So the band of the slope reaches from the flattest to the steepest piece
    between neighbouring loads. Every reading may be off by half of its last digit, and by what readings at one load flicker; both widen
    each piece. The gain of the meter adds 5 % to all. Loads nearer to each other than a tenth of the threads count as one. With two loads
    the bend stays unseen; then the band is 0.6 to 2.0 times wider, as for a CPU of the table.

    Args:
        readings: Two or more: one at rest (at most 5 % of the threads busy, or 0.1 of one) and one with half of the threads busy or more.
        cpu: Name of the CPU, one line of 1 to 200 characters.
        n_threads: Hardware threads of the machine, 1 to 65,536.
        made: Day of the readings, ``YYYY-MM-DD``.

    Returns:
        The calibration; the order of the readings does not change its line.

    Raises:
        InputError: If a value is outside what is allowed or the readings give no line; code ``calibration_readings``.
    """
    _check_machine(cpu, n_threads, made)
    _check_readings(readings, n_threads)
    line = _line(readings, n_threads)
    if line.slope_w <= 0 or line.idle_w < 0:
        _refuse(
            f"the readings give {line.idle_w:.4g} W at rest and {line.slope_w:.4g} W for a busy thread; allowed: 0 or more, and more than 0"
        )
    if line.slope_w <= line.slope_error_w:
        _refuse(
            f"the readings give {line.slope_w:.3g} W for a busy thread, which may be {line.slope_error_w:.3g} W off (the meter shows steps "
            f"of {line.step_w:g} W, readings at one load differ by {line.flicker_w:.2g} W); allowed: more than that error",
            "use a meter with finer digits, or note readings at a higher load, each for longer",
        )
    band = slope_band(_points(readings), n_threads, line)
    return Calibration(cpu, n_threads, made, tuple(readings), line.idle_w, band.value, band.lo, band.hi)


def _line(readings: Sequence[Reading], n_threads: int) -> Line:
    return least_squares(_points(readings), n_threads)


def _points(readings: Sequence[Reading]) -> list[tuple[float, float]]:
    return [(reading.busy_threads, reading.watts) for reading in readings]


def _check_machine(cpu: str, n_threads: int, made: str) -> None:
    from datetime import date

    if not (cpu.strip() and cpu.isprintable() and len(cpu) <= 200):
        _refuse(f"CPU name is {cpu[:60]!r}; allowed: one line of 1 to 200 characters", "give the name that the system reports")
    if not 1 <= n_threads <= _MAX_THREADS:
        _refuse(f"number of threads is {n_threads}; allowed: 1 to {_MAX_THREADS}", "count the hardware threads of the machine")
    try:
        is_day = date.fromisoformat(made).isoformat() == made  # other ISO spellings of a day are read too
    except ValueError:
        is_day = False
    if not is_day:
        _refuse(f"day is {made[:60]!r}; allowed: YYYY-MM-DD", "give the day of the readings")


def _check_readings(readings: Sequence[Reading], n_threads: int) -> None:
    if not 2 <= len(readings) <= _MAX_READINGS:
        _refuse(f"{len(readings)} readings; allowed: 2 to {_MAX_READINGS}")
    for reading in readings:
        if not _is_reading(reading.busy_threads, reading.watts):
            _refuse(f"{reading}; allowed: 0 or more busy threads, watts above 0 and below 100000")
        if reading.busy_threads > n_threads * 1.02:  # clocks of a load generator and of the kernel differ a little
            _refuse(f"{reading.busy_threads:g} busy threads on a machine of {n_threads}; allowed: at most all of them")
    loads = [reading.busy_threads for reading in readings]
    if min(loads) > _idle_load(n_threads):
        _refuse(f"the least load is {min(loads):g} busy threads; allowed: one reading at {_idle_load(n_threads):g} or less")
    if max(loads) < n_threads / 2:
        _refuse(f"the highest load is {max(loads):g} busy threads; allowed: one reading at {n_threads / 2:g} or more")


def _refuse(what: str, advice: str = _ADVICE) -> NoReturn:
    raise InputError(f"calibration: {what}; {advice}", code="calibration_readings")


def _idle_load(n_threads: int) -> float:
    return max(0.1, _IDLE_LOAD * n_threads)


def calibrated_price(calibration: Calibration, cpu_name: str, n_threads: int) -> Price:
    """Price this machine by its calibration.

    The band of the idle watts covers the line and the readings at rest, which lie below it where power bends, their errors, and 5 % for
    the gain of the meter.

    Args:
        calibration: From `load` or `fit`.
        cpu_name: Name of the CPU of this machine.
        n_threads: Its hardware threads.

    Returns:
        The price at the wall, modelled, dated by the day of the readings.

    Raises:
        PowerError: If it was made on another machine; code ``calibration_other_machine``.
    """
    if (calibration.cpu, calibration.n_threads) != (cpu_name, n_threads):
        raise PowerError(
            f"the calibration is of {calibration.cpu!r} with {calibration.n_threads} threads, this machine is {cpu_name!r} with {n_threads}; "
            "both must agree; calibrate this machine",
            code="calibration_other_machine",
        )
    at_rest = [reading.watts for reading in calibration.readings if reading.busy_threads <= _idle_load(n_threads)]
    line = _line(calibration.readings, n_threads)
    error = max(line.idle_error_w, line.step_w / 2)
    idle = Band(
        calibration.idle_w,
        max(0.0, min([calibration.idle_w, *at_rest]) - error) * (1 - GAIN),
        (max([calibration.idle_w, *at_rest]) + error) * (1 + GAIN),
    )
    return Price(
        active_w=Band(calibration.active_w, calibration.active_lo_w, calibration.active_hi_w),
        idle_w=idle.times(1 / n_threads),
        method="modelled",
        source=f"calibration of {calibration.made} from {len(calibration.readings)} wall-meter readings",
        boundary="server_wall",
        year=int(calibration.made[:4]),
    )


def check_place(path: Path) -> None:
    """See whether a calibration can be written there, before anybody stands at a meter; nothing is written.

    Args:
        path: File to write later.

    Raises:
        PowerError: If its folder cannot be made or written, or it is a folder; code ``calibration_not_saved``.
    """
    try:
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir():
            raise _not_saved(path, "it is a folder")
        if not nearest.is_dir():
            raise _not_saved(path, f"{nearest} is no folder")
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise _not_saved(path, f"no permission to write in {nearest}")
    except OSError as error:
        raise _not_saved(path, error.strerror) from error


def _not_saved(path: Path, why: str | None) -> PowerError:
    return PowerError(
        f"{path}: the calibration cannot be written ({why}); choose a file in a folder that can be written",
        code="calibration_not_saved",
    )


def save(path: Path, calibration: Calibration) -> None:
    """Write a calibration; a reader finds the old file or the whole new one.

    Args:
        path: File to write or replace; its folder is made where it is missing.
        calibration: From `fit`.

    Raises:
        PowerError: If it cannot be written; code ``calibration_not_saved``.
    """
    fields = {"format": FORMAT, **asdict(calibration)}
    data = json.dumps({**fields, "check": _check_number(fields)}, indent=1, allow_nan=False).encode()
    # A name of its own for each writer, so that two at once do not write into one file.
    draft = path.parent / f".{path.name}.{os.urandom(4).hex()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _not_saved(path, error.strerror) from error


def load(path: Path) -> Calibration:
    """Read a calibration and fit its readings again.

    Args:
        path: A file that `save` wrote.

    Returns:
        The same calibration.

    Raises:
        PowerError: If there is no such file (``calibration_missing``), it is of another format (``calibration_format``), or it cannot be
            read or is not as it was written (``calibration_damaged``).
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PowerError(
            f"{path}: no such calibration file; calibrate this machine or correct the path", code="calibration_missing"
        ) from error
    except OSError as error:
        raise _damaged(path, f"the file cannot be read ({error.strerror})") from error
    if len(data) > _MAX_BYTES:
        raise _damaged(path, f"larger than {_MAX_BYTES} bytes")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:  # deep nesting ends in the latter
        raise _damaged(path, "not JSON") from error
    if not isinstance(fields, dict):
        raise _damaged(path, "not a JSON object")
    version = fields.get("format")
    if type(version) is int and version != FORMAT:
        raise PowerError(
            f"{path}: calibration format {version}; this release reads {FORMAT}; calibrate again with it", code="calibration_format"
        )
    try:
        return _calibration(fields)
    except (ValueError, RecursionError, InputError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> PowerError:
    return PowerError(f"{path}: damaged calibration, {why}; calibrate this machine again", code="calibration_damaged")


def _calibration(fields: dict[str, object]) -> Calibration:
    names = {"format", "check", *Calibration.__dataclass_fields__}
    if set(fields) != names:
        raise ValueError(f"fields are missing or unknown: {repr(sorted(set(fields) ^ names))[:200]}")
    if fields.pop("check") != _check_number(fields):
        raise ValueError("it was changed after it was written")
    cpu, n_threads, made, entries = fields["cpu"], fields["n_threads"], fields["made"], fields["readings"]
    are_integers = type(fields["format"]) is int and type(n_threads) is int  # not a bool, which counts as one
    if not (
        are_integers and isinstance(n_threads, int) and isinstance(cpu, str) and isinstance(made, str) and isinstance(entries, list)
    ):
        raise ValueError("a field has the wrong type")
    again = fit([_reading(entry) for entry in entries], cpu, n_threads, made)
    for name in ("idle_w", "active_w", "active_lo_w", "active_hi_w"):
        stored, fitted = _number(fields[name]), float(getattr(again, name))
        # Another processor may round the last digits otherwise.
        if not math.isclose(stored, fitted, rel_tol=1e-9, abs_tol=1e-9):
            raise ValueError(f"{name} is {stored:g}, but its readings give {fitted:g}")
    return again


def _reading(entry: object) -> Reading:
    if not isinstance(entry, dict) or set(entry) != {"busy_threads", "watts"}:
        raise ValueError("a reading has other fields than busy_threads and watts")
    return Reading(_number(entry["busy_threads"]), _number(entry["watts"]))


def _number(value: object) -> float:
    # The comparison comes first: a whole number of JSON may be too large for a float, and a NaN fails it.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise ValueError("a number is missing, not finite or too large")
    return float(value)


def _check_number(fields: dict[str, object]) -> str:
    """Eight hexadecimal digits over names and values, against accidents and edits by hand, not against forgers."""
    import zlib

    return f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
