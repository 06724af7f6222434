from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.cost import Figure, Method
from rag.power.figure import METHODS, Band, product, rounded, said, total, weakest


def figure(value: float, lo: float, hi: float, method: Method = "modelled") -> Figure:
    return Figure(value, lo, hi, "J", method, f"table {method}", "server_wall")


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    value = draw(st.floats(1e-9, 1e9))
    lo, hi = draw(st.floats(0, 1)), draw(st.floats(1, 10))
    return figure(value, value * lo, value * hi, draw(st.sampled_from(METHODS)))


@given(parts=st.lists(figures(), min_size=1, max_size=6))
def test_total_is_as_weak_as_its_weakest_part(parts: list[Figure]) -> None:
    whole = total(parts)
    assert METHODS.index(whole.method) == max(METHODS.index(part.method) for part in parts)
    assert (whole.value, whole.lo, whole.hi) == pytest.approx(
        (sum(p.value for p in parts), sum(p.lo for p in parts), sum(p.hi for p in parts))
    )


def test_part_of_nothing_does_not_weaken_a_total() -> None:
    whole = total([figure(2, 1, 3, "apportioned"), figure(0, 0, 0, "assumed")])
    assert (whole.method, whole.source) == ("apportioned", "table apportioned")


def test_total_of_nothing_but_zeros_keeps_the_first() -> None:
    assert total([figure(0, 0, 0), figure(0, 0, 0, "assumed")]) == figure(0, 0, 0)


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("second", METHODS)
def test_weakest_does_not_depend_on_the_order(first: Method, second: Method) -> None:
    assert weakest(first, second) == weakest(second, first) == METHODS[max(map(METHODS.index, (first, second)))]


def test_product_multiplies_ends_and_takes_the_weaker_method() -> None:
    grams = product(figure(10, 5, 20, "apportioned"), Band(2, 1, 3), "g", "modelled", "grid")
    assert (grams.value, grams.lo, grams.hi, grams.unit, grams.method) == (20, 5, 60, "g", "modelled")
    assert grams.source == "table apportioned; grid"


@pytest.mark.parametrize(
    ("value", "lo", "hi", "expected"),
    [
        (0.02345, 0.014, 0.0469, (0.02, 0.01, 0.05)),
        (1.534, 1.38, 1.76, (1.5, 1.3, 1.8)),
        (1234.0, 1200.0, 1260.0, (1230.0, 1200.0, 1260.0)),
        (0.02, 0.001, 0.2, (0.02, 0.001, 0.2)),  # a wide band does not round the value away
        (5.0, 5.0, 5.0, (5.0, 5.0, 5.0)),
        (0.0, 0.0, 0.0, (0.0, 0.0, 0.0)),
        (0.0, 0.0, 3.2, (0.0, 0.0, 4.0)),
        (1e-30, 0.0, 1e5, (1e-30, 0.0, 1e5)),  # more places between value and end than a decimal has by default
        (5e-324, 0.0, 1e300, (5e-324, 0.0, 1e300)),
    ],
)
def test_figure_has_the_digits_that_its_band_supports(
    value: float, lo: float, hi: float, expected: tuple[float, float, float]
) -> None:
    short = rounded(figure(value, lo, hi))
    assert (short.value, short.lo, short.hi) == expected


@given(whole=figures())
def test_rounding_keeps_the_band_around_the_value(whole: Figure) -> None:
    short = rounded(whole)
    assert 0 <= short.lo <= short.value <= short.hi
    assert short.lo <= whole.lo * (1 + 1e-9)
    assert short.hi >= whole.hi * (1 - 1e-9)
    assert short.value > 0


@given(whole=figures())
def test_rounding_moves_a_value_by_less_than_its_uncertainty(whole: Figure) -> None:
    half_width = max((whole.hi - whole.lo) / 2, whole.value * 0.01)
    assert abs(rounded(whole).value - whole.value) <= half_width


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (figure(0.02345, 0.014, 0.0469), "20 mJ (10 to 50, modelled)"),
        (figure(1534.0, 1380.0, 1760.0, "apportioned"), "1.5 kJ (1.3 to 1.8, apportioned)"),
        (figure(2.1e-6, 1e-6, 4e-6), "2 µJ (1 to 4, modelled)"),
        (figure(0, 0, 0), "0 J (0 to 0, modelled)"),
    ],
)
def test_figure_for_people_has_a_prefix_and_its_method(shown: Figure, words: str) -> None:
    assert said(shown) == words
