"""Waivers: gates that somebody lets fail for a written reason until a date. One TOML file, a ``[[waiver]]`` table each."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec

from eval.compare import Place
from eval.gate import EXIT_CODES, Report, Verdict, whole
from rag.errors import InputError


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One gate that may fail for a while.

    Attributes:
        metric: As in the gate.
        data: Name of the data set.
        pipeline: Name of the pipeline.
        reason: Why, for people.
        by: Who decided it.
        expires: Last day on which it holds.
    """

    metric: str
    data: str
    pipeline: str
    reason: str
    by: str
    expires: date


class _WaiverFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waiver: tuple[Waiver, ...] = ()


def load_waivers(path: Path) -> tuple[Waiver, ...]:
    """Read waivers.

    Args:
        path: A TOML file.

    Returns:
        In the order of the file.

    Raises:
        InputError: If it cannot be read, is not TOML, has an unknown, missing or empty key, or waives a gate twice.
    """
    advice = "give metric, data, pipeline, reason, by and expires = 2026-12-31 of each [[waiver]]"
    try:
        found = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _WaiverFile).waiver
    except OSError as error:
        raise InputError(
            f"waivers {path} cannot be read: {error.strerror}; give the path of a TOML file", code="waivers"
        ) from error
    except msgspec.ValidationError as error:
        raise InputError(f"waivers {path}: {error}; {advice}", code="waivers") from error
    except ValueError as error:  # not UTF-8, or not TOML: that message has line and column
        raise InputError(f"waivers {path} is not TOML: {error}; correct it there", code="waivers") from error
    places = [_place(waiver) for waiver in found]
    for n, waiver in enumerate(found):
        if empty := [key for key in ("metric", "data", "pipeline", "reason", "by") if not getattr(waiver, key).strip()]:
            raise InputError(f"waivers {path}: {empty[0]} of waiver {n + 1} is empty; {advice}", code="waivers")
        if places[n] in places[:n]:
            raise InputError(f"waivers {path}: waiver {n + 1} waives {_said(places[n])} a second time; keep one", code="waivers")
    return found


def apply_waivers(report: Report, waivers: Sequence[Waiver], today: date) -> Report:
    """Let waived gates pass.

    Only a gate that fails is waived: what is inconclusive is to be measured better.

    Args:
        report: Of `eval.gate.gate`.
        waivers: Each of another gate.
        today: Day of the verdict; a waiver holds on its last day.

    Returns:
        The report with failed gates ``waived``, an error for every waiver that has expired and a note for every one of no use.
    """
    holding = {_place(waiver): waiver for waiver in waivers if today <= waiver.expires}
    verdicts = tuple(_waived(verdict, holding.get(verdict.place)) for verdict in report.verdicts)
    used = {verdict.place for verdict in verdicts if verdict.outcome == "waived"}
    outcome = whole([verdict.outcome for verdict in verdicts])
    unused = [
        f"the waiver of {_said(place)} is of no use: that gate does not fail; remove it" for place in holding if place not in used
    ]
    expired = [
        f"the waiver of {_said(_place(waiver))} by {waiver.by} expired on {waiver.expires}; mend the cause, or decide anew"
        for waiver in waivers
        if today > waiver.expires
    ]
    return replace(
        report,
        outcome=outcome,
        exit_code=EXIT_CODES[outcome],
        verdicts=verdicts,
        notes=(*report.notes, *unused),
        errors=(*report.errors, *expired),
    )


def _waived(verdict: Verdict, waiver: Waiver | None) -> Verdict:
    # A loss that is known may be borne; questions that failed are not known.
    if waiver is None or verdict.outcome != "fail" or any(check.against == "failures" for check in verdict.checks):
        return verdict
    return replace(verdict, outcome="waived", waiver=f"waived by {waiver.by} until {waiver.expires}: {waiver.reason}")


def _place(waiver: Waiver) -> Place:
    return Place(waiver.data, waiver.pipeline, waiver.metric)


def _said(place: Place) -> str:
    return f"{place.metric} of {place.pipeline} on {place.data}"
