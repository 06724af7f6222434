"""Choose when a job that can wait should start: where a forecast of grid carbon intensity has its cleanest window before a deadline.

A job waits only for a gain against a start at once. Where the forecast does not cover a start at once, as those of most services do
not, which begin at the next step, a stand-in is compared with and the reason names it; without it such a job would always wait, for
nothing where the forecast is flat.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rag.errors import InputError
from rag.power.forecast import Forecast, Point, Signal

# Below that the errors of a forecast are larger than the gain, and a job that waits has costs of its own.
_MIN_GAIN = 0.05
# Less than any forecast says, and far more than the rounding of its sums; so equal windows count as equal, and the first is taken.
_TIE_G_PER_KWH = 1e-3
# Times since the epoch are exact to a quarter of a microsecond; a window may stick out by the rounding of one addition.
_CLOCK_S = 1e-3
# The longest step of the usual forecasts; the grid may be another one by the time that a point farther off begins.
_MAX_STAND_IN_S = 3600.0
_AT_ONCE = "a start at once"


@dataclass(frozen=True, slots=True)
class Choice:
    """When to start.

    Attributes:
        start_s: Seconds since the epoch; never before now.
        mean_g_per_kwh: Forecast mean of the window that begins there; None where the forecast does not cover all of it.
        now_g_per_kwh: What the window is compared with: the forecast mean of the window that begins now, or what stands in for it
            where the forecast does not cover it, which the reason then says; None where nothing was compared.
        is_stand_in: Whether ``now_g_per_kwh`` is a stand-in.
        reason: Why, for people.
        signal: Of the forecast.
        is_deferred: Whether the start is later than now.
    """

    start_s: float
    mean_g_per_kwh: float | None
    now_g_per_kwh: float | None
    is_stand_in: bool
    reason: str
    signal: Signal
    is_deferred: bool


class _Reference(NamedTuple):
    """What the best window is compared with, and whose mean it is, for people."""

    g_per_kwh: float
    of: str
    is_stand_in: bool


def choose_start(forecast: Forecast, now_s: float, deadline_s: float, duration_s: float) -> Choice:
    """Choose the window with the least mean intensity between now and the deadline.

    The mean over ``[t, t + duration]`` is linear in ``t`` as long as neither end crosses a border of a point, so its least value lies
    at a border, at a border less the duration, now, or at the last start that meets the deadline: no other start is tried.

    It is compared with the window that begins now. Where that one is not covered, the first point after now stands for the time
    before it, if it begins within its own length and an hour; else the window at the first covered start stands in.

    Args:
        forecast: A window must lie in it without a gap.
        now_s: Seconds since the epoch.
        deadline_s: When the job must be done, the same.
        duration_s: How long it takes, seconds, above 0.

    Returns:
        The earliest of the best starts. It is now if no whole window before the deadline is covered, if there is no time to wait, or
        if the best window is less than 5 % below what it is compared with.

    Raises:
        InputError: If the duration is not above 0, or a time is not a finite number.
    """
    if not (duration_s > 0 and math.isfinite(now_s + deadline_s + duration_s)):
        raise InputError(
            f"the job is said to take {duration_s} s from {now_s} and to be done by {deadline_s}; allowed: finite times, above 0 s",
            code="deferral",
        )
    runs = _runs(forecast.points)
    now_mean = _mean(runs, now_s, duration_s)
    last_s = deadline_s - duration_s
    if last_s < now_s:
        left = "past" if deadline_s <= now_s else f"{spoken_length(deadline_s - now_s)} away"
        reason = f"no time to wait: the deadline is {left}, the job takes {spoken_length(duration_s)}"
        return _unplaced(now_s, now_mean, reason, forecast.signal)
    means = _means(runs, now_s, last_s, duration_s)
    if not means:
        reason = f"the forecast covers no whole window of {spoken_length(duration_s)} before the deadline"
        return _unplaced(now_s, now_mean, reason, forecast.signal)
    reference = _reference(forecast.points, means, now_s, duration_s)
    least = min(means.values())
    start_s = min(start for start, mean in means.items() if mean <= least + _TIE_G_PER_KWH)
    gain = reference.g_per_kwh - means[start_s]
    if start_s <= now_s or gain <= _TIE_G_PER_KWH or gain < _MIN_GAIN * reference.g_per_kwh:
        reason = (
            f"no window is {_MIN_GAIN:.0%} or more below the forecast mean of {reference.g_per_kwh:.0f} g/kWh of {reference.of}"
        )
        start_s, is_deferred = now_s, False
    else:
        reason = f"forecast mean of {means[start_s]:.0f} g/kWh against {reference.g_per_kwh:.0f} of {reference.of}"
        is_deferred = True
    return Choice(
        start_s=start_s,
        mean_g_per_kwh=means.get(start_s),
        now_g_per_kwh=reference.g_per_kwh,
        is_stand_in=reference.is_stand_in,
        reason=reason,
        signal=forecast.signal,
        is_deferred=is_deferred,
    )


def _unplaced(now_s: float, now_mean: float | None, reason: str, signal: Signal) -> Choice:
    """A start at once that was compared with nothing."""
    return Choice(now_s, now_mean, now_mean, is_stand_in=False, reason=reason, signal=signal, is_deferred=False)


def window_mean(forecast: Forecast, start_s: float, duration_s: float) -> float | None:
    """Mean intensity of one window.

    Args:
        forecast: Where it lies.
        start_s: Seconds since the epoch.
        duration_s: Seconds, above 0.

    Returns:
        Grams a kilowatt-hour; None where the forecast does not cover all of it.
    """
    return _mean(_runs(forecast.points), start_s, duration_s)


def spoken_length(seconds: float) -> str:
    """A length of time for people, to the minute.

    Args:
        seconds: 0 or more.

    Returns:
        Such as ``1 d 2 h 5 min``.
    """
    minutes = round(seconds / 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "less than a minute"


def _reference(points: Sequence[Point], means: Mapping[float, float], now_s: float, duration_s: float) -> _Reference:
    """Of the window that begins now if it is covered, else of what stands in for it."""
    if now_s in means:
        return _Reference(means[now_s], _AT_ONCE, is_stand_in=False)
    place = bisect_right(points, now_s, key=lambda point: point.end_s)
    first = points[place]
    if 0 < first.start_s - now_s <= min(first.end_s - first.start_s, _MAX_STAND_IN_S):
        stretched = [Point(now_s, first.end_s, first.g_per_kwh), *points[place + 1 :]]
        mean = _mean(_runs(stretched), now_s, duration_s)
        if mean is not None:
            of = f"{_AT_ONCE}, with the point that begins in {spoken_length(first.start_s - now_s)} standing for now"
            return _Reference(mean, of, is_stand_in=True)
    start_s = min(means)
    of = f"the first window that it covers, in {spoken_length(start_s - now_s)}, standing in for {_AT_ONCE}"
    return _Reference(means[start_s], of, is_stand_in=True)


class _Run(NamedTuple):
    """Points that follow each other without a gap: their borders, and the integral of the intensity from the first border on."""

    borders: Sequence[float]
    sums: Sequence[float]

    def mean(self, start_s: float, end_s: float) -> float:
        """Over a window inside the run."""
        return (self._integral(end_s) - self._integral(start_s)) / (end_s - start_s)

    def _integral(self, at_s: float) -> float:
        place = min(max(bisect_right(self.borders, at_s), 1), len(self.borders) - 1)
        before, after = self.borders[place - 1 : place + 1]
        share = min(max((at_s - before) / (after - before), 0.0), 1.0)
        return self.sums[place - 1] + share * (self.sums[place] - self.sums[place - 1])


def _means(runs: Sequence[_Run], now_s: float, last_s: float, duration_s: float) -> dict[float, float]:
    """Mean by start, of the starts that can be best and are covered."""
    starts = {now_s, last_s}
    for run in runs:
        for border in run.borders:
            starts.update(start for start in (border, border - duration_s) if now_s <= start <= last_s)
    found = {start: _mean(runs, start, duration_s) for start in starts}
    return {start: mean for start, mean in found.items() if mean is not None}


def _runs(points: Sequence[Point]) -> list[_Run]:
    runs: list[tuple[list[float], list[float]]] = []
    for point in points:
        if not runs or runs[-1][0][-1] != point.start_s:
            runs.append(([point.start_s], [0.0]))
        borders, sums = runs[-1]
        borders.append(point.end_s)
        sums.append(sums[-1] + point.g_per_kwh * (point.end_s - point.start_s))
    return [_Run(borders, sums) for borders, sums in runs]


def _mean(runs: Sequence[_Run], start_s: float, duration_s: float) -> float | None:
    place = bisect_right(runs, start_s + _CLOCK_S, key=lambda run: run.borders[0]) - 1
    if place < 0 or start_s + duration_s > runs[place].borders[-1] + _CLOCK_S:
        return None
    return runs[place].mean(start_s, start_s + duration_s)
