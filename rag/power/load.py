"""The joules of printed results, added up: the load for which regions are compared.

Results come from a file that anybody may have written, so nothing is taken as it is: a number that is none, or a band that does not hold
its value, would make every sum and every region wrong without a sign.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from rag.cost import Figure
from rag.errors import InputError
from rag.power.figure import METHODS, said, total

# More than all power plants of the world make in a year: no result took it, and sums stay finite.
_MAX_J = 1e21
_HERE = ("active", "idle", "dram", "gpu", "facility")
_GIVE_RESULTS = "give what rag search, context, ask or ingest print with --json, one result a line"


class Load(NamedTuple):
    """Joules that are to be compared.

    Attributes:
        joules: Their sum.
        n_skipped: Lines with an error in place of a result.
        notes: What must be said of the sum.
    """

    joules: Figure
    n_skipped: int = 0
    notes: tuple[str, ...] = ()


def results_load(lines: Iterable[str], origin: str) -> Load:
    """Add up what results took on the machine that printed them.

    Args:
        lines: A JSON result each, as the commands print them; blank lines are passed over, and those of questions that failed are counted.
        origin: Name of the file, for messages.

    Returns:
        The sum, as weak as the weakest result, with all boundaries; joules of servers elsewhere are left out, and a note tells them.

    Raises:
        InputError: If a line is no result or there is none; code ``bad_record``.
    """
    here: list[Figure] = []
    elsewhere: list[Figure] = []
    n_skipped = 0
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            result = json.loads(text.removeprefix("\ufeff"))
            if isinstance(result.get("error"), dict) and "measurement" not in result:
                n_skipped += 1
                continue
            local, remote = _taken(result["measurement"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{origin}:{number} has no measurement with energy_j: {text.strip()[:80]}; allowed: unit J, "
                f"0 <= lo <= value <= hi <= {_MAX_J:g}, a method and a boundary; {_GIVE_RESULTS}",
                code="bad_record",
            ) from error
        here.append(local)
        elsewhere += [remote] if remote else []
    if not here:
        raise InputError(f"{origin} holds 0 results and {n_skipped} errors; allowed: 1 or more; {_GIVE_RESULTS}", code="bad_record")
    return Load(_sum(here), n_skipped, (_away(elsewhere),) if elsewhere else ())


def _sum(here: list[Figure]) -> Figure:
    boundaries = list(dict.fromkeys(figure.boundary for figure in here if figure.hi > 0)) or [here[0].boundary]
    source = f"sum of {len(here)} results"
    if len(boundaries) > 1:
        source += f" of different boundaries: {', '.join(boundaries)}"
    parts = dict.fromkeys(part for boundary in boundaries for part in boundary.split("+"))
    return total(here)._replace(source=source, boundary="+".join(parts))


def _away(elsewhere: list[Figure]) -> str:
    return (
        f"{said(total(elsewhere))} of {len(elsewhere)} results were taken by servers elsewhere; they are not in the load, because the "
        "region of this machine does not change them"
    )


def _taken(measurement: dict[str, Any]) -> tuple[Figure, Figure | None]:
    """What a result took here and on servers elsewhere; ValueError, or what a wrong type leads to, when it does not tell."""
    whole = _joules(measurement["energy_j"])
    parts = measurement.get("energy_parts_j") or {}
    if parts.get("remote") is None:
        return whole, None
    # Not the difference: of rounded figures, a small rest would drown in the rounding of a large remote part.
    local = [_joules(parts[name]) for name in _HERE if parts.get(name) is not None]
    if not local:
        raise ValueError("a remote part and no other")
    return total(local), _joules(parts["remote"])


def _joules(found: dict[str, Any]) -> Figure:
    """A figure of a result; nothing in it is left unchecked."""
    value, lo, hi, method, boundary = (found[name] for name in ("value", "lo", "hi", "method", "boundary"))
    if not all(type(number) in (int, float) for number in (value, lo, hi)) or not 0 <= lo <= value <= hi <= _MAX_J:
        raise ValueError("numbers")
    if found["unit"] != "J" or method not in METHODS or not isinstance(boundary, str) or not boundary:
        raise ValueError("words")
    return Figure(float(value), float(lo), float(hi), "J", method, "", boundary)
