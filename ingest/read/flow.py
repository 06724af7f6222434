"""Blocks of office documents with what web pages do not have: pages, and parts that a reader of the page would not see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from ingest.read.blocks import Block, BlockWriter, laid_out
from rag.types import Section, TrustFlag

# Deeper lists are not told apart by people; it bounds the indentation.
_MAX_LIST_DEPTH = 9


@dataclass(frozen=True, slots=True)
class Placed:
    """A block, its page or slide from 1, and why it deserves less trust."""

    block: Block
    page: int | None = None
    flags: tuple[TrustFlag, ...] = ()


def join_placed(blocks: Iterable[Placed]) -> tuple[str, tuple[Section, ...]]:
    """Join blocks to one text, as `laid_out` does; a change of page or flags begins a new section.

    Args:
        blocks: In reading order.

    Returns:
        The text and its sections, which have pages and flags.
    """
    pieces: list[str] = []
    sections: list[Section] = []
    length = 0
    for (page, flags), run in groupby(blocks, key=lambda placed: (placed.page, placed.flags)):
        text, found = laid_out([placed.block for placed in run])
        if pieces:
            pieces.append("\n\n")
            length += 2
        pieces.append(text)
        sections += [replace(at, start=at.start + length, end=at.end + length, page=page, flags=flags) for at in found]
        length += len(text)
    return "".join(pieces), tuple(sections)


@dataclass(slots=True)
class _Aside:
    """A paragraph within a paragraph, being read."""

    pieces: list[str]
    is_hidden: bool = False


class Flow:
    """Takes paragraphs, tables and text of one story in order and keeps its `blocks`; lists and code need no explicit end.

    Paragraphs within a paragraph (text boxes, notes) follow it, so that they do not cut its sentence.
    """

    def __init__(self, page: int | None = None) -> None:
        self.writer = BlockWriter()
        self.is_in_paragraph = False
        self._page = page
        self._flags: list[tuple[TrustFlag, ...]] = []
        self._tag = ""
        self._open_asides: list[_Aside] = []
        self._asides: list[_Aside] = []
        self._n_lists = 0
        self._n_tables = 0
        self._is_code = False
        self._is_hidden = False

    def blocks(self) -> list[Placed]:
        """What was written; open lists and code are closed."""
        self._level(0)
        self._code(False)
        return [Placed(block, self._page, flags) for block, flags in zip(self.writer.blocks, self._flags, strict=True)]

    def hide(self) -> None:
        """Mark the paragraph, or the row of a table, that is being written."""
        if self._open_asides:
            self._open_asides[-1].is_hidden = True
        else:
            self._is_hidden = True

    def open_paragraph(self, heading: int = 0, level: int = 0, *, is_code: bool = False) -> None:
        """Begin a paragraph; in cells and within another paragraph it is one without heading, list and code.

        Args:
            heading: 1 is the outermost; 0 for what is no heading.
            level: Depth of its list from 1, or 0 outside of lists.
            is_code: Whether its style says that it is code.
        """
        if self.is_in_paragraph:
            self._open_asides.append(_Aside([]))
            return
        self.is_in_paragraph = True
        self._tag = "p"
        if not self._n_tables:
            self._code(is_code)
            self._level(0 if is_code or heading else level)
            self._tag = "" if is_code else f"h{min(heading, 6)}" if heading else "li" if self._n_lists else "p"
        if self._tag:
            self.writer.open(self._tag)

    def text(self, data: str) -> None:
        """Take text of the innermost open paragraph; it is lost outside of paragraphs."""
        if self._open_asides:
            self._open_asides[-1].pieces.append(data)
        elif self.is_in_paragraph:
            self.writer.text(data)

    def line_break(self) -> None:
        """Begin a new line of the paragraph; within cells and other paragraphs it is a space."""
        if self._open_asides or self._n_tables:
            self.text(" ")
        elif self.is_in_paragraph:
            self.writer.open("br")

    def close_paragraph(self) -> None:
        """End the innermost paragraph."""
        if self._open_asides:
            self._asides.append(self._open_asides.pop())
            return
        self.is_in_paragraph = False
        if self._tag:
            self.writer.close(self._tag)
        elif self._is_code:
            self.writer.text("\n")
        self._mark()
        self._is_hidden = self._is_hidden and (self._is_code or bool(self._n_tables))
        asides, self._asides = self._asides, []
        for aside in asides:
            self.paragraph("".join(aside.pieces), is_hidden=aside.is_hidden)

    def paragraph(self, text: str, *, is_hidden: bool = False) -> None:
        """Write a whole paragraph.

        Args:
            text: Of the paragraph.
            is_hidden: Whether it is hidden.
        """
        self.open_paragraph()
        self.text(text)
        if is_hidden:
            self.hide()
        self.close_paragraph()

    def open_table_part(self, tag: str) -> None:
        """Begin a ``table``, ``tr`` or ``td``; within a paragraph there is no table, its paragraphs follow one another."""
        if self.is_in_paragraph:
            return
        if tag == "table":
            self._level(0)
            self._code(False)
            self._n_tables += 1
        if self._n_tables:
            self.writer.open(tag)
            self._mark()

    def close_table_part(self, tag: str) -> None:
        """End what `open_table_part` began."""
        if self._n_tables and not self.is_in_paragraph:
            self.writer.close(tag)
            self._mark()
            self._n_tables -= tag == "table"

    def _mark(self) -> None:
        """Give the blocks that came since the last time their flags."""
        n_new = len(self.writer.blocks) - len(self._flags)
        if n_new:
            self._flags += [("hidden",) if self._is_hidden else ()] * n_new
            self._is_hidden = False

    def _level(self, level: int) -> None:
        level = min(level, _MAX_LIST_DEPTH)
        while self._n_lists < level:
            self.writer.open("ul")
            self._n_lists += 1
        while self._n_lists > level:
            self.writer.close("ul")
            self._n_lists -= 1
        self._mark()

    def _code(self, is_code: bool) -> None:
        if is_code != self._is_code:
            self._is_code = is_code
            (self.writer.open if is_code else self.writer.close)("pre")
            self._mark()
