"""Rows of a table whose cells may take several lines.

Some programs draw a table cell by cell, others line by line; both give runs of text whose horizontal place tells the column. Lines
between rows are not looked at: many tables have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.read.lines import Line

# Lines of one cell are closer than this, in font sizes; LibreOffice gives 1.16, LaTeX 1.2.
_MAX_LEADING = 1.5
# The next line of a table is not further below than this, in font sizes; padded cells of LibreOffice give 2.1.
_MAX_GAP = 2.5
# Lines of a table that tell its columns while it is read; all of them would take quadratic time.
_MAX_LOOKED_AT = 60
# Heights that differ by less, in font sizes, are one.
_SAME = 0.3


@dataclass(frozen=True, slots=True)
class _Interval:
    """Where a column begins and ends, points."""

    left: float
    right: float


@dataclass(slots=True)
class _Row:
    """Pieces of each column, and how high the row reaches."""

    top: float
    bottom: float
    pieces: dict[int, list[str]] = field(default_factory=dict)


def _intervals(lines: Sequence[Line]) -> list[_Interval]:
    """Columns of the line with most cells (the first of several), as wide as cells of other lines that lie in one of them."""
    widest = max(lines, key=lambda line: len(line.cells))
    columns = [_Interval(cell.left, cell.right) for cell in widest.cells]
    for line in lines:
        for cell in line.cells:
            hits = [no for no, column in enumerate(columns) if cell.left < column.right and cell.right > column.left]
            if len(hits) == 1:
                column = columns[hits[0]]
                columns[hits[0]] = _Interval(min(column.left, cell.left), max(column.right, cell.right))
    return columns


def _places(line: Line, columns: Sequence[_Interval]) -> list[int]:
    """Column of each cell, ascending; empty when a cell lies in none or several, or two cells in one."""
    places: list[int] = []
    for cell in line.cells:
        hits = [no for no, column in enumerate(columns) if cell.left < column.right and cell.right > column.left]
        if len(hits) != 1 or (places and hits[0] <= places[-1]):
            return []
        places += hits
    return places


def goes_on(rows: Sequence[Line], lines: Sequence[Line]) -> bool:
    """Tell whether a table goes on with a line that is no row by itself: a further line of a cell, or a cell drawn on its own.

    Args:
        rows: Lines of the table so far.
        lines: What follows, at least one; a first column alone belongs to the table only if other columns follow it.

    Returns:
        Whether the first of the lines belongs to the table.
    """
    page, size = rows[-1].page, rows[-1].size
    rows = rows[-_MAX_LOOKED_AT:]
    heights = [row.baseline for row in rows if row.page == page]
    bottom, top = min(heights), max(heights)
    columns: list[_Interval] = []
    for line in lines:
        is_near = line.page == page and bottom - _MAX_GAP * size <= line.baseline <= top + _SAME * size
        if not is_near or abs(line.size - size) > _SAME * size:
            return False
        columns = columns or _intervals(rows)
        places = _places(line, columns)
        if not places or places[-1] > 0:
            return bool(places)
        bottom = min(bottom, line.baseline)
    return False


def rows_of(lines: Sequence[Line]) -> list[str]:
    """Put the rows of a table together.

    Args:
        lines: Of one table, in the order in which they were drawn.

    Returns:
        One text a row, cells joined by `` | ``, empty ones included; where the columns are not clear, one a line.
    """
    columns = _intervals(lines)
    rows: list[_Row] = []
    before: list[int] = []
    page = 0
    for line in lines:
        places = _places(line, columns)
        if not places:
            return [" | ".join(cell.text for cell in line.cells) for line in lines]
        row = rows[-1] if rows and line.page == page else None
        if row is None or not _is_same_row(row, line, places, before):
            row = _Row(line.baseline, line.baseline)
            rows.append(row)
        row.bottom = min(row.bottom, line.baseline)
        for place, cell in zip(places, line.cells, strict=True):
            row.pieces.setdefault(place, []).append(cell.text)
        before, page = places, line.page
    return [" | ".join(" ".join(row.pieces.get(no, ())) for no in range(len(columns))) for row in rows]


def _is_same_row(row: _Row, line: Line, places: Sequence[int], before: Sequence[int]) -> bool:
    same = _SAME * line.size
    if line.baseline > row.bottom - same:
        # Beside what was drawn: a further cell; above the row it would be another one.
        return line.baseline <= row.top + same
    if row.bottom - line.baseline > _MAX_LEADING * line.size:
        return False
    return places[0] > 0 or list(places) == list(before) == [0]
