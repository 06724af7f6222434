"""XLSX: cells as people see them (dates as dates, percentages with their sign), with the rows, columns and sheets that are hidden.

Read from its XML, not with kreuzberg, which knows neither row numbers nor what is hidden (measured with kreuzberg 4.10.4,
`bench/formats.py`).

References:
    ECMA-376 part 1, section 18.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ingest.read.ooxml import Package
from ingest.read.xml_events import Attributes, parse
from rag.errors import InputError

_OFF = ("0", "false")
# The format's own limits; a cell beyond them is a claim that costs memory.
MAX_COLUMNS = 16_384
MAX_ROWS = 1_048_576
# A sheet of 10^6 rows and 20 columns is below it; beyond, a few bytes claim to be repeated.
MAX_CELLS = 30_000_000
_PLACE = re.compile(r"([A-Z]{1,3})([0-9]{0,7})")
# Formats without a text of their own that are dates or times, and percentages.
_DATE_FORMATS = frozenset((*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)))
_PERCENT_FORMATS = frozenset((9, 10))
_LITERALS = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|\*.')
_DATE_LETTERS = re.compile(r"[ymdhs]", re.IGNORECASE)


@dataclass(slots=True)
class Sheet:
    """A sheet as it is stored.

    Attributes:
        name: Shown on its tab.
        rows: Cells by column from 0, by row number from 1; without empty cells.
        is_hidden: Whether the whole sheet is.
        hidden_rows: Numbers of rows.
        hidden_columns: Ranges of column numbers, from 0; they may overlap.
    """

    name: str
    rows: dict[int, dict[int, str]] = field(default_factory=dict)
    is_hidden: bool = False
    hidden_rows: set[int] = field(default_factory=set)
    hidden_columns: list[range] = field(default_factory=list)


def xlsx_sheets(package: Package) -> Iterator[Sheet]:
    """Read the sheets of a workbook.

    Args:
        package: The file.

    Yields:
        Sheets in the order of their tabs. A formula counts as the value that was stored with it, and as itself where no
        program has computed one.

    Raises:
        InputError: With code ``unreadable``, ``too_deep``, ``too_large`` (a cell beyond 16,384 columns or 1,048,576 rows) or ``encrypted``.
    """
    main = package.main_part("xl")
    workbook = _Workbook()
    parse(package.part(main), workbook, main)
    strings = _Strings()
    for target in package.targets(main, "sharedStrings"):
        parse(package.part(target), strings, target)
    formats = _Formats()
    for target in package.targets(main, "styles"):
        parse(package.part(target), formats, target)
    values = _Values(strings.strings, formats.kinds(), workbook.first_day)
    relations = package.relations(main)
    for tab in workbook.tabs:
        # Each part once, however many tabs claim it.
        relation = relations.pop(tab.part_id, None)
        if relation is not None and relation.kind == "worksheet":
            reader = _Cells(Sheet(tab.name, is_hidden=tab.is_hidden), values)
            parse(package.part(relation.target), reader, relation.target)
            yield reader.sheet


@dataclass(frozen=True, slots=True)
class _Tab:
    """Name, relation id and whether it is hidden."""

    name: str
    part_id: str
    is_hidden: bool


class _Workbook:
    """Tabs in order, and the day that is number 0."""

    def __init__(self) -> None:
        self.tabs: list[_Tab] = []
        self.first_day = datetime(1899, 12, 30)

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sheet":
            is_hidden = attributes.get("state", "visible") != "visible"
            self.tabs.append(_Tab(attributes.get("name", ""), attributes.get("r:id", ""), is_hidden))
        elif name == "workbookPr" and attributes.get("date1904", "0") not in _OFF:
            self.first_day = datetime(1904, 1, 1)

    def end(self, name: str) -> None:
        """Nothing follows from it."""

    def text(self, data: str) -> None:
        """There is none."""


class _Strings:
    """Texts that cells share, by number; their reading aids are left out."""

    def __init__(self) -> None:
        self.strings: list[str] = []
        self._pieces: list[str] = []
        self._is_text = False
        self._is_aid = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "rPh":
            self._is_aid = True
        self._is_text = name == "t" and not self._is_aid

    def text(self, data: str) -> None:
        if self._is_text:
            self._pieces.append(data)

    def end(self, name: str) -> None:
        self._is_text = False
        if name == "rPh":
            self._is_aid = False
        elif name == "si":
            self.strings.append("".join(self._pieces))
            self._pieces.clear()


class _Formats:
    """Number formats of cell styles."""

    def __init__(self) -> None:
        self._custom: dict[str, str] = {}
        self._used: list[str] = []
        self._is_inside = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "numFmt":
            self._custom[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name == "cellXfs":
            self._is_inside = True
        elif name == "xf" and self._is_inside:
            self._used.append(attributes.get("numFmtId", "0"))

    def end(self, name: str) -> None:
        if name == "cellXfs":
            self._is_inside = False

    def text(self, data: str) -> None:
        """There is none."""

    def kinds(self) -> list[str]:
        """``date``, ``percent`` or empty for each cell style."""
        return [self._kind(number) for number in self._used]

    def _kind(self, number: str) -> str:
        if number in self._custom:
            code = _LITERALS.sub("", self._custom[number].partition(";")[0])
            return "percent" if "%" in code else "date" if _DATE_LETTERS.search(code) else ""
        known = int(number[:6]) if number.isdecimal() else 0
        return "percent" if known in _PERCENT_FORMATS else "date" if known in _DATE_FORMATS else ""


@dataclass(frozen=True, slots=True)
class _Values:
    """What stored values mean."""

    strings: list[str]
    kinds: list[str]
    first_day: datetime

    def shown(self, stored: str, kind: str, style: str) -> str:
        """A value as people see it, or as it is stored where that cannot be told."""
        if kind == "s":
            number = int(stored) if stored.isdecimal() and len(stored) < 10 else -1
            return self.strings[number] if 0 <= number < len(self.strings) else ""
        if kind == "b":
            return "TRUE" if stored == "1" else "FALSE"
        if kind not in ("", "n"):
            return stored
        at = int(style[:6]) if style.isdecimal() else 0
        meaning = self.kinds[at] if at < len(self.kinds) else ""
        try:
            value = float(stored)
            # 15 digits are what spreadsheets show; more are traces of binary arithmetic.
            return (
                self._day(value)
                if meaning == "date"
                else f"{value * 100:.15g}%"
                if meaning == "percent"
                else _number(stored, value)
            )
        except (ValueError, OverflowError):
            return stored

    def _day(self, value: float) -> str:
        moment = self.first_day + timedelta(seconds=round(value * 86_400))
        if 0 <= value < 1:
            return moment.time().isoformat()
        return moment.date().isoformat() if moment.time().isoformat() == "00:00:00" else moment.isoformat(" ")


def _number(stored: str, value: float) -> str:
    return stored if stored.lstrip("-").isdecimal() else f"{value:.15g}"


class _Cells:
    """Events of one sheet to its cells."""

    def __init__(self, sheet: Sheet, values: _Values) -> None:
        self.sheet = sheet
        self._values = values
        self._row = 0
        self._column = -1
        self._kind = self._style = ""
        self._pieces: list[str] = []
        self._is_value = self._is_aid = self._is_formula = False
        self._formula: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "c":
            self._start_cell(attributes)
        elif name == "row":
            number = attributes.get("r", "")
            self._row = int(number[:9]) if number.isdecimal() else self._row + 1
            self._column = -1
            if attributes.get("hidden", "0") not in _OFF:
                self.sheet.hidden_rows.add(self._row)
        elif name == "col" and attributes.get("hidden", "0") not in _OFF:
            first, last = attributes.get("min", ""), attributes.get("max", "")
            if first.isdecimal() and last.isdecimal():
                self.sheet.hidden_columns.append(range(int(first[:6]) - 1, int(last[:6])))
        elif name == "rPh":
            self._is_aid = True
        self._is_value = name in ("v", "t") and not self._is_aid
        self._is_formula = name == "f"

    def _start_cell(self, attributes: Attributes) -> None:
        self._column += 1
        if found := _PLACE.fullmatch(attributes.get("r", "")):
            self._column = -1
            for letter in found[1]:
                self._column = (self._column + 1) * 26 + ord(letter) - ord("A")
        elif "r" in attributes:
            raise InputError(f"names a cell {attributes['r'][:40]!r}, which no sheet can have; save it again", code="too_large")
        if self._column >= MAX_COLUMNS or self._row > MAX_ROWS:
            raise InputError(
                f"names a cell in row {self._row:,}, column {self._column + 1:,}; allowed are {MAX_ROWS:,} and {MAX_COLUMNS:,}; split it",
                code="too_large",
            )
        self._kind, self._style = attributes.get("t", ""), attributes.get("s", "")
        self._pieces.clear()
        self._formula.clear()

    def text(self, data: str) -> None:
        if self._is_value:
            self._pieces.append(data)
        elif self._is_formula:
            self._formula.append(data)

    def end(self, name: str) -> None:
        self._is_value = self._is_formula = False
        if name == "rPh":
            self._is_aid = False
        elif name == "c" and self._pieces:
            shown = self._values.shown("".join(self._pieces), self._kind, self._style)
            if shown.strip():
                self.sheet.rows.setdefault(self._row, {})[self._column] = shown
        elif name == "c" and self._formula and self._kind != "str":  # "str" is a text that was computed, and is empty
            self.sheet.rows.setdefault(self._row, {})[self._column] = "=" + "".join(self._formula)
