"""Start a job that can wait when the grid is forecast to be cleanest, and never later than its deadline allows.

Waiting is a promise about carbon that only a forecast backs, so everything that is not known is said: a job that cannot be placed
runs at once and its result tells why, and the carbon saved is a counterfactual with a wide band.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rag.errors import InputError
from rag.power.figure import Band, product
from rag.power.forecast import Forecast, ForecastSource, Point, Signal, read_forecast

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rag.types import Figure

# Below that the errors of a forecast are larger than the gain, and a job that waits has costs of its own.
_MIN_GAIN = 0.05
# Less than any forecast says, and far more than the rounding of its sums; so equal windows count as equal, and the first is taken.
_TIE_G_PER_KWH = 1e-3
# Times since the epoch are exact to a quarter of a microsecond; a window may stick out by the rounding of one addition.
_CLOCK_S = 1e-3
# A machine that was suspended wakes within a slice and sees that its clock has jumped.
_SLICE_S = 60.0
# Forecasts reach three to four days; beyond two weeks a deadline is a slip of the pen.
_MAX_AHEAD_S = 14 * 86400.0
# A shorter job is not worth a process that waits for it.
_MIN_DURATION_S = 60.0
_DEFAULT_DURATION = "1h"
_J_PER_KWH = 3.6e6
_LENGTH = r"(?:(\d{1,5})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?"


@dataclass(frozen=True, slots=True)
class Choice:
    """When to start.

    Attributes:
        start_s: Seconds since the epoch; never before now.
        mean_g_per_kwh: Forecast mean of the window that begins there; None where the forecast does not cover all of it.
        now_g_per_kwh: Forecast mean of the window that begins now; None likewise.
        reason: Why, for people.
        signal: Of the forecast.
        is_deferred: Whether the start is later than now.
    """

    start_s: float
    mean_g_per_kwh: float | None
    now_g_per_kwh: float | None
    reason: str
    signal: Signal
    is_deferred: bool


@dataclass(frozen=True, slots=True)
class Deferral:
    """What a person asked for.

    Attributes:
        deadline_s: When the job must be done, seconds since the epoch.
        duration_s: How long it is expected to take, seconds.
        forecast_path: The forecast; None runs the job at once.
    """

    deadline_s: float
    duration_s: float
    forecast_path: Path | None


@dataclass(frozen=True, slots=True)
class Deferred:
    """What came of it; every value can be written as JSON.

    Attributes:
        deferred: Whether the job waited.
        waited_s: Seconds by the clock of the machine, 0 or more.
        started_s: Seconds since the epoch.
        started_at: The same in ISO 8601, UTC.
        reason: Why it started then, for people.
        signal: What the intensities mean; both are of this signal, and a figure of another must not be compared with them.
        now_g_per_kwh: Forecast mean, had the job started at once; None if unknown.
        window_g_per_kwh: Forecast mean of the window in which it runs; None if unknown.
        forecast_source: Shape of the forecast; None without one.
        forecast_location: As the forecast names it; may be empty.
    """

    deferred: bool
    waited_s: float
    started_s: float
    started_at: str
    reason: str
    signal: Signal
    now_g_per_kwh: float | None
    window_g_per_kwh: float | None
    forecast_source: ForecastSource | None
    forecast_location: str


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


def choose_start(forecast: Forecast, now_s: float, deadline_s: float, duration_s: float) -> Choice:
    """Choose the window with the least mean intensity between now and the deadline.

    The mean over ``[t, t + duration]`` is linear in ``t`` as long as neither end crosses a border of a point, so its least value lies
    at a border, at a border less the duration, now, or at the last start that meets the deadline: no other start is tried.

    Args:
        forecast: A window must lie in it without a gap.
        now_s: Seconds since the epoch.
        deadline_s: When the job must be done, the same.
        duration_s: How long it takes, seconds, above 0.

    Returns:
        The earliest of the best starts. It is now if no whole window before the deadline is covered, if there is no time to wait, or
        if the best window is less than 5 % below the one that begins now. If that one is not covered, the best window is taken all the
        same and the reason says that the gain is unknown.

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

    def at_once(reason: str) -> Choice:
        return Choice(now_s, now_mean, now_mean, reason, forecast.signal, is_deferred=False)

    if last_s < now_s:
        left = "past" if deadline_s <= now_s else f"{_length(deadline_s - now_s)} away"
        return at_once(f"no time to wait: the deadline is {left}, the job takes {_length(duration_s)}")
    means = _means(runs, now_s, last_s, duration_s)
    if not means:
        return at_once(f"the forecast covers no whole window of {_length(duration_s)} before the deadline")
    least = min(means.values())
    start_s = min(start for start, mean in means.items() if mean <= least + _TIE_G_PER_KWH)
    best = means[start_s]
    if now_mean is None:
        reason = f"forecast mean of {best:.0f} g/kWh; the gain is unknown, the forecast does not cover a start at once"
        return Choice(start_s, best, None, reason, forecast.signal, is_deferred=True)
    if start_s <= now_s or now_mean - best < _MIN_GAIN * now_mean:
        return at_once(f"no window is {_MIN_GAIN:.0%} or more below the forecast mean of {now_mean:.0f} g/kWh of a start at once")
    reason = f"forecast mean of {best:.0f} g/kWh against {now_mean:.0f} of a start at once"
    return Choice(start_s, best, now_mean, reason, forecast.signal, is_deferred=True)


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


def add_defer_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--defer-until``, ``--forecast`` and ``--expected-duration``.

    Args:
        parser: Of a command whose work can wait.
    """
    from pathlib import Path

    group = parser.add_argument_group("deferral")
    group.add_argument(
        "--defer-until",
        metavar="DEADLINE",
        help="wait for the cleanest hours, and be done by then: +6h, +90m, or a date and time (of this machine's zone, if it names none)",
    )
    group.add_argument(
        "--forecast", type=Path, metavar="FILE", help="forecast of carbon intensity, JSON or CSV; without it nothing waits"
    )
    group.add_argument(
        "--expected-duration", metavar="LENGTH", help=f"how long the work takes, such as 30m or 2h (default: {_DEFAULT_DURATION})"
    )


def parse_deferral(options: argparse.Namespace, now_s: float) -> Deferral | None:
    """Check the options that `add_defer_options` added; no file is read.

    Args:
        options: Parsed arguments.
        now_s: Seconds since the epoch.

    Returns:
        The deferral; None where none is asked for.

    Raises:
        InputError: If a value is malformed, the deadline is past or more than 14 days ahead, the duration is shorter than a minute or
            longer than 14 days, or an option is given that means nothing without ``--defer-until``.
    """
    if options.defer_until is None:
        for option, value in (("--forecast", options.forecast), ("--expected-duration", options.expected_duration)):
            if value is not None:
                raise InputError(
                    f"{option} is {str(value)!r} without --defer-until; give the deadline too, or leave it out", code="deferral"
                )
        return None
    duration = options.expected_duration if options.expected_duration is not None else _DEFAULT_DURATION
    duration_s = _seconds(duration)
    if duration_s is None or not _MIN_DURATION_S <= duration_s <= _MAX_AHEAD_S:
        raise InputError(f"--expected-duration is {duration!r}; allowed: 1m to 14d, such as 30m, 2h or 1h30m", code="deferral")
    return Deferral(_deadline_s(options.defer_until, now_s), duration_s, options.forecast)


def _deadline_s(text: str, now_s: float) -> float:
    from datetime import datetime

    length_s = _seconds(text[1:]) if text.startswith("+") else None
    if length_s is not None:
        deadline_s = now_s + length_s
    else:
        try:
            # A time without zone is taken as local by timestamp().
            deadline_s = datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"--defer-until is {text!r}; allowed: +6h, +90m, +1d, or a time like 2026-03-29T06:00 or 2026-03-29T06:00Z",
                code="deferral",
            ) from error
    if not 0 < deadline_s - now_s <= _MAX_AHEAD_S:
        raise InputError(
            f"--defer-until is {text!r}, {_side(deadline_s - now_s)}; allowed: from now to 14 days ahead", code="deferral"
        )
    return deadline_s


def _side(ahead_s: float) -> str:
    return f"{_length(ahead_s)} ahead" if ahead_s > 0 else f"{_length(-ahead_s)} ago"


def _seconds(text: str) -> float | None:
    match = re.fullmatch(_LENGTH, text)
    if not text or not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def wait(deferral: Deferral, now: Callable[[], float], sleep: Callable[[float], None], tell: Callable[[str], None]) -> Deferred:
    """Wait until the start that the forecast speaks for.

    A missing or bad forecast does not stop the job: it runs at once, and both the message and the result say why.

    Args:
        deferral: What was asked for.
        now: Clock, seconds since the epoch.
        sleep: Sleeps for seconds; called with a minute at most.
        tell: Shows a line to the person.

    Returns:
        When and why the job starts. It returns no later than the deadline less the duration, as far as the machine is awake; where the
        start was missed by more than a minute, the window is that of the true start and the reason says so.
    """
    asked_s = now()
    forecast: Forecast | None = None
    reason = "no forecast was given"
    if deferral.forecast_path is not None:
        try:
            forecast = read_forecast(deferral.forecast_path)
        except InputError as error:
            reason = f"no usable forecast: {error}"
    if forecast is None:
        tell(f"runs at once: {reason}")
        return _deferred(None, asked_s, asked_s, Choice(asked_s, None, None, reason, "unknown", is_deferred=False))
    choice = choose_start(forecast, asked_s, deferral.deadline_s, deferral.duration_s)
    if not choice.is_deferred:
        tell(f"runs at once: {choice.reason}")
        return _deferred(forecast, asked_s, asked_s, choice)
    tell(f"waits until {_iso(choice.start_s, is_local=True)}: {choice.reason}, {choice.signal} signal; Ctrl-C stops")
    _sleep_until(choice.start_s, now, sleep)
    started_s = now()
    return _deferred(forecast, asked_s, started_s, _as_started(choice, started_s, forecast, deferral.duration_s))


def _sleep_until(start_s: float, now: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Sleep in slices; a clock that is set back does not make it longer."""
    left_s = start_s - now()
    while left_s > 0:
        slice_s = min(_SLICE_S, left_s)
        sleep(slice_s)
        left_s = min(left_s - slice_s, start_s - now())


def _as_started(choice: Choice, started_s: float, forecast: Forecast, duration_s: float) -> Choice:
    from dataclasses import replace

    late_s = started_s - choice.start_s
    if late_s <= _SLICE_S:
        return choice
    mean = _mean(_runs(forecast.points), started_s, duration_s)
    intensity = "unknown intensity" if mean is None else f"{mean:.0f} g/kWh"
    return replace(choice, mean_g_per_kwh=mean, reason=f"{choice.reason}; started {_length(late_s)} late, at {intensity}")


def _deferred(forecast: Forecast | None, asked_s: float, started_s: float, choice: Choice) -> Deferred:
    return Deferred(
        deferred=choice.is_deferred,
        waited_s=max(0.0, started_s - asked_s),
        started_s=started_s,
        started_at=_iso(started_s),
        reason=choice.reason,
        signal=choice.signal,
        now_g_per_kwh=choice.now_g_per_kwh,
        window_g_per_kwh=choice.mean_g_per_kwh,
        forecast_source=forecast.source if forecast else None,
        forecast_location=forecast.location if forecast else "",
    )


def saved_carbon(energy: Figure, deferred: Deferred) -> Figure | None:
    """Grams that the wait is thought to have saved: energy times (intensity of a start at once - intensity of the window).

    It is a counterfactual: nobody saw what the other start would have emitted. So the low end is 0, as the forecast may have been wrong,
    and the high end takes the window as free of carbon.

    Args:
        energy: Joules of the job.
        deferred: How it waited. The saving is of its signal: never subtract it from grams of another one.

    Returns:
        Grams, modelled at best; exactly 0 where the job ran at once. None where an intensity is unknown or the window was no cleaner.
    """
    assert energy.unit == "J", "this is a bug"
    now_g, window_g = deferred.now_g_per_kwh, deferred.window_g_per_kwh
    if not deferred.deferred:
        return product(energy, Band(0.0, 0.0, 0.0), "g", "modelled", "counterfactual: ran at once, so nothing was saved")
    if now_g is None or window_g is None or window_g >= now_g:
        return None
    gain = Band(now_g - window_g, 0.0, now_g).times(1 / _J_PER_KWH)
    source = f"counterfactual: {now_g:.0f} g/kWh at once less {window_g:.0f} from {deferred.started_at}, forecast, {deferred.signal} signal"
    return product(energy, gain, "g", "modelled", source)


def _iso(epoch_s: float, *, is_local: bool = False) -> str:
    from datetime import UTC, datetime

    time = datetime.fromtimestamp(epoch_s, UTC)
    return time.astimezone().isoformat(timespec="minutes") if is_local else time.isoformat(timespec="seconds")


def _length(seconds: float) -> str:
    minutes = round(seconds / 60)
    parts = ((minutes // 1440, "d"), (minutes // 60 % 24, "h"), (minutes % 60, "min"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "less than a minute"
