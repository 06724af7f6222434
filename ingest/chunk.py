"""Documents to chunks: structure first, exact offsets, never over the limit, the same every time.

One tokenizer pass over the document gives the tokens of every range. Sections under one heading path are packed together: whole
paragraphs while they fit, then sentences (lines, in tables and code), and only what is longer than a chunk by itself is cut between
words. Code that fits into a chunk is not cut, and what leads into a list, a table or code goes with its begin. Every chunk is then
counted as it will be embedded, and cut in two if it is over: with some tokenizers the tokens of two ranges do not add up to the tokens
of both.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
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


class Tokenizer(Protocol):
    """What the chunker asks of an embedder."""

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
        opens: Whether a paragraph begins here.
        leads: Whether it means nothing without the next unit.
        is_code: Whether it is a line of code.
    """

    start: int
    end: int
    opens: bool
    leads: bool = False
    is_code: bool = False


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
    starts = [start for start, _ in tokenizer.token_spans(document.text)]
    spans: list[Span] = []
    for group in _groups(document):
        place = next((section for section in group if section.kind != "heading"), group[0])
        overhead = tokenizer.count_tokens(indexed_text(document.title, place.headings, ""))
        budget = max(max_tokens - overhead, 1)
        for units in _packed(document.text, group, starts, budget):
            spans += _verified(document, place, tokenizer, units, max_tokens)
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

    def size(start: int, end: int) -> int:
        return bisect_left(starts, end) - bisect_left(starts, start)

    units = _led([piece for section in group for unit in _units(text, section) for piece in _cut(text, unit, starts, budget)], text)
    paragraph_end = _paragraph_ends(units)
    runs: list[list[_Unit]] = []
    for i, unit in enumerate(units):
        whole = size(unit.start, paragraph_end[i])
        if runs and size(runs[-1][0].start, unit.end) <= budget:
            begin, end = runs[-1][0].start, runs[-1][-1].end
            if size(begin, paragraph_end[i]) <= budget or not unit.opens:
                runs[-1].append(unit)
                continue
            is_kept_whole = unit.is_code and whole <= budget
            if not is_kept_whole and size(begin, end) < _FULL_ENOUGH * budget:
                runs[-1].append(unit)
                continue
        lead = _lead(runs[-1], size, budget) if runs else 0
        need = whole if unit.is_code and unit.opens and whole <= budget else size(unit.start, unit.end)
        moved = runs[-1][len(runs[-1]) - lead :] if lead else []
        if moved and size(moved[0].start, unit.start) + need <= budget:
            del runs[-1][-lead:]
            runs.append([*moved, unit])
        else:
            runs.append([unit])
    return runs


def _lead(run: Sequence[_Unit], size: Callable[[int, int], int], budget: int) -> int:
    """How many units at the end of a run belong to what follows: its paragraph if that is short, else its last sentence; not all."""
    if not run[-1].leads:
        return 0
    n_units = next((n for n in range(1, len(run)) if run[-n].opens), 0)
    if n_units and size(run[-n_units].start, run[-1].end) <= _MAX_LEAD * budget:
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


def _units(text: str, section: Section) -> list[_Unit]:
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
    return [_Unit(start, end, opens=i == 0, is_code=section.kind == "code") for i, (start, end) in enumerate(lines)]


def _paragraph_ends(units: Sequence[_Unit]) -> list[int]:
    """For every unit, where its paragraph ends."""
    ends = [unit.end for unit in units]
    for i in range(len(units) - 2, -1, -1):
        if not units[i + 1].opens:
            ends[i] = ends[i + 1]
    return ends


def _cut(text: str, unit: _Unit, starts: Sequence[int], budget: int) -> list[_Unit]:
    """A unit in pieces of at most ``budget`` tokens, cut at white space if there is some, never inside a grapheme."""
    pieces: list[_Unit] = []
    begin = unit.start
    while True:
        first = bisect_left(starts, begin)
        if bisect_left(starts, unit.end) - first <= budget:
            break
        # A character of more tokens than the budget has several of one start; a piece has at least one character.
        at = _cut_place(text, begin, max(starts[first + budget], begin + 1))
        pieces.append(replace(unit, start=begin, end=at, opens=unit.opens and not pieces))
        begin = at
    pieces.append(replace(unit, start=begin, opens=unit.opens and not pieces))
    return pieces


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


def _verified(document: Document, place: Section, tokenizer: Tokenizer, units: Sequence[_Unit], max_tokens: int) -> list[Span]:
    """The run as one chunk if it counts within the limit as it will be embedded, else as two halves, and so on."""
    start, end = _trimmed(document.text, units[0].start, units[-1].end)
    if start >= end:
        return []
    n_tokens = tokenizer.count_tokens(indexed_text(document.title, place.headings, document.text[start:end]))
    if n_tokens <= max_tokens or end - start == 1:
        return [Span(start, end, place.headings, None, None, n_tokens)]
    if len(units) > 1:
        middle = _middle(units)
        left, right = units[:middle], units[middle:]
    else:
        middle = _cut_place(document.text, start, start + max((end - start) // 2, 1))
        left, right = [_Unit(start, middle, opens=False)], [_Unit(middle, end, opens=False)]
    halves = (left, right)
    return [span for half in halves for span in _verified(document, place, tokenizer, half, max_tokens)]


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
