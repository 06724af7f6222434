from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from bench.verify import Pair, best_coverage, judge, read_pairs, separations

DOCUMENT = "The bridge was opened by Ida Holm in 1931. It is grey."


def pair(data: str, score: float, *, good: bool) -> Pair:
    return Pair("train", data, good, score, score >= 0.5)


PAIRS = [
    pair("one", 0.9, good=True),
    pair("one", 0.4, good=True),
    pair("one", 0.6, good=False),
    pair("one", 0.1, good=False),
    pair("two", 0.7, good=True),
    pair("two", 0.3, good=False),
]


def test_score_is_the_coverage_and_zero_when_a_number_is_wrong() -> None:
    assert judge(DOCUMENT, "Ida Holm opened the bridge in 1931") == (1.0, True)
    assert judge(DOCUMENT, "Ida Holm opened the bridge in 1932") == (0.0, False)


def test_pairs_are_read_with_their_labels(tmp_path: Path) -> None:
    rows = [{"set": "s", "doc": DOCUMENT, "claim": "The bridge was opened in 1931.", "y": y} for y in (1, 0)]
    with gzip.open(tmp_path / "dev.jsonl.gz", "wt") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows))
    assert list(read_pairs(tmp_path, "dev")) == [Pair("dev", "s", True, 1.0, True), Pair("dev", "s", False, 1.0, True)]


def test_best_coverage_separates_the_sets_on_average() -> None:
    assert best_coverage(PAIRS) == 0.32


def test_separation_of_a_set_is_what_the_hand_computes() -> None:
    one, two, mean = separations(PAIRS)
    assert (one.recall, one.false_accepts, one.precision, one.balanced_accuracy, one.auc) == (0.5, 0.5, 0.5, 0.5, 0.75)
    assert (two.recall, two.false_accepts, two.precision, two.balanced_accuracy, two.auc) == (1.0, 0.0, 1.0, 1.0, 1.0)
    assert (mean.data, mean.n_pairs, mean.n_supported) == ("mean", 6, 3)
    assert mean.auc == pytest.approx(0.875)
