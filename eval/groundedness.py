"""Groundedness of one answer: how many of its claims the context carries, and whether its citations do.

All figures come from `rag.groundedness`, without a language model, and are shares. An answer that abstains claims nothing: it has no
figures but a reason, as has one whose claims cannot be scored. Docs: docs/groundedness.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from eval.record import ClaimRecord
from rag.errors import InputError
from rag.groundedness import Finding, Grounding, Scorer
from rag.groundedness.context import Context
from rag.wire import Json

METRICS = ("groundedness", "grounded", "hallucination", "citation_recall", "citation_precision", "context_utilisation")
# What length alone does to claims of the same label, learnt on other families of sets than it is read on: mean support of the longer
# half against the shorter, and share called supported. Mean of the distances over six families and both labels; bench/groundedness.py.
_STYLE_SUPPORT = 0.04
_STYLE_SUPPORTED = 0.08
# They claim nothing, so they are no claims that could not be scored.
_NO_CLAIM = frozenset(("question", "boilerplate"))


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of the context.

    Attributes:
        doc_id: Its document.
        text: As the answer's writer saw it.
    """

    doc_id: str
    text: str


@dataclass(frozen=True, slots=True)
class GroundednessScores:
    """What one answer scored.

    Attributes:
        scores: By metric, 0.0 to 1.0.
        unscored: Reason by metric; every metric is here or in ``scores``.
        claims: Claims and abstentions in the order of the answer.
    """

    scores: dict[str, float] = field(default_factory=dict)
    unscored: dict[str, str] = field(default_factory=dict)
    claims: tuple[ClaimRecord, ...] = ()


def score_answer(answer: Json, passages: Sequence[Passage], scorer: Scorer) -> GroundednessScores:
    """Score one answer.

    With S its scored claims and sup the scorer's support: ``groundedness`` is the mean of sup over S; ``grounded`` whether all are called
    supported, ``hallucination`` whether any is not; ``citation_recall`` the share of S that what they cite carries, 0.0 of a claim that
    cites nothing; ``citation_precision`` the share of citations that carry their claim alone, or without which the others of the claim
    would not; ``context_utilisation`` the share of the context's sentences that are the nearest evidence of a supported claim.
    A citation is held to its quote, not to the whole passage.

    Args:
        answer: As `rag.wire.answer_json` makes it.
        passages: What it may rest on.
        scorer: From `rag.groundedness.open_scorer`.

    Returns:
        Scores; reasons are ``abstention``, ``empty``, ``no_claims``, ``no_context``, ``no_citations``, ``too_long``,
        ``context_too_long`` and ``language``.
    """
    if answer["abstained"]:
        return GroundednessScores(unscored=dict.fromkeys(METRICS, "abstention"))
    text: str = answer["answer"]
    citations = [(c["start"], c["end"], c["quote"]) for c in answer["citations"]]
    grounding = scorer.judge(text, [passage.text for passage in passages], citations)
    claims = tuple(_records(grounding, passages))
    scored = [finding for finding in grounding.claims if finding.support is not None]
    if not scored:
        return GroundednessScores(unscored=dict.fromkeys(METRICS, _why_none(grounding)), claims=claims)
    scores = {"groundedness": math.fsum(finding.support or 0.0 for finding in scored) / len(scored)}
    unscored: dict[str, str] = {}
    n_supported = sum(finding.verdict == "supported" for finding in scored)
    missing = next((f.reason for f in grounding.claims if f.verdict == "unscored" and f.reason not in _NO_CLAIM), "")
    if n_supported == len(scored) and missing:
        unscored |= {"grounded": missing, "hallucination": missing}
    else:
        scores |= {"grounded": float(n_supported == len(scored)), "hallucination": float(n_supported < len(scored))}
    recall, precision = _citations(text, scored, citations, scorer)
    scores["citation_recall"] = recall
    if precision is None:
        unscored["citation_precision"] = "no_citations"
    else:
        scores["citation_precision"] = precision
    used = {finding.evidence for finding in scored if finding.verdict == "supported" and finding.evidence}
    scores["context_utilisation"] = len(used) / sum(_n_sentences(passage.text) for passage in passages)
    return GroundednessScores({name: round(value, 6) for name, value in scores.items()}, unscored, claims)


def style_margin(metric: str, claims_per_answer: float = 1.0) -> float:
    """The difference between two systems that style alone may make: a gate asks for more.

    The margin of ``groundedness`` is the distance in mean support between the longer and the shorter half of claims with the same human
    label; that of shares of claims the distance in the share called supported. A whole answer fails by any of its claims, so its
    margin is at most that many times the latter. Systems of different generators may differ by more: compare within one family.

    Args:
        metric: One of `METRICS`.
        claims_per_answer: Mean of the run, at least 1.0; used for ``grounded`` and ``hallucination``.

    Returns:
        Absolute difference in the unit of the metric, 0.0 to 1.0.

    Raises:
        InputError: If the scorer makes no such metric.

    Example:
        >>> style_margin("groundedness"), style_margin("grounded", claims_per_answer=3)
        (0.04, 0.24)
    """
    if metric not in METRICS:
        raise InputError(f"metric {metric!r} has no style margin; allowed: {', '.join(METRICS)}", code="metric")
    if metric == "groundedness":
        return _STYLE_SUPPORT
    n_claims = max(claims_per_answer, 1.0) if metric in ("grounded", "hallucination") else 1.0
    return round(min(n_claims * _STYLE_SUPPORTED, 1.0), 6)


# Passages come again with other questions; to read all of a context once more would take a sixth of the scoring.
@lru_cache(maxsize=4096)
def _n_sentences(passage: str) -> int:
    return len(Context([passage]).sentences)


def _records(grounding: Grounding, passages: Sequence[Passage]) -> Iterator[ClaimRecord]:
    for finding in grounding.claims:
        if finding.reason in _NO_CLAIM:
            continue
        place = finding.evidence
        yield ClaimRecord(
            start=finding.start,
            end=finding.end,
            verdict=finding.verdict,
            support=finding.support,
            flags=finding.flags,
            evidence=passages[place.passage].text[place.start : place.end] if place else "",
            doc_id=passages[place.passage].doc_id if place else "",
            reason=finding.reason,
        )


def _why_none(grounding: Grounding) -> str:
    """Why no claim is scored: what speaks of the scorer first, then of the answer."""
    reasons = [finding.reason for finding in grounding.claims if finding.verdict == "unscored" and finding.reason not in _NO_CLAIM]
    if reasons:
        return reasons[0]
    return "abstention" if any(finding.verdict == "abstention" for finding in grounding.claims) else "no_claims"


def _citations(
    text: str, scored: Sequence[Finding], citations: Sequence[tuple[int, int, str]], scorer: Scorer
) -> tuple[float, float | None]:
    """Recall and precision; precision is None without a citation of a scored claim."""

    def carries(claim: str, quotes: Sequence[str]) -> bool:
        return bool(quotes) and scorer.judge_claim(claim, Context(quotes)).verdict == "supported"

    n_carried, needed = 0, []
    for finding in scored:
        claim = text[finding.start : finding.end]
        cited = list(dict.fromkeys(quote for start, end, quote in citations if start < finding.end and finding.start < end))
        is_carried = carries(claim, cited)
        n_carried += is_carried
        if len(cited) == 1:  # nearly all claims: no need to ask again
            needed.append(is_carried)
            continue
        for n, quote in enumerate(cited):
            needed.append(carries(claim, [quote]) or (is_carried and not carries(claim, cited[:n] + cited[n + 1 :])))
    return n_carried / len(scored), sum(needed) / len(needed) if needed else None
