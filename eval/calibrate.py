"""A calibration of the groundedness scorer from answers that a person has labelled: `rag eval calibrate`.

What the scorer separates carries over from one collection to another; where its threshold lies does not. Some fifty labelled answers
put that right: a rising curve from its log-odds to the share that the labels say is supported.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rag.errors import InputError, MissingExtraError
from rag.groundedness import Scorer, answer_support, open_scorer
from rag.groundedness.calibration import FORMAT, Curve, curve_json
from rag.groundedness.context import Context

MIN_ANSWERS = 50
# Below it a step of an isotonic curve rests on a handful of labels; two parameters need fewer.
MIN_ISOTONIC = 300
_FOLDS = 5
_BINS = 10
_TRUE = frozenset(("1", "true", "yes", "supported"))
_FALSE = frozenset(("0", "false", "no", "not_supported"))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Label:
    """A person's verdict.

    Attributes:
        text: The claim, or the whole answer.
        is_claim: Which of the two.
        passages: What it may rest on.
        is_supported: The verdict; of an answer, whether all of it is.
        group: What belongs together, an answer or a question: never on both sides of a fold.
    """

    text: str
    is_claim: bool
    passages: tuple[str, ...]
    is_supported: bool
    group: str


@dataclass(frozen=True, slots=True)
class Fitted:
    """How one curve came out.

    Attributes:
        of: What its labels are about.
        method: Kind of curve.
        n: Labels used.
        n_groups: Groups among them.
        n_unscored: Labels left out, because the scorer gives their text no support.
        error_before: Expected calibration error of the calibration that ships, ten bins of equal width, 0.0 to 1.0.
        error_after: The same of the new one, each group judged by a curve fitted without it.
        error_of_chance: What a perfect calibration would show with so few labels, on average.
        threshold: Where supported begins: highest balanced accuracy on the labels.
        balanced_accuracy: At thresholds chosen without the group that is judged.
    """

    of: Literal["claim", "answer"]
    method: str
    n: int
    n_groups: int
    n_unscored: int
    error_before: float
    error_after: float
    error_of_chance: float
    threshold: float
    balanced_accuracy: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What `calibrate` did.

    Attributes:
        path: Of the calibration.
        scorer: Id that the scorer has with it.
        curves: One for claims, one for answers; what has no labels keeps the curve that ships.
    """

    path: str
    scorer: str
    curves: tuple[Fitted, ...]


def calibrate(labels: Path, out: Path) -> Calibrated:
    """Fit a calibration and write it.

    Rows with a ``claim`` make the curve for claims, others the curve for answers: isotonic from `MIN_ISOTONIC` labels on, below that
    logistic (Platt).

    Args:
        labels: See `read_labels`.
        out: File to write; its folder is made.

    Returns:
        What came out; the file gives the same curve for the same labels.

    Raises:
        InputError: If labels cannot be read, are of fewer than `MIN_ANSWERS` answers or all alike, or the file cannot be written.
        MissingExtraError: If the extra [eval] is not installed.

    References:
        Platt, Advances in Large Margin Classifiers, 1999; Zadrozny, Elkan, KDD 2002, doi:10.1145/775047.775151.
    """
    if find_spec("scipy") is None:
        raise MissingExtraError("'rag eval calibrate'", "eval")
    rows = read_labels(labels)
    scorer = open_scorer()
    fits: list[Fitted] = []
    curves: dict[str, Curve] = {}
    for kind in ("claim", "answer"):
        of_kind = [row for row in rows if row.is_claim == (kind == "claim")]
        if of_kind:
            curve, fitted = _fit(of_kind, scorer, "claim" if kind == "claim" else "answer", labels)
            curves[kind] = curve
            fits.append(fitted)
    shipped = scorer.calibration
    value: dict[str, Any] = {
        "format": FORMAT,
        "model": scorer.model,
        "claim": curve_json(curves.get("claim", shipped.claim)),
        "answer": curve_json(curves["answer"]) if "answer" in curves else None,
        "record": {"labels": labels.name, "date": datetime.now(UTC).date().isoformat(), "curves": [asdict(fit) for fit in fits]},
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"calibration {out} cannot be written: {error.strerror}; give another path", code="calibration") from error
    return Calibrated(str(out), open_scorer(out).id, tuple(fits))


def calibrated_text(done: Calibrated) -> str:
    """The report of `calibrate` for people, one line a curve."""
    lines = [
        f"{fit.of}s: {fit.method} from {fit.n} labels in {fit.n_groups} groups ({fit.n_unscored} unscored); calibration error "
        f"{fit.error_before:.3f} before, {fit.error_after:.3f} after (chance alone {fit.error_of_chance:.3f}); supported from "
        f"{fit.threshold:.2f} on, balanced accuracy {fit.balanced_accuracy:.3f}"
        for fit in done.curves
    ]
    if all(fit.of == "answer" for fit in done.curves):
        lines.append("answers only: this changes the support of whole answers (`grounding.support`), no metric of a suite")
    return "\n".join([*lines, f"scorer {done.scorer}", f"written to {done.path}"])


def read_labels(path: Path) -> tuple[Label, ...]:
    """Read labelled answers.

    Args:
        path: ``.csv`` with a header, else one JSON object a line. Keys: ``passages``, a list of texts (in CSV as JSON, or one text);
            ``supported``, true or false; ``answer``, or ``claim`` where the verdict is about one claim of it; ``group``, by default
            answer and passages.

    Returns:
        The rows in order.

    Raises:
        InputError: If it cannot be read, a row is not as it should be (with its line), or there are fewer than `MIN_ANSWERS` groups.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"labels {path} cannot be read: {error}; give JSONL or CSV in UTF-8", code="labels") from error
    rows = tuple(_label(line, value, path) for line, value in (_csv(text) if path.suffix == ".csv" else _json_lines(text, path)))
    n_groups = len({row.group for row in rows})
    if n_groups < MIN_ANSWERS:
        raise InputError(
            f"labels {path} are of {n_groups} answers; allowed: {MIN_ANSWERS} or more, fewer decide no threshold; label more",
            code="labels",
        )
    return rows


def fit_curve(log_odds: Floats, labels: Floats, weights: Floats | None = None) -> Curve:
    """Fit a curve, isotonic from `MIN_ISOTONIC` values on.

    The knots of an isotonic curve lie in the middle of its level steps, so that it rises between them and what was apart stays apart.

    Args:
        log_odds: Shape (n,).
        labels: Shape (n,), 0.0 or 1.0, both there.
        weights: Shape (n,); None for equal ones.

    Returns:
        The curve; its threshold is 0.5.
    """
    weights = np.ones_like(labels) if weights is None else weights
    return (_isotonic if len(labels) >= MIN_ISOTONIC else _platt)(log_odds, labels, weights)


def calibration_error(p: Floats, labels: Floats) -> float:
    """Expected calibration error: mean distance of probability and share of positives over ten bins of equal width, by their size.

    Args:
        p: Shape (n,), 0.0 to 1.0.
        labels: Shape (n,), 0.0 or 1.0.

    Returns:
        0.0 to 1.0. Of few labels it is above 0.0 by chance alone: see `error_of_chance`.

    References:
        Naeini, Cooper, Hauskrecht, AAAI 2015.
    """
    bins = np.minimum((p * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=p - labels, minlength=_BINS)
    return math.fsum(np.abs(gaps)) / len(p)


def error_of_chance(p: Floats, seed: int = 0, n_draws: int = 200) -> float:
    """Mean calibration error if labels were drawn by the very probabilities, which are then perfect."""
    random = np.random.default_rng(seed)
    draws = (random.random(len(p)) < p for _ in range(n_draws))
    return math.fsum(calibration_error(p, drawn.astype(float)) for drawn in draws) / n_draws


def best_threshold(p: Floats, labels: Floats) -> float:
    """The probability from which on to say yes, of highest balanced accuracy; of equals that nearest to 0.5, rounded to 1e-4."""
    steps = np.unique(p)
    middles = [0.5, *((steps[1:] + steps[:-1]) / 2)]
    return round(float(max(middles, key=lambda at: (round(balanced_accuracy(p >= at, labels), 9), -abs(at - 0.5)))), 4)


def balanced_accuracy(said: npt.NDArray[np.bool_], labels: Floats) -> float:
    """Mean of the share of ones that are said to be, and of the others that are not; both kinds must be there."""
    yes = labels > 0.5
    return float((said[yes].mean() + (~said[~yes]).mean()) / 2)


def _fit(rows: Sequence[Label], scorer: Scorer, of: Literal["claim", "answer"], path: Path) -> tuple[Curve, Fitted]:
    scored = [(row, z, p) for row in rows for z, p in [_log_odds(row, scorer)] if z is not None]
    labels = np.array([float(row.is_supported) for row, _, _ in scored])
    if not scored or labels.min() == labels.max():
        raise InputError(
            f"labels {path} call all {len(scored)} scored {of}s alike; a curve needs supported ones and others: label more",
            code="labels",
        )
    groups = [row.group for row, _, _ in scored]
    z = np.array([value for _, value, _ in scored])
    shipped = np.array([value for _, _, value in scored])
    places = {group: n % _FOLDS for n, group in enumerate(dict.fromkeys(groups))}
    folds = np.array([places[group] for group in groups])
    held_out, said = np.zeros_like(z), np.zeros(len(z), np.bool_)
    for fold in range(_FOLDS):
        out = folds == fold
        p, threshold = _curve_with_threshold(z[~out], labels[~out])
        held_out[out] = [p(value) for value in z[out]]
        said[out] = held_out[out] >= threshold
    curve, threshold = _curve_with_threshold(z, labels)
    return replace(curve, threshold=threshold), Fitted(
        of=of,
        method=curve.method,
        n=len(scored),
        n_groups=len(places),
        n_unscored=len(rows) - len(scored),
        error_before=calibration_error(shipped, labels),
        error_after=calibration_error(held_out, labels),
        error_of_chance=error_of_chance(held_out),
        threshold=threshold,
        balanced_accuracy=balanced_accuracy(said, labels),
    )


def _curve_with_threshold(z: Floats, labels: Floats) -> tuple[Curve, float]:
    curve = fit_curve(z, labels)
    is_mixed = labels.min() < labels.max()
    return curve, best_threshold(np.array([curve(value) for value in z]), labels) if is_mixed else 0.5


def _log_odds(row: Label, scorer: Scorer) -> tuple[float | None, float]:
    """What the curve is fitted on, and what the calibration that ships makes of it."""
    if row.is_claim:
        context = Context(row.passages)
        z = scorer.log_odds(row.text, context)
        return z, 0.0 if z is None else scorer.calibration.claim(z)
    p = answer_support(scorer.judge(row.text, row.passages).claims)
    return (None, 0.0) if p is None else (-math.log(1 / p - 1), p)


def _platt(log_odds: Floats, labels: Floats, weights: Floats) -> Curve:
    from scipy.optimize import minimize

    n_yes = math.fsum(weights * labels)
    n_no = math.fsum(weights) - n_yes
    # As if one more label of either kind were there, so that labels that a line separates do not make the slope endless.
    wanted = np.where(labels > 0.5, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * log_odds + line[1]
        off = weights * (1 / (1 + np.exp(-z)) - wanted)
        return float(np.sum(weights * (np.logaddexp(0, z) - wanted * z))), np.array([np.sum(off * log_odds), np.sum(off)])

    best = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(0.0, None), (None, None)], method="L-BFGS-B").x
    return Curve("platt", slope=round(float(best[0]), 6), intercept=round(float(best[1]), 6))


def _isotonic(log_odds: Floats, labels: Floats, weights: Floats) -> Curve:
    from scipy.optimize import isotonic_regression

    x, places = np.unique(log_odds, return_inverse=True)
    total = np.bincount(places, weights=weights)
    means = np.bincount(places, weights=weights * labels) / total
    blocks = isotonic_regression(means, weights=total).blocks
    knots: list[tuple[float, float]] = []
    for begin, end in zip(blocks[:-1], blocks[1:], strict=True):
        n = total[begin:end].sum()
        p = float(np.dot(total[begin:end], means[begin:end]) / n)
        middle = round(float(np.dot(total[begin:end], x[begin:end]) / n), 6)
        if not knots or middle > knots[-1][0]:
            knots.append((middle, round(p, 6)))
    return Curve("isotonic", tuple(_with_ends(knots, round(float(x[0]), 6), round(float(x[-1]), 6))))


def _with_ends(knots: list[tuple[float, float]], least: float, most: float) -> Iterator[tuple[float, float]]:
    """From the middle of the outer steps the curve goes half way to certainty at the outermost values: these stay in their order."""
    if least < knots[0][0]:
        yield least, knots[0][1] / 2
    yield from knots
    if most > knots[-1][0]:
        yield most, (knots[-1][1] + 1) / 2


def _json_lines(text: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise InputError(f"labels {path}, line {number} is not JSON: {error}; correct it", code="labels") from error
            if not isinstance(value, dict):
                raise InputError(f"labels {path}, line {number} is a {type(value).__name__}; allowed: an object", code="labels")
            yield number, value


def _csv(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(text.splitlines(keepends=True))
    for row in reader:
        value: dict[str, Any] = {key: cell for key, cell in row.items() if key and cell}
        if (cell := str(value.get("passages", ""))).lstrip().startswith("["):
            try:
                value["passages"] = json.loads(cell)
            except ValueError:
                value["passages"] = [cell]
        elif cell:
            value["passages"] = [cell]
        yield reader.line_num, value


def _label(line: int, value: dict[str, Any], path: Path) -> Label:
    def fault(what: str) -> InputError:
        return InputError(f"labels {path}, line {line}: {what}; see docs/groundedness.md for the keys", code="labels")

    passages = value.get("passages")
    if not isinstance(passages, list) or not passages or not all(isinstance(passage, str) for passage in passages):
        raise fault(f"passages is {passages!r:.60}; allowed: a list of texts, at least one")
    said = str(value.get("supported")).strip().lower()
    if said not in _TRUE | _FALSE:
        raise fault(f"supported is {value.get('supported')!r:.60}; allowed: true or false")
    text, answer = value.get("claim") or value.get("answer"), value.get("answer")
    if not isinstance(text, str) or not text.strip():
        raise fault("there is neither answer nor claim; give one of them, a text")
    group = value.get("group") or "\n".join([answer or "", *passages])
    return Label(text, bool(value.get("claim")), tuple(passages), said in _TRUE, str(group))
