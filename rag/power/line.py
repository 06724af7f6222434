"""The line through the readings of a power meter, and how far it may be off.

Two errors of a meter are told apart. Its gain is the same for all readings, so it stretches the whole line. What it rounds away and what
flickers is different for each reading, so it tilts the line: the less watts a load adds, the more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rag.power.figure import Band

# Plug meters promise 1 to 2 % of a steady resistive load, and less for the chopped current of a power supply.
GAIN = 0.05
# Loads this near, as a share of all threads, are one load: between them a watt of noise looks like a slope.
_ONE_LOAD = 0.1
# The band of a straight line whose bend nobody has seen, as for a CPU family of the table.
_UNBENT = (0.6, 2.0)
# Two standard deviations: 95 % of what flickers as a normal distribution does.
_COVERAGE = 2.0
# Nobody's plug meter shows a millionth of a watt; more decimals are those of a computed mean.
_MAX_DECIMALS = 6

Points = Sequence[tuple[float, float]]  # busy threads, watts


class Line(NamedTuple):
    """Watts by busy threads.

    Attributes:
        idle_w: Watts at rest.
        slope_w: Watts that a busy thread adds, in the least squares.
        idle_error_w: What rounding and flicker may have done to the watts at rest, 0 or more.
        slope_error_w: And to the slope.
        step_w: Last digit of the meter: of the readings, the one with the most decimals tells.
        flicker_w: Standard deviation of readings at one load; 0 where no load was read twice.
    """

    idle_w: float
    slope_w: float
    idle_error_w: float
    slope_error_w: float
    step_w: float
    flicker_w: float


def least_squares(points: Points, n_threads: int) -> Line:
    """Lay the line of least squares ``watts = idle_w + slope_w * busy_threads``.

    Every reading may be half a step of the meter off, all of them in the worst way; flicker adds up as independent errors do.

    Args:
        points: Busy threads and watts, of two loads or more.
        n_threads: Hardware threads of the machine.

    Returns:
        The line; the order of the points does not change it.
    """
    n = len(points)
    mean_load, mean_watts = _mean(points)
    spread = math.fsum((busy - mean_load) ** 2 for busy, _ in points)
    slope = math.fsum((busy - mean_load) * (watts - mean_watts) for busy, watts in points) / spread
    step = 10.0 ** -max(_decimals(watts) for _, watts in points)
    flicker = _flicker(_loads(points, n_threads), slope)
    tilt = math.fsum(abs(busy - mean_load) for busy, _ in points) / spread
    lift = math.fsum(abs(1 / n - mean_load * (busy - mean_load) / spread) for busy, _ in points)
    return Line(
        idle_w=mean_watts - slope * mean_load,
        slope_w=slope,
        idle_error_w=lift * step / 2 + _COVERAGE * flicker * math.sqrt(1 / n + mean_load**2 / spread),
        slope_error_w=tilt * step / 2 + _COVERAGE * flicker / math.sqrt(spread),
        step_w=step,
        flicker_w=flicker,
    )


def slope_band(points: Points, n_threads: int, line: Line) -> Band:
    """What a busy thread may add: from the flattest to the steepest piece between neighbouring loads, with the errors of the meter.

    Args:
        points: Those of the line.
        n_threads: Hardware threads of the machine.
        line: From `least_squares`.

    Returns:
        The slope and its band, 0 or more; of two loads, which show no bend, 0.6 to 2.0 times.
    """
    lows, highs = [line.slope_w - line.slope_error_w], [line.slope_w + line.slope_error_w]
    loads = _loads(points, n_threads)
    for first, second in zip(loads, loads[1:], strict=False):
        (busy, watts), (more_busy, more_watts) = _mean(first), _mean(second)
        error = _error(first, line) + _error(second, line)
        lows.append((more_watts - watts - error) / (more_busy - busy))
        highs.append((more_watts - watts + error) / (more_busy - busy))
    low, high = _UNBENT if len(loads) < 3 else (1.0, 1.0)
    return Band(line.slope_w, max(0.0, min(lows)) * low * (1 - GAIN), max(highs) * high * (1 + GAIN))


def _error(load: Points, line: Line) -> float:
    """How far the mean of the readings at one load may be off, the gain left out."""
    return line.step_w / 2 + _COVERAGE * line.flicker_w / math.sqrt(len(load))


def _loads(points: Points, n_threads: int) -> list[list[tuple[float, float]]]:
    """The readings of each load, by ascending load."""
    loads: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        if loads and point[0] - _mean(loads[-1])[0] < _ONE_LOAD * n_threads:
            loads[-1].append(point)
        else:
            loads.append([point])
    return loads


def _flicker(loads: Sequence[Points], slope: float) -> float:
    """Standard deviation within the loads, pooled, less what small differences of load explain."""
    n_free = sum(len(load) - 1 for load in loads)
    if not n_free:
        return 0.0
    squares = []
    for load in loads:
        mean_busy, mean_watts = _mean(load)
        squares += [(watts - mean_watts - slope * (busy - mean_busy)) ** 2 for busy, watts in load]
    return math.sqrt(math.fsum(squares) / n_free)


def _decimals(watts: float) -> int:
    return next((n for n in range(_MAX_DECIMALS) if round(watts, n) == watts), _MAX_DECIMALS)


def _mean(points: Points) -> tuple[float, float]:
    return math.fsum(busy for busy, _ in points) / len(points), math.fsum(watts for _, watts in points) / len(points)
