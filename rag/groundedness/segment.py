"""An answer cut into what can be checked: sentences, clauses and list items with their places, and of each whether it claims anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from rag.evidence import behind_mark
from rag.index.lexical import analyse
from rag.text import sentence_spans

Kind = Literal["claim", "abstention", "question", "boilerplate"]

# Shorter pieces share their terms with any sentence of the topic, so a cut that leaves one is not made; a semicolon is a
# surer place for one.
_MIN_TERMS = 3
# They are looked for so near the cut, or a sentence of a thousand semicolons would be read a thousand times.
_NEAR_CHARS = 200
_SOURCE = r"(?:passage|document|source|context|text|article|information|excerpt|search[ ]result|reference|content|material)"
# Where an answer says from which passage it has something: no words of that passage.
_REFERENCES = re.compile(
    rf"""\[[1-9]\d{{0,3}}(?:\s*[,;]\s*[1-9]\d{{0,3}})*\]
      | \((?:see[ ]|from[ ])?{_SOURCE}s?[ ][^()\n]{{1,30}}\)
      | \b(?:in|from|by)[ ](?:the[ ])?{_SOURCE}s?[ ]\d+(?:(?:,[ ]|[ ]and[ ]|,[ ]and[ ])\d+)*""",
    re.VERBOSE | re.IGNORECASE,
)
_GIVEN = r"(?:(?:given|provided|above|retrieved|following|cited|available)[ ])?"
# What stands before a claim and is none.
_PREAMBLE = re.compile(
    rf"""(?:step\ \d+\s*:
          | \*{{1,2}}[^*\n]{{1,60}}(?:\*{{1,2}}\s*:|:\*{{1,2}})
          | (?:based\ (?:up)?on|according\ to|as\ (?:stated|mentioned|described|noted|per)(?:\ in|\ by)?|from|per|in)\ (?:the\ |these\ |this\ )?
            {_GIVEN}{_SOURCE}s?(?:\ (?:provided|given|above))?(?:\ \d+(?:(?:,|\ and|,\ and)\ \d+)*)?,?
          | (?:the\ )?{_GIVEN}{_SOURCE}s?(?:\ \d+)?\ (?:also\ )?
            (?:states?|mentions?|says?|explains?|suggests?|notes?|indicates?|describes?|shows?)\ that
          | it\ is\ (?:also\ )?(?:stated|mentioned|noted|important\ to\ note|worth\ noting)\ that
          | (?:additionally|furthermore|moreover|however|therefore|thus|overall|finally|also|lastly|in\ addition|in\ summary|in\ conclusion
            |in\ short|for\ example|for\ instance|to\ summarize|to\ summarise|yes|no|sure|certainly),
        )\s+""",
    re.VERBOSE | re.IGNORECASE,
)
_FINITE = "is|are|was|were|has|have|had|does|do|did|can|could|will|would|may|might|must|should"
_SUBJECT = "it|he|she|they|we|this|these|those|there"
_CLAUSE = re.compile(rf";\s+|,?\s+(?:and|but)\s+(?=(?:also\s+)?(?:{_FINITE}|{_SUBJECT})\b)|,\s+which\s+(?=\w)", re.IGNORECASE)
_NOT = r"(?:(?:do|does|did|could|can|is|are|was|were|am)(?:[ ]not|n['’]t)|cannot)"
_SAYS = "(?:say|mention|contain|provide|specify|state|include|answer|address|give|discuss|explain|indicate|describe|tell|seem)"
_IN_SOURCE = rf"(?:in|by|from|on)[ ](?:\w+[ ]){{0,3}}{_SOURCE}s?\b"
# Narrow on purpose: "we did not find a difference" is a claim. Who speaks of the passages, or of itself, abstains.
_ABSTENTION = re.compile(
    rf"""\b{_SOURCE}s?(?:\ (?!that\b|which\b)\w+){{0,2}}\ {_NOT}(?:\ \w+){{0,2}}\ {_SAYS}\b
      | \bi\ {_NOT}(?:\ \w+)?\ (?:know|have|find|see|answer|determine|say|tell)\b
      | \b(?:is|are|was|were)(?:\ not|n['’]t)\ (?:\w+\ ){{0,2}}{_IN_SOURCE}
      | \bcannot\ be\ (?:\w+\ ){{1,2}}{_IN_SOURCE}
      | \b(?:i\ am|i['’]m|it\ is|it['’]s)\ (?:unable|not\ able|not\ possible|impossible)\ to\ (?:answer|find|determine|say|provide|tell)\b
      | \b(?:no|not\ enough|insufficient)\ (?:\w+\ ){{0,2}}(?:answer|information|mention|details?)\ (?:\w+\ ){{0,6}}{_IN_SOURCE}
      | \bthere\ (?:is|was)\ (?:no|not\ enough|insufficient)\ (?:\w+\ )?(?:answer|information|mention|details?)\ (?:about|on|of|to|regarding)\b
      | \A\W*no\ answer\W*\Z""",
    re.VERBOSE | re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"""(?:sure|certainly|of\ course|yes|no|thanks?(?:\ you)?|you['’]re\ welcome|hello|hi|ok(?:ay)?|great\ question
          |(?:i\ hope|hope|let\ me\ know|feel\ free|please\ let|if\ you\ have\ any|is\ there\ anything)\b.*
          |here(?:\ is|\ are|['’]s)\b(?:\s+\S+){0,10})\W*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an answer.

    Attributes:
        start: First character in the answer.
        end: One past the last.
        kind: What it is: only a claim is scored.
        text: ``answer[start:end]`` with references blanked out, as it is compared with the passages; of the same length.
    """

    start: int
    end: int
    kind: Kind
    text: str


def segments(answer: str) -> tuple[Segment, ...]:
    """Cut an answer into claims and what is none.

    Sentences are cut at semicolons and before "and", "but" and "which" with a verb or its subject behind it, where both pieces keep
    three terms, two at a semicolon. List marks, references to passages and phrases like "according to the context," are not part of a claim.

    Args:
        answer: Any text; line ends are ``\\n``.

    Returns:
        Pieces that have a word, ascending, without overlap.

    Example:
        >>> [(s.text, s.kind) for s in segments("Sure! The old bridge was opened in 1931; its stone arches carry two roads.")]
        [('Sure!', 'boilerplate'), ('The old bridge was opened in 1931', 'claim'), ('its stone arches carry two roads.', 'claim')]
    """
    bare = without_references(answer)
    found = []
    for begin, stop in sentence_spans(bare):
        start = behind_mark(bare, begin, stop)
        is_heading = bare.startswith("#", begin)
        for clause_start, clause_end in _clauses(bare, start, stop):
            inner = _behind_preamble(bare, clause_start, clause_end)
            text = bare[inner:clause_end]
            if re.search(r"\w", text):
                found.append(Segment(inner, clause_end, "boilerplate" if is_heading else _kind(text), text))
    return tuple(found)


def without_references(text: str) -> str:
    """A text of the same length with blanks for what only names a passage, like ``[1]``."""
    return _REFERENCES.sub(lambda match: " " * len(match.group()), text)


def _kind(text: str) -> Kind:
    if _ABSTENTION.search(text):
        return "abstention"
    if text.rstrip(" \"'”’»)*_").endswith(("?", "？")):
        return "question"
    # A line before a list says what is coming.
    if text.rstrip(" *_").endswith(":") or _BOILERPLATE.fullmatch(text) or not analyse(text):
        return "boilerplate"
    return "claim"


def _behind_preamble(text: str, start: int, end: int) -> int:
    while match := _PREAMBLE.match(text, start, end):
        start = match.end()
    return start


def _clauses(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for match in _CLAUSE.finditer(text, start, end):
        left, right = max(start, match.start() - _NEAR_CHARS), min(end, match.end() + _NEAR_CHARS)
        wanted = _MIN_TERMS - match.group().startswith(";")
        if min(_n_terms(text[left : match.start()]), _n_terms(text[match.end() : right])) >= wanted:
            yield start, match.start()
            start = match.end()
    if start < end:
        yield start, end


def _n_terms(text: str) -> int:
    return len(set(analyse(text)))
