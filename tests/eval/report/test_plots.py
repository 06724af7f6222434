from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.report.figures import views
from eval.report.plots import PALETTE, Plot, draw, inline, spread
from tests.eval.report.maker import result, run
from tests.eval.results import make_result, make_run

HOSTILE = "</text><script>alert(1)</script> $x^{ \u202e\x00 \ud800 ../../etc"


@pytest.fixture(scope="module")
def plots() -> tuple[Plot, ...]:
    runs = (run("no-model", share=0.6, joules=0.5, n=9), run("eco", share=0.7, joules=0.6, n=9, method="measured"))
    return draw(views([result(*runs)]), with_png=False)


def test_there_is_a_plot_for_joules_tokens_and_stages(plots: tuple[Plot, ...]) -> None:
    assert [plot.name for plot in plots] == [
        "01-containment-energy_j-town",
        "02-containment-prompt_tokens-town",
        "03-containment-context_tokens-town",
        "04-groundedness-energy_j-town",
        "05-groundedness-prompt_tokens-town",
        "06-groundedness-context_tokens-town",
        "07-stages-J-town",
    ]


def test_every_plot_is_a_picture_with_title_and_description(plots: tuple[Plot, ...]) -> None:
    for plot in plots:
        root = ElementTree.fromstring(plot.svg)
        assert [child.text for child in root[:2]] == [plot.title, plot.description]


def test_pixels_are_made_when_asked_for() -> None:
    (plot,) = draw(views([make_result(make_run({"context_tokens": [1.0], "mrr@10": [1.0]}))]), with_png=True)
    assert plot.png.startswith(b"\x89PNG")


def test_every_run_is_named_in_picture_and_words(plots: tuple[Plot, ...]) -> None:
    for plot in plots:
        drawn = "".join(ElementTree.fromstring(plot.svg).itertext())
        for name in ("no-model", "eco"):
            assert name in plot.description
            assert name in drawn.replace(plot.description, "")


def test_marks_of_measured_and_modelled_joules_are_told_apart(plots: tuple[Plot, ...]) -> None:
    drawn = "".join(ElementTree.fromstring(plots[0].svg).itertext()).replace(plots[0].description, "")
    assert "measured" in drawn
    assert "modelled" in drawn


def test_the_axis_says_joules_or_cpu_seconds() -> None:
    drawn = draw(views([make_result(make_run({"containment": [1.0]}, cpu_s=[1.0]))]), with_png=False)
    assert "CPU seconds per answer (logarithmic)" in drawn[0].svg
    assert "joules" not in drawn[0].svg


def test_no_date_and_no_pixels_unless_asked_for() -> None:
    (plot,) = draw(views([make_result(make_run({"context_tokens": [1.0], "mrr@10": [1.0]}))]), with_png=False)
    assert plot.png == b""
    assert "date" not in plot.svg
    assert "Matplotlib" not in plot.svg


def test_a_hostile_name_is_drawn_as_text_and_makes_no_path() -> None:
    whole = make_run({"containment": [1.0]}, cpu_s=[1.0], pipeline=HOSTILE, data=HOSTILE)
    for plot in draw(views([make_result(whole)]), with_png=True):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", plot.name)
        assert ElementTree.fromstring(plot.svg).findall(".//{*}script") == []
        assert "<script" not in inline(plot)


def test_a_part_of_a_page_has_no_address_and_its_own_ids(plots: tuple[Plot, ...]) -> None:
    parts = [inline(plot) for plot in plots]
    assert not any("://" in part or "<style" in part for part in parts)
    ids = [found for part in parts for found in re.findall(r'\bid="([^"]*)"', part)]
    assert len(ids) == len(set(ids))
    for part in parts:
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', part)
        assert used
        assert set(used) <= set(re.findall(r'\bid="([^"]*)"', part))


def test_every_colour_of_a_part_follows_the_page(plots: tuple[Plot, ...]) -> None:
    known = {name for name, _, _ in PALETTE}
    for plot in plots:
        part = inline(plot)
        assert re.findall(r"#[0-9a-f]{6}\b", part) == []
        assert set(re.findall(r"var\(--(\w+)\)", part)) <= known


def test_no_points_no_plot() -> None:
    assert draw(views([make_result(make_run({"containment": [None]}))]), with_png=False) == ()


@given(st.lists(st.floats(0.0, 1.0), max_size=40), st.floats(0.01, 0.2))
def test_names_keep_their_order_their_distance_and_inside(places: list[float], gap: float) -> None:
    moved = spread(places, gap)
    order = sorted(range(len(places)), key=lambda n: places[n])
    least = min(gap, 1.0 / max(1, len(places)))
    assert all(moved[above] - moved[below] >= least - 1e-9 for below, above in pairwise(order))
    assert all(-1e-9 <= place <= 1.0 + 1e-9 for place in moved)


@given(st.lists(st.integers(0, 10), unique=True, max_size=8))
def test_names_with_room_stay_where_they_are(places: list[int]) -> None:
    heights = [place / 10 for place in places]
    assert spread(heights, 0.05) == pytest.approx(heights)
