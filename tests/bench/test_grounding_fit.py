from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from bench.grounding_fit import FAMILY_WEIGHTS, Pairs, auc, aucs, choose_ridge, class_weights, figures_of, fit, part_of, read_pairs
from rag.groundedness.features import FEATURES


def pairs(n: int = 40) -> Pairs:
    """Alternating labels in families of equal size; a supported claim repeats its document, another one has none of its words."""
    families = np.array([list(FAMILY_WEIGHTS)[i % len(FAMILY_WEIGHTS)] for i in range(n * len(FAMILY_WEIGHTS))])
    labels = np.array([float(i // len(FAMILY_WEIGHTS) % 2) for i in range(len(families))])
    texts = tuple(
        (f"Stone bridge number {i}.", f"Stone bridge number {i}." if label else "Sugar tax rose.") for i, label in enumerate(labels)
    )
    names = np.array([f"{i}" for i in range(len(families))])
    return Pairs(families, families, names, np.full(len(families), ""), texts, labels)


def test_pairs_are_read_with_family_and_group(tmp_path: Path) -> None:
    rows = [
        {"set": "rte_train", "id": "1", "group": "g", "doc": "d", "claim": "c", "y": 1, "label3": "entailment"},
        {"set": "other", "id": "2", "group": "g", "doc": "d", "claim": "c", "y": 0},
    ]
    path = tmp_path / "train.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows))
    found = read_pairs(path)
    assert (found.families.tolist(), found.groups.tolist()) == (["rte", "other"], ["rte_train/g", "other/g"])
    assert (found.kinds.tolist(), found.labels.tolist(), found.texts) == (["entailment", ""], [1.0, 0.0], (("d", "c"), ("d", "c")))


def test_no_coefficient_has_the_wrong_sign() -> None:
    given = pairs()
    # Shares that speak against their label, and faults that speak for it.
    figures = np.where(given.labels[:, None] > 0.5, 0.0, 1.0) * np.ones(len(FEATURES))
    figures[:, FEATURES.index("negation")] = given.labels
    found = dict(zip(FEATURES, fit(figures, given, 1.0).coefficients, strict=True))
    assert [name for name, coefficient in found.items() if coefficient != 0.0] == ["number_absent", "number_far", "name_absent"]
    assert all(coefficient <= 0.0 for coefficient in found.values())


def test_a_fit_separates_what_figures_separate_and_ridge_shrinks_it() -> None:
    given = pairs()
    figures = figures_of(given)
    loose, tight = fit(figures, given, 1.0), fit(figures, given, 1e6)
    assert auc(loose.log_odds(figures), given.labels) == 1.0
    assert sum(map(abs, tight.coefficients)) < 0.1 * sum(map(abs, loose.coefficients))


def test_both_classes_of_a_family_weigh_the_same() -> None:
    given = pairs()
    weights = class_weights(given)
    for family, weight in FAMILY_WEIGHTS.items():
        for label in (0.0, 1.0):
            assert weights[(given.families == family) & (given.labels == label)].sum() == pytest.approx(1000 * weight)


def test_of_equal_ridges_the_greatest_is_chosen() -> None:
    given = pairs(8)
    ridge, held_out = choose_ridge(figures_of(given), given)
    assert ridge == 3000.0
    assert aucs(held_out, given) == dict.fromkeys(FAMILY_WEIGHTS, 1.0)


def test_a_part_keeps_what_is_chosen() -> None:
    given = pairs(2)
    part = part_of(given, given.labels > 0.5)
    assert set(part.labels) == {1.0}
    assert len(part.texts) == len(part.labels) == len(given.labels) / 2
