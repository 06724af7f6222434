"""Elements of a page to blocks of text: what begins and ends a paragraph, an item, a row; then blocks to one text with sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingest.read.origin import clean
from ingest.read.outline import Outline
from rag.types import Section, SectionKind, TrustFlag

_HEADINGS = {"h1": 1, "h2": 2, "h3": 3, "h4": 4, "h5": 5, "h6": 6}
_BLOCKS = frozenset(
    """address article aside blockquote body button caption center dd details dialog dir div dl dt fieldset figcaption figure footer
    form header hgroup hr html legend li main menu nav ol optgroup option p search section select summary textarea ul""".split()
)
_LISTS = frozenset(("ul", "ol", "menu", "dir"))
# A table that holds one of these lays out a page; its cells are then ordinary blocks.
_LAYOUT = frozenset((*_HEADINGS, "table", "pre"))
# White space of HTML, and the no-break space, which a reader cannot see and a question does not contain.
_SPACE = re.compile("[ \t\n\r\f\xa0]+")


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, heading, list item, table row or piece of code.

    Attributes:
        text: Clean text, not blank.
        kind: What it is.
        headings: Heading path.
        group: Neighbouring blocks of one group (a list, a table) are lines of one section; 0 stands alone.
        flags: Why it deserves less trust.
    """

    text: str
    kind: SectionKind
    headings: tuple[str, ...]
    group: int = 0
    flags: tuple[TrustFlag, ...] = ()


def laid_out(blocks: Sequence[Block]) -> tuple[str, tuple[Section, ...]]:
    """Join blocks to one text.

    Args:
        blocks: In reading order.

    Returns:
        The text, groups as lines and everything else separated by blank lines, and one section a group or block.
    """
    pieces: list[str] = []
    sections: list[Section] = []
    length = 0
    last: Block | None = None
    for block in blocks:
        is_same = (
            last is not None and bool(block.group) and (last.group, last.kind, last.flags) == (block.group, block.kind, block.flags)
        )
        pieces += ("\n" if is_same else "\n\n" if pieces else "", block.text)
        start = length + len(pieces[-2])
        length = start + len(block.text)
        if is_same:
            start = sections.pop().start
        sections.append(Section(start, length, block.kind, block.headings, flags=block.flags))
        last = block
    return "".join(pieces), tuple(sections)


@dataclass(slots=True)
class _Table:
    """A table being read: the cells of its current row, and whether it only lays out the page."""

    group: int
    cells: list[str]
    is_layout: bool = False


class BlockWriter:
    """Takes the opening, text and closing of elements in order; collects `blocks` and `first_h1`, the first main heading."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.first_h1 = ""
        self._inline: list[str] = []
        self._outline = Outline()
        self._tables: list[_Table] = []
        self._n_pre = 0
        self._n_lists = 0
        self._bullet = ""
        self._list_group = 0
        self._n_groups = 0
        self._hidden: list[Block] = []

    def text(self, data: str) -> None:
        """Take text.

        Args:
            data: Text of one node, entities resolved.
        """
        self._inline.append(data if self._n_pre else _SPACE.sub(" ", data))

    def open(self, tag: str) -> None:
        """Take the begin of an element.

        Args:
            tag: Its name in lower case.
        """
        if tag == "br":
            self._inline.append("\n")
        elif self._n_pre:
            self._n_pre += tag == "pre"
            self._break(tag)
        else:
            if tag in _LAYOUT:
                self._leave_cells()
            self._break(tag)
            self._enter(tag)

    def hide(self, blocks: Sequence[Block]) -> None:
        """Take what stands here and is not shown; it comes after the paragraph, item, table or code around it, flagged.

        Args:
            blocks: In reading order; their headings are no headings of the page.
        """
        path = self._outline.path
        self._hidden += (
            replace(block, kind="prose" if block.kind == "heading" else block.kind, headings=path, flags=("hidden",))
            for block in blocks
        )
        if not any(piece.strip() for piece in self._inline):
            self._show_hidden()

    def finish(self) -> None:
        """End the page."""
        self._flush()
        self._tables.clear()
        self._show_hidden()

    def _show_hidden(self) -> None:
        if self._hidden and not self._n_pre and all(table.is_layout for table in self._tables):
            self.blocks += self._hidden
            self._hidden = []

    def _enter(self, tag: str) -> None:
        if tag == "pre":
            self._flush()
            self._n_pre = 1
        elif tag == "table":
            self._tables.append(_Table(self._new_group(), []))
        elif tag in _LISTS:
            self._list_group = self._list_group if self._n_lists else self._new_group()
            self._n_lists += 1
        elif tag == "li":
            self._bullet = "- "

    def close(self, tag: str) -> None:
        """Take the end of an element.

        Args:
            tag: Its name in lower case.
        """
        if tag == "pre":
            self._n_pre -= 1
            if not self._n_pre:
                self._add_code()
        elif self._n_pre:
            self._break(tag)
        elif tag in _HEADINGS:
            self._add_heading(_HEADINGS[tag])
        elif tag in ("td", "th", "tr", "table") and self._tables:
            self._close_table_part(tag, self._tables[-1])
        else:
            self._break(tag)
            self._n_lists -= tag in _LISTS
            self._bullet = "" if tag == "li" else self._bullet

    def _close_table_part(self, tag: str, table: _Table) -> None:
        if table.is_layout:
            self._flush()
        elif tag in ("td", "th"):
            table.cells.append(self._line())
        elif tag == "tr":
            self._add_row(table)
        if tag == "table":
            self._tables.pop()
            self._show_hidden()

    def _break(self, tag: str) -> None:
        """End the paragraph at the border of a block element; in a cell that is a space, in code a line."""
        if tag not in _BLOCKS and tag not in _LAYOUT:
            return
        if self._n_pre:
            if self._inline and not self._inline[-1].endswith("\n"):
                self._inline.append("\n")
        elif self._tables and not self._tables[-1].is_layout and tag != "caption":
            self._inline.append(" ")
        else:
            self._flush()

    def _leave_cells(self) -> None:
        """The innermost table turns out to be layout: what its current row holds becomes blocks."""
        if self._tables and not self._tables[-1].is_layout:
            table = self._tables[-1]
            table.is_layout = True
            rest, self._inline = self._inline, []
            self._add_row(table)
            self._inline = rest

    def _new_group(self) -> int:
        self._n_groups += 1
        return self._n_groups

    def _line(self) -> str:
        line = " ".join(clean("".join(self._inline)).split())
        self._inline.clear()
        return line

    def _add(self, text: str, kind: SectionKind, group: int = 0) -> None:
        if text.strip():
            self.blocks.append(Block(text, kind, self._outline.path, group))
        self._show_hidden()

    def _flush(self) -> None:
        lines = [" ".join(line.split()) for line in clean("".join(self._inline)).split("\n")]
        lines = [line for line in lines if line]
        self._inline.clear()
        if not lines:
            return
        if not self._n_lists:
            self._add("\n".join(lines), "prose")
            return
        indent = "  " * (self._n_lists - 1)
        marks = [self._bullet or "  "] + ["  "] * (len(lines) - 1)
        self._bullet = ""
        self._add("\n".join(indent + mark + line for mark, line in zip(marks, lines, strict=True)), "prose", self._list_group)

    def _add_heading(self, level: int) -> None:
        title = self._line()
        if title:
            self._outline.enter(level, title)
            self.first_h1 = self.first_h1 or (title if level == 1 else "")
            self._add(title, "heading")

    def _add_code(self) -> None:
        lines = clean("".join(self._inline)).rstrip().split("\n")
        self._inline.clear()
        first = next((n for n, line in enumerate(lines) if line.strip()), 0)
        self._add("\n".join(lines[first:]), "code")

    def _add_row(self, table: _Table) -> None:
        self._inline.clear()
        cells, table.cells = table.cells, []
        if any(cells):
            self._add(" | ".join(cells), "table", table.group)
