"""Start a job that can wait when the grid is forecast to be cleanest, and never later than its deadline allows.

Waiting is a promise about carbon that only a forecast backs, so everything that is not known is said: a job that cannot be placed
runs at once and its result tells why, and the carbon saved is a counterfactual with a wide band.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.errors import InputError
from rag.power.figure import Band, product
from rag.power.forecast import Forecast, ForecastSource, Signal, read_forecast
from rag.power.start import Choice, choose_start, spoken_length, window_mean

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from rag.cost import Figure

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
        now_g_per_kwh: Forecast mean, had the job started at once, or what stood in for it; None if unknown.
        now_is_stand_in: Whether the forecast does not cover a start at once, so that another of its values was compared with.
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
    now_is_stand_in: bool
    window_g_per_kwh: float | None
    forecast_source: ForecastSource | None
    forecast_location: str


def add_defer_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--defer-until``, ``--forecast`` and ``--expected-duration``.

    Args:
        parser: Of a command whose work can wait.
    """
    group = parser.add_argument_group("deferral")
    group.add_argument(
        "--defer-until",
        metavar="DEADLINE",
        help="wait for the cleanest hours, and be done by then: +6h, +90m, or a date and time (of this machine's zone, if it names none)",
    )
    group.add_argument("--forecast", metavar="FILE", help="forecast of carbon intensity, JSON or CSV; without it nothing waits")
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
            longer than 14 days, the forecast has no name, or an option is given that means nothing without ``--defer-until``.
    """
    from pathlib import Path

    until, forecast, duration = (_text(options, name) for name in ("defer_until", "forecast", "expected_duration"))
    if until is None:
        for option, value in (("--forecast", forecast), ("--expected-duration", duration)):
            if value is not None:
                raise InputError(
                    f"{option} is {value!r} without --defer-until; give the deadline too, or leave it out", code="deferral"
                )
        return None
    if forecast in ("", "--"):
        raise InputError(
            f"--forecast is {forecast!r}; allowed: the path of a forecast, JSON or CSV; or leave it out", code="deferral"
        )
    if duration is None:
        duration = _DEFAULT_DURATION
    duration_s = _seconds(duration)
    if duration_s is None or not _MIN_DURATION_S <= duration_s <= _MAX_AHEAD_S:
        raise InputError(f"--expected-duration is {duration!r}; allowed: 1m to 14d, such as 30m, 2h or 1h30m", code="deferral")
    return Deferral(_deadline_s(until, now_s), duration_s, Path(forecast) if forecast else None)


def _text(options: argparse.Namespace, name: str) -> str | None:
    value: object = getattr(options, name)
    # argparse takes the "--" of --forecast=-- for the end of the options, and hands an empty list on.
    return "--" if isinstance(value, list) else value if value is None else str(value)


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
    return f"{spoken_length(ahead_s)} ahead" if ahead_s > 0 else f"{spoken_length(-ahead_s)} ago"


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
        return _deferred(
            None,
            asked_s,
            asked_s,
            Choice(asked_s, None, None, is_stand_in=False, reason=reason, signal="unknown", is_deferred=False),
        )
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
    mean = window_mean(forecast, started_s, duration_s)
    intensity = "unknown intensity" if mean is None else f"{mean:.0f} g/kWh"
    return replace(choice, mean_g_per_kwh=mean, reason=f"{choice.reason}; started {spoken_length(late_s)} late, at {intensity}")


def _deferred(forecast: Forecast | None, asked_s: float, started_s: float, choice: Choice) -> Deferred:
    return Deferred(
        deferred=choice.is_deferred,
        waited_s=max(0.0, started_s - asked_s),
        started_s=started_s,
        started_at=_iso(started_s),
        reason=choice.reason,
        signal=choice.signal,
        now_g_per_kwh=choice.now_g_per_kwh,
        now_is_stand_in=choice.is_stand_in,
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
    stand_in = " (a stand-in)" if deferred.now_is_stand_in else ""
    compared = f"{now_g:.0f} g/kWh at once{stand_in} less {window_g:.0f} from {deferred.started_at}"
    source = f"counterfactual: {compared}, forecast, {deferred.signal} signal"
    return product(energy, gain, "g", "modelled", source)


def _iso(epoch_s: float, *, is_local: bool = False) -> str:
    from datetime import UTC, datetime

    time = datetime.fromtimestamp(epoch_s, UTC)
    return time.astimezone().isoformat(timespec="minutes") if is_local else time.isoformat(timespec="seconds")
