"""ODS: cells of an OpenDocument spreadsheet as they are shown, with the rows, columns and sheets that are hidden."""

from __future__ import annotations

from collections.abc import Iterator

from ingest.read.ooxml import Package
from ingest.read.xlsx import MAX_CELLS, MAX_COLUMNS, MAX_ROWS, Sheet
from ingest.read.xml_events import Attributes, parse
from rag.errors import InputError

_CELLS = frozenset(("table-cell", "covered-table-cell"))
_SKIPPED = frozenset(("annotation", "tracked-changes", "shapes", "forms"))
_HIDDEN = ("collapse", "filter")


def ods_sheets(package: Package) -> Iterator[Sheet]:
    """Read the sheets of a spreadsheet.

    Args:
        package: From `open_odf`.

    Yields:
        Sheets in the order of their tabs, with their cells as shown.

    Raises:
        InputError: With code ``unreadable``, ``encrypted``, ``too_deep`` or ``too_large`` (more than 16,384 columns, 1,048,576 rows or
            30 million cells).
    """
    reader = _Tables()
    parse(package.part("content.xml"), reader, "content.xml")
    yield from reader.sheets


def _count(attributes: Attributes, key: str, limit: int) -> int:
    value = attributes.get(key, "1")
    return min(int(value[:9]) if value.isdecimal() else 1, limit)


class _Tables:
    """Events of the content to sheets; rows and cells that are repeated count as often, and are kept as often where they hold text."""

    def __init__(self) -> None:
        self.sheets: list[Sheet] = []
        self._hidden_styles: set[str] = set()
        self._style = ""
        self._row = self._column = self._n_rows = self._n_cells = self._n_filled = 0
        self._cells: dict[int, str] = {}
        self._pieces: list[str] = []
        self._n_skipped = 0
        self._is_text = self._is_hidden = False

    def start(self, name: str, attributes: Attributes) -> None:
        if self._n_skipped or name in _SKIPPED:
            self._n_skipped += name in _SKIPPED
        elif name in _CELLS:
            self._n_cells = _count(attributes, "number-columns-repeated", MAX_COLUMNS)
            self._pieces.clear()
        elif name == "p":
            self._is_text = True
            self._pieces += [" "] if self._pieces else []
        elif name in ("s", "tab", "line-break"):
            self._pieces.append(" ")
        elif name == "style":
            self._style = attributes.get("name", "")
        elif name == "table-properties" and attributes.get("display") == "false":
            self._hidden_styles.add(self._style)
        else:
            self._start_part(name, attributes)

    def _start_part(self, name: str, attributes: Attributes) -> None:
        if name == "table":
            self.sheets.append(Sheet(attributes.get("name", ""), is_hidden=attributes.get("style-name") in self._hidden_styles))
            self._row = self._column = 0
        elif name == "table-column" and self.sheets:
            count = _count(attributes, "number-columns-repeated", MAX_COLUMNS)
            if attributes.get("visibility") in _HIDDEN:
                self.sheets[-1].hidden_columns.append(range(self._column, self._column + count))
            self._column += count
        elif name == "table-row" and self.sheets:
            self._n_rows = _count(attributes, "number-rows-repeated", MAX_ROWS)
            self._column = 0
            self._cells = {}
            self._is_hidden = attributes.get("visibility") in _HIDDEN

    def text(self, data: str) -> None:
        if self._is_text and not self._n_skipped:
            self._pieces.append(data)

    def end(self, name: str) -> None:
        if self._n_skipped:
            self._n_skipped -= name in _SKIPPED
        elif name == "p":
            self._is_text = False
        elif name in _CELLS:
            self._end_cell("".join(self._pieces))
        elif name == "table-row" and self.sheets:
            if self._cells:
                self._end_row(self.sheets[-1])
            self._row += self._n_rows

    def _end_cell(self, shown: str) -> None:
        if shown.strip():
            if self._column + self._n_cells > MAX_COLUMNS:
                raise InputError(
                    f"has a row of {self._column + self._n_cells:,} cells, allowed are {MAX_COLUMNS:,}", code="too_large"
                )
            self._cells.update(dict.fromkeys(range(self._column, self._column + self._n_cells), shown))
        self._column += self._n_cells
        self._pieces.clear()

    def _end_row(self, sheet: Sheet) -> None:
        if self._row + self._n_rows > MAX_ROWS:
            raise InputError(f"has {self._row + self._n_rows:,} rows, allowed are {MAX_ROWS:,}; split it", code="too_large")
        self._n_filled += self._n_rows * len(self._cells)
        if self._n_filled > MAX_CELLS:
            raise InputError(f"fills {self._n_filled:,} cells, allowed are {MAX_CELLS:,}; split it", code="too_large")
        numbers = range(self._row + 1, self._row + self._n_rows + 1)
        sheet.rows.update(dict.fromkeys(numbers, self._cells))
        if self._is_hidden:
            sheet.hidden_rows.update(numbers)
