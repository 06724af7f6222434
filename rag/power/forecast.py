"""Forecasts of how much carbon a kilowatt-hour of the grid costs, read from a file that somebody fetched; no network is used here.

The five shapes are told apart by what is in them, not by the name of the file. Every time becomes seconds since the epoch, so a
change to or from summer time is no special case; a time without a zone is refused, because it may be either of two hours. A point
whose value is null is left out: it is a gap, and no window spans a gap.

References:
    Carbon Aware SDK, classes EmissionsForecastDTO of its web API and of its command line; carbonintensity.org.uk, API definitions;
    WattTime API v3, /v3/forecast; Electricity Maps API, /v3/carbon-intensity/forecast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from rag.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

Signal = Literal["average", "marginal", "unknown"]
"""What grams a kilowatt-hour stands for: those of the whole mix, or those of the plant that follows the load."""
ForecastSource = Literal["carbon-aware-sdk", "uk-carbon-intensity", "watttime", "electricity-maps", "csv"]

# Seven times the dirtiest country mix (India, 713 g/kWh): what is above has another unit, for example grams per MWh.
_MAX_G_PER_KWH = 5000.0
# An international pound of 453.592 g by the thousand kilowatt-hours of a megawatt-hour.
_G_PER_KWH_OF_LBS_PER_MWH = 0.453592
# A mean over more than a day holds no hours to choose between.
_MAX_POINT_S = 86400.0
# Some exporters end a period at its last second, 10:29:59; that is no gap.
_SEAM_S = 1.0
# A month of five-minute points is 1 MB in the wordiest of the shapes.
_MAX_BYTES = 10_000_000
# What lies outside comes from an empty field (year 1 in .NET) or a slip, and some of it no clock can show.
_YEARS = range(2000, 2200)
_TIME = "ISO 8601 with a zone, for example 2026-03-29T01:30:00Z or 2026-03-29T02:30:00+01:00"
_CSV_COLUMNS = ("start", "end", "g_per_kwh", "signal")
# How .NET writes a duration: [days.]hours:minutes:seconds[.fraction].
_TIMESPAN = r"(?:(\d{1,3})\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.\d{1,7})?"
_GRANULARITY_S = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": 3600.0}


@dataclass(frozen=True, slots=True)
class Point:
    """The forecast of one period.

    Attributes:
        start_s: Seconds since the epoch.
        end_s: The same, exclusive; later than ``start_s``.
        g_per_kwh: Grams of CO2 equivalent for a kilowatt-hour, 0 to 5000.
    """

    start_s: float
    end_s: float
    g_per_kwh: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a file says of the hours to come.

    Attributes:
        points: One or more, ascending, without overlap; there may be gaps.
        signal: Of all points: a file that mixes signals is refused. What the Carbon Aware SDK passes on is ``unknown``, because it
            does not name the provider behind it.
        source: The shape of the file.
        location: As the file names it; empty where it does not.
    """

    points: tuple[Point, ...]
    signal: Signal
    source: ForecastSource
    location: str


class _Row(NamedTuple):  # a dataclass takes 1 ms of an import, this a quarter
    start_s: float
    end_s: float | None
    g_per_kwh: float


class _Table(NamedTuple):
    rows: Sequence[_Row]
    signal: Signal
    source: ForecastSource
    location: str
    period_s: float | None = None


class _FormatError(ValueError):
    """What is wrong with the content of a file; it does not know which file."""


def read_forecast(path: Path) -> Forecast:
    """Read a forecast of grid carbon intensity.

    Args:
        path: A file of the Carbon Aware SDK (web API or command line), the UK Carbon Intensity API (nation or one region), WattTime v3,
            Electricity Maps, or CSV with the columns ``start``, ``end`` (optional), ``g_per_kwh`` and ``signal`` (optional).

    Returns:
        The forecast, its points ascending in time whatever their order in the file. Where neither a point nor the file says how
        long a point lasts, it lasts as long as the shortest step between two points.

    Raises:
        InputError: If the file cannot be read, is of another shape, or holds times without zone, overlapping or repeated points,
            values out of range, or more than one signal or location.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"forecast {path} cannot be read: {error.strerror or error}; allowed: a file that you may read; check the path",
            code="forecast",
        ) from error
    try:
        table = _table(data)
        points = _points(table.rows, table.period_s)
    except _FormatError as fault:
        raise InputError(f"forecast {path}: {fault}; correct the file or fetch it again", code="forecast") from fault
    return Forecast(points, table.signal, table.source, table.location)


def _table(data: bytes) -> _Table:
    if len(data) > _MAX_BYTES:
        raise _FormatError(f"it is larger than {_MAX_BYTES:,} bytes; allowed: a forecast of some days")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _FormatError(f"byte {error.start} is not UTF-8; allowed: JSON or CSV in UTF-8") from error
    if text.lstrip()[:1] not in ("{", "["):
        return _csv(text)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _FormatError(f"it begins like JSON but is not: {error}; allowed: whole JSON") from error
    match value:
        case list() | {"forecastData": _} | {"ForecastData": _}:
            return _carbon_aware_sdk(value)
        case {"data": _, "meta": _}:
            return _watttime(value)
        case {"forecast": list()}:
            return _electricity_maps(value)
        case {"data": _}:
            return _uk(value)
    raise _FormatError(
        f"its keys are {_shown(sorted(map(str, _mapping(value, 'it'))))}; allowed: the answer of the Carbon Aware SDK, "
        "the UK Carbon Intensity API, WattTime v3 or Electricity Maps, or CSV"
    )


def _carbon_aware_sdk(value: object) -> _Table:
    """Web API: timestamp, value, duration in minutes. Command line: Time, Rating, Duration as hh:mm:ss, and an empty Location."""
    forecasts = _items(value, "it") if isinstance(value, list) else [value]
    if len(forecasts) != 1:
        raise _FormatError(f"it holds {len(forecasts)} forecasts; allowed: one, of one location")
    whole = _lowered(forecasts[0], "the forecast")
    rows, places = [], set()
    for where, item in _numbered(whole.get("forecastdata"), "forecastData"):
        point = _lowered(item, where)
        places.add(_name(point.get("location")))
        grams = point.get("value", point.get("rating"))
        if grams is not None:
            start_s = _epoch_s(point.get("timestamp", point.get("time")), f"the time of {where}")
            duration_s = _sdk_duration_s(point.get("duration"), where)
            rows.append(_Row(start_s, None if duration_s is None else start_s + duration_s, _intensity(grams, where)))
    # The whole may be named after a cloud region ("northeurope") and its points after the grid there ("IE").
    places.discard("")
    if len(places) > 1:
        raise _FormatError(f"its points name the locations {_shown(sorted(places))}; allowed: one, a job runs in one place")
    return _Table(rows, "unknown", "carbon-aware-sdk", _name(whole.get("location")) or next(iter(places), ""))


def _sdk_duration_s(value: object, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and (match := re.fullmatch(_TIMESPAN, value)):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    return 60.0 * _number(value, f"the duration of {where}", _MAX_POINT_S / 60.0, "minutes")


def _uk(value: object) -> _Table:
    """The nation has a list of periods below ``data``; a region has itself there, or a list of itself, and its periods one deeper."""
    data = _mapping(value, "it")["data"]
    location = "Great Britain"
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and "data" in data[0]:
        data = data[0]
    if isinstance(data, dict):
        location = _name(data.get("shortname"))
        data = data.get("data")
    rows = []
    for where, item in _numbered(data, "data"):
        period = _mapping(item, where)
        if "regions" in period or "data" in period:
            raise _FormatError(f"{where} holds several regions; allowed: the nation, or one region (fetch .../regionid/N)")
        grams = _mapping(period.get("intensity"), f"the intensity of {where}").get("forecast")
        if grams is not None:
            start_s, end_s = (_epoch_s(period.get(key), f"'{key}' of {where}") for key in ("from", "to"))
            rows.append(_Row(start_s, end_s, _intensity(grams, where)))
    return _Table(rows, "average", "uk-carbon-intensity", location)


def _watttime(value: object) -> _Table:
    whole = _mapping(value, "it")
    meta = _mapping(whole.get("meta"), "meta")
    signals: Mapping[object, Signal] = {"co2_moer": "marginal", "co2_aoer": "average"}
    named = meta.get("signal_type")
    if not isinstance(named, str) or named not in signals:
        raise _FormatError(f"its signal_type is {_shown(named)}; allowed: {', '.join(map(str, signals))}")
    if meta.get("units") != "lbs_co2_per_mwh":
        raise _FormatError(f"its units are {_shown(meta.get('units'))}; allowed: lbs_co2_per_mwh")
    seconds = meta.get("data_point_period_seconds")
    period_s = None if seconds is None else _number(seconds, "data_point_period_seconds", _MAX_POINT_S, "seconds")
    rows = []
    for where, item in _numbered(whole.get("data"), "data"):
        point = _mapping(item, where)
        if (pounds := point.get("value")) is not None:
            grams = _intensity(pounds, where, _G_PER_KWH_OF_LBS_PER_MWH)
            rows.append(_Row(_epoch_s(point.get("point_time"), f"point_time of {where}"), None, grams))
    return _Table(rows, signals[named], "watttime", _name(meta.get("region")), period_s)


def _electricity_maps(value: object) -> _Table:
    whole = _mapping(value, "it")
    granularity = whole.get("temporalGranularity", "hourly")
    if not isinstance(granularity, str) or granularity not in _GRANULARITY_S:
        raise _FormatError(f"its temporalGranularity is {_shown(granularity)}; allowed: {', '.join(_GRANULARITY_S)}")
    rows = []
    for where, item in _numbered(whole.get("forecast"), "forecast"):
        point = _mapping(item, where)
        if (grams := point.get("carbonIntensity")) is not None:
            rows.append(_Row(_epoch_s(point.get("datetime"), f"datetime of {where}"), None, _intensity(grams, where)))
    return _Table(rows, "average", "electricity-maps", _name(whole.get("zone")), _GRANULARITY_S[granularity])


def _csv(text: str) -> _Table:
    import csv

    reader = csv.reader(text.splitlines(), strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not {"start", "g_per_kwh"} <= set(names) <= set(_CSV_COLUMNS) or len(set(names)) < len(names):
            raise _FormatError(
                f"its first line is {_shown(','.join(names))}; allowed: start,end,g_per_kwh or start,g_per_kwh, and signal"
            )
        rows, signals = [], set()
        for cells in reader:
            if not any(cells):
                continue
            where = f"line {reader.line_num}"
            if len(cells) != len(names):
                raise _FormatError(f"{where} has {len(cells)} cells; allowed: {len(names)}, as in the first line")
            row = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
            rows.append(_csv_row(row, where))
            signals.add(_signal(row.get("signal", ""), where))
    except csv.Error as error:
        raise _FormatError(f"line {reader.line_num} is not CSV: {error}; allowed: cells between commas") from error
    if len(signals) > 1:
        raise _FormatError(f"it mixes the signals {', '.join(sorted(signals))}; allowed: one in a file, they cannot be compared")
    return _Table(rows, signals.pop() if signals else "unknown", "csv", "")


def _csv_row(row: Mapping[str, str], where: str) -> _Row:
    try:
        grams = float(row["g_per_kwh"])
    except ValueError as error:
        raise _FormatError(f"g_per_kwh of {where} is {_shown(row['g_per_kwh'])}; allowed: a number") from error
    end_s = _epoch_s(row["end"], f"end of {where}") if "end" in row else None
    return _Row(_epoch_s(row["start"], f"start of {where}"), end_s, _intensity(grams, where))


def _signal(word: str, where: str) -> Signal:
    match word.lower():
        case "average":
            return "average"
        case "marginal":
            return "marginal"
        case "unknown" | "":
            return "unknown"
    raise _FormatError(f"signal of {where} is {_shown(word)}; allowed: average, marginal, unknown")


def _points(rows: Sequence[_Row], period_s: float | None) -> tuple[Point, ...]:
    """Rows in order, each with its end."""
    if not rows:
        raise _FormatError("it holds no point with a value; allowed: one or more")
    rows = sorted(rows, key=lambda row: row.start_s)
    steps = [later.start_s - row.start_s for row, later in pairwise(rows)]
    if steps and min(steps) <= 0:
        raise _FormatError(f"it holds {_iso(rows[steps.index(min(steps))].start_s)} twice; allowed: one point for a time")
    if period_s is None and not steps and rows[0].end_s is None:
        raise _FormatError("its only point has no end; allowed: points with ends, or two and more")
    points = []
    for number, row in enumerate(rows):
        end_s = row.end_s if row.end_s is not None else row.start_s + (period_s or min(steps))
        if not 0 < end_s - row.start_s <= _MAX_POINT_S:
            raise _FormatError(
                f"the point at {_iso(row.start_s)} lasts {end_s - row.start_s:g} s; allowed: above 0, to {_MAX_POINT_S:g} s"
            )
        next_s = rows[number + 1].start_s if number < len(steps) else end_s + 2 * _SEAM_S
        if end_s > next_s + _SEAM_S:
            raise _FormatError(
                f"the point at {_iso(row.start_s)} runs on into that at {_iso(next_s)}; allowed: points without overlap, "
                "so no moving means (a windowSize above the step)"
            )
        points.append(Point(row.start_s, next_s if abs(next_s - end_s) <= _SEAM_S else end_s, row.g_per_kwh))
    return tuple(points)


def _epoch_s(value: object, where: str) -> float:
    from datetime import datetime  # 1 ms that only a forecast needs

    try:
        time = datetime.fromisoformat(value.strip()) if isinstance(value, str) else None
    except ValueError:
        time = None
    if time is None:
        raise _FormatError(f"{where} is {_shown(value)}; allowed: {_TIME}")
    if time.tzinfo is None:
        raise _FormatError(f"{where} is {_shown(value)}, a time without a zone; allowed: {_TIME}")
    if time.year not in _YEARS:
        raise _FormatError(f"{where} is {_shown(value)}; allowed: years {_YEARS.start} to {_YEARS.stop - 1}")
    return time.timestamp()


def _iso(epoch_s: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds")


def _intensity(value: object, where: str, factor: float = 1.0) -> float:
    return factor * _number(value, f"the value of {where}", _MAX_G_PER_KWH / factor, "g/kWh" if factor == 1.0 else "lbs/MWh")


def _number(value: object, where: str, top: float, unit: str) -> float:
    # The comparison refuses what is not a number (NaN) too, and integers that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
        raise _FormatError(f"{where} is {_shown(value)}; allowed: 0 to {top:g} {unit}")
    return float(value)


def _mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _FormatError(f"{where} is {_shown(value)}; allowed: an object")
    return value


def _lowered(value: object, where: str) -> Mapping[str, object]:
    return {key.lower(): item for key, item in _mapping(value, where).items()}


def _items(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise _FormatError(f"{where} is {_shown(value)}; allowed: a list")
    return value


def _numbered(value: object, where: str) -> Iterator[tuple[str, object]]:
    return ((f"point {number} of {where}", item) for number, item in enumerate(_items(value, f"'{where}'"), 1))


def _name(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
