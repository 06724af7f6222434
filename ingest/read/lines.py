"""Lines of a PDF page with place, size and weight, as `ingest.read.layout` needs them.

PDFium gives the characters of a page in the order in which they were drawn, with line ends that it infers. Every call into it costs
about a microsecond from Python, so characters are asked for their place only where lines begin and end and around spaces.
"""

from __future__ import annotations

import ctypes
import re
from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING

from ingest.read.pdfium import NUMBER, PLACE, address_of, exhaust, function

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
# A narrow blank is a quarter of the font size; letters of one word stand closer.
_MAX_GAP_IN_WORD = 0.15
# Unseen characters of a line, and blanks between.
_UNSEEN = re.compile("x(?:[x ]*x)?")
# Lines with fewer blanks are always looked into; others when their characters are wider by this than those of most lines. A gap of one
# font size in a line of 60 characters makes 1.02; tables have several such gaps and fewer characters.
_MIN_BLANKS = 5
_MIN_STRETCH = 1.05
_SAMPLED = 6
_BOLD_NAME = re.compile("bold|black|heavy|demi|cmbx|cmssbx", re.IGNORECASE)
# PDFium derives the weight from the stems: Computer Modern gives 345 for its roman and 570 for its bold face.
_MIN_BOLD = 550
_MAX_FONT_NAME = 128
_NAME = ctypes.c_char * _MAX_FONT_NAME


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
        is_hidden: Whether a reader of the page would not see it.
    """

    cells: tuple[Cell, ...]
    page: int
    baseline: float
    size: float
    is_bold: bool
    text: str
    left: float
    right: float
    is_hidden: bool = False


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


def lines_of(text_page: PdfTextPage, page: int, unseen: Collection[int] = ()) -> list[Line]:
    """Read the lines of a page.

    Args:
        text_page: Its characters.
        page: Its number, from 1.
        unseen: Numbers of the characters that a reader of the page would not see, as PDFium counts.

    Returns:
        In the order in which they were drawn; blank lines are left out. What is unseen is no part of the lines around it; it makes lines
        of its own, which come last.
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
    probe = _Probe(address_of(text_page.raw), is_shifted=n_written != n)
    if not unseen:
        return _lines(text, page, probe)
    spans = _unseen_spans(text, probe, unseen)
    hidden = _lines(_only(text, spans), page, probe)
    return [*_lines(_without(text, spans, probe), page, probe), *(replace(line, is_hidden=True) for line in hidden)]


def _lines(text: str, page: int, probe: _Probe) -> list[Line]:
    runs = probe.runs(text, list(_line_spans(text)))
    found = zip(_cells(text, runs, probe), runs, strict=True)
    # A font that does not say what its characters are gives NUL for each, and so a line without text.
    return [line_of(cells, page, run.baseline, run.size, run.is_bold) for cells, run in found if all(cell.text for cell in cells)]


def _unseen_spans(text: str, probe: _Probe, unseen: Collection[int]) -> list[tuple[int, int]]:
    """Begin and end of what is unseen in the lines of a text, with the blanks within; single signs, such as a white full stop, stay."""
    marks = "".join(
        "\n" if char in "\r\n" else " " if char.isspace() else "x" if probe.at(no) in unseen else "."
        for no, char in enumerate(text)
    )
    spans = [match.span() for match in _UNSEEN.finditer(marks)]
    return [(begin, end) for begin, end in spans if any(map(str.isalnum, text[begin:end]))]


def _only(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text in which everything but some spans is line ends, so that places stay."""
    pieces: list[str] = []
    reached = 0
    for begin, end in spans:
        pieces += ("\n" * (begin - reached), text[begin:end])
        reached = end
    return "".join(pieces)


def _without(text: str, spans: Sequence[tuple[int, int]], probe: _Probe) -> str:
    """A text without some spans: in their place stand blanks or, where they part letters of one word, signs that `_whole` takes out."""
    pieces: list[str] = []
    reached = 0
    for begin, end in spans:
        is_word = begin > 0 and end < len(text) and not (text[begin - 1].isspace() or text[end].isspace())
        sign = "\0" if is_word and probe.is_word(begin - 1, end) else " "
        pieces += (text[reached:begin], sign * (end - begin))
        reached = end
    return "".join([*pieces, text[reached:]])


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
    """Asks PDFium about single characters of one page; ``is_shifted`` if its text has other numbers than its characters."""

    def __init__(self, page: int, *, is_shifted: bool) -> None:
        self._page = page
        self._index = function("FPDFText_GetCharIndexFromTextIndex", NUMBER, PLACE, NUMBER) if is_shifted else None
        self._name, self._flags = _NAME(), NUMBER()
        self._to_name, self._to_flags = ctypes.addressof(self._name), ctypes.addressof(self._flags)
        self._loose_box = function("FPDFText_GetLooseCharBox", NUMBER, PLACE, NUMBER, PLACE)
        self._font_size = function("FPDFText_GetFontSize", ctypes.c_double, PLACE, NUMBER)
        self._matrix = function("FPDFText_GetMatrix", NUMBER, PLACE, NUMBER, PLACE)
        self._weight = function("FPDFText_GetFontWeight", NUMBER, PLACE, NUMBER)
        self._font_info = function("FPDFText_GetFontInfo", ctypes.c_ulong, PLACE, NUMBER, PLACE, ctypes.c_ulong, PLACE)
        self._origin = function("FPDFText_GetCharOrigin", NUMBER, PLACE, NUMBER, PLACE, PLACE)
        self._bold_names: dict[bytes, bool] = {}

    def at(self, i: int) -> int:
        """Number of the character at a place of the text."""
        return i if self._index is None else int(self._index(self._page, i))

    def _boxes(self, chars: Sequence[int]) -> Sequence[float]:
        """Left, top, right and bottom of characters, one after the other."""
        boxes = array("f", (0.0,)) * (4 * len(chars))
        begin = boxes.buffer_info()[0]
        exhaust(map(self._loose_box, repeat(self._page), chars, range(begin, begin + 16 * len(chars), 16)))
        return boxes

    def _is_bold(self, at: int) -> bool:
        if self._weight(self._page, at) >= _MIN_BOLD:
            return True
        n = self._font_info(self._page, at, self._to_name, _MAX_FONT_NAME, self._to_flags)
        name = self._name.value if 0 < n <= _MAX_FONT_NAME else b""
        if name not in self._bold_names:
            self._bold_names[name] = _BOLD_NAME.search(name.decode("latin-1")) is not None
        return self._bold_names[name]

    def is_word(self, i: int, follows: int) -> bool:
        """Whether two characters stand so close that they are of one word."""
        chars = [self.at(i), self.at(follows)]
        boxes = self._boxes(chars)
        return boxes[4] - boxes[2] < _MAX_GAP_IN_WORD * self._sizes(chars)[0]

    def _sizes(self, chars: Sequence[int]) -> list[float]:
        """Of the font as it is shown: many writers set size 1 and scale."""
        matrices = array("f", (1, 0, 0, 1, 0, 0)) * len(chars)
        begin = matrices.buffer_info()[0]
        exhaust(map(self._matrix, repeat(self._page), chars, range(begin, begin + 24 * len(chars), 24)))
        sizes = map(self._font_size, repeat(self._page), chars)
        return [
            round(size * (c * c + d * d) ** 0.5, 1) or 1.0 for size, c, d in zip(sizes, matrices[2::6], matrices[3::6], strict=True)
        ]

    def runs(self, text: str, spans: Sequence[tuple[int, int]]) -> list[_Run]:
        """Lines by the begin and end of their text."""
        firsts, lasts = [begin for begin, _ in spans], [end - 1 for _, end in spans]
        if self._index is not None:
            firsts, lasts = list(map(self.at, firsts)), list(map(self.at, lasts))
        n = len(spans)
        origins = array("d", (0.0,)) * (2 * n)
        begin = origins.buffer_info()[0]
        exhaust(
            map(
                self._origin, repeat(self._page), firsts, range(begin, begin + 16 * n, 16), range(begin + 8, begin + 8 + 16 * n, 16)
            )
        )
        rights = self._boxes(lasts)[2::4]
        bold = [self._is_bold(first) and self._is_bold(last) for first, last in zip(firsts, lasts, strict=True)]
        columns = zip(spans, origins[::2], rights, origins[1::2], self._sizes(firsts), bold, strict=True)
        return [_Run(begin, end, text.count(" ", begin, end), *rest) for (begin, end), *rest in columns]

    def cells(self, text: str, run: _Run) -> tuple[Cell, ...]:
        cells: list[Cell] = []
        start, left = run.begin, run.left
        gaps = [match.span() for match in _SPACES.finditer(text, run.begin, run.end)]
        places = [place for begin, end in gaps for place in (begin - 1, end)]
        boxes = self._boxes(places if self._index is None else list(map(self.at, places)))
        for (begin, end), right, follows in zip(gaps, boxes[2::8], boxes[4::8], strict=True):
            if follows - right > (_MIN_GAP_OF_SENTENCES if text[begin - 1] in _STOPS else _MIN_GAP) * run.size:
                cells.append(Cell(_whole(text[start:begin]), left, right))
                start, left = end, follows
        return (*cells, Cell(_whole(text[start : run.end]), left, run.right))
