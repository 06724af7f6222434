from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError
from rag.groundedness.calibration import Curve, curve_json, load_calibration, sigmoid

ISOTONIC = Curve("isotonic", ((-1.0, 0.2), (1.0, 0.6), (2.0, 0.9)), threshold=0.4)
PLATT = Curve("platt", slope=2.0, intercept=-1.0)


def written(tmp_path: Path, **changes: object) -> Path:
    value = {"format": 1, "model": "m", "claim": curve_json(ISOTONIC), "answer": curve_json(PLATT)} | changes
    path = tmp_path / "c.json"
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(("log_odds", "p"), [(-9.0, 0.2), (-1.0, 0.2), (0.0, 0.4), (1.5, 0.75), (2.0, 0.9), (9.0, 0.9)])
def test_between_knots_lies_a_straight_line(log_odds: float, p: float) -> None:
    assert ISOTONIC(log_odds) == pytest.approx(p)


def test_platt_is_logistic() -> None:
    assert PLATT(0.5) == 0.5
    assert PLATT(1.0) == round(1 / (1 + math.exp(-1)), 4)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_curve_rises_and_is_never_certain(one: float, other: float) -> None:
    for curve in (ISOTONIC, PLATT):
        assert 0.0001 <= curve(min(one, other)) <= curve(max(one, other)) <= 0.9999


def test_sigmoid_does_not_overflow() -> None:
    assert (sigmoid(-5000.0), sigmoid(5000.0), sigmoid(0.0)) == (0.0, 1.0, 0.5)


def test_a_calibration_is_read_as_written(tmp_path: Path) -> None:
    found = load_calibration(written(tmp_path), "m")
    assert (found.claim, found.answer) == (ISOTONIC, PLATT)
    assert load_calibration(written(tmp_path, answer=None), "m").answer is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "has format 2; this version reads 1"),
        ({"model": "other"}, "for model other, this version has m"),
        ({"claim": None}, "is no calibration"),
        ({"claim": {"method": "magic", "threshold": 0.5}}, "method 'magic'; allowed: isotonic, platt"),
        ({"claim": {"method": "isotonic", "threshold": 0.5, "knots": []}}, "must rise"),
        ({"claim": {"method": "isotonic", "threshold": 0.5, "knots": [[0, 0.5], [1, 0.4]]}}, "must rise"),
        ({"claim": {"method": "isotonic", "threshold": 0.5, "knots": [[0, 0.5], [0, 0.6]]}}, "must rise"),
        ({"claim": {"method": "isotonic", "threshold": 0.5, "knots": [[0, 0.5], [1, 1.4]]}}, "must rise"),
        ({"claim": {"method": "isotonic", "threshold": 7, "knots": [[0, 0.5]]}}, "must rise"),
        ({"claim": {"method": "platt", "threshold": 0.5, "slope": -1, "intercept": 0}}, "must rise"),
        ({"claim": {"method": "platt", "threshold": 0.5, "slope": math.nan, "intercept": 0}}, "must rise"),
        ({"claim": {"method": "platt", "threshold": 0.5}}, "KeyError 'slope'"),
    ],
)
def test_what_is_no_calibration_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_calibration(written(tmp_path, **changes), "m")
    assert caught.value.code == "calibration"


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "\udcff"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="run 'rag eval calibrate' again"):
        load_calibration(path, "m")


def test_a_missing_calibration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_calibration(tmp_path / "none.json", "m")
