"""Workbooks: XLSX, ODS and the binary XLS and XLSB; a line a row, each cell with the name of its column, as for CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from ingest.read.binary_workbook import binary_sheets
from ingest.read.csv import Row, render_rows
from ingest.read.odf import odf_properties, open_odf
from ingest.read.ods import ods_sheets
from ingest.read.ooxml import Package
from ingest.read.origin import Origin, document, one_line
from ingest.read.xlsx import MAX_CELLS, Sheet, xlsx_sheets
from rag.errors import InputError
from rag.types import Document, Section

_BINARY = (".xls", ".xlsb")
# As for CSV; no program writes longer cells.
_MAX_CELL_CHARS = 16_000_000
# A sheet may begin with its title and a remark; more than this is the table itself.
_MAX_TITLE_ROWS = 10
# Some 500 bytes for each of 10^6 rows, the names of their columns included.
_MAX_CHARS = 500_000_000


def read_sheet(data: bytes, origin: Origin) -> Document:
    """Read a workbook.

    Args:
        data: Content of the file.
        origin: Where it comes from; its suffix tells XLSX, ODS and binary workbooks apart.

    Returns:
        One document: a section a row, with the name of the sheet as heading path and the number of the row as line; the sheets in the
        order of their tabs. Cells of hidden columns follow their sheet as rows of their own; they, hidden rows and hidden sheets are
        flagged ``hidden`` (of binary workbooks only hidden sheets are known).

    Raises:
        InputError: With code ``empty``, ``encrypted``, ``unreadable``, ``zip_bomb``, ``too_deep`` or ``too_large``.
        MissingExtraError: For a binary workbook, if the extra [docs] is not installed.
    """
    if not data:
        raise InputError("holds no bytes; nothing to index", code="empty")
    suffix = origin.path.suffix.lower()
    metadata: dict[str, str] = {}
    if suffix in _BINARY:
        sheets = binary_sheets(data)
    elif suffix == ".ods":
        package = open_odf(data, ("spreadsheet",))
        metadata, sheets = odf_properties(package), ods_sheets(package)
    else:
        package = Package(data)
        metadata, sheets = package.properties(), xlsx_sheets(package)
    pieces: list[str] = []
    sections: list[Section] = []
    length = 0
    for sheet in sheets:
        for text, found in _parts(sheet):
            length += 2 if pieces else 0
            pieces.append(text)
            sections += [replace(at, start=at.start + length, end=at.end + length) for at in found]
            length += len(text)
    return document(origin, "xlsx", metadata.pop("title", "") or origin.path.stem, "\n\n".join(pieces), sections, metadata)


def _parts(sheet: Sheet) -> Iterator[tuple[str, list[Section]]]:
    """Text and sections of a sheet: its titles, its rows, and then the cells of its hidden columns, where there are any."""
    titles = _title_rows(sheet)
    for number in titles:
        (text,) = (one_line(cell, _MAX_CELL_CHARS) for cell in sheet.rows[number].values())
        if text:
            yield text, [_placed(Section(0, len(text), line=number), sheet, is_hidden=False)]
    hidden = {n for row in sheet.rows.values() for n in row if any(n in columns for columns in sheet.hidden_columns)}
    for is_hidden in (False, True):
        rows = _rows(sheet, set(titles), {n for row in sheet.rows.values() for n in row if (n in hidden) == is_hidden})
        first = next(rows, None)
        if first is not None:
            text, sections = render_rows(chain((first,), rows))
            yield text, [_placed(section, sheet, is_hidden) for section in sections]


def _placed(section: Section, sheet: Sheet, is_hidden: bool) -> Section:
    is_hidden = is_hidden or sheet.is_hidden or section.line in sheet.hidden_rows
    name = one_line(sheet.name)
    return replace(section, headings=(name,) if name else (), flags=("hidden",) if is_hidden else ())


def _title_rows(sheet: Sheet) -> list[int]:
    """Numbers of the rows above the table that hold one cell each, where the table has more columns."""
    titles: list[int] = []
    for number in sorted(sheet.rows):
        if len(sheet.rows[number]) > 1:
            return titles
        titles.append(number)
        if len(titles) > _MAX_TITLE_ROWS:
            break
    return []


def _rows(sheet: Sheet, titles: set[int], columns: set[int]) -> Iterator[Row]:
    """Rows of some of the columns, from the leftmost of them on; the others leave their places empty."""
    left = min(columns, default=0)
    n_cells = n_chars = n_first_chars = 0
    for number in sorted(sheet.rows.keys() - titles):
        cells = {n - left: cell for n, cell in sheet.rows[number].items() if n in columns}
        width = max(cells, default=-1) + 1
        n_in_row = sum(map(len, cells.values()))
        n_first_chars = n_first_chars or n_in_row
        # The names of the columns come again with every row.
        n_chars += n_in_row + n_first_chars
        n_cells += width
        if n_cells > MAX_CELLS or n_chars > _MAX_CHARS:
            raise InputError(
                f"fills more than {MAX_CELLS:,} cells or {_MAX_CHARS:,} characters in {one_line(sheet.name)!r}; split it",
                code="too_large",
            )
        texts = tuple(one_line(cells.get(n, ""), _MAX_CELL_CHARS) for n in range(width))
        if any(texts):
            yield Row(texts, number)
