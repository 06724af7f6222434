from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.calibrate import (
    balanced_accuracy,
    best_threshold,
    calibrate,
    calibrated_text,
    calibration_error,
    error_of_chance,
    fit_curve,
    read_labels,
)
from rag.errors import InputError
from rag.groundedness import open_scorer

WORDS = "amber birch copper delta ember fjord granite harbour island juniper kelp lagoon".split()


def row(n: int, **changes: object) -> dict[str, Any]:
    """A label of answer n: odd answers repeat their passage, even ones have most words of another."""
    mine, other = ([WORDS[(n * k + i) % 12] for i in range(6)] for k in (1, 5))
    passage = f"The {' '.join(mine)} stands near number {n}."
    text = passage if n % 2 else f"The {mine[0]} {' '.join(other[1:])} burns."
    return {"answer": text, "passages": [passage], "supported": bool(n % 2)} | changes


def lines(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "labels.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in rows))
    return path


def test_labelled_answers_calibrate_whole_answers(tmp_path: Path) -> None:
    out = tmp_path / "made" / "own.json"
    done = calibrate(lines(tmp_path, [row(n) for n in range(60)]), out)
    (fitted,) = done.curves
    assert (fitted.of, fitted.method, fitted.n, fitted.n_groups, fitted.n_unscored) == ("answer", "platt", 60, 60, 0)
    assert fitted.error_after < fitted.error_before
    assert fitted.balanced_accuracy > 0.95
    own = open_scorer(out)
    assert own.id == done.scorer != open_scorer().id
    assert own.calibration.claim == open_scorer().calibration.claim
    supports = [own.judge(one["answer"], one["passages"]).support or 0.0 for one in (row(101), row(102))]
    assert supports[0] >= own.answer_threshold > supports[1]
    assert f"scorer {own.id}" in calibrated_text(done)
    assert "changes the support of whole answers (`grounding.support`), no metric of a suite" in calibrated_text(done)


def test_many_labelled_claims_make_an_isotonic_curve(tmp_path: Path) -> None:
    rows = [row(n, claim=row(n)["answer"], group=f"g{n // 5}") for n in range(300)]
    done = calibrate(lines(tmp_path, rows), tmp_path / "own.json")
    (fitted,) = done.curves
    assert (fitted.of, fitted.method, fitted.n, fitted.n_groups) == ("claim", "isotonic", 300, 60)
    assert fitted.error_after < 0.05
    assert "no metric" not in calibrated_text(done)
    assert open_scorer(tmp_path / "own.json").calibration.answer is None


def test_the_same_labels_give_the_same_scorer(tmp_path: Path) -> None:
    labels = lines(tmp_path, [row(n) for n in range(50)])
    assert calibrate(labels, tmp_path / "a.json").scorer == calibrate(labels, tmp_path / "b.json").scorer


def test_csv_says_the_same_as_json_lines(tmp_path: Path) -> None:
    rows = [row(n) for n in range(50)] + [row(50, claim="It\nburns.", group="g")]
    path = tmp_path / "labels.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["answer", "passages", "supported", "claim", "group"])
        writer.writeheader()
        for n, one in enumerate(rows):
            passages = json.dumps(one["passages"]) if n % 2 else one["passages"][0]
            writer.writerow(one | {"passages": passages, "supported": "yes" if one["supported"] else "0"})
    assert read_labels(path) == read_labels(lines(tmp_path, rows))


def test_what_cannot_be_scored_is_counted_and_left_out(tmp_path: Path) -> None:
    rows = [row(n) for n in range(60)] + [row(61, answer="Is it so?")]
    (fitted,) = calibrate(lines(tmp_path, rows), tmp_path / "own.json").curves
    assert (fitted.n, fitted.n_unscored) == (60, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"passages": "one text"}, "line 3: passages is 'one text'; allowed: a list of texts"),
        ({"passages": []}, "allowed: a list of texts, at least one"),
        ({"supported": "perhaps"}, "line 3: supported is 'perhaps'; allowed: true or false"),
        ({"supported": None}, "supported is None"),
        ({"answer": " "}, "line 3: there is neither answer nor claim"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_labels(lines(tmp_path, [row(1), row(2), row(3, **changes)]))


def test_labels_of_fewer_than_50_answers_are_refused(tmp_path: Path) -> None:
    rows = [row(n, group=f"g{n % 49}") for n in range(98)]
    with pytest.raises(InputError, match="are of 49 answers; allowed: 50 or more"):
        read_labels(lines(tmp_path, rows))


def test_labels_that_are_all_alike_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="call all 60 scored answers alike"):
        calibrate(lines(tmp_path, [row(n, supported=True) for n in range(60)]), tmp_path / "own.json")


@pytest.mark.parametrize(("content", "words"), [("{", "line 1 is not JSON"), ("[1]", "line 1 is a list; allowed: an object")])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_labels(path)


def test_missing_labels_and_an_unwritable_result_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be written"):
        calibrate(lines(tmp_path, [row(n) for n in range(50)]), tmp_path / "labels.jsonl" / "own.json")


def test_calibration_error_is_what_the_hand_computes() -> None:
    p, labels = np.array([0.05, 0.05, 0.95, 0.95]), np.array([0.0, 1.0, 1.0, 1.0])
    # Two bins of two: |0.05 - 0.5| and |0.95 - 1|.
    assert calibration_error(p, labels) == pytest.approx((0.45 + 0.05) / 2)
    assert calibration_error(np.array([0.0, 1.0]), np.array([0.0, 1.0])) == 0.0


def test_chance_alone_makes_an_error_that_more_labels_lessen() -> None:
    few, many = (error_of_chance(np.full(n, 0.5)) for n in (20, 2000))
    # Mean distance of a share of n fair coins from a half: 0.4 / sqrt(n).
    assert few == pytest.approx(0.4 / 20**0.5, rel=0.2)
    assert many == pytest.approx(0.4 / 2000**0.5, rel=0.2)


def test_best_threshold_separates_with_the_highest_balanced_accuracy() -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert best_threshold(np.array([0.1, 0.6, 0.8, 0.9]), labels) == 0.7
    assert best_threshold(np.array([0.1, 0.2, 0.8, 0.9]), labels) == 0.5
    assert balanced_accuracy(np.array([True, False, True, True]), labels) == 0.75


@given(st.integers(0, 2**32), st.booleans())
def test_a_curve_rises_and_keeps_the_mean(seed: int, is_short: bool) -> None:
    random = np.random.default_rng(seed)
    z = random.integers(-20, 21, 40 if is_short else 300) / 5
    labels = (random.random(len(z)) < 1 / (1 + np.exp(-z))).astype(float)
    labels[:2] = 0.0, 1.0
    curve = fit_curve(z, labels)
    assert curve.method == ("platt" if is_short else "isotonic")
    p = [curve(value) for value in sorted(z)]
    assert p == sorted(p)
    assert abs(float(np.mean(p)) - labels.mean()) < 0.1
