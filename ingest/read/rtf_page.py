"""The paragraphs, cells and rows of one flow of an RTF file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.read.flow import Flow, Placed


@dataclass(frozen=True, slots=True)
class Paragraph:
    """What a paragraph is.

    Attributes:
        heading: Its level from 1; 0 for what is no heading.
        level: Depth of its list from 1; 0 outside of lists.
        is_code: Whether its style says that it is code.
        in_table: Whether it stands in a cell.
        is_shaded: Whether it has a ground that is not white.
    """

    heading: int = 0
    level: int = 0
    is_code: bool = False
    in_table: bool = False
    is_shaded: bool = False


class Page:
    """Takes words and text in order and writes them to its `flow`; `paragraph` is what the current or next paragraph is."""

    def __init__(self) -> None:
        self.flow = Flow()
        self.paragraph = Paragraph()
        self._in_table = self._in_row = self._in_cell = False
        self._half = ""

    def blocks(self) -> list[Placed]:
        """What was written; open paragraphs and tables are closed."""
        self.end_paragraph()
        self._end_table()
        return self.flow.blocks()

    def take(self, text: str, is_hidden: bool) -> None:
        """Write text, in a new paragraph if none is open."""
        # Characters beyond the first 65,536 come as two halves.
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not text or not (text.strip() or self.flow.is_in_paragraph):
            return
        self.open(is_hidden and bool(text.strip()))
        self.flow.text(text)

    def open(self, is_hidden: bool) -> None:
        """Open the paragraph, and the cell that it stands in, unless they are open."""
        if not self.flow.is_in_paragraph:
            at = self.paragraph
            if at.in_table:
                self._open_cell()
            else:
                self._end_table()
            self.flow.open_paragraph(at.heading, at.level, is_code=at.is_code)
        if is_hidden:
            self.flow.hide()

    def end_paragraph(self) -> None:
        """End the paragraph, if one is open."""
        if self.flow.is_in_paragraph:
            self.flow.close_paragraph()

    def word(self, word: str, number: int | None) -> None:
        """Take a word that ends, or says something of, a paragraph, cell or row; others are passed over."""
        match word:
            case "par" | "sect" | "page":
                self.end_paragraph()
            case "pard":
                self.paragraph = Paragraph()
            case "line":
                self.open(False)
                self.flow.line_break()
            case "intbl":
                self.paragraph = replace(self.paragraph, in_table=True)
            case "outlinelevel" if number is not None and 0 <= number < 9:
                self.paragraph = replace(self.paragraph, heading=number + 1)
            case "ls":
                self.paragraph = replace(self.paragraph, level=max(self.paragraph.level, 1) if number else 0)
            case "ilvl" if number is not None:
                self.paragraph = replace(self.paragraph, level=min(max(number, 0), 8) + 1)
            case "cell":
                self._end_cell()
            case "row":
                self._end_row()
            case _:
                pass

    def _open_cell(self) -> None:
        for is_open, tag in ((self._in_table, "table"), (self._in_row, "tr"), (self._in_cell, "td")):
            if not is_open:
                self.flow.open_table_part(tag)
        self._in_table = self._in_row = self._in_cell = True

    def _end_cell(self) -> None:
        self.end_paragraph()
        self._open_cell()
        self.flow.close_table_part("td")
        self._in_cell = False

    def _end_row(self) -> None:
        self.end_paragraph()
        if self._in_cell:
            self._end_cell()
        if self._in_row:
            self.flow.close_table_part("tr")
        self._in_row = False

    def _end_table(self) -> None:
        self._end_row()
        if self._in_table:
            self.flow.close_table_part("table")
        self._in_table = False
