"""Characters of a PDF page that a reader of the page would not see.

They are letters that are (nearly) white where nothing but white lies under them, letters that are not painted at all (render mode 3, or
transparent) where no picture lies, letters smaller than a point, and letters beyond the edges of the page. On a page that pictures
cover, letters that are not painted are what was recognised of a scan, and count as seen. So does what stands on a picture, whatever it
shows, and what is painted over later, cut off by a clipping path or as dark as its ground.

It goes in steps, each for what the one before leaves. Every piece of text is asked for its looks. Where one is suspect, what lies under
it is collected: filled paths and pictures, by their boxes. White text that is on none of them is held against a small drawing of the
page, as PDFium does not tell what is filled with a colour gradient from what is white. What stays suspect is told by the character.

Of a page with more than 20,000 objects those are asked that are drawn first. Text of the others is found by its characters, which the
reader bounds, and judged by the grounds among the first ones; what forms do to its place and size is not known then, and no drawing is
made.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ingest.read.pdfium import (
    FLOATS,
    IMAGE,
    INVISIBLE,
    NUMBER,
    PAGE,
    PATH,
    PLACE,
    SHADING,
    Box,
    Matrix,
    Objects,
    Part,
    address_of,
    function,
)

if TYPE_CHECKING:
    from pypdfium2 import PdfPage, PdfTextPage

# A page of text has 50 to 150 objects, a full slide some 1,000. Asking for the looks of one takes 3 microseconds, for its ground 10.
_MAX_OBJECTS = 20_000
# Of 255: colours that differ by no more are told apart by nobody (as in `ingest.read.hidden`), and what covers no more shows nothing.
_MAX_PALE = 8
_MAX_FAINT = 15
_MIN_SIZE_PT = 1.0
# A line that begins on the page and runs over its edge by no more than this share of the page is a fault of the layout.
_MAX_OVERRUN = 0.25
# The middle of a letter is three points or more from the rim of a band that it stands on; a poster has larger letters, and larger cells.
_CELL_PT = 2.0
_MAX_CELLS = 512
# A scan may be a little smaller than its page, and in strips.
_MIN_COVER = 0.8
# Drawings have a pixel a point, and no more pixels a side than this. Letters ink a third of their line and more, a rule a seventh.
_MAX_SIDE = 1_500
_MIN_INKED = 0.25
# Render modes of text: those that paint its edge only, its edge too, and the one that cuts out what is painted later.
_EDGE, _BOTH, _CUTTING = (1, 5), (2, 6), 7
# Why an object is suspect; dust, and what is beyond the edges of the page, is so without a look at its ground or its letters.
_WHITE, _UNPAINTED, _WHOLLY, _OVERRUN = 1, 2, 4, 8


def unseen_chars(page: PdfPage, text_page: PdfTextPage) -> frozenset[int]:
    """Find the characters of a page that a reader of it would not see.

    Args:
        page: The page.
        text_page: Its characters.

    Returns:
        Their numbers as PDFium counts them; blanks are among them, those that PDFium adds are not.
    """
    objects, frame = Objects(page, _MAX_OBJECTS), Box(*page.get_bbox())
    parts = objects.columns()
    if parts is not None and not any(part.unpainted or _odd(part, frame) for part in parts):
        return frozenset()
    suspects = _Suspects(objects, frame)
    if parts is None:
        suspects.judge_all()
    else:
        suspects.judge_odd(parts)
    suspects.spare_grounds()
    if parts is not None:
        suspects.spare_drawn(page)
    return frozenset(suspects.chars(text_page))


def _odd(part: Part, frame: Box) -> list[int]:
    """Numbers of the pieces that `_Suspects` has to judge one by one: on most pages none."""
    colours, boxes = part.colours, part.boxes
    if part.around is not PAGE:
        boxes = [side for no in range(0, len(boxes), 4) for side in part.around.box(Box(*boxes[no : no + 4]))]
    columns = zip(part.modes, colours[::4], colours[3::4], boxes[::4], boxes[1::4], boxes[2::4], boxes[3::4], strict=True)
    left_rim, low_rim, right_rim, high_rim = frame
    return [
        no
        for no, (mode, red, cover, left, bottom, right, top) in enumerate(columns)
        if mode
        # White has red in it.
        or red >= 255 - _MAX_PALE
        or cover < 255
        or left < left_rim
        or bottom < low_rim
        or right > right_rim
        or top > high_rim
        or right - left < _MIN_SIZE_PT
        or top - bottom < _MIN_SIZE_PT
    ]


class _Plane:
    """Marks on a raster of small cells over a page."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._n_columns = n_columns
        self._cells = bytearray(n_rows * n_columns)
        self.table = np.frombuffer(self._cells, np.bool_).reshape(n_rows, n_columns)

    def share(self) -> float:
        """Of the cells, how many have a mark."""
        return int(np.count_nonzero(self.table)) / self.table.size

    def row(self, no: int, begin: int, end: int) -> bytes:
        """Cells of a row, 1 where there is a mark."""
        start = no * self._n_columns
        return bytes(self._cells[start + begin : start + end])


class _Ground:
    """What lies under text: where there is ink, and where there are pictures."""

    def __init__(self, frame: Box) -> None:
        self._left, self._bottom = frame.left, frame.bottom
        width, height = frame.right - frame.left, frame.top - frame.bottom
        self._scale = min(1 / _CELL_PT, _MAX_CELLS / max(width, height, 1.0))
        self._half_cell = 0.5 / self._scale
        self._n_rows, self._n_columns = max(round(height * self._scale), 1), max(round(width * self._scale), 1)
        self.ink, self.pictures = _Plane(self._n_rows, self._n_columns), _Plane(self._n_rows, self._n_columns)

    def paint(self, box: Box, plane: _Plane) -> None:
        """Mark the cells whose middle is in a box; a rule is too thin for most."""
        plane.table[self._row(box.bottom) : self._row(box.top), self.column(box.left) : self.column(box.right)] = True

    def strip(self, box: Box, plane: _Plane) -> bytes:
        """The cells, at least one, along the middle of a line of text."""
        row = min(self._row((box.bottom + box.top) / 2 - self._half_cell), self._n_rows - 1)
        begin = min(self.column(box.left), self._n_columns - 1)
        return plane.row(row, begin, max(self.column(box.right), begin + 1))

    def _row(self, y: float) -> int:
        # In this order what is no number becomes 0.
        return round(min(max(0.0, (y - self._bottom) * self._scale), self._n_rows))

    def column(self, x: float) -> int:
        """The border of cells that is next to a place."""
        return round(min(max(0.0, (x - self._left) * self._scale), self._n_columns))

    def cell(self, x: float) -> int:
        """The cell in which a place is."""
        return self.column(x - self._half_cell)


class _Suspects:
    """The text objects of a page that may be unseen, each with why, and then those that are, wholly or in part."""

    def __init__(self, objects: Objects, frame: Box) -> None:
        self._objects = objects
        self._frame = frame
        x, y = _MAX_OVERRUN * (frame.right - frame.left), _MAX_OVERRUN * (frame.top - frame.bottom)
        self._overrun = Box(frame.left - x, frame.bottom - y, frame.right + x, frame.top + y)
        self._looks: dict[int, int] = {}
        self._boxes: dict[int, Box] = {}
        self._strips: dict[int, tuple[int, bytes]] = {}
        self._known: set[int] = set()
        self._is_whole = True

    @cached_property
    def _ground(self) -> _Ground:
        return _Ground(self._frame)

    def judge_odd(self, parts: Sequence[Part]) -> None:
        """Look at text that is odd, and at that which is not painted, unless pictures cover the page."""
        is_scan = any(part.unpainted for part in parts) and self._is_scan(parts)
        for part in parts:
            for no in _odd(part, self._frame):
                self.judge(part.handles[no], part.modes[no], part.around)
            for child in () if is_scan else part.unpainted:
                self.judge(child, INVISIBLE, part.around)

    def _is_scan(self, parts: Sequence[Part]) -> bool:
        """Whether pictures cover the page."""
        pictures = self._ground.pictures
        for part in parts:
            for child in part.others:
                if self._objects.kind(child) == IMAGE:
                    self._ground.paint(self._objects.box(child, part.around), pictures)
        return pictures.share() >= _MIN_COVER

    def judge_all(self) -> None:
        """Look at as many objects as are looked at; `chars` takes the text of the others too."""
        self._is_whole = False
        self._objects.each(self.judge)

    def judge(self, child: int, mode: int, around: Matrix) -> None:
        """Take what of a piece of text makes it suspect."""
        if mode < 0 or mode == _CUTTING:
            return
        box = self._objects.box(child, around)
        if mode == INVISIBLE:
            self._looks[child], self._boxes[child] = _UNPAINTED, box
            return
        ink, cover = self._objects.ink(child, is_edge=mode in _EDGE)
        if mode in _BOTH and ink <= _MAX_PALE:
            ink, cover = self._objects.ink(child, is_edge=True)
        look = 0 if ink > _MAX_PALE else _WHITE if cover > _MAX_FAINT else _UNPAINTED
        # The box of a hyphen is as low as one of dust, and those of bitmap fonts may be empty.
        is_low = min(box.right - box.left, box.top - box.bottom) < _MIN_SIZE_PT
        if (is_low and self._objects.size(child, around) < _MIN_SIZE_PT) or box.is_off(self._frame):
            look |= _WHOLLY
        elif not box.is_within(self._overrun):
            look |= _OVERRUN
        if look:
            self._looks[child], self._boxes[child] = look, box

    def spare_grounds(self) -> None:
        """Let go white text on a ground, and text that is not painted on pictures, whether they come before it or after."""
        if self._is_whole and not any(look & (_WHITE | _UNPAINTED) for look in self._looks.values()):
            return
        self._objects.each(self._lay)
        pictures = self._ground.pictures
        if pictures.share() >= _MIN_COVER:
            pictures.table[:] = True
        for child in [child for child, look in self._looks.items() if look & _UNPAINTED]:
            self._spare_on(child, _UNPAINTED, pictures)

    def _lay(self, child: int, mode: int, around: Matrix) -> None:
        """Paint what is no text on the ground, and see what was painted before under white text."""
        objects, ground = self._objects, self._ground
        if mode >= 0:
            self._known.add(child)
            if self._looks.get(child, 0) & _WHITE:
                self._spare_on(child, _WHITE, ground.ink)
            return
        kind = objects.kind(child)
        if kind in (IMAGE, SHADING) or (kind == PATH and objects.is_filled(child) and objects.ink(child)[0] > _MAX_PALE):
            box = objects.box(child, around)
            ground.paint(box, ground.ink)
            if kind == IMAGE:
                ground.paint(box, ground.pictures)

    def _spare_on(self, child: int, why: int, plane: _Plane) -> None:
        """Let go what stands on marks of the ground; of text that does so in part, keep where."""
        box = self._boxes[child]
        strip = self._ground.strip(box, plane)
        if 0 not in strip:
            self._spare(child, why)
        elif 1 in strip:
            self._strips[child] = (self._ground.column(box.left), strip)

    def _spare(self, child: int, why: int) -> None:
        self._looks[child] -= why
        if not self._looks[child]:
            del self._looks[child]

    def spare_drawn(self, page: PdfPage) -> None:
        """Let go white text where the page shows a ground, if none is known there, neither below it nor painted over it."""
        from pypdfium2 import PdfiumError

        ground = self._ground
        whites = [
            child
            for child, look in self._looks.items()
            if look & (_WHITE | _WHOLLY) == _WHITE and 1 not in ground.strip(self._boxes[child], ground.ink)
        ]
        if not whites:
            return
        try:
            bitmap = page.render(scale=min(1.0, _MAX_SIDE / max(*page.get_size(), 1.0)), grayscale=True)
        except PdfiumError:
            # A page that cannot be drawn shows no ground.
            return
        with closing(bitmap):
            pixels = np.frombuffer(bitmap.buffer, np.uint8).reshape(bitmap.height, bitmap.stride)[:, : bitmap.width]
            places = bitmap.get_posconv(page)
            for child in whites:
                left, bottom, right, top = self._boxes[child].cut(self._frame)
                # Pages may be turned.
                corners = (places.to_bitmap(left, bottom), places.to_bitmap(right, top))
                (x, x_end), (y, y_end) = (sorted(max(at, 0) for at in side) for side in zip(*corners, strict=True))
                box = pixels[y : y_end + 1, x : x_end + 1]
                if box.size and (box < 255 - _MAX_PALE).mean() >= _MIN_INKED:
                    self._spare(child, _WHITE)

    def chars(self, text_page: PdfTextPage) -> Iterator[int]:
        """Numbers of the characters that are unseen, after all that is not was let go."""
        if self._is_whole and not self._looks:
            return
        text, memory = address_of(text_page.raw), FLOATS()
        to_box = ctypes.addressof(memory)
        object_of = function("FPDFText_GetTextObject", PLACE, PLACE, NUMBER)
        box_of = function("FPDFText_GetLooseCharBox", NUMBER, PLACE, NUMBER, PLACE)
        for no in range(text_page.count_chars()):
            child = object_of(text, no)
            if not self._is_whole:
                self._judge_late(child)
            look = self._looks.get(child, 0)
            if look & _WHOLLY:
                yield no
            elif look:
                box_of(text, no, to_box)
                # The order of the numbers is another one here.
                left, top, right, bottom = memory[:4]
                if self._is_unseen(child, look, Box(left, bottom, right, top)):
                    yield no

    def _judge_late(self, child: int | None) -> None:
        """Take text that lies beyond the objects that were looked at."""
        if child is None or child in self._known:
            return
        self._known.add(child)
        self.judge(child, self._objects.mode(child), PAGE)
        look = self._looks.get(child, 0)
        if look & _WHITE:
            self._spare_on(child, _WHITE, self._ground.ink)
        elif look & _UNPAINTED:
            self._spare_on(child, _UNPAINTED, self._ground.pictures)

    def _is_unseen(self, child: int, look: int, box: Box) -> bool:
        """Whether a character of a suspect is."""
        if look & _OVERRUN and box.is_off(self._overrun):
            return True
        if not look & (_WHITE | _UNPAINTED):
            return False
        if child not in self._strips:
            return True
        begin, strip = self._strips[child]
        at = self._ground.cell((box.left + box.right) / 2) - begin
        return not strip[min(max(at, 0), len(strip) - 1)]
