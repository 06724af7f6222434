"""Arithmetic of figures: a band goes along with every value, a total is as weak as its weakest part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from rag.cost import Figure, Method, Unit

# From strong to weak.
METHODS: tuple[Method, ...] = ("measured", "apportioned", "modelled", "assumed")
_PREFIXES = ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))


class Band(NamedTuple):
    """A value between two ends; ``0 <= lo <= value <= hi``."""

    value: float
    lo: float
    hi: float

    def times(self, factor: float) -> Band:
        """All three multiplied by a number of 0 or more."""
        return Band(self.value * factor, self.lo * factor, self.hi * factor)

    def by(self, other: Band) -> Band:
        """Product of two independent bands: ends meet ends, so the result is wide rather than narrow."""
        return Band(self.value * other.value, self.lo * other.lo, self.hi * other.hi)


def weakest(first: Method, second: Method) -> Method:
    """The weaker of two methods."""
    return first if METHODS.index(first) >= METHODS.index(second) else second


def total(parts: Sequence[Figure], unit: Unit | None = None) -> Figure:
    """Sum of one or more figures of one unit.

    Parts whose band ends at zero add nothing and do not weaken the sum.

    Args:
        parts: Figures of one unit.
        unit: Of the sum, where it is another way to say the same; None means that of the parts.

    Returns:
        Sums of values and of ends, with the weakest method, all sources and boundaries in order, and the first window and year.
    """
    whole = parts[0]
    value, lo, hi, method, source, boundary = whole.value, whole.lo, whole.hi, whole.method, whole.source, whole.boundary
    window_s, year = whole.window_s, whole.year
    for part in parts[1:]:
        if part.hi <= 0:
            continue
        if hi <= 0:  # what went before was nothing
            method, source, boundary, window_s, year = part.method, part.source, part.boundary, part.window_s, part.year
        value, lo, hi = value + part.value, lo + part.lo, hi + part.hi
        if part.method != method:
            method = weakest(method, part.method)
        if part.source not in source:
            source = f"{source}; {part.source}"
        if part.boundary not in boundary:
            boundary = f"{boundary}+{part.boundary}"
        window_s = part.window_s if window_s is None else window_s
        year = part.year if year is None else year
    return Figure(value, lo, hi, unit or whole.unit, method, source, boundary, window_s, year)


def product(figure: Figure, factor: Band, unit: Unit, method: Method, source: str, year: int | None = None) -> Figure:
    """A figure times a factor of another kind, for example joules times grams per joule.

    Both are taken as independent and ends meet ends, so the band is wide rather than narrow.

    Args:
        figure: What is multiplied; its boundary and window stay.
        factor: The factor, in units of the result per unit of the figure.
        unit: Of the result.
        method: How the factor came about.
        source: Where it comes from, put behind the source of the figure.
        year: Of the factor's data; None keeps that of the figure.

    Returns:
        The product, with the weaker of the two methods.
    """
    return Figure(
        figure.value * factor.value,
        figure.lo * factor.lo,
        figure.hi * factor.hi,
        unit,
        weakest(figure.method, method),
        f"{figure.source}; {source}",
        figure.boundary,
        figure.window_s,
        figure.year if year is None else year,
    )


def rounded(figure: Figure) -> Figure:
    """The figure with no more digits than its band supports.

    Values are rounded at the place of the first digit of half the width of the band, as in metrology (JCGM 100, 7.2.6), but always
    keep one digit; the ends are rounded outward at that place, or at their own first digit where that is finer.

    Args:
        figure: Any figure.

    Returns:
        The same with shorter numbers; zeros stay zeros.
    """
    half_width = (figure.hi - figure.lo) / 2
    place = _place(figure.value) if half_width <= 0 else min(_place(half_width), _place(figure.value))
    if half_width <= 0:
        place -= 2  # a band of no width says nothing of digits: three are plenty
    value = _at(figure.value, place, "ROUND_HALF_EVEN")
    return figure._replace(
        value=value,
        lo=min(value, _at(figure.lo, min(place, _place(figure.lo)), "ROUND_FLOOR")),
        hi=max(value, _at(figure.hi, min(place, _place(figure.hi)), "ROUND_CEILING")),
    )


def said(figure: Figure) -> str:
    """A figure for people, with the prefix that keeps it short: ``0.3 J (0.2 to 0.7, modelled)``."""
    short = rounded(figure)
    factor, prefix = next(((f, p) for f, p in _PREFIXES if short.value >= f), (1.0, "")) if short.value > 0 else (1.0, "")
    value, lo, hi = (f"{number / factor:.12g}" for number in (short.value, short.lo, short.hi))
    return f"{value} {prefix}{figure.unit} ({lo} to {hi}, {figure.method})"


def _place(number: float) -> int:
    """Power of ten of the first digit; large for zero, which has none."""
    return math.floor(math.log10(number)) if number > 0 else 99


def _at(number: float, place: int, rounding: str) -> float:
    """The number with its last digit at a power of ten."""
    from decimal import Context, Decimal  # exact in tens; loaded when a result is shown

    if number <= 0:
        return 0.0
    # Floats reach over 633 places; an end may have its first digit at one side of them and be rounded at the other.
    return float(Decimal(repr(number)).quantize(Decimal((0, (1,), place)), rounding=rounding, context=Context(prec=700)))
