"""From log-odds to probability: the curve that ships, or one that was fitted to labelled answers of a user's own."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rag.errors import InputError

FORMAT = 1
# Supports have four digits: reproducible whatever the order in which a processor adds. Nothing is certain.
DIGITS = 4
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Curve:
    """A rising function of log-odds.

    Attributes:
        method: ``isotonic``: straight lines between ``knots``, level beyond them; ``platt``: logistic.
        knots: Pairs of log-odds and probability, ascending in both, at least one; empty for ``platt``.
        slope: Of ``platt``.
        intercept: Of ``platt``.
        threshold: Least probability at which something is called supported.
    """

    method: Literal["isotonic", "platt"]
    knots: tuple[tuple[float, float], ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    threshold: float = 0.5

    def __call__(self, log_odds: float) -> float:
        """Calibrated probability, 0.0001 to 0.9999, rounded to 1e-4."""
        p = _between(self.knots, log_odds) if self.method == "isotonic" else sigmoid(self.slope * log_odds + self.intercept)
        return bounded(p)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is read from a calibration file.

    Attributes:
        model: Checksum of the model whose log-odds these are.
        claim: For claims.
        answer: For whole answers: from the log-odds of `rag.groundedness.answer_support`; None leaves that as it is.
    """

    model: str
    claim: Curve
    answer: Curve | None


def bounded(p: float) -> float:
    """A probability as it is told: rounded to 1e-4, never certain."""
    return round(min(max(p, _LEAST), 1 - _LEAST), DIGITS)


def sigmoid(log_odds: float) -> float:
    """The probability of log-odds, without overflow."""
    p = 1 / (1 + math.exp(-abs(log_odds)))
    return p if log_odds >= 0 else 1 - p


def _between(knots: Sequence[tuple[float, float]], x: float) -> float:
    at = bisect_right(knots, x, key=lambda knot: knot[0])
    if at == 0 or at == len(knots):
        return knots[max(at - 1, 0)][1]
    (x0, y0), (x1, y1) = knots[at - 1], knots[at]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def load_calibration(path: Path, model: str) -> Calibration:
    """Read a calibration file.

    Args:
        path: As 'rag eval calibrate' wrote it.
        model: Checksum of the model that is used.

    Returns:
        Its curves.

    Raises:
        InputError: If it cannot be read, is no calibration, has knots out of order, or was made for another model.
    """
    rerun = "run 'rag eval calibrate' again, or leave the setting empty for the calibration that ships"
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"calibration {path} cannot be read: {error.strerror}; {rerun}", code="calibration") from error
    except ValueError as error:
        raise InputError(f"calibration {path} is not JSON: {error}; {rerun}", code="calibration") from error
    try:
        if value["format"] != FORMAT:
            raise InputError(
                f"calibration {path} has format {value['format']!r}; this version reads {FORMAT}; {rerun}", code="calibration"
            )
        answer = value.get("answer")
        made = Calibration(str(value["model"]), _curve(value["claim"]), _curve(answer) if answer else None)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"calibration {path} is no calibration: {type(error).__name__} {error}; {rerun}", code="calibration"
        ) from error
    if made.model != model:
        raise InputError(f"calibration {path} is for model {made.model}, this version has {model}; {rerun}", code="calibration")
    return made


def curve_json(curve: Curve) -> dict[str, Any]:
    """A curve as `load_calibration` reads it."""
    shape: dict[str, Any] = {"method": curve.method, "threshold": curve.threshold}
    if curve.method == "isotonic":
        return shape | {"knots": [list(knot) for knot in curve.knots]}
    return shape | {"slope": curve.slope, "intercept": curve.intercept}


def _curve(value: dict[str, Any]) -> Curve:
    threshold = float(value["threshold"])
    if value["method"] == "platt":
        curve = Curve("platt", slope=float(value["slope"]), intercept=float(value["intercept"]), threshold=threshold)
        figures: tuple[float, ...] = (curve.slope, curve.intercept)
        is_rising = curve.slope >= 0
    elif value["method"] == "isotonic":
        knots = tuple((float(x), float(y)) for x, y in value["knots"])
        curve = Curve("isotonic", knots, threshold=threshold)
        figures = tuple(figure for knot in knots for figure in knot)
        is_rising = bool(knots) and all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(knots, knots[1:], strict=False))
        is_rising = is_rising and knots[0][1] >= 0.0 and knots[-1][1] <= 1.0
    else:
        raise ValueError(f"method {value['method']!r}; allowed: isotonic, platt")
    if not is_rising or not all(map(math.isfinite, figures)) or not 0.0 <= threshold <= 1.0:
        raise ValueError("a curve must rise from 0 to 1, with finite figures")
    return curve
