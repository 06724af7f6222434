"""CSV and TSV: one line of text a row, each cell with its column name, so that a row can be understood and cited alone."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ingest.read.decode import decode
from ingest.read.origin import Origin, clean, document, one_line
from rag.errors import InputError
from rag.types import Document, Section

_DELIMITERS = ",;\t|"
_TAB_SUFFIXES = (".tsv", ".tab")
# Rows and characters that decide delimiter and header; later rows may be as ragged as they like.
_N_SAMPLE_ROWS = 50
_MAX_SAMPLE_CHARS = 65_536
# The module refuses cells above 131,072 characters, which real exports of documents exceed; a cell above this is an unclosed quote.
_MAX_CELL_CHARS = 16_000_000
_MAX_HEADER_CHARS = 120
# How spreadsheets are told the delimiter.
_DIRECTIVE = re.compile(r"sep=(.)\r?\n")
_NUMBER = re.compile(r"[-+(]?[$€£]?\s?\d[\d.,:/ _-]*(?:[eE][-+]?\d+)?\s?[%)]?(?:[T ]\d\d:.*)?")
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True, slots=True)
class Row:
    """Cells without surrounding white space, and the source line, from 1, at which the row begins."""

    cells: tuple[str, ...]
    line: int


def read_csv(data: bytes, origin: Origin) -> Document:
    """Read a table.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document with a line ``name: value; name: value`` and a section for every row that is not empty. Columns without a
        usable name are called ``column 1``, ``column 2`` and so on; cells beyond the header are kept under such names.

    Raises:
        InputError: With code ``binary``, ``encoding``, ``unreadable`` or ``empty``.
    """
    source = decode(data)
    # Process-wide, and only ever raised: there is no other way to tell the module.
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_CELL_CHARS))
    skipped = 0
    if directive := _DIRECTIVE.match(source):
        delimiter, skipped = directive[1], directive.end()
    else:
        delimiter = "\t" if origin.path.name.lower().endswith(_TAB_SUFFIXES) else _delimiter(source)
    try:
        text, sections = render_rows(_rows(source[skipped:], delimiter, first_line=2 if skipped else 1))
    except csv.Error as error:
        raise InputError(f"is no readable CSV: {error}; look for an unclosed quote", code="unreadable") from error
    return document(origin, "csv", origin.path.stem, text, sections, {})


def _rows(source: str, delimiter: str, first_line: int = 1) -> Iterator[Row]:
    # Lines as the file has them: only a real line end may end a row, not the other breaks that normalising makes line ends.
    reader = csv.reader(io.StringIO(source, newline=""), delimiter=delimiter)
    line = first_line
    for cells in reader:
        row = Row(tuple(one_line(cell, _MAX_CELL_CHARS) for cell in cells), line)
        line = first_line + reader.line_num
        if any(row.cells):
            yield row


def _delimiter(source: str) -> str:
    """The delimiter that cuts most sample rows into equally many columns; ties go to more columns, then to the usual one."""
    sample = source[:_MAX_SAMPLE_CHARS]
    if len(sample) < len(source):
        sample = sample[: sample.rfind("\n") + 1] or sample
    best, best_rank = ",", (0.0, 1)
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row.cells) for row in islice(_rows(sample, delimiter), _N_SAMPLE_ROWS)]
        except csv.Error:
            continue
        width, n_rows = Counter(widths).most_common(1)[0] if widths else (1, 0)
        rank = (n_rows / max(len(widths), 1), width)
        if width > 1 and rank > best_rank:
            best, best_rank = delimiter, rank
    return best


def render_rows(rows: Iterator[Row]) -> tuple[str, list[Section]]:
    """Write rows as lines ``name: value; name: value``.

    Args:
        rows: In order, each with a cell that is not empty; the first is taken for the names of the columns if it looks like that.

    Returns:
        The text and a section a row. Columns without a usable name are called ``column 1``, ``column 2`` and so on.
    """
    sample = list(islice(rows, _N_SAMPLE_ROWS))
    names: tuple[str, ...] = ()
    if _has_header(sample):
        names = sample.pop(0).cells
    lines: list[str] = []
    sections: list[Section] = []
    start = 0
    for source in (sample, rows):
        for row in source:
            line = clean("; ".join(f"{_name(names, n)}: {cell}" for n, cell in enumerate(row.cells) if cell))
            lines.append(line)
            sections.append(Section(start, start + len(line), "table", line=row.line))
            start += len(line) + 1
    return "\n".join(lines), sections


def _name(names: Sequence[str], column: int) -> str:
    return (names[column] if column < len(names) else "") or f"column {column + 1}"


def _has_header(rows: Sequence[Row]) -> bool:
    """Whether the first of several rows names columns: different short texts, years only above values that are no years."""
    if len(rows) < 2:
        return False
    names = [cell for cell in rows[0].cells if cell]
    if len(set(names)) < len(names) or 2 * len(names) < len(rows[0].cells) or max(map(len, names)) > _MAX_HEADER_CHARS:
        return False
    below = [
        [row.cells[column] for row in rows[1:] if column < len(row.cells) and row.cells[column]]
        for column in range(len(rows[0].cells))
    ]
    is_data = [_is_value(cell, values) for cell, values in zip(rows[0].cells, below, strict=True) if cell]
    return not any(is_data) and not all(_YEAR.fullmatch(name) for name in names)


def _is_value(cell: str, below: Sequence[str]) -> bool:
    if not _NUMBER.fullmatch(cell):
        return False
    return not _YEAR.fullmatch(cell) or not below or all(_YEAR.fullmatch(value) for value in below)
