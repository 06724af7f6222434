"""Are the sentences of a written answer carried by the passages that they cite? Words, numbers and names are compared; no model.

A claim is supported by one or two neighbouring sentences of a passage, or by such a span of every passage that it cites, taken
together: they hold most of its terms, all of its numbers with their signs and units, and negations as it does, odd or even; its names
are in the passage. A paraphrase in other words is refused, and two things exchanged within a sentence are not seen: the check is cheap,
not clever.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Literal

from rag.evidence import LIST_MARK, behind_mark, question_terms
from rag.facts import is_number, n_negations, names_of, numbers_of, plain, plain_words
from rag.index.lexical import analyse
from rag.text import context_line, normalise, sentence_spans
from rag.types import Candidate

Fault = Literal["number", "unit", "name", "negation", "coverage"]

# Share of a claim's terms that its evidence must hold: the best mean of balanced accuracies over the training sets of bench/verify.py.
# There terms that weigh by their rarity separate no better than equal ones, and names looked for in the span worse than in the passage.
MIN_COVERAGE = 0.52
# So few words share most of their terms with any sentence of the topic: a phrase must stand in one as it is, a sentence needs all
# of its terms.
_SHORT_WORDS = 4
_MARKER = re.compile(r"[ \t]*\[([1-9]\d{0,3}(?:\s*[,;]\s*[1-9]\d{0,3})*)\]")
_LIST_MARK = re.compile(rf"^[ \t]*{LIST_MARK}[ \t]+", re.MULTILINE)
_WORD_IN_LINE = re.compile(r"[^\w\n]*\w")
# What a number counts in; of those that mean the same the first is compared. A unit that is not here is a word as any other.
_UNITS = {
    word: words.split()[0]
    for words in (
        "mm millimetre millimetres millimeter millimeters|cm centimetre centimetres centimeter centimeters|m metre metres meter meters|"
        "km kilometre kilometres kilometer kilometers|mile miles|foot feet ft|inch inches|yard yards|mg milligram milligrams|"
        "g gram grams|kg kilogram kilograms|ton tons tonne tonnes|ounce ounces oz|second seconds|minute minutes|hour hours|day days|"
        "week weeks|month months|year years|decade decades|century centuries|€ euro euros eur|$ dollar dollars usd|"
        "£ pound pounds lb lbs gbp|¥ yen|% percent|celsius c|fahrenheit f|bit bits|byte bytes|kb kilobytes|mb megabytes|gb gigabytes|"
        "tb terabytes"
    ).split("|")
    for word in words.split()
}
_QUANTITY = re.compile(r"(?<![\w.,])[-−]?\d+(?:[.,]\d+)*|\w+|[€$£¥%]")
# They stand between a number and its unit.
_BETWEEN = frozenset(("hundred", "thousand", "million", "billion", "degree", "degrees"))
_CURRENCIES = frozenset("€$£¥")
# A phrase is negated by what stands so many words before it: "is not due in August".
_NEGATION_REACH = 6
_NEGATING = frozenset("no not nor never none nobody nothing neither cannot without t".split())  # the last one of "isn't"
_SENTENCE_END = re.compile(r"[.!?…。！？][^\w\s]*\Z")


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of an answer.

    Attributes:
        text: On one line, without citation markers.
        numbers: Passages that it cites, from 1, in order, without repeats.
        bad: Cited numbers that no passage has.
    """

    text: str
    numbers: tuple[int, ...]
    bad: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a claim is carried.

    Attributes:
        number: Of the passage, from 1.
        start: First character in the document.
        end: One past the last.
    """

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim.

    Attributes:
        claim: The claim.
        fault: What speaks against the nearest evidence; None when the claim is supported.
        coverage: Share of its distinct terms, without those of the headings, that the best evidence holds against which nothing
            else speaks, 0.0 to 1.0.
        evidence: One span, or one of several cited passages each; empty when the claim is not supported.
    """

    claim: Claim
    fault: Fault | None
    coverage: float
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    """A claim, a sentence or several, in the forms that are compared.

    Attributes:
        places: Where it stands; neighbours are one place.
        words: Lower case without articles, a space before and behind every word.
        terms: Index terms.
        numbers: Written in one way.
        quantities: Numbers with a minus before them and the unit behind, or the currency before; where there is neither, alone.
        n_negations: Words like "not".
        known: Of a sentence: terms of its passage and of the headings above it.
        headings: Of a sentence: terms of the headings above it.
        is_one: Whether it is one sentence.
    """

    places: tuple[Evidence, ...]
    words: str
    terms: frozenset[str]
    numbers: frozenset[str]
    quantities: frozenset[tuple[str, str]]
    n_negations: int
    known: frozenset[str] = frozenset()
    headings: frozenset[str] = frozenset()
    is_one: bool = True

    def __add__(self, other: _Said) -> _Said:
        """Both together."""
        last, first = self.places[-1], other.places[0]
        joined = (Evidence(last.number, last.start, first.end),) if last.number == first.number else (last, first)
        return _Said(
            places=self.places[:-1] + joined + other.places[1:],
            words=self.words + other.words[1:],
            terms=self.terms | other.terms,
            numbers=self.numbers | other.numbers,
            quantities=self.quantities | other.quantities,
            n_negations=self.n_negations + other.n_negations,
            known=self.known | other.known,
            headings=self.headings | other.headings,
            is_one=False,
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A claim and what its evidence must have.

    Attributes:
        said: The claim.
        names: Terms of capitalised words that do not begin the sentence and are not in the question.
        is_short: Too short for coverage to tell anything.
        is_part: Ends like a phrase, not like a sentence.
        is_negated: Whether it or the question negates: then a phrase may stand in a sentence that does.
    """

    said: _Said
    names: frozenset[str]
    is_short: bool
    is_part: bool
    is_negated: bool


def parse(text: str, n_passages: int) -> tuple[Claim, ...]:
    """Cut an answer into sentences and take the citation markers out.

    A marker belongs to the sentence that it stands in or right behind, before or after the full stop; at the beginning of a line, to
    that line.

    Args:
        text: As a model wrote it, with markers like ``[1]``, ``[1, 2]`` or ``[1][2]``.
        n_passages: Passages that it was shown.

    Returns:
        Sentences that have a word, in order, without list marks.

    Example:
        >>> parse("It is tall [1]. It is old.[2][7]", 2)
        (Claim(text='It is tall.', numbers=(1,), bad=()), Claim(text='It is old.', numbers=(2,), bad=(7,)))
    """
    marked = _LIST_MARK.sub("\n", normalise(text))
    bare, markers = "", []
    begin = 0
    for match in _MARKER.finditer(marked):
        bare += marked[begin : match.start()]
        markers.append((len(bare), [int(number) for number in re.split(r"\s*[,;]\s*", match[1])]))
        begin = match.end()
    bare += marked[begin:]
    spans = [(start, end) for start, end in sentence_spans(bare) if re.search(r"\w", bare[start:end])]
    cited: list[list[int]] = [[] for _ in spans]
    for at, numbers in markers if spans else ():
        n_before = bisect_left(spans, (at, at))
        begins_line = not bare[bare.rfind("\n", 0, at) + 1 : at].strip() and _WORD_IN_LINE.match(bare, at)
        place = n_before if begins_line else n_before - 1
        cited[min(max(place, 0), len(spans) - 1)].extend(numbers)
    claims = []
    for (start, end), numbers in zip(spans, cited, strict=True):
        distinct = dict.fromkeys(numbers)
        good, bad = (tuple(n for n in distinct if (n <= n_passages) is known) for known in (True, False))
        claims.append(Claim(" ".join(bare[start:end].split()), good, bad))
    return tuple(claims)


def verify(claims: Sequence[Claim], candidates: Sequence[Candidate], question: str) -> tuple[Verdict, ...]:
    """Look for every claim in the passages that it cites, or in all of them when it cites none that exists.

    Args:
        claims: From `parse`.
        candidates: The passages that the model was shown; the first one has the number 1.
        question: As asked: names in it need not be in the passage.

    Returns:
        One verdict a claim, in their order. Of equal evidence that which is the claim word for word is taken, then one sentence
        before two, then that which shares more terms with the question, then the first. `rag.evidence.cite` makes a citation of it.
    """
    asked = frozenset(question_terms(question))
    passages = [_sentences(number, candidate) for number, candidate in enumerate(candidates, start=1)]
    negated = n_negations(question) > 0
    return tuple(
        _verdict(_wanted(claim.text, asked, negated), claim, [passages[n - 1] for n in claim.numbers] or passages, asked)
        for claim in claims
    )


def _verdict(wanted: _Wanted, claim: Claim, passages: Sequence[Sequence[_Said]], asked: frozenset[str]) -> Verdict:
    """The verdict by the best span of the passages, else by the best span of each of those that are cited."""

    def rank(span: _Said) -> tuple[int, float, bool, int]:
        is_exact = (wanted.said.words in span.words) + (wanted.said.words == span.words)
        return is_exact, _coverage(wanted, span), span.is_one, len(asked & span.terms)

    def sound_rank(span: _Said) -> tuple[bool, int, float, bool, int]:
        return _fault(wanted, span) in (None, "coverage"), *rank(span)

    spans = [_spans(wanted, sentences) for sentences in passages if sentences]
    if not spans:
        return Verdict(claim, "coverage", 0.0, ())
    best = [max(of_passage, key=sound_rank) for of_passage in spans]
    touching = [span for span in best if _coverage(wanted, span) > 0]
    tried = [max(best, key=sound_rank), *([reduce(add, touching)] if claim.numbers and len(touching) > 1 else [])]
    for span in tried:
        if _fault(wanted, span) is None:
            return Verdict(claim, None, _coverage(wanted, span), span.places)
    nearest = max((span for of_passage in spans for span in of_passage), key=rank)
    is_sound = _fault(wanted, tried[0]) == "coverage"
    return Verdict(claim, _fault(wanted, nearest), _coverage(wanted, tried[0]) if is_sound else 0.0, ())


def _wanted(text: str, asked: frozenset[str], is_negated: bool) -> _Wanted:
    said = _said(text, ())
    is_short = len(said.words.split()) <= _SHORT_WORDS
    return _Wanted(said, names_of(text) - asked, is_short, not _SENTENCE_END.search(text), is_negated or said.n_negations > 0)


def _fault(wanted: _Wanted, span: _Said) -> Fault | None:
    """What speaks against a span as evidence, the plainest first."""
    said = wanted.said
    if _counts_otherwise(said.quantities, span.quantities):
        return "unit"
    if (wanted.is_part or wanted.is_short) and said.terms and said.words in span.words:
        before = span.words[: span.words.index(said.words) + 1].split()[-_NEGATION_REACH:]
        return "negation" if not wanted.is_negated and not _NEGATING.isdisjoint(before) else None
    if said.numbers - span.numbers - ({"1"} if " one " in span.words else set()):
        return "number"
    if wanted.names - span.known:
        return "name"
    if said.n_negations % 2 != span.n_negations % 2 or bool(said.n_negations) != bool(span.n_negations):
        return "negation"
    if wanted.is_short and wanted.is_part:
        return "coverage"
    return "coverage" if _coverage(wanted, span) < (1.0 if wanted.is_short else MIN_COVERAGE) else None


def _counts_otherwise(claimed: frozenset[tuple[str, str]], found: frozenset[tuple[str, str]]) -> bool:
    """Whether a number that the evidence has stands there with other units, or other signs, alone; a unit may be left out."""
    for number, unit in claimed:
        units = {u for n, u in found if n == number}
        if units.isdisjoint((unit, "")) and (unit or not units) and number.lstrip("-") in {n.lstrip("-") for n, _ in found}:
            return True
    return False


def _coverage(wanted: _Wanted, span: _Said) -> float:
    terms = wanted.said.terms - span.headings or wanted.said.terms
    return len(terms & span.terms) / (len(terms) or 1)


def _spans(wanted: _Wanted, sentences: Sequence[_Said]) -> list[_Said]:
    """Sentences, then those two neighbours that cover more together; others would only lend their negations."""
    covered = [_coverage(wanted, sentence) for sentence in sentences]
    pairs = [one + two for one, two in pairwise(sentences)]
    most = [max(two) for two in pairwise(covered)]
    return [*sentences, *(pair for pair, alone in zip(pairs, most, strict=True) if _coverage(wanted, pair) > alone)]


def _sentences(number: int, candidate: Candidate) -> list[_Said]:
    text, source = candidate.chunk.text, candidate.chunk.source
    headings = frozenset(analyse(context_line(source.title, source.headings)))
    known = headings.union(analyse(text))
    sentences = []
    for start, end in sentence_spans(text):
        start = behind_mark(text, start, end)
        if start < end and " ".join(text[start:end].split()) not in source.headings:
            place = Evidence(number, source.start_char + start, source.start_char + end)
            sentences.append(replace(_said(text[start:end], (place,)), known=known, headings=headings))
    return sentences


def _said(text: str, places: tuple[Evidence, ...]) -> _Said:
    return _Said(
        places=places,
        words="".join(f" {word}" for word in plain_words(text)) + " ",
        terms=frozenset(analyse(text)),
        numbers=numbers_of(text),
        quantities=frozenset(_quantities(text.lower())),
        n_negations=n_negations(text),
    )


def _quantities(lowered: str) -> Iterator[tuple[str, str]]:
    """Each number, a minus before it included, with its unit or ""."""
    tokens = ["", *_QUANTITY.findall(lowered)]
    for at, token in enumerate(tokens):
        number = plain(token.lstrip("-−"))
        if is_number(number):
            behind = next((word for word in tokens[at + 1 :] if word not in _BETWEEN), "")
            is_negative = token[0] in "-−" or tokens[at - 1] == "minus"
            yield "-" * is_negative + number, _UNITS.get(tokens[at - 1] if tokens[at - 1] in _CURRENCIES else behind, "")
