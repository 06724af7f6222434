"""Grams of CO2 equivalent per kWh of the grids of the world: an offline table of annual means, and what is honest about them.

The table ``grid_intensity.csv`` lies beside this file; every row names its year and its source. Countries are life-cycle means of what
is generated there (Ember via Our World in Data, CC-BY-4.0), states of the USA are emissions of the power plants alone (US EPA eGRID,
state total output rate of CO2 equivalent, public domain). Provinces of other countries are not in it: no openly licensed figures were
at hand. Left out are grids so small that the rounding of their source (0.01 TWh, 0.01 Mt) alone moves them by more than half.

An annual mean hides the hour, and the table ages. So every mean has a band; an hour of much wind or none can still lie outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, cast

from rag.errors import InputError, PowerError
from rag.power.figure import Band

Signal = Literal["average", "marginal"]
Scope = Literal["lifecycle", "combustion"]

TABLE = Path(__file__).with_name("grid_intensity.csv")
_WORLD = "WOR"
_COLUMNS = "code,alias,name,parent,g_per_kwh,rounding,year,signal,scope,source"
# More than any power plant emits; a value above is a slip of the unit.
_MAX_G_PER_KWH = 2000.0
# A year before the first of the data sets is a slip of the column.
_FIRST_YEAR = 1990
# Assumed. Of 206 countries, 190 had moved by less than this in a release of the same data two years younger.
_SPREAD = 0.3
# What fuel supply and building add to a figure of combustion alone: wind 11, nuclear 12, hydro 24, solar 48 g/kWh (medians of IPCC AR5
# WG3 Annex III), rounded up. The fuel supply of coal and gas is inside the spread.
_BEYOND_COMBUSTION_G = 50.0
# An unknown grid is any but the cleanest and the dirtiest twentieth of the countries. A test counts them again: reading all rows to do
# so takes 10 ms on a slow core, and every command asks for one row only.
_WORLD_ENDS = (44.5, 707.7)


@dataclass(frozen=True, slots=True)
class Intensity:
    """Grams of CO2 equivalent per kWh of one grid.

    Attributes:
        code: ISO 3166-1 alpha-3, ISO 3166-2 for a part of a country, or ``WOR``.
        name: For people, in English.
        g_per_kwh: Annual mean and its band.
        year: Of the data.
        signal: ``average`` of all generation, or ``marginal``; one is never taken from the other.
        source: Where it comes from, with its licence.
        is_known: False when the world stands in because nobody named a region.
        alias: Other codes, separated by spaces: ISO 3166-1 alpha-2.
        parent: Code of the region around it; empty for the world.
        scope: ``lifecycle`` holds fuel supply and building, ``combustion`` the chimney alone.
    """

    code: str
    name: str
    g_per_kwh: Band
    year: int
    signal: Signal
    source: str
    is_known: bool
    alias: str = ""
    parent: str = ""
    scope: Scope = "lifecycle"


@dataclass(frozen=True, slots=True)
class RegionCost:
    """Grams of CO2 equivalent that some energy stands for in one region."""

    intensity: Intensity
    grams: Band


def intensity(region: str) -> Intensity:
    """Look up a grid.

    Args:
        region: Code (``FRA``, ``FR``, ``US-CA``) or English name, in any case; empty means that nobody told.

    Returns:
        The row; for an empty region the world average with ``is_known`` False.

    Raises:
        PowerError: If the region is not in the table (code ``region_unknown``), with what is near it; `world` can stand in.
    """
    key = region.strip().casefold()
    if not key:
        return _stand_in("world average: no region set (energy.region)")
    found = _found(key)
    if found is None:
        raise PowerError(
            f"energy.region is {region!r}, which is not in the table of grids{_hint(key)}; "
            "allowed: a code or name that `rag energy regions` lists, or nothing for the world average",
            code="region_unknown",
        )
    return found


def world() -> Intensity:
    """The world average as a stand-in: ``is_known`` is False, the band reaches from a low-carbon grid to a coal grid."""
    return _stand_in("world average")


def regions() -> tuple[Intensity, ...]:
    """All rows, the world among them, by ascending grams, then by code."""
    return tuple(sorted(_table(), key=_order))


def compare(energy_kwh: Band, codes: Iterable[str]) -> tuple[RegionCost, ...]:
    """Grams of the same energy in several regions.

    Args:
        energy_kwh: The energy.
        codes: Regions as `intensity` takes them; one named twice counts once.

    Returns:
        Fewest grams first; equal grams by code.

    Raises:
        InputError: If no region is named.
        PowerError: If one is not in the table (code ``region_unknown``).
    """
    chosen = {row.code: row for row in map(intensity, codes)}
    if not chosen:
        raise InputError("no regions to compare; name one or more of those that `rag energy regions` lists", code="regions")
    return tuple(RegionCost(row, energy_kwh.by(row.g_per_kwh)) for row in sorted(chosen.values(), key=_order))


def parse(text: str) -> tuple[Intensity, ...]:
    """Read a table.

    Args:
        text: The named columns, separated by commas; no field holds one.

    Returns:
        The rows in the order of the text.

    Raises:
        PowerError: If a row lacks a field, its year or its source, is out of range, or is there twice (code ``grid_table``).
    """
    lines = text.splitlines()
    if not lines or lines[0] != _COLUMNS:
        raise _damaged(1, "the columns", lines[0] if lines else "", _COLUMNS)
    rows = tuple(_row(number, line) for number, line in enumerate(lines[1:], start=2))
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        for key in _keys(row):
            if key in seen:
                raise _damaged(number, "a code or name", key, "each once")
            seen.add(key)
    if _WORLD.casefold() not in seen:
        raise _damaged(len(lines), "the last row", rows[-1].code if rows else "", f"a row {_WORLD} before it")
    return rows


def _row(number: int, line: str) -> Intensity:
    fields = line.split(",")
    if len(fields) != _COLUMNS.count(",") + 1:
        raise _damaged(number, "the number of fields", len(fields), _COLUMNS.count(",") + 1)
    code, alias, name, parent, grams, rounding, year, signal, scope, source = fields
    for what, value in (("code", code), ("name", name), ("source", source)):
        if not value.strip():
            raise _damaged(number, what, value, "not empty")
    if signal not in ("average", "marginal") or scope not in ("lifecycle", "combustion"):
        raise _damaged(number, "signal and scope", f"{signal} {scope}", "average or marginal, lifecycle or combustion")
    mean = _number(number, "g_per_kwh", grams, _MAX_G_PER_KWH)
    if mean == 0:
        raise _damaged(number, "g_per_kwh", grams, "above 0: no grid is free of emissions")
    spread = _SPREAD + _number(number, "rounding", rounding, 0.5)
    beyond = _BEYOND_COMBUSTION_G if scope == "combustion" else 0.0
    low, high = _WORLD_ENDS if code == _WORLD else (mean * (1 - spread), mean * (1 + spread) + beyond)
    return Intensity(
        code=code,
        name=name,
        g_per_kwh=Band(mean, min(low, mean), max(high, mean)),
        year=_year(number, year),
        signal=cast("Signal", signal),
        source=source,
        is_known=True,
        alias=alias,
        parent=parent,
        scope=cast("Scope", scope),
    )


def _number(number: int, what: str, text: str, most: float) -> float:
    allowed = f"a number from 0 to {most:g}"
    try:
        value = float(text)
    except ValueError as error:
        raise _damaged(number, what, text, allowed) from error
    if not 0 <= value <= most:
        raise _damaged(number, what, text, allowed)
    return value


def _year(number: int, text: str) -> int:
    if not text.isdecimal() or not _FIRST_YEAR <= int(text) <= 9999:
        raise _damaged(number, "year", text, f"a year from {_FIRST_YEAR}")
    return int(text)


def _damaged(line: int, what: str, got: object, allowed: object) -> PowerError:
    return PowerError(
        f"table of grids, line {line}: {what} is {got!r}; allowed: {allowed}; install the package again", code="grid_table"
    )


def _stand_in(why: str) -> Intensity:
    row = _found(_WORLD.casefold())
    if row is None:
        raise _damaged(1, "the world", "", f"a row {_WORLD}")
    return replace(row, is_known=False, source=f"{why}; {row.source}")


def _order(row: Intensity) -> tuple[float, str]:
    return row.g_per_kwh.value, row.code


def _keys(row: Intensity) -> list[str]:
    return [key.casefold() for key in (row.code, row.name, *row.alias.split())]


@cache
def _text() -> str:
    try:
        return TABLE.read_text(encoding="utf-8")
    except OSError as error:
        raise PowerError(f"the table of grids cannot be read: {error}; install the package again", code="grid_table") from error


@cache
def _found(key: str) -> Intensity | None:
    """The row of a code or name, without reading the others."""
    for number, line in enumerate(_text().splitlines()[1:], start=2):
        code, alias, name, _ = line.casefold().split(",", 3)
        if key in (code, name, *alias.split()):
            return _row(number, line)
    return None


@cache
def _table() -> tuple[Intensity, ...]:
    return parse(_text())


@cache
def _index() -> dict[str, Intensity]:
    return {key: row for row in _table() for key in _keys(row)}


def _hint(key: str) -> str:
    """What may have been meant, in brackets; empty when nothing is near."""
    country = _index().get(key.partition("-")[0])
    if "-" in key and country is not None:
        return f" (its country {country.code} is)"
    import difflib  # only a slip of the pen needs it

    near = dict.fromkeys(
        f"{_index()[match].code} {_index()[match].name}" for match in difflib.get_close_matches(key, list(_index()))
    )
    return f" (near it: {', '.join(near)})" if near else ""
