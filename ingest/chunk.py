"""Documents to chunks: structure first, exact offsets, never over the limit, the same every time.

One tokenizer pass over the document gives the tokens of every range. Sections under one heading path are packed together: whole
paragraphs while they fit, then sentences (lines, in tables and code), and only what is longer than a chunk by itself is cut between
words. Code that fits into a chunk is not cut, and what leads into a list, a table or code goes with its begin. With some tokenizers the
tokens of two ranges do not add up to the tokens of both: then every chunk is counted once more as it will be embedded, and cut in two if
it is over.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rag.text import indexed_text, sentence_spans
from rag.types import Document, Section, Span

CHUNKER_VERSION = 2
# A chunk that is at least this full ends at a paragraph rather than take the beginning of the next.
_FULL_ENOUGH = 0.5
# Zero-width joiners, emoji skin tones, tags of flags, Thai and Lao am, half-width voicing: they belong to what stands before them.
_JOINING = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f") | {
    chr(c) for c in (*range(0x1F3FB, 0x1F400), *range(0xE0020, 0xE0080))
}
# Number signs of Arabic and the like belong to what stands behind them.
_PREPENDED = re.compile(
    "[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U000113d1\U0001193f\U00011941"
    "\U00011a3a\U00011a84-\U00011a89\U00011d46\U00011f02]"
)
# Two letters of one Korean syllable.
_SYLLABLE = re.compile(
    "[\u1100-\u115f\ua960-\ua97c][\u1100-\u115f\ua960-\ua97c\uac00-\ud7a3]|[\u1100-\u11ff\ua960-\ua97c\uac00-\ud7fb][\u1160-\u11ff\ud7b0-\ud7fb]"
)
# A paragraph that ends so, or that stands before an item, means nothing without what follows.
_LEADING = (":", "：")
_ITEM = re.compile(r"[ \t]*(?:[-*+•▪◦‣]|\d{1,3}[.)])\s")
# A longer lead-in is text of its own, of which only the last sentence goes with what follows.
_MAX_LEAD = 0.25
# Formats whose places are not pages and lines.
_SLIDES = ("pptx",)
_SHEETS = ("xlsx", "csv")
_VIRAMA = 9  # canonical combining class of the sign that joins two Indic consonants
# No grapheme that people write is longer; a run of more marks is hostile, and the token limit goes before its looks.
_MAX_GRAPHEME_CHARS = 64
# Where words surely end, whatever follows: other white space, such as a form feed, may be nothing to a tokenizer.
_BLANKS = frozenset(" \t\n")
_WORD_ENDS = _BLANKS | frozenset("。！？")
# Encoded at once; at 70 bytes a character that is as much as a process that reads needs for itself.
_PIECE_CHARS = 1_000_000


class Tokenizer(Protocol):
    """What the chunker asks of an embedder.

    One whose attribute ``tokens_add_up`` is true promises that the tokens of a text cut at blanks, line ends or CJK full stops are those
    of its parts, special tokens aside. Its chunks are not encoded once more to be counted.
    """

    def count_tokens(self, text: str) -> int:
        """Tokens of a text with special tokens."""
        ...

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Spans of the tokens, ascending, without special tokens."""
        ...


@dataclass(frozen=True, slots=True)
class _Unit:
    """A range that is not cut unless it is too long by itself.

    Attributes:
        start: First character.
        end: One past the last.
        first: Tokens that begin before it.
        last: Tokens that begin before its end.
        opens: Whether a paragraph begins here.
        leads: Whether it means nothing without the next unit.
        is_code: Whether it is a line of code.
    """

    start: int
    end: int
    first: int
    last: int
    opens: bool
    leads: bool = False
    is_code: bool = False


class _Counter:
    """Counts tokens in one document, without encoding anything twice that need not be."""

    def __init__(self, document: Document, tokenizer: Tokenizer) -> None:
        self._document = document
        self._tokenizer = tokenizer
        self._adds_up = bool(getattr(tokenizer, "tokens_add_up", False))
        self._around: dict[tuple[str, ...], int] = {}
        self.starts = _token_starts(document.text, tokenizer)

    def around(self, headings: tuple[str, ...]) -> int:
        """Tokens of the context line and special tokens."""
        if headings not in self._around:
            self._around[headings] = self._tokenizer.count_tokens(indexed_text(self._document.title, headings, ""))
        return self._around[headings]

    def indexed(self, headings: tuple[str, ...], start: int, end: int) -> int:
        """Tokens of a range as it will be embedded."""
        if self._adds_up and self._is_border(start) and self._is_border(end):
            return self.around(headings) + bisect_left(self.starts, end) - bisect_left(self.starts, start)
        return self._tokenizer.count_tokens(indexed_text(self._document.title, headings, self._document.text[start:end]))

    def _is_border(self, at: int) -> bool:
        text = self._document.text
        return at in (0, len(text)) or text[at - 1] in _WORD_ENDS or text[at] in _BLANKS


def _token_starts(text: str, tokenizer: Tokenizer) -> Sequence[int]:
    """Where tokens begin, ascending; a long text is encoded in pieces that end at lines, for encoding takes 70 times the memory of text."""
    starts = array("q")
    begin = 0
    while begin < len(text):
        end = len(text)
        if end - begin > _PIECE_CHARS:
            end = text.rfind("\n", begin, begin + _PIECE_CHARS) + 1
            end = end or text.rfind(" ", begin, begin + _PIECE_CHARS) + 1 or begin + _PIECE_CHARS
        starts.extend(begin + start for start, _ in tokenizer.token_spans(text[begin:end]))
        begin = end
    return starts


def chunk_document(document: Document, tokenizer: Tokenizer, max_tokens: int) -> list[Span]:
    """Cut a document into chunks.

    Args:
        document: With normalised text and sections.
        tokenizer: Counts tokens as the embedder does.
        max_tokens: Limit of the indexed text of a chunk (context line, text and special tokens), at least 128.

    Returns:
        Spans in ascending order without overlap, trimmed of white space, none over the limit; together they cover every character
        of every section but white space.
    """
    counter = _Counter(document, tokenizer)
    spans: list[Span] = []
    for group in _groups(document):
        place = next((section for section in group if section.kind != "heading"), group[0])
        budget = max(max_tokens - counter.around(place.headings), 1)
        for units in _packed(document.text, group, counter.starts, budget):
            spans += _verified(document.text, place, counter, units, max_tokens)
    return _located(spans, document)


def _groups(document: Document) -> list[list[Section]]:
    """Neighbouring sections under one heading path; a heading without text of its own goes with what follows it.

    A chunk is one range of text, so words between two sections, such as a comment, keep them apart: they are not to be indexed. So do
    flags: a chunk is trusted as a whole or not at all.
    """
    groups: list[list[Section]] = []
    has_text = True
    for section in document.sections:
        last = groups[-1][-1] if groups else None
        if last and (last.flags != section.flags or _has_words_between(document.text, last, section)):
            last = None
        if last and (not has_text or last.headings == section.headings):
            groups[-1].append(section)
            has_text = has_text or section.kind != "heading"
        else:
            groups.append([section])
            has_text = section.kind != "heading"
    return groups


def _has_words_between(text: str, before: Section, after: Section) -> bool:
    """Whether text stands between two sections; the marks around a code block, and the name of its language, do not count."""
    return "code" not in (before.kind, after.kind) and any(map(str.isalnum, text[before.end : after.start]))


def _packed(text: str, group: Sequence[Section], starts: Sequence[int], budget: int) -> list[list[_Unit]]:
    """Runs of units of at most ``budget`` tokens by the one-pass count."""
    units = _led(
        [piece for section in group for unit in _units(text, section, starts) for piece in _cut(text, unit, starts, budget)], text
    )
    paragraph_lasts = _paragraph_lasts(units)
    runs: list[list[_Unit]] = []
    for unit, paragraph_last in zip(units, paragraph_lasts, strict=True):
        whole = paragraph_last - unit.first
        if runs and unit.last - runs[-1][0].first <= budget:
            first, last = runs[-1][0].first, runs[-1][-1].last
            if paragraph_last - first <= budget or not unit.opens:
                runs[-1].append(unit)
                continue
            is_kept_whole = unit.is_code and whole <= budget
            if not is_kept_whole and last - first < _FULL_ENOUGH * budget:
                runs[-1].append(unit)
                continue
        lead = _lead(runs[-1], budget) if runs else 0
        need = whole if unit.is_code and unit.opens and whole <= budget else unit.last - unit.first
        moved = runs[-1][len(runs[-1]) - lead :] if lead else []
        if moved and unit.first - moved[0].first + need <= budget:
            del runs[-1][-lead:]
            runs.append([*moved, unit])
        else:
            runs.append([unit])
    return runs


def _lead(run: Sequence[_Unit], budget: int) -> int:
    """How many units at the end of a run belong to what follows: its paragraph if that is short, else its last sentence; not all."""
    if not run[-1].leads:
        return 0
    n_units = next((n for n in range(1, len(run)) if run[-n].opens), 0)
    if n_units and run[-1].last - run[-n_units].first <= _MAX_LEAD * budget:
        return n_units
    return 1 if len(run) > 1 else 0


def _led(units: Sequence[_Unit], text: str) -> list[_Unit]:
    """The units, with a mark on those that lead into the next."""

    def leads(unit: _Unit, following: _Unit) -> bool:
        if unit.is_code:
            return False
        if text.endswith(_LEADING, unit.start, unit.end):
            return True
        return bool(_ITEM.match(text, following.start, following.end)) and not _ITEM.match(text, unit.start, unit.end)

    pairs = zip(units, units[1:], strict=False)
    return [replace(unit, leads=True) if leads(unit, following) else unit for unit, following in pairs] + list(units[-1:])


def _units(text: str, section: Section, starts: Sequence[int]) -> list[_Unit]:
    """Sentences of prose, lines of tables and code."""
    if section.kind in ("table", "code"):
        lines = []
        at = section.start
        for line in text[section.start : section.end].splitlines(keepends=True):
            if line.strip():
                lines.append((at, at + len(line.rstrip())))
            at += len(line)
    else:
        lines = sentence_spans(text, section.start, section.end)
    is_code = section.kind == "code"
    return [
        _Unit(start, end, bisect_left(starts, start), bisect_left(starts, end), i == 0, is_code=is_code)
        for i, (start, end) in enumerate(lines)
    ]


def _paragraph_lasts(units: Sequence[_Unit]) -> list[int]:
    """For every unit, how many tokens begin before the end of its paragraph."""
    lasts = [unit.last for unit in units]
    for i in range(len(units) - 2, -1, -1):
        if not units[i + 1].opens:
            lasts[i] = lasts[i + 1]
    return lasts


def _cut(text: str, unit: _Unit, starts: Sequence[int], budget: int) -> list[_Unit]:
    """A unit in pieces of at most ``budget`` tokens, cut at white space if there is some, never inside a grapheme."""
    pieces: list[_Unit] = []
    while unit.last - unit.first > budget:
        # A character of more tokens than the budget has several of one start; a piece has at least one character.
        at = _cut_place(text, unit.start, max(starts[unit.first + budget], unit.start + 1))
        middle = bisect_left(starts, at)
        pieces.append(replace(unit, end=at, last=middle))
        unit = replace(unit, start=at, first=middle, opens=False)
    return [*pieces, unit]


def _cut_place(text: str, begin: int, limit: int) -> int:
    """The last good place to cut in ``(begin, limit]``: white space in the second half, else the end of a grapheme."""
    for at in range(limit, begin + (limit - begin) // 2, -1):
        if text[at - 1].isspace() and not text[at : at + 1].isspace():
            return at
    for at in range(limit, max(begin, limit - _MAX_GRAPHEME_CHARS), -1):
        if not _inside_grapheme(text, at):
            return at
    return limit


def _inside_grapheme(text: str, at: int) -> bool:
    """Whether a cut before ``text[at]`` would split something that is seen as one (a simplification of UAX 29)."""
    if at <= 0 or at >= len(text):
        return False
    before, after = text[at - 1], text[at]
    if after in _JOINING or before == "\u200d" or unicodedata.category(after) in ("Mn", "Me", "Mc"):
        return True
    if (
        _SYLLABLE.match(before + after)
        or _PREPENDED.match(before)
        or (unicodedata.combining(before) == _VIRAMA and after.isalpha())
    ):
        return True
    if not ("\U0001f1e6" <= before <= "\U0001f1ff" and "\U0001f1e6" <= after <= "\U0001f1ff"):
        return False
    run = 0  # flags are pairs of regional indicators, counted from the left of the run
    while run < at and "\U0001f1e6" <= text[at - 1 - run] <= "\U0001f1ff":
        run += 1
    return run % 2 == 1


def _verified(text: str, place: Section, counter: _Counter, units: Sequence[_Unit], max_tokens: int) -> list[Span]:
    """The run as one chunk if it counts within the limit as it will be embedded, else as two halves, and so on."""
    start, end = _trimmed(text, units[0].start, units[-1].end)
    if start >= end:
        return []
    n_tokens = counter.indexed(place.headings, start, end)
    if n_tokens <= max_tokens or end - start == 1:
        return [Span(start, end, place.headings, None, None, n_tokens)]
    if len(units) > 1:
        middle = _middle(units)
        left, right = units[:middle], units[middle:]
    else:
        middle = _cut_place(text, start, start + max((end - start) // 2, 1))
        left, right = [replace(units[0], start=start, end=middle)], [replace(units[0], start=middle, end=end)]
    halves = (left, right)
    return [span for half in halves for span in _verified(text, place, counter, half, max_tokens)]


def _middle(units: Sequence[_Unit]) -> int:
    """Where to cut a run in two: between paragraphs if it has several, not behind what leads on, as near to the middle as can be."""
    half = len(units) / 2
    return min(range(1, len(units)), key=lambda at: (units[at - 1].leads, not units[at].opens, abs(at - half), at))


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _located(spans: Sequence[Span], document: Document) -> list[Span]:
    """The spans with page and line of their first character, from the section that holds it, and the flags of all that they touch."""
    ends = [section.end for section in document.sections]
    found = []
    current = counted = n_lines = -1
    for span in spans:
        at = bisect_left(ends, span.start + 1)
        section = document.sections[at]
        if at != current:
            current, counted, n_lines = at, section.start, 0
        n_lines += document.text.count("\n", counted, span.start)
        counted = span.start
        line = None if section.line is None else section.line + n_lines
        last = document.sections[min(bisect_left(ends, span.end), len(ends) - 1)]
        place = _place(document, section.page, line, last, span.end)
        found.append(replace(span, page=section.page, line=line, place=place, flags=section.flags))
    return found


def _place(document: Document, page: int | None, line: int | None, last: Section, end: int) -> str:
    """Where a chunk lies in words of its format, if that has such words."""
    if document.kind in _SLIDES and page is not None:
        return f"slide {page}"
    if document.kind in _SHEETS and line is not None and last.line is not None:
        until = last.line + document.text.count("\n", last.start, end)
        return f"rows {line}-{until}" if until > line else f"row {line}"
    return ""
