"""Lines of a PDF page with place, size and weight, as `ingest.read.layout` needs them.

PDFium gives the characters of a page in the order in which they were drawn, with line ends that it infers. Every call into it costs
about a microsecond from Python, so characters are asked for their place only where lines begin and end and around spaces.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pypdfium2 import PdfTextPage

# PDFium writes U+FFFE (U+0002 in older versions) for a hyphen at which it joined two lines, and no line end after it.
_LINE = re.compile("[^\r\n\ufffe\x02]+[\ufffe\x02]?")
_SPACES = re.compile(" +")
# Bitmap fonts of TeX do not say what their characters are, and PDFium gives their codes in TeX's T1 encoding, some of which Python takes
# for blanks. One character each, so that places stay; `_whole` writes ligatures out.
_TEX_CODES = re.compile("[\x10-\x16\x1b-\x1f]")
_TEX_SIGNS = str.maketrans(
    "\x10\x11\x12\x13\x14\x15\x16\x1b\x1c\x1d\x1e\x1f", "\u201c\u201d\u201e\xab\xbb\u2013\u2014\ufb00\ufb01\ufb02\ufb03\ufb04"
)
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl"}
# A wider gap, in font sizes, may part two cells or columns. TeX puts 1.09 at 11 pt between cells, justified lines of a narrow column
# reach about as much; alignment with the neighbours (`ingest.read.layout`) tells them apart.
_MIN_GAP = 0.95
# TeX stretches the gap after a sentence more than others.
_MIN_GAP_OF_SENTENCES = 2.0
_STOPS = ".,;:!?"
# Lines with fewer blanks are always looked into; others when their characters are wider by this than those of most lines. A gap of one
# font size in a line of 60 characters makes 1.02; tables have several such gaps and fewer characters.
_MIN_BLANKS = 5
_MIN_STRETCH = 1.05
_SAMPLED = 6
_BOLD_NAME = re.compile("bold|black|heavy|demi|cmbx|cmssbx", re.IGNORECASE)
# PDFium derives the weight from the stems: Computer Modern gives 345 for its roman and 570 for its bold face.
_MIN_BOLD = 550
_MAX_FONT_NAME = 128


@dataclass(frozen=True, slots=True)
class Cell:
    """A run of a line without a wide gap.

    Attributes:
        text: Without blanks around it; a hyphen at the end of a line is ``-``.
        left: Points from the left edge of the page.
        right: Likewise.
    """

    text: str
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a page.

    Attributes:
        cells: At least one, from left to right.
        page: From 1.
        baseline: Points from the bottom edge of the page.
        size: Of the font, points.
        is_bold: Whether it begins and ends in a bold face.
        text: Cells joined by blanks.
        left: Left edge of the first cell.
        right: Right edge of the last cell.
    """

    cells: tuple[Cell, ...]
    page: int
    baseline: float
    size: float
    is_bold: bool
    text: str
    left: float
    right: float


def line_of(cells: tuple[Cell, ...], page: int, baseline: float, size: float, is_bold: bool) -> Line:
    """Make a line of its cells.

    Args:
        cells: At least one, from left to right.
        page: From 1.
        baseline: Points from the bottom edge of the page.
        size: Of the font, points.
        is_bold: Whether it begins and ends in a bold face.

    Returns:
        The line.
    """
    text = " ".join([cell.text for cell in cells]) if len(cells) > 1 else cells[0].text
    return Line(cells, page, baseline, size, is_bold, text, cells[0].left, cells[-1].right)


def lines_of(text_page: PdfTextPage, page: int) -> list[Line]:
    """Read the lines of a page.

    Args:
        text_page: Its characters.
        page: Its number, from 1.

    Returns:
        In the order in which they were drawn; blank lines are left out.
    """
    import pypdfium2.raw as pdfium

    n = text_page.count_chars()
    buffer = (ctypes.c_ushort * (n + 1))()
    n_written = pdfium.FPDFText_GetText(text_page.raw, 0, n, buffer) - 1 if n else 0
    text = bytes(buffer)[: 2 * n_written].decode("utf-16-le", "replace")
    if len(text) != n_written:
        # One character a 16-bit unit, so that places in the text stay those that PDFium counts; `_whole` puts pairs together.
        text = "".join(map(chr, buffer[:n_written]))
    if _TEX_CODES.search(text):
        text = text.translate(_TEX_SIGNS)
    probe = _Probe(pdfium, text_page.raw, None if n_written == n else pdfium.FPDFText_GetCharIndexFromTextIndex)
    runs = [probe.run(text, begin, end) for begin, end in _line_spans(text)]
    found = zip(_cells(text, runs, probe), runs, strict=True)
    # A font that does not say what its characters are gives NUL for each, and so a line without text.
    return [line_of(cells, page, run.baseline, run.size, run.is_bold) for cells, run in found if all(cell.text for cell in cells)]


@dataclass(frozen=True, slots=True)
class _Run:
    """A line whose inside was not looked at: its characters ``begin`` to ``end``."""

    begin: int
    end: int
    n_blanks: int
    left: float
    right: float
    baseline: float
    size: float
    is_bold: bool

    @property
    def advance(self) -> float:
        """Mean width of its characters, in font sizes."""
        return (self.right - self.left) / (self.end - self.begin) / self.size


def _cells(text: str, runs: Sequence[_Run], probe: _Probe) -> list[tuple[Cell, ...]]:
    """Cut lines at wide gaps, looking only where there may be one: that halves the time of pages of prose.

    A gap shows in the mean width of the characters. Lines of few words vary too much and are looked at; so is every sixth, for pages
    on which all lines have one, and so are the neighbours of a line that has one, or the closest rows of a table would be missed.
    """
    advances = sorted(run.advance for run in runs if run.n_blanks >= _MIN_BLANKS)
    usual = advances[len(advances) // 2] if advances else 0.0
    cells: list[tuple[Cell, ...]] = [(Cell(_whole(text[run.begin : run.end]), run.left, run.right),) for run in runs]
    least = _MIN_STRETCH * usual
    todo = [no for no, run in enumerate(runs) if run.n_blanks < _MIN_BLANKS or run.advance > least or no % _SAMPLED == 0]
    seen = set(todo)
    while todo:
        no = todo.pop()
        if runs[no].n_blanks:
            cells[no] = probe.cells(text, runs[no])
        if len(cells[no]) > 1:
            fresh = {near for near in (no - 1, no + 1) if 0 <= near < len(runs)} - seen
            seen |= fresh
            todo.extend(fresh)
    return cells


def _line_spans(text: str) -> Iterator[tuple[int, int]]:
    for match in _LINE.finditer(text):
        line = match[0]
        begin = match.start() + len(line) - len(line.lstrip())
        end = match.start() + len(line.rstrip())
        if begin < end:
            yield begin, end


def _whole(text: str) -> str:
    """Text as people write it: pairs of 16-bit units as one character, ligatures as letters, the mark of a hyphen as a hyphen."""
    text = text.replace("\ufffe", "-").replace("\x02", "-").replace("\x00", "").replace("\xa0", " ").strip()
    return (
        text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").translate(_LIGATURES)
    )


class _Probe:
    """Asks PDFium about single characters of one page."""

    def __init__(self, pdfium: ModuleType, raw: object, index: Callable[[object, int], int] | None) -> None:
        self._pdfium = pdfium
        self._raw = raw
        self._index = index
        self._box, self._matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
        self._name = ctypes.create_string_buffer(_MAX_FONT_NAME)
        self._x, self._y, self._flags = ctypes.c_double(), ctypes.c_double(), ctypes.c_int()
        # References made once: half of the time of a call is what it is made of.
        self._box_ref = ctypes.byref(self._box)
        self._loose_box = pdfium.FPDFText_GetLooseCharBox
        self._bold_names: dict[bytes, bool] = {}

    def _at(self, i: int) -> int:
        return i if self._index is None else self._index(self._raw, i)

    def _left(self, i: int) -> float:
        self._loose_box(self._raw, self._at(i), self._box_ref)
        left: float = self._box.left
        return left

    def _right(self, i: int) -> float:
        self._loose_box(self._raw, self._at(i), self._box_ref)
        right: float = self._box.right
        return right

    def _size(self, i: int) -> float:
        """Of the font as it is shown: many writers set size 1 and scale."""
        at = self._at(i)
        size = float(self._pdfium.FPDFText_GetFontSize(self._raw, at))
        if self._pdfium.FPDFText_GetMatrix(self._raw, at, self._matrix):
            size *= (self._matrix.c**2 + self._matrix.d**2) ** 0.5
        return round(size, 1) or 1.0

    def _is_bold(self, i: int) -> bool:
        at = self._at(i)
        if self._pdfium.FPDFText_GetFontWeight(self._raw, at) >= _MIN_BOLD:
            return True
        n = self._pdfium.FPDFText_GetFontInfo(self._raw, at, self._name, _MAX_FONT_NAME, self._flags)
        name = self._name.value if 0 < n <= _MAX_FONT_NAME else b""
        if name not in self._bold_names:
            self._bold_names[name] = _BOLD_NAME.search(name.decode("latin-1")) is not None
        return self._bold_names[name]

    def run(self, text: str, begin: int, end: int) -> _Run:
        size = self._size(begin)
        is_bold = self._is_bold(begin) and self._is_bold(end - 1)
        self._pdfium.FPDFText_GetCharOrigin(self._raw, self._at(begin), self._x, self._y)
        right = self._right(end - 1)
        return _Run(begin, end, text.count(" ", begin, end), self._x.value, right, self._y.value, size, is_bold)

    def cells(self, text: str, run: _Run) -> tuple[Cell, ...]:
        cells: list[Cell] = []
        start, left = run.begin, run.left
        for match in _SPACES.finditer(text, run.begin, run.end):
            begin, end = match.span()
            right, follows = self._right(begin - 1), self._left(end)
            if follows - right > (_MIN_GAP_OF_SENTENCES if text[begin - 1] in _STOPS else _MIN_GAP) * run.size:
                cells.append(Cell(_whole(text[start:begin]), left, right))
                start, left = end, follows
        return (*cells, Cell(_whole(text[start : run.end]), left, run.right))
