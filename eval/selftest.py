"""What the groundedness scorer sees and what it does not, on a user's own passages: errors planted into claims that hold.

A claim is made of a sentence of a passage: one word in five is left out, one in seven exchanged, as a paraphrase would. Into it one
error of each kind is planted where it has a place for it. A kind counts as detected when the scorer tells planted claims from others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, assert_never, get_args

from eval.answers import roc_auc
from rag.errors import InputError
from rag.facts import numbers_of
from rag.groundedness import Finding, Scorer
from rag.groundedness.context import Context

ErrorKind = Literal["off_topic", "absent_number", "swapped_number", "swapped_name", "negation"]

# A kind is detected from here on, by support (area under the curve) and by verdict (balanced accuracy, which is the area under the
# curve of a verdict): what a finer scorer must reach before it may claim the kinds that this one does not see.
DETECTED = 0.80
# What this scorer must reach on sentences of another topic; of absent numbers it must flag every one.
OFF_TOPIC_AUC = 0.93
_N_PASSAGES = 5
_LEFT_OUT = 0.2
_EXCHANGED = 1 / 7
_PLAIN_WORD = re.compile(r"[a-z]{4,}")
_WORDS = range(8, 41)
# Fewer planted claims say nothing of a rate.
_MIN_CLAIMS = 10
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:[.,]\d+)*(?![\w])")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|can|could|will|would|should|may|might|must)\b(?! not\b|n['’]t\b)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Detection:
    """How well one kind of error is seen.

    Attributes:
        kind: Of error.
        n: Claims with one.
        detected: Share that is not called supported; None where ``n`` is 0.
        auc: Area under the curve of support, claims that hold against these; None where ``n`` is 0.
        is_detected: Whether the scorer may be said to see this kind; False prints as "not detected by this tier".
    """

    kind: ErrorKind
    n: int
    detected: float | None
    auc: float | None
    is_detected: bool


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A self-test.

    Attributes:
        scorer: Id of the scorer.
        n_claims: Claims without an error.
        false_alarms: Share of them that is not called supported.
        detections: One a kind, in the order of `ErrorKind`.
        is_passed: Whether sentences of another topic and absent numbers are seen as they must be; kinds without a claim are left out.
    """

    scorer: str
    n_claims: int
    false_alarms: float
    detections: tuple[Detection, ...]
    is_passed: bool


def self_test(scorer: Scorer, passages: Sequence[str], seed: int, n_claims: int = 200) -> SelfTest:
    """Plant errors into claims made of passages, and count which are seen.

    Args:
        scorer: Under test.
        passages: Of the user's collection, at least six.
        seed: Of all choices.
        n_claims: Claims to make at most.

    Returns:
        Rates; the same for the same arguments.

    Raises:
        InputError: If the passages are too few, or hold fewer than ten sentences of 8 to 40 words.
    """
    if len(passages) <= _N_PASSAGES:
        raise InputError(f"{len(passages)} passages for the self-test; allowed: {_N_PASSAGES + 1} or more; ingest more documents")
    random = Random(seed)
    sound: list[Finding] = []
    planted: dict[ErrorKind, list[Finding]] = {kind: [] for kind in get_args(ErrorKind)}
    for claim, context, foreign in _claims(passages, random, n_claims):
        sound.append(scorer.judge_claim(claim, context))
        for kind in planted:
            altered = plant(kind, claim, context, foreign, random)
            if altered is not None:
                planted[kind].append(scorer.judge_claim(altered, context))
    if len(sound) < _MIN_CLAIMS:
        raise InputError(
            f"the passages for the self-test give {len(sound)} claims; allowed: {_MIN_CLAIMS} or more; give passages with more sentences"
        )
    detections = tuple(_detection(kind, found, sound) for kind, found in planted.items())
    return SelfTest(scorer.id, len(sound), _alarms(sound), detections, all(_holds(detection) for detection in detections))


def self_test_text(test: SelfTest) -> str:
    """The self-test for people, one line a kind of error."""
    lines = [f"{test.n_claims} claims that hold, {test.false_alarms:.0%} not called supported"]
    for row in test.detections:
        if row.detected is None or row.auc is None:
            lines.append(f"{row.kind}: no claim has a place for it")
        else:
            seen = "detected" if row.is_detected else "not detected by this tier"
            lines.append(f"{row.kind}: {seen} ({row.n} claims, {row.detected:.0%} not called supported, AUC {row.auc:.2f})")
    return "\n".join(lines)


def plant(kind: ErrorKind, claim: str, context: Context, foreign: str, random: Random) -> str | None:
    """Plant one error.

    Args:
        kind: Of error.
        claim: Supported by the context.
        context: Its passages.
        foreign: A sentence of a passage that is not in the context.
        random: Source of choices.

    Returns:
        The claim with the error; None where it has no place for it.
    """
    match kind:
        case "off_topic":
            return foreign or None
        case "absent_number":
            absent = next(str(n) for n in iter(lambda: random.randrange(3, 3000), None) if str(n) not in context.numbers)
            return _replaced(_NUMBER, claim, [absent], random)
        case "swapped_number":
            own = numbers_of(claim)
            return _replaced(_NUMBER, claim, [n for n in _found(_NUMBER, context) if own.isdisjoint(numbers_of(n))], random)
        case "swapped_name":
            return _replaced(_NAME, claim, [name for name in _found(_NAME, context) if name not in claim], random)
        case "negation":
            return _VERB.sub(lambda verb: f"{verb[0]} not", claim, count=1) if _VERB.search(claim) else None
        case _:
            assert_never(kind)


def _claims(passages: Sequence[str], random: Random, n_claims: int) -> Iterator[tuple[str, Context, str]]:
    """A claim, the passages among which it is, and a sentence of another one."""
    places = [(n, s.text) for n, text in enumerate(passages) for s in Context([text]).sentences if len(s.text.split()) in _WORDS]
    for home, sentence in random.sample(places, min(n_claims, len(places))):
        around = random.sample([n for n in range(len(passages)) if n != home], _N_PASSAGES - 1)
        foreign = [text for n, text in places if n != home and n not in around]
        other = random.choice(foreign) if foreign else ""
        yield _paraphrased(sentence, other, random), Context([passages[n] for n in sorted((home, *around))]), other


def _paraphrased(sentence: str, other: str, random: Random) -> str:
    """The sentence with some of its words missing and some taken from another one; its first word, names and numbers stay."""
    loans = _PLAIN_WORD.findall(other)
    first, *rest = sentence.split()
    kept = [first]
    for word in rest:
        is_plain = _PLAIN_WORD.fullmatch(word) is not None
        if is_plain and loans and random.random() < _EXCHANGED:
            kept.append(random.choice(loans))
        elif not is_plain or random.random() >= _LEFT_OUT:
            kept.append(word)
    return " ".join(kept)


def _found(pattern: re.Pattern[str], context: Context) -> list[str]:
    return sorted({text for passage in context.texts for text in pattern.findall(passage)})


def _replaced(pattern: re.Pattern[str], claim: str, by: Sequence[str], random: Random) -> str | None:
    places = list(pattern.finditer(claim))
    if not places or not by:
        return None
    place = random.choice(places)
    return f"{claim[: place.start()]}{random.choice(by)}{claim[place.end() :]}"


def _detection(kind: ErrorKind, found: Sequence[Finding], sound: Sequence[Finding]) -> Detection:
    if not found:
        return Detection(kind, 0, None, None, is_detected=False)
    auc = roc_auc([finding.support or 0.0 for finding in sound], [finding.support or 0.0 for finding in found])
    by_verdict = (_alarms(found) + 1 - _alarms(sound)) / 2
    by_support = 1.0 if kind == "absent_number" else auc  # a rule sees them, not the regression
    return Detection(kind, len(found), _alarms(found), auc, min(by_verdict, by_support) >= DETECTED)


def _holds(detection: Detection) -> bool:
    if detection.n == 0 or detection.auc is None:
        return True
    if detection.kind == "off_topic":
        return detection.auc >= OFF_TOPIC_AUC
    return detection.kind != "absent_number" or detection.detected == 1.0


def _alarms(findings: Sequence[Finding]) -> float:
    return sum(finding.verdict != "supported" for finding in findings) / len(findings)
