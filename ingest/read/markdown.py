"""Markdown: the text of the file as it stands, so line numbers are true, with its block structure as sections.

A line scanner for the blocks of CommonMark that matter for retrieval: headings, fenced and indented code, pipe tables, lists,
paragraphs. Front matter becomes metadata; comments and thematic breaks are in no section; link definitions and raw HTML stay prose.

References:
    https://spec.commonmark.org/0.31.2/ and https://github.github.com/gfm/#tables-extension-
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, assert_never

from ingest.read.decode import decode
from ingest.read.front_matter import front_matter
from ingest.read.origin import Origin, clean, document, one_line
from ingest.read.outline import Outline
from rag.types import Document, Section, SectionKind

_Opening = Literal["blank", "comment", "fence", "heading", "break", "table", "list", "code", "prose"]

_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_BREAK = re.compile(r" {0,3}(?:\*[ \t]*){3,}$| {0,3}(?:-[ \t]*){3,}$| {0,3}(?:_[ \t]*){3,}$")
_ITEM = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)")
# What may begin a list in the middle of a paragraph: no empty item, no number but 1 ("in\n1986. It").
_INTERRUPTING_ITEM = re.compile(r" {0,3}(?:[-*+]|1[.)])[ \t]+\S")
_CLOSING_HASHES = re.compile(r"(?:^|[ \t])#+[ \t]*$")
_ATTRIBUTES = re.compile(r"\s*\{[#.][^{}]*\}$")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
# A paragraph or an item goes on over lines indented less than code.
_CODE_INDENT = 4
# Headings are cut before their markup is stripped, which bounds the work of the patterns.
_MAX_HEADING_CHARS = 400


def read_markdown(data: bytes, origin: Origin) -> Document:
    """Read Markdown; raises `InputError` with code ``binary``, ``encoding`` or ``empty``.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document whose text is that of the file; its title is that of the front matter, else the first heading of level 1, else
        the name of the file.
    """
    text = clean(decode(data))
    front = front_matter(text)
    scan = _Scan(text)
    sections = list(scan.sections(front.n_lines))
    title = next((value for key, value in front.values.items() if key.lower() == "title"), "")
    return document(origin, "markdown", title or scan.first_h1 or origin.path.stem, text, sections, front.values)


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines of one kind: first, one past the last, and how many (a fence, an underline) only close it; a heading has a level."""

    kind: SectionKind | None
    first: int
    stop: int
    level: int = 0
    n_closing: int = 0


class _Scan:
    """One pass over the lines of a text."""

    def __init__(self, text: str) -> None:
        self.first_h1 = ""
        self._text = text
        self._lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        self._last_comment_end = text.rfind("-->")

    def sections(self, first_line: int) -> Iterator[Section]:
        """Sections in ascending order.

        Args:
            first_line: Number, from 0, of the line after the front matter.

        Yields:
            Sections without surrounding white space (code keeps the indent of its first line), with line numbers from 1.
        """
        outline = Outline()
        at = first_line
        while at < len(self._lines):
            block = self._block(at)
            line, counted = block.first + 1, self._starts[block.first]
            for start, end in self._spans(block):
                if block.level:
                    title = _heading_text(self._text[start:end])
                    outline.enter(block.level, title)
                    self.first_h1 = self.first_h1 or (title if block.level == 1 else "")
                line, counted = line + self._text.count("\n", counted, start), start
                yield Section(start, end, block.kind or "prose", outline.path, line=line)
            at = block.stop + block.n_closing

    def _spans(self, block: _Block) -> Iterator[tuple[int, int]]:
        """The range of a block without surrounding white space, markers and comments; several if a comment cuts it."""
        start, end = self._starts[block.first], self._starts[block.stop] - 1 if block.stop > block.first else 0
        if block.kind is None or end <= start:
            return
        if block.kind == "code":
            first = next((n for n in range(block.first, block.stop) if self._lines[n].strip()), block.stop)
            start = self._starts[first]
        if block.level and (marker := _ATX.match(self._text, start, end)):
            start = marker.end()
            if closing := _CLOSING_HASHES.search(self._lines[block.first], start - self._starts[block.first]):
                end = self._starts[block.first] + closing.start()
        pieces = self._without_comments(start, end) if block.kind == "prose" else [(start, end)]
        for left, right in pieces:
            piece = self._text[left:right]
            indent = 0 if block.kind == "code" else len(piece) - len(piece.lstrip())
            if piece.strip():
                yield left + indent, left + len(piece.rstrip())

    def _without_comments(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """What lies outside of HTML comments; a comment inside inline code (an odd number of backticks before it) is text."""
        n_backticks = 0
        seen = since = start
        while (begin := self._text.find("<!--", since, end)) >= 0:
            n_backticks += self._text.count("`", since, begin)
            close = self._text.find("-->", begin + 4, end)
            if close < 0:
                break
            since = begin + 4
            if n_backticks % 2 == 0:
                yield seen, begin
                seen = since = close + 3
        yield seen, end

    def _block(self, at: int) -> _Block:
        match self._opening(at):
            case "blank" | "break":
                return _Block(None, at, at + 1)
            case "comment":
                return _Block("prose", at, self._comment_end(at))
            case "fence":
                return self._fenced(at)
            case "heading":
                marker = _ATX.match(self._lines[at])
                return _Block("heading", at, at + 1, len(marker[1]) if marker else 1)
            case "table":
                return _Block("table", at, self._table_end(at))
            case "list":
                return _Block("prose", at, self._list_end(at))
            case "code":
                return _Block("code", at, self._indented_end(at))
            case "prose":
                return self._paragraph(at)
            case never:
                assert_never(never)

    def _opening(self, at: int) -> _Opening:
        """What begins at a line that continues nothing."""
        line = self._lines[at]
        found: _Opening = "prose"
        if not line.strip():
            found = "blank"
        elif self._indent(at) >= _CODE_INDENT:
            found = "code"
        elif line.lstrip().startswith("<!--") and self._last_comment_end >= self._starts[at]:
            found = "comment"
        elif _FENCE.match(line):
            found = "fence"
        elif _ATX.match(line):
            found = "heading"
        elif _BREAK.match(line):
            found = "break"
        elif self._is_table(at):
            found = "table"
        elif _ITEM.match(line):
            found = "list"
        return found

    def _indent(self, at: int) -> int:
        line = self._lines[at]
        return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(4))

    def _comment_end(self, at: int) -> int:
        close = self._text.find("-->", self._starts[at] + self._indent(at) + 4)
        end = len(self._text) if close < 0 else close
        return at + 1 + self._text.count("\n", self._starts[at], end)

    def _is_table(self, at: int) -> bool:
        """A line with a pipe above a line of nothing but dashes, colons and pipes."""
        if "|" not in self._lines[at] or at + 1 == len(self._lines):
            return False
        rule = self._lines[at + 1].strip()
        return "-" in rule and "|" in rule and not rule.strip("|-: \t")

    def _table_end(self, at: int) -> int:
        stop = at + 2
        while stop < len(self._lines) and self._opening(stop) in ("prose", "table", "code"):
            stop += 1
        return stop

    def _fence_end(self, at: int) -> int:
        """The line that closes the fence opened at a line, or one past the last line."""
        opened = _FENCE.match(self._lines[at])
        mark = opened[1] if opened else "```"
        for stop in range(at + 1, len(self._lines)):
            line = self._lines[stop].strip()
            if line.startswith(mark) and not line.strip(mark[0]):
                return stop
        return len(self._lines)

    def _fenced(self, at: int) -> _Block:
        return _Block("code", at + 1, self._fence_end(at), n_closing=1)

    def _next_text(self, at: int) -> int:
        while at < len(self._lines) and not self._lines[at].strip():
            at += 1
        return at

    def _indented_end(self, at: int) -> int:
        stop = at + 1
        while (following := self._next_text(stop)) < len(self._lines) and self._indent(following) >= _CODE_INDENT:
            stop = following + 1
        return stop

    def _list_end(self, at: int) -> int:
        """Items, what is indented below them, and lines that lazily continue them; headings inside their fences are code."""
        stop = at + 1
        while (following := self._next_text(stop)) < len(self._lines):
            line = self._lines[following]
            is_inside = self._indent(following) >= 2
            is_item = bool(_ITEM.match(line)) and not _BREAK.match(line)
            is_lazy = following == stop and self._opening(following) == "prose" and not line.startswith(">")
            if not (is_inside or is_item or is_lazy):
                break
            stop = following + 1
            if is_inside and _FENCE.match(line):
                stop = min(self._fence_end(following) + 1, len(self._lines))
        return stop

    def _paragraph(self, at: int) -> _Block:
        """Lines up to one that begins something else; underlined, they are a heading."""
        is_quote = self._lines[at].lstrip().startswith(">")
        for stop in range(at + 1, len(self._lines)):
            line = self._lines[stop]
            if _SETEXT.match(line) and not is_quote:
                return _Block("heading", at, stop, 1 if "=" in line else 2, n_closing=1)
            opening = self._opening(stop)
            if opening == "list" and not _INTERRUPTING_ITEM.match(line):
                continue
            if opening not in ("prose", "code"):
                return _Block("prose", at, stop)
        return _Block("prose", at, len(self._lines))


def _heading_text(source: str) -> str:
    """A heading as people read it: without links, code and emphasis marks."""
    text = _ATTRIBUTES.sub("", one_line(source, _MAX_HEADING_CHARS))
    return one_line(_LINK.sub(r"\1", text).replace("`", "").replace("**", "").strip("*_ "))
