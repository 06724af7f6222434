"""Tier L0: is every claim of an answer carried by the passages? Words in common, weighed by a logistic regression; no model.

A claim whose support reaches the threshold is ``supported``, else ``not_found``. A number or a quotation that stands in no passage
makes it ``not_found`` whatever the support; a name in no passage and a turned negation are only flagged, for they are wrong too often.
This tier never says ``contradicted``: it does not tell a contradiction from a topic that is not there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rag.facts import n_negations, plain_words
from rag.groundedness.calibration import DIGITS, Calibration, load_calibration
from rag.groundedness.context import Context, storable
from rag.groundedness.features import FEATURES, Stated, features, stated
from rag.groundedness.segment import Segment, segments, without_references
from rag.index.lexical import ANALYSER_ID
from rag.verdict import Evidence, Finding, Flag, Grounding

_FOLDER = Path(__file__).parent
MODEL_FILE = _FOLDER / "model.json"
CALIBRATION_FILE = _FOLDER / "calibration.json"
# Beyond these a claim would cost more than a whole answer should; neither is a sentence or an answer that a person reads.
_MAX_TERMS = 200
_MAX_ANSWER_CHARS = 100_000
_MAX_CONTEXT_CHARS = 2_000_000
# Below this share of its terms in one sentence a claim says something else, not the contrary.
_SAME_TOPIC = 0.6
# Scripts that put no space between words: the analyser cannot take them apart.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_MAX_UNSPACED = 0.3
_QUOTED = re.compile(r"[\"“«]([^\"“”«»\n]+)[\"”»]")
_MIN_QUOTED_WORDS = 3
# Of the claims of the training sets that stand in a sentence word for word, 156 of 160 are supported. The regression cannot know: too few
# of its claims are.
_VERBATIM_SUPPORT = 0.975
_NOT_VERBATIM: frozenset[Flag] = frozenset(("number", "quote"))


def answer_support(claims: Sequence[Finding]) -> float | None:
    """How far all claims of an answer are supported, as one number: ``1 / (1 + sum of (1 - p) / p)``.

    The odds against the claims are added. With one claim it is its support, it is never above the least, and a long answer of doubtful
    claims has less than a short one. Among answers put together from labelled claims it tells those in which every claim holds better
    than the mean does in every family of sets, better than the least support in four of six, and no worse by 0.01 in the others.

    Args:
        claims: Of one answer.

    Returns:
        0.0 to 1.0, rounded to 1e-4; None without a scored claim.

    Example:
        >>> answer_support([Finding(0, 9, "supported", 0.8), Finding(9, 20, "not_found", 0.5)])
        0.4444
    """
    odds = _odds_against(claims)
    return None if odds is None else round(1 / (1 + odds), DIGITS)


def _odds_against(claims: Sequence[Finding]) -> float | None:
    supports = [claim.support for claim in claims if claim.support is not None]
    return math.fsum((1 - p) / p for p in supports) if supports else None


def open_scorer(calibration: Path | None = None) -> Scorer:
    """Read the model and a calibration.

    Args:
        calibration: As 'rag eval calibrate' wrote it; None takes the one that ships, made with as many supported claims as others.

    Returns:
        The scorer.

    Raises:
        InputError: If the calibration cannot be used.
    """
    content = MODEL_FILE.read_bytes()
    model = model_checksum(content)
    value = json.loads(content)
    if tuple(value["features"]) != FEATURES:
        raise AssertionError(f"{MODEL_FILE.name} was fitted on other features; run python -m bench.groundedness --write")
    weights = tuple(float(weight) for weight in value["coefficients"])
    path = calibration or CALIBRATION_FILE
    curves = load_calibration(path, model)
    digest = hashlib.sha256(f"{model}\n{curves!r}".encode()).hexdigest()[:12]
    return Scorer(f"{value['version']}+{digest}", model, weights, float(value["intercept"]), curves)


def model_checksum(content: bytes) -> str:
    """Checksum of what decides the log-odds: coefficients and analyser, not the record of their training."""
    value = json.loads(content)
    decisive = [value["version"], value["features"], value["coefficients"], value["intercept"], ANALYSER_ID]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]


class Scorer:
    """Judges answers; made by `open_scorer`. It keeps nothing between calls, so that threads may share it.

    Args:
        name: Version and checksum.
        model: Checksum of the coefficients.
        weights: Coefficients of `FEATURES`.
        intercept: Of the regression.
        calibration: Curves.

    Attributes:
        id: Version, and a checksum of coefficients and calibration: figures of different ids are not compared.
        model: Checksum of the coefficients alone, which a calibration is made for.
        threshold: Least support of a supported claim.
        answer_threshold: Least support of an answer that is called supported as a whole.
        calibration: Curves in use.
    """

    id: str
    model: str
    threshold: float
    answer_threshold: float
    calibration: Calibration

    def __init__(self, name: str, model: str, weights: tuple[float, ...], intercept: float, calibration: Calibration) -> None:
        self.id = name
        self.model = model
        self.threshold = calibration.claim.threshold
        self.answer_threshold = calibration.answer.threshold if calibration.answer else calibration.claim.threshold
        self._weights = weights
        self._intercept = intercept
        self.calibration = calibration

    def judge(self, answer: str, passages: Sequence[str], quotes: Sequence[tuple[int, int, str]] = ()) -> Grounding:
        """Judge every claim of an answer.

        Args:
            answer: Any text; citation markers like ``[1]`` are passed over.
            passages: What it may rest on; offsets of evidence refer to these texts.
            quotes: Citations: a span of the answer, first character and one past the last, and what it quotes.

        Returns:
            Findings in the order of the answer; the same for the same arguments, to the bit.
        """
        text = storable(answer)
        if len(answer) > _MAX_ANSWER_CHARS:
            return self._all_unscored(len(answer), "too_long")
        pieces = segments(text)
        if not pieces:
            return self._all_unscored(len(answer), "empty")
        if sum(map(len, passages)) > _MAX_CONTEXT_CHARS:
            return self._all_unscored(len(answer), "context_too_long")
        context = Context(passages)
        misquoted = tuple(_misquoted(text, quotes, context))
        claims = tuple(self._finding(piece, context, misquoted) for piece in pieces)
        return Grounding(claims, self.id, self._of_answer(claims))

    def judge_claim(self, claim: str, context: Context) -> Finding:
        """Judge a text as one claim, whatever it is.

        Args:
            claim: A sentence or a part of one.
            context: What it may rest on.

        Returns:
            Its finding, from 0 to its length; unscored where it has no word.
        """
        text = without_references(storable(claim))
        if not re.search(r"\w", text):
            return Finding(0, len(text), "unscored", reason="empty")
        return self._finding(Segment(0, len(text), "claim", text), context, tuple(_misquoted(text, (), context)))

    def log_odds(self, claim: str, context: Context) -> float | None:
        """What is calibrated: the regression's log-odds of one claim; None where `judge_claim` would not score it."""
        text = without_references(storable(claim))
        what = stated(text)
        if _unscored(text, what, context):
            return None
        return self._log_odds(what, context, context.evidence(what.distinct))

    def _log_odds(self, what: Stated, context: Context, evidence: Sequence[int]) -> float:
        figures = features(what, context, evidence)
        return self._intercept + math.fsum(weight * figure for weight, figure in zip(self._weights, figures, strict=True))

    def _finding(self, piece: Segment, context: Context, misquoted: Sequence[tuple[int, int]]) -> Finding:
        start, end = piece.start, piece.end
        if piece.kind == "abstention":
            return Finding(start, end, "abstention")
        if piece.kind != "claim":
            return Finding(start, end, "unscored", reason=piece.kind)
        what = stated(piece.text)
        if reason := _unscored(piece.text, what, context):
            return Finding(start, end, "unscored", reason=reason)
        nearest = context.evidence(what.distinct)
        support = self.calibration.claim(self._log_odds(what, context, nearest))
        if _is_verbatim(piece.text, context, nearest):
            support = max(support, _VERBATIM_SUPPORT)
        is_misquoted = any(begin < end and start < stop for begin, stop in misquoted)
        flags = tuple(_flags(what, context, nearest, is_misquoted=is_misquoted))
        is_supported = support >= self.threshold and _NOT_VERBATIM.isdisjoint(flags)
        best = context.sentences[nearest[0]] if nearest else None
        evidence = Evidence(best.passage, best.start, best.end) if best else None
        return Finding(start, end, "supported" if is_supported else "not_found", support, flags, evidence)

    def _of_answer(self, claims: Sequence[Finding]) -> float | None:
        odds = _odds_against(claims)
        if odds is None:
            return None
        curve = self.calibration.answer
        return answer_support(claims) if curve is None else curve(-math.log(odds))

    def _all_unscored(self, length: int, reason: str) -> Grounding:
        return Grounding((Finding(0, length, "unscored", reason=reason),), self.id, None)


def _unscored(text: str, what: Stated, context: Context) -> str:
    """Why a claim cannot be scored; empty when it can."""
    n_letters = sum(map(str.isalpha, text))
    if len(_UNSPACED.findall(text)) > _MAX_UNSPACED * n_letters:
        return "language"
    if not context.sentences:
        return "no_context"
    if len(what.terms) > _MAX_TERMS:
        return "too_long"
    return "" if what.terms else "boilerplate"


def _is_verbatim(claim: str, context: Context, nearest: Sequence[int]) -> bool:
    """Whether a claim stands word for word in a sentence that negates no more than it does."""
    words = plain_words(claim)
    if len(words) < _MIN_QUOTED_WORDS:
        return False
    run = f" {' '.join(words)} "
    negations = n_negations(claim)
    texts = (context.sentences[n].text for n in nearest)
    return any(run in f" {' '.join(plain_words(text))} " and n_negations(text) == negations for text in texts)


def _flags(what: Stated, context: Context, nearest: Sequence[int], *, is_misquoted: bool) -> Iterator[Flag]:
    if not what.numbers <= context.numbers:
        yield "number"
    if not what.names <= context.known:
        yield "name"
    if nearest:
        best = context.sentences[nearest[0]]
        n_shared = sum(term in best.known for term in what.distinct)
        if what.n_negations % 2 != n_negations(best.text) % 2 and n_shared >= _SAME_TOPIC * len(what.distinct):
            yield "negation"
    if is_misquoted:
        yield "quote"


def _misquoted(answer: str, quotes: Sequence[tuple[int, int, str]], context: Context) -> Iterator[tuple[int, int]]:
    """Spans of the answer that quote what is in no passage."""
    said = [(*match.span(), match[1]) for match in _QUOTED.finditer(answer) if len(match[1].split()) >= _MIN_QUOTED_WORDS]
    if not said and not quotes:
        return
    texts = [_folded(text) for text in context.texts]
    for start, end, quote in (*said, *quotes):
        wanted = _folded(storable(quote)).rstrip(" .,;:!?…")
        if not any(wanted in text for text in texts):
            yield start, end


def _folded(text: str) -> str:
    """Without what a quotation may change: case, white space, the form of quotation marks."""
    return " ".join(text.casefold().replace("’", "'").replace("‘", "'").split())
