"""Fits the regression of the groundedness scorer on labelled pairs of document and claim, and writes its files."""

from __future__ import annotations

import gzip
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.result import today
from eval.answers import roc_auc
from eval.calibrate import fit_curve
from rag.groundedness.calibration import FORMAT, curve_json
from rag.groundedness.context import Context
from rag.groundedness.features import FEATURES, features, stated
from rag.groundedness.scorer import CALIBRATION_FILE, MODEL_FILE, model_checksum

_VERSION = "l0.1"
_FAMILIES = {
    "scifact_train": "scifact", "fever_sym_dev": "fever", "fever_sym_test": "fever", "sick_train": "sick", "rte_train": "rte",
    "wice_dev": "wice", "climate_fever": "climate",
}  # fmt: skip
# Answers are read against paragraphs and pages. The others are single sentences; of those of SICK a negation decides nearly always.
FAMILY_WEIGHTS = {"scifact": 2.0, "rte": 2.0, "wice": 2.0, "fever": 1.0, "climate": 1.0, "sick": 0.5}
_FALLING = frozenset(("number_absent", "number_far", "name_absent", "negation"))
_RIDGES = (10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
_SAME_AUC = 0.001

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Labelled pairs of document and claim.

    Attributes:
        sets: Name of the data set of each.
        families: Its family; the name of the set where it is of none.
        groups: What belongs together.
        kinds: Label of three where the set has one, else empty.
        texts: Document and claim.
        labels: float64 of shape (n,), 1.0 is supported.
    """

    sets: npt.NDArray[np.str_]
    families: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_]
    kinds: npt.NDArray[np.str_]
    texts: tuple[tuple[str, str], ...]
    labels: Floats


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted regression.

    Attributes:
        coefficients: Of `FEATURES`.
        intercept: Mean of those of the families.
    """

    coefficients: tuple[float, ...]
    intercept: float

    def log_odds(self, figures: Floats) -> Floats:
        """Of figures of shape (n, 15)."""
        return np.asarray(figures @ np.array(self.coefficients) + self.intercept)


def read_pairs(path: Path) -> Pairs:
    """Read a part of the data, in the order of the file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return Pairs(
        sets=np.array([row["set"] for row in rows]),
        families=np.array([_FAMILIES.get(row["set"], row["set"]) for row in rows]),
        groups=np.array([f"{row['set']}/{row['group']}" for row in rows]),
        kinds=np.array([row.get("label3") or "" for row in rows]),
        texts=tuple((row["doc"], row["claim"]) for row in rows),
        labels=np.array([float(row["y"] == 1) for row in rows]),
    )


def figures_of(pairs: Pairs) -> Floats:
    """Figures of every pair, shape (n, 15); a document is read once."""
    contexts = {document: Context([document]) for document in dict.fromkeys(document for document, _ in pairs.texts)}
    rows = []
    for document, claim in pairs.texts:
        what = stated(claim)
        rows.append(
            features(what, contexts[document], contexts[document].evidence(what.distinct)) if what.terms else [0.0] * len(FEATURES)
        )
    return np.array(rows)


def fit(figures: Floats, pairs: Pairs, ridge: float) -> Fit:
    """Fit a logistic regression with an intercept of its own for every family.

    Families differ in their base rate and in how far claims repeat their documents; with one intercept for all, the coefficients would
    learn to tell the families apart. What speaks for a claim may not count against it, nor the other way round: such coefficients are
    artefacts of a set, and they are what does not transfer. Both classes of a family count the same.

    Args:
        figures: Shape (n, 15).
        pairs: Their labels and families.
        ridge: Penalty of squared coefficients, figures scaled to unit variance.

    Returns:
        Coefficients of the figures as they are, rounded to 1e-6.
    """
    from scipy.optimize import minimize

    mean, spread = figures.mean(axis=0), figures.std(axis=0) + 1e-9
    families = [family for family in FAMILY_WEIGHTS if (pairs.families == family).any()]
    own = np.stack([pairs.families == family for family in families], axis=1).astype(float)
    table = np.hstack([(figures - mean) / spread, own])
    weights, wanted, n = class_weights(pairs), pairs.labels, len(FEATURES)

    def loss(x: Floats) -> tuple[float, Floats]:
        z = table @ x
        slope = table.T @ (weights * (1 / (1 + np.exp(-z)) - wanted))
        slope[:n] += ridge * x[:n]
        return float(weights @ (np.logaddexp(0, z) - wanted * z) + ridge / 2 * x[:n] @ x[:n]), slope

    bounds = [(None, 0.0) if name in _FALLING else (0.0, None) for name in FEATURES] + [(None, None)] * len(families)
    best = minimize(loss, np.zeros(table.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 1000}).x
    coefficients = best[:n] / spread
    return Fit(tuple(round(float(c), 6) + 0.0 for c in coefficients), round(float(best[n:].mean() - coefficients @ mean), 6))


def class_weights(pairs: Pairs) -> Floats:
    """Weights such that both classes of a family sum to 1000 times the weight of the family; shape (n,)."""
    weights = np.zeros(len(pairs.labels))
    for family, weight in FAMILY_WEIGHTS.items():
        for label in (0.0, 1.0):
            chosen = (pairs.families == family) & (pairs.labels == label)
            weights[chosen] = 1000 * weight / max(chosen.sum(), 1)
    return weights


def choose_ridge(figures: Floats, pairs: Pairs) -> tuple[float, Floats]:
    """The greatest ridge whose weighted mean of held-out areas under the curve is within 0.001 of the best.

    The more ridge, the more the weight is spread over figures that say nearly the same, and the less one set decides.

    Args:
        figures: Shape (n, 15).
        pairs: Of several families.

    Returns:
        The ridge, and the log-odds of every pair as learnt on the other families.
    """
    found = {ridge: _held_out(figures, pairs, ridge) for ridge in _RIDGES}
    weights = list(FAMILY_WEIGHTS.values())
    means = {ridge: float(np.average(list(aucs(z, pairs).values()), weights=weights)) for ridge, z in found.items()}
    best = max(ridge for ridge, mean in means.items() if mean >= max(means.values()) - _SAME_AUC)
    return best, found[best]


def _held_out(figures: Floats, pairs: Pairs, ridge: float) -> Floats:
    log_odds = np.zeros(len(pairs.labels))
    for family in FAMILY_WEIGHTS:
        out = pairs.families == family
        log_odds[out] = fit(figures[~out], part_of(pairs, ~out), ridge).log_odds(figures[out])
    return log_odds


def part_of(pairs: Pairs, chosen: npt.NDArray[np.bool_]) -> Pairs:
    """The pairs for which ``chosen``, bool of shape (n,), is true."""
    texts = tuple(text for text, is_chosen in zip(pairs.texts, chosen.tolist(), strict=True) if is_chosen)
    return Pairs(pairs.sets[chosen], pairs.families[chosen], pairs.groups[chosen], pairs.kinds[chosen], texts, pairs.labels[chosen])


def aucs(log_odds: Floats, pairs: Pairs) -> dict[str, float]:
    """Area under the curve of every family, rounded to 1e-4."""
    return {
        family: round(auc(log_odds[mine], pairs.labels[mine]), 4)
        for family in FAMILY_WEIGHTS
        for mine in [pairs.families == family]
    }


def auc(scores: Floats, labels: Floats) -> float:
    """Area under the curve; both labels must be there."""
    return roc_auc(scores[labels > 0.5].tolist(), scores[labels <= 0.5].tolist())


def write_scorer(fitted: Fit, ridge: float, held_out: Floats, train: Pairs) -> None:
    """Replace the files of the scorer: the model with the record of its training, and the calibration that ships."""
    data = [
        {"set": name, "pairs": int(mine.sum()), "groups": len(set(train.groups[mine])), "supported": int(train.labels[mine].sum())}
        for name in _FAMILIES
        for mine in [train.sets == name]
    ]
    record = {"data": data, "folds": "one family of sets held out", "families": FAMILY_WEIGHTS, "ridge": ridge, "date": today(),
              "held_out_auc": aucs(held_out, train)}  # fmt: skip
    model = {
        "version": _VERSION,
        "features": FEATURES,
        "coefficients": fitted.coefficients,
        "intercept": fitted.intercept,
        "record": record,
    }
    _write(MODEL_FILE, model)
    curve = fit_curve(held_out, train.labels, class_weights(train))
    supports = np.array([curve(z) for z in held_out])
    style = style_figures(supports, supports >= curve.threshold, train)
    about = {"labels": "held-out figures of the training sets, as many supported as not", "date": today(), "style": style}
    checksum = model_checksum(MODEL_FILE.read_bytes())
    _write(
        CALIBRATION_FILE,
        {"format": FORMAT, "model": checksum, "claim": curve_json(curve), "answer": None, "record": about},
    )


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def style_figures(supports: Floats, verdicts: npt.NDArray[np.bool_], pairs: Pairs) -> dict[str, float]:
    """How far the scorer sets apart claims of the same label by their length alone.

    In every family the claims of a label are cut at their median number of words; the difference of the means of the two halves is
    what a system gains by writing the other way, and nothing that a person would call support.

    Args:
        supports: Held-out supports, shape (n,).
        verdicts: Whether called supported, shape (n,).
        pairs: The claims.

    Returns:
        ``groundedness``: mean over families and labels of the distance in support; ``supported``: in the share called supported.
    """
    lengths = np.array([len(claim.split()) for _, claim in pairs.texts])
    apart: dict[str, list[float]] = {"groundedness": [], "supported": []}
    for family in FAMILY_WEIGHTS:
        for label in (0.0, 1.0):
            mine = (pairs.families == family) & (pairs.labels == label)
            long = lengths[mine] > np.median(lengths[mine])
            for name, values in (("groundedness", supports[mine]), ("supported", verdicts[mine])):
                apart[name].append(abs(float(values[long].mean() - values[~long].mean())))
    return {name: round(statistics.fmean(values), 4) for name, values in apart.items()}
