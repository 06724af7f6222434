"""PDFium by plain addresses: its functions, and the objects that a page is drawn of.

pypdfium2 wraps every handle in a typed pointer and checks every place that is written to, which doubles the time of a small call. What
is asked of each character or object of a page goes by addresses instead: a handle is a number, so it can be the key of a dictionary, and
results are written to memory of the caller, who keeps it.
"""

from __future__ import annotations

import ctypes
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pypdfium2 import PdfPage

PLACE = ctypes.c_void_p
"""Type of a handle, and of the address of memory that a function writes to."""
NUMBER = ctypes.c_int
PATH, IMAGE, SHADING, FORM = 2, 3, 4, 5
"""Types of objects besides text."""
INVISIBLE = 3
"""Render mode of text that is not painted."""
FLOATS = ctypes.c_float * 6
"""Memory for a box or a matrix. A type of arrays takes longer to make than to use, so it is made once."""
_NUMBERS = ctypes.c_uint * 4
exhaust = deque[object](maxlen=0).extend
"""Runs an iterator to its end and keeps nothing: the loop over ``map`` of a function is one in C."""


@cache
def function(name: str, result: type, *arguments: type) -> Callable[..., Any]:
    """Find a function of PDFium.

    Args:
        name: Its name.
        result: Its type, of `ctypes`; `PLACE` for a handle, which comes as a number, or as None where there is none.
        *arguments: Their types; `PLACE` for pointers of any kind. Nothing checks them: they are those of PDFium's header files.

    Returns:
        The function.
    """
    import pypdfium2.raw as pdfium

    # Calls of a microsecond need not let other threads run.
    return ctypes.PYFUNCTYPE(result, *arguments)(address_of(getattr(pdfium, name)))


def address_of(handle: object) -> int:
    """The address in a pointer, handle or function of pypdfium2."""
    return ctypes.cast(handle, PLACE).value or 0  # type: ignore[arg-type]


class Box(NamedTuple):
    """Points from the lower left corner of a page, or of a form."""

    left: float
    bottom: float
    right: float
    top: float

    def is_off(self, other: Box) -> bool:
        """Whether it has nothing in common with another one."""
        return self.right < other.left or self.left > other.right or self.top < other.bottom or self.bottom > other.top

    def is_within(self, other: Box) -> bool:
        """Whether it does not go beyond another one."""
        return self.left >= other.left and self.right <= other.right and self.bottom >= other.bottom and self.top <= other.top

    def cut(self, other: Box) -> Box:
        """The part of it that is in another one, with which it has something in common."""
        return Box(
            max(other.left, self.left), max(other.bottom, self.bottom), min(other.right, self.right), min(other.top, self.top)
        )


class Matrix(NamedTuple):
    """Where a form stands, or text: ``x`` becomes ``a * x + c * y + e``, ``y`` becomes ``b * x + d * y + f``."""

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    def box(self, box: Box) -> Box:
        """Smallest upright box around a box of the form."""
        corners = [(x, y) for x in (box.left, box.right) for y in (box.bottom, box.top)]
        xs = [self.a * x + self.c * y + self.e for x, y in corners]
        ys = [self.b * x + self.d * y + self.f for x, y in corners]
        return Box(min(xs), min(ys), max(xs), max(ys))

    def within(self, around: Matrix) -> Matrix:
        """The matrix of what stands in a form that stands somewhere itself."""
        (a, b, c, d, e, f), o = self, around
        x, y = (o.a * e + o.c * f + o.e, o.b * e + o.d * f + o.f)
        return Matrix(o.a * a + o.c * b, o.b * a + o.d * b, o.a * c + o.c * d, o.b * c + o.d * d, x, y)


PAGE = Matrix(1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
"""Where the page itself stands."""


@dataclass(frozen=True, slots=True)
class Part:
    """Objects of a page or of one form, without those of the forms in it; its painted text is in columns.

    Attributes:
        unpainted: Handles of text of render mode 3, which paints nothing.
        others: Handles of what is no text.
        handles: One a piece of painted text, and likewise in the other columns.
        modes: How they are painted, as the PDF standard counts.
        colours: Red, green, blue and cover of their insides, 0 to 255, one after the other; patterns are black.
        boxes: Left, bottom, right and top in the space of the form, one after the other.
        around: Where the form stands; `PAGE` without one.
    """

    unpainted: list[int]
    others: list[int]
    handles: list[int]
    modes: list[int]
    colours: Sequence[int]
    boxes: Sequence[float]
    around: Matrix


Visit = Callable[[int, int, Matrix], None]
"""Takes an object, its render mode (-1 for what is no text) and where the form that it is part of stands (`PAGE` without one)."""


class Objects:
    """The objects that a page is drawn of.

    Args:
        page: The page; it stays open while they are asked.
        n_most: How many are looked at.
    """

    def __init__(self, page: PdfPage, n_most: int) -> None:
        self._page = address_of(page.raw)
        self._n_most = n_most
        self._floats, self._numbers = FLOATS(), _NUMBERS()
        self._to_floats, self._to_numbers = ctypes.addressof(self._floats), ctypes.addressof(self._numbers)
        self._mode = function("FPDFTextObj_GetTextRenderMode", NUMBER, PLACE)
        self._kind = function("FPDFPageObj_GetType", NUMBER, PLACE)
        self._bounds = function("FPDFPageObj_GetBounds", NUMBER, PLACE, PLACE, PLACE, PLACE, PLACE)
        self._fill = function("FPDFPageObj_GetFillColor", NUMBER, PLACE, PLACE, PLACE, PLACE, PLACE)

    def columns(self) -> list[Part] | None:
        """All objects, text in columns: that costs a third of visiting it. None if there are more than are looked at."""
        found: list[Part] = []
        holders = [(self._page, PAGE)]
        n_left = self._n_most
        while holders:
            holder, around = holders.pop()
            count, at = self._children(holder)
            n = count(holder)
            n_left -= n
            if n_left < 0:
                return None
            handles = list(map(at, repeat(holder), range(n)))
            modes = list(map(self._mode, handles))
            unpainted: list[int] = []
            others: list[int] = []
            if -1 in modes or INVISIBLE in modes:
                pairs = list(zip(handles, modes, strict=True))
                unpainted = [child for child, mode in pairs if mode == INVISIBLE]
                others = [child for child, mode in pairs if mode < 0]
                handles = [child for child, mode in pairs if mode >= 0 and mode != INVISIBLE]
                modes = [mode for mode in modes if mode >= 0 and mode != INVISIBLE]
                holders += [(child, self.matrix(child).within(around)) for child in others if self._kind(child) == FORM]
            colours, boxes = self._painted(handles)
            found.append(Part(unpainted, others, handles, modes, colours, boxes, around))
        return found

    def _painted(self, handles: list[int]) -> tuple[Sequence[int], Sequence[float]]:
        """Colours and boxes of objects."""
        n = len(handles)
        colours, boxes = array("I", (0, 0, 0, 255)) * n, array("f", (0, 0, 0, 0)) * n
        for ask, table in ((self._fill, colours), (self._bounds, boxes)):
            begin = table.buffer_info()[0]
            exhaust(map(ask, handles, *(range(begin + at, begin + at + 16 * n, 16) for at in (0, 4, 8, 12))))
        return colours, boxes

    def _children(self, holder: int) -> tuple[Callable[..., int], Callable[..., int]]:
        """Functions that count and give the objects of the page or of a form."""
        if holder == self._page:
            return function("FPDFPage_CountObjects", NUMBER, PLACE), function("FPDFPage_GetObject", PLACE, PLACE, NUMBER)
        return function("FPDFFormObj_CountObjects", NUMBER, PLACE), function("FPDFFormObj_GetObject", PLACE, PLACE, ctypes.c_ulong)

    def each(self, visit: Visit) -> None:
        """Visit objects in the order in which they are drawn, those of a form in the place of the form."""
        self._each(self._page, PAGE, visit, self._n_most)

    def _each(self, holder: int, around: Matrix, visit: Visit, n_left: int) -> int:
        """Visit what a page or form holds; returns how many more may be looked at."""
        count, at = self._children(holder)
        for no in range(min(count(holder), n_left)):
            if n_left <= 0:
                break
            n_left -= 1
            child = at(holder, no)
            mode = self._mode(child)
            if mode < 0 and self._kind(child) == FORM:
                n_left = self._each(child, self.matrix(child).within(around), visit, n_left)
            else:
                visit(child, mode, around)
        return n_left

    def mode(self, child: int) -> int:
        """How text is painted, as the PDF standard counts; -1 for what is no text."""
        return int(self._mode(child))

    def kind(self, child: int) -> int:
        """What an object is: `PATH`, `IMAGE`, `SHADING`, `FORM` or another number."""
        return int(self._kind(child))

    def matrix(self, child: int) -> Matrix:
        """Where a form stands, or text, in the space of what holds it."""
        function("FPDFPageObj_GetMatrix", NUMBER, PLACE, PLACE)(child, self._to_floats)
        return Matrix(*self._floats[:])

    def box(self, child: int, around: Matrix) -> Box:
        """Where an object is on the page; ``around`` is the matrix that came with it."""
        at = self._to_floats
        self._bounds(child, at, at + 4, at + 8, at + 12)
        box = Box(*self._floats[:4])
        return box if around is PAGE else around.box(box)

    def ink(self, child: int, *, is_edge: bool = False) -> tuple[int, int]:
        """How an object paints.

        Args:
            child: The object.
            is_edge: Whether to tell of its edge in the place of its inside.

        Returns:
            How much darker than white it makes a white page, and how much it covers what lies below, 0 to 255; patterns count as dark.
        """
        ask = function("FPDFPageObj_GetStrokeColor", NUMBER, PLACE, PLACE, PLACE, PLACE, PLACE) if is_edge else self._fill
        at = self._to_numbers
        if not ask(child, at, at + 4, at + 8, at + 12):
            return 255, 255
        red, green, blue, cover = self._numbers[:]
        return cover * (255 - min(red, green, blue)) // 255, cover

    def is_filled(self, path: int) -> bool:
        """Whether the inside of a path is painted."""
        function("FPDFPath_GetDrawMode", NUMBER, PLACE, PLACE, PLACE)(path, self._to_numbers, self._to_numbers + 4)
        return bool(self._numbers[0])

    def size(self, text: int, around: Matrix) -> float:
        """Size of the letters of text on the page, points; where they are squeezed, that of the shorter side."""
        function("FPDFTextObj_GetFontSize", NUMBER, PLACE, PLACE)(text, self._to_floats)
        size = abs(self._floats[0])
        at = self.matrix(text).within(around)
        return float(size * min(at.a**2 + at.b**2, at.c**2 + at.d**2) ** 0.5)
