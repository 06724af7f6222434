"""Where a document comes from, and the two things that can become of it: a `Document` or a `Failure`.

Readers raise `InputError` with a stable code when a whole file cannot be read; `ingest.read.read` turns it into a `Failure`, so
that one bad file never stops the others and never looks like an empty one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.read.hostile import instructions
from rag.errors import InputError
from rag.text import normalise, sentence_spans
from rag.types import Document, Section, TrustFlag

HIDDEN_MARK = "\ufdd0"
"""Stands in clean text where an invisible character was; Unicode keeps it for such private use, and no document shows it."""
# Fewer carry no message: soft breaks and joiners left over from editing. A tag character is a letter, a zero-width one a bit.
_HIDDEN_MESSAGE = re.compile(HIDDEN_MARK + "{4,}")
_LINE = re.compile(r"[^\n]*\S[^\n]*")


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be read; the rest goes on.

    Attributes:
        path: The file or folder, with ``:line`` where it is one record of a file.
        code: Short stable name of the failure, for programs.
        message: What was wrong and what to do, for people.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a reader needs to know about a file besides its bytes.

    Attributes:
        path: The file; readers look at its name only.
        doc_id: Id of the document that the file becomes.
        uri: Where the file came from, for people.
        mtime: Modification time, seconds since the epoch, or None.
        ocr_languages: Of scanned pages, as tesseract names them, joined by ``+``; empty reads no scans.
    """

    path: Path
    doc_id: str
    uri: str
    mtime: float | None
    ocr_languages: str = "eng"


def clean(text: str) -> str:
    """Normalise text so that doing it again, also after joining it to other clean text, changes nothing.

    Args:
        text: Any text.

    Returns:
        Normalised text in which U+FDD0 stands for every invisible character that could carry a message; `document` takes these out
        again and flags the sections where they stood.

    Example:
        >>> clean("\\ufeff\\ufeffone")
        'one'
    """
    return normalise(text, HIDDEN_MARK)


def one_line(text: str, max_chars: int = 1000) -> str:
    """Make a title or a metadata value: clean, on one line, of bounded length.

    Args:
        text: Any text.
        max_chars: Longest result.

    Returns:
        The text with every run of white space as one space.

    Example:
        >>> one_line("\\n \\ufeff \\ufeff 1.\\t Heat")
        '1. Heat'
    """
    # Most cells of wide tables are empty: 12,000 rows of 1,000 took 17 CPU-s without this.
    return " ".join(clean(text).split())[:max_chars].rstrip() if text else ""


def document(
    origin: Origin,
    kind: str,
    title: str,
    text: str,
    sections: Sequence[Section],
    metadata: Mapping[str, str],
) -> Document:
    """Put a document together from what a reader found.

    Args:
        origin: Where it comes from.
        kind: Format family.
        title: May be empty.
        text: Clean text.
        sections: In ascending order, without overlap.
        metadata: Any keys and values; they are cleaned here.

    Returns:
        The document.

    Raises:
        InputError: With code ``empty``, if no section holds text.
    """
    text, tidied = _without_marks(text, sections)
    if not tidied:
        raise InputError("holds no text; nothing to index", code="empty")
    spans = _merged(instructions(text))
    flagged = tuple(piece for section in tidied for piece in _split(text, section, spans)) if spans else tuple(tidied)
    tidy = {normalise(one_line(key)): normalise(clean(value)).strip() for key, value in metadata.items()}
    tidy = {key: value for key, value in tidy.items() if key and value}
    return Document(origin.doc_id, origin.uri, normalise(one_line(title)), text, flagged, tidy, kind, origin.mtime)


def _without_marks(text: str, sections: Sequence[Section]) -> tuple[str, list[Section]]:
    """Text and sections without marks of what was invisible; a section in or after which a message of such stood is flagged."""
    if HIDDEN_MARK not in text:
        return text, [_plain_headings(section) for section in sections]
    runs = [match.start() for match in _HIDDEN_MESSAGE.finditer(text)]
    marks = [match.start() for match in re.finditer(HIDDEN_MARK, text)]
    visible = text.replace(HIDDEN_MARK, "")
    kept: list[Section] = []
    at = 0
    waiting = False
    for section in sections:
        start, end = (place - bisect_left(marks, place) for place in (section.start, section.end))
        piece = visible[start:end]
        indent = 0 if section.kind == "code" else len(piece) - len(piece.lstrip())
        is_marked = waiting
        while at < len(runs) and runs[at] < section.end:
            at, is_marked = at + 1, True
        if not piece.strip():
            waiting = is_marked
            continue
        waiting = False
        line = None if section.line is None else section.line + piece.count("\n", 0, indent)
        found = replace(section, start=start + indent, end=start + len(piece.rstrip()), line=line)
        kept.append(_plain_headings(_flagged(found, "hidden") if is_marked else found))
    if kept and (at < len(runs) or waiting):
        kept[-1] = _flagged(kept[-1], "hidden")
    return visible, kept


def _plain_headings(section: Section) -> Section:
    if any(HIDDEN_MARK in heading for heading in section.headings):
        return replace(section, headings=tuple(map(normalise, section.headings)))
    return section


def _flagged(section: Section, flag: TrustFlag) -> Section:
    return replace(section, flags=tuple(sorted({*section.flags, flag})))


def _merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in ascending order of start, without overlap."""
    merged: list[tuple[int, int]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            start, last_end = merged.pop()
            end = max(end, last_end)
        merged.append((start, end))
    return merged


def _touches(spans: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of the merged spans shares a character with a range."""
    at = bisect_right(spans, start, key=lambda span: span[1])
    return at < len(spans) and spans[at][0] < end


def _split(text: str, section: Section, spans: Sequence[tuple[int, int]]) -> list[Section]:
    """A section cut at the borders of the sentences (lines, in tables and code) that speak to a model; these are flagged."""
    if not _touches(spans, section.start, section.end):
        return [section]
    if section.kind == "prose":
        units = sentence_spans(text, section.start, section.end)
    else:
        units = [match.span() for match in _LINE.finditer(text, section.start, section.end)]
    pieces: list[Section] = []
    for start, end in units:
        is_hostile = _touches(spans, start, end)
        last = pieces[-1] if pieces else section
        if pieces and is_hostile == ("instructions" in last.flags):
            pieces[-1] = replace(last, end=end)
            continue
        line = None if last.line is None else last.line + text.count("\n", last.start, start)
        piece = replace(section, start=start, end=end, line=line)
        pieces.append(_flagged(piece, "instructions") if is_hostile else piece)
    return pieces
