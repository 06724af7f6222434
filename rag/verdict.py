"""What is said of the claims of an answer: frozen values without behaviour. `rag.groundedness` makes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["supported", "not_found", "abstention", "unscored", "contradicted"]
Flag = Literal["number", "name", "negation", "quote"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A span of a passage.

    Attributes:
        passage: Number of the passage, from 0.
        start: First character in it.
        end: One past the last.
    """

    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a piece of an answer.

    Attributes:
        start: First character in the answer.
        end: One past the last.
        verdict: What it is called.
        support: Calibrated probability that the passages carry it, rounded to 1e-4; None where it is not scored.
        flags: What speaks against it, in the order of `Flag`.
        evidence: The sentence that shares most with it; None where none shares a word, or it is not scored.
        reason: Why it is unscored: ``empty``, ``no_context``, ``too_long``, ``context_too_long``, ``language``; or because it claims
            nothing: ``question``, ``boilerplate``. Empty otherwise.
    """

    start: int
    end: int
    verdict: Verdict
    support: float | None = None
    flags: tuple[Flag, ...] = ()
    evidence: Evidence | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grounding:
    """A judged answer.

    Attributes:
        claims: Its pieces in order, without overlap; of an empty answer one that says so.
        scorer: Id of the scorer.
        support: Of the whole answer: `rag.groundedness.answer_support`, calibrated where the calibration has a curve for answers; None
            without a scored claim.
    """

    claims: tuple[Finding, ...]
    scorer: str
    support: float | None
