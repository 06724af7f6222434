from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import InputError
from rag.power.forecast import Forecast, Point, read_forecast
from rag.power.start import choose_start, spoken_length, window_mean

HOUR = 3600.0
NOW = datetime.fromisoformat("2026-03-02T12:00:00Z").timestamp()


def hourly(*grams: float | None, start_s: float = NOW) -> Forecast:
    points = [Point(start_s + n * HOUR, start_s + (n + 1) * HOUR, value) for n, value in enumerate(grams) if value is not None]
    return Forecast(tuple(points), "average", "csv", "")


def test_fixed_forecast_has_a_fixed_start() -> None:
    choice = choose_start(hourly(300, 200, 100, 400), NOW, NOW + 4 * HOUR, HOUR)
    assert (choice.start_s, choice.mean_g_per_kwh, choice.now_g_per_kwh) == (NOW + 2 * HOUR, 100, 300)
    assert choice.is_deferred
    assert choice.signal == "average"
    assert choice.reason == "forecast mean of 100 g/kWh against 300 of a start at once"


def test_window_over_several_points_is_weighted_by_overlap() -> None:
    choice = choose_start(hourly(300, 200, 100, 400), NOW, NOW + 4 * HOUR, 1.5 * HOUR)
    assert choice.start_s == NOW + 1.5 * HOUR
    assert choice.mean_g_per_kwh == pytest.approx((200 * 0.5 + 100) / 1.5)


def test_last_start_before_the_deadline_is_tried_between_borders() -> None:
    choice = choose_start(hourly(300, 200, 100), NOW, NOW + 2.25 * HOUR, HOUR)
    assert choice.start_s == NOW + 1.25 * HOUR
    assert choice.mean_g_per_kwh == pytest.approx(175)


def test_earliest_of_equal_windows_is_chosen() -> None:
    assert choose_start(hourly(300, 100, 200, 100, 100), NOW, NOW + 5 * HOUR, HOUR).start_s == NOW + HOUR


@pytest.mark.parametrize(("later", "is_deferred"), [(95.1, False), (95.0, True)])
def test_gain_below_a_twentieth_does_not_wait(later: float, is_deferred: bool) -> None:
    choice = choose_start(hourly(100, later), NOW, NOW + 2 * HOUR, HOUR)
    assert choice.is_deferred is is_deferred
    assert choice.now_g_per_kwh == 100


def test_grid_without_carbon_does_not_wait() -> None:
    assert not choose_start(hourly(0, 0), NOW, NOW + 2 * HOUR, HOUR).is_deferred


@pytest.mark.parametrize("left_s", [-HOUR, 0.0, 0.9 * HOUR])
def test_deadline_too_close_starts_at_once_and_says_so(left_s: float) -> None:
    choice = choose_start(hourly(300, 100), NOW, NOW + left_s, HOUR)
    assert (choice.start_s, choice.is_deferred) == (NOW, False)
    assert choice.reason.startswith("no time to wait")


def test_deadline_just_met_by_a_start_at_once_starts_at_once() -> None:
    assert not choose_start(hourly(300, 100), NOW, NOW + HOUR, HOUR).is_deferred


def test_forecast_that_covers_no_window_starts_at_once() -> None:
    choice = choose_start(hourly(100, 50, start_s=NOW - 9 * HOUR), NOW, NOW + 5 * HOUR, HOUR)
    assert (choice.start_s, choice.mean_g_per_kwh, choice.is_deferred) == (NOW, None, False)
    assert "covers no whole window" in choice.reason


def test_window_does_not_span_a_gap() -> None:
    choice = choose_start(hourly(300, 10, None, 10, 200, 200), NOW, NOW + 6 * HOUR, 2 * HOUR)
    assert choice.start_s == NOW + 3 * HOUR
    assert choice.mean_g_per_kwh == pytest.approx(105)


@pytest.mark.parametrize("grams", [(200, 200, 200), (200, 210, 250), (200, 195, 191)])
@pytest.mark.parametrize("ahead_s", [60.0, HOUR, 2 * HOUR])
def test_flat_or_rising_forecast_that_begins_later_does_not_wait(grams: tuple[int, ...], ahead_s: float) -> None:
    choice = choose_start(hourly(*grams, start_s=NOW + ahead_s), NOW, NOW + 6 * HOUR, HOUR)
    assert (choice.start_s, choice.is_deferred, choice.mean_g_per_kwh) == (NOW, False, None)
    assert choice.now_g_per_kwh == pytest.approx(200)
    assert choice.is_stand_in


def test_grid_without_carbon_does_not_wait_for_a_forecast_that_begins_later() -> None:
    assert not choose_start(hourly(0, 0, start_s=NOW + 60), NOW, NOW + 6 * HOUR, HOUR).is_deferred


def test_first_point_within_its_length_of_now_stands_for_now() -> None:
    choice = choose_start(hourly(200, 260, 100, start_s=NOW + HOUR / 2), NOW, NOW + 5 * HOUR, 2 * HOUR)
    assert choice.start_s == NOW + 1.5 * HOUR
    assert choice.mean_g_per_kwh == pytest.approx(180)
    assert choice.now_g_per_kwh == pytest.approx((1.5 * 200 + 0.5 * 260) / 2)
    assert choice.is_stand_in
    assert (
        choice.reason
        == "forecast mean of 180 g/kWh against 215 of a start at once, with the point that begins in 30 min standing for now"
    )


def test_first_point_beyond_its_length_does_not_stand_for_now() -> None:
    points = (
        Point(NOW + 301, NOW + 601, 900),
        Point(NOW + 601, NOW + 601 + HOUR, 200),
        Point(NOW + 601 + HOUR, NOW + 3 * HOUR, 100),
    )
    choice = choose_start(Forecast(points, "average", "csv", ""), NOW, NOW + 3 * HOUR, HOUR)
    assert choice.now_g_per_kwh == pytest.approx((300 * 900 + 3300 * 200) / 3600)
    assert "the first window that it covers, in 5 min, standing in for a start at once" in choice.reason


def test_long_first_point_stands_for_an_hour_at_most() -> None:
    points = (Point(NOW + HOUR + 60, NOW + 4 * HOUR, 300), Point(NOW + 4 * HOUR, NOW + 6 * HOUR, 100))
    choice = choose_start(Forecast(points, "average", "csv", ""), NOW, NOW + 6 * HOUR, 2 * HOUR)
    assert choice.start_s == NOW + 4 * HOUR
    assert choice.now_g_per_kwh == pytest.approx(300)
    assert "the first window that it covers, in 1 h 1 min" in choice.reason


def test_first_covered_window_is_the_reference_where_the_one_of_now_has_a_gap() -> None:
    choice = choose_start(hourly(900, None, 300, 300, 100, 100), NOW, NOW + 6 * HOUR, 2 * HOUR)
    assert (choice.start_s, choice.is_stand_in) == (NOW + 4 * HOUR, True)
    assert choice.now_g_per_kwh == pytest.approx(300)


def test_time_that_a_point_stands_in_for_is_no_start_to_choose() -> None:
    points = (
        Point(NOW + HOUR / 2, NOW + 1.5 * HOUR, 200),
        Point(NOW + 1.5 * HOUR, NOW + 2.5 * HOUR, 20),
        Point(NOW + 2.5 * HOUR, NOW + 9 * HOUR, 190),
    )
    choice = choose_start(Forecast(points, "average", "csv", ""), NOW, NOW + 9 * HOUR, 2.25 * HOUR)
    assert choice.start_s >= NOW + HOUR / 2
    assert choice.is_deferred


@pytest.mark.parametrize(("seconds", "text"), [(0, "less than a minute"), (90 * 60, "1 h 30 min"), (86400 + 300, "1 d 5 min")])
def test_lengths_are_told_to_the_minute(seconds: float, text: str) -> None:
    assert spoken_length(seconds) == text


@pytest.mark.parametrize(("ahead_s", "mean"), [(0.0, 300), (HOUR / 2, 200), (1.5 * HOUR, None), (-1.0, None)])
def test_mean_of_a_window_is_known_where_it_is_covered(ahead_s: float, mean: float | None) -> None:
    assert window_mean(hourly(300, 100), NOW + ahead_s, HOUR) == mean


def test_change_to_summer_time_shifts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "spring.csv"
    path.write_text(
        "start,g_per_kwh\n2026-03-29T00:00:00+00:00,300\n2026-03-29T02:00:00+01:00,200\n2026-03-29T03:00:00+01:00,100\n",
        encoding="ascii",
    )
    now_s = datetime.fromisoformat("2026-03-29T00:30:00+00:00").timestamp()
    choice = choose_start(read_forecast(path), now_s, now_s + 2.5 * HOUR, 1.5 * HOUR)
    assert choice.start_s == datetime.fromisoformat("2026-03-29T02:30:00+01:00").timestamp() == now_s + HOUR
    assert choice.mean_g_per_kwh == pytest.approx((200 * 0.5 + 100) / 1.5)


@pytest.mark.parametrize(("deadline_s", "duration_s"), [(NOW, 0.0), (NOW, -1.0), (float("nan"), HOUR), (float("inf"), HOUR)])
def test_impossible_times_are_refused(deadline_s: float, duration_s: float) -> None:
    with pytest.raises(InputError, match="allowed: finite times"):
        choose_start(hourly(1), NOW, deadline_s, duration_s)


def naive_mean(points: Sequence[Point], start_s: float, duration_s: float) -> float | None:
    overlaps = [(min(p.end_s, start_s + duration_s) - max(p.start_s, start_s), p.g_per_kwh) for p in points]
    inside = [(overlap, grams) for overlap, grams in overlaps if overlap > 0]
    is_whole = sum(overlap for overlap, _ in inside) >= duration_s - 1e-3
    return sum(overlap * grams for overlap, grams in inside) / duration_s if is_whole else None


def naive_stand_in(points: Sequence[Point], means: Sequence[float], duration_s: float) -> float | None:
    """By the definition: ``means`` are those of the starts by the minute, the first covered one first."""
    first = next((point for point in points if point.end_s > NOW), None)
    if first is not None and NOW < first.start_s <= NOW + min(first.end_s - first.start_s, HOUR):
        stretched = naive_mean([Point(NOW, first.start_s, first.g_per_kwh), *points], NOW, duration_s)
        if stretched is not None:
            return stretched
    return means[0] if means else None


@st.composite
def forecasts(draw: st.DrawFn) -> Forecast:
    at_s, points = NOW + 60.0 * draw(st.integers(-180, 60)), []
    for grams, minutes, gap in draw(
        st.lists(st.tuples(st.integers(0, 900), st.integers(1, 90), st.sampled_from([0, 0, 0, 7])), min_size=1, max_size=12)
    ):
        at_s += 60.0 * gap
        points.append(Point(at_s, at_s + 60.0 * minutes, float(grams)))
        at_s = points[-1].end_s
    return Forecast(tuple(points), "marginal", "watttime", "X")


@given(forecasts(), st.integers(1, 600), st.integers(1, 200))
@settings(max_examples=150)
def test_no_start_by_the_minute_is_better_than_the_chosen_one(forecast: Forecast, until_minutes: int, minutes: int) -> None:
    deadline_s, duration_s = NOW + 60.0 * until_minutes, 60.0 * minutes
    choice = choose_start(forecast, NOW, deadline_s, duration_s)
    starts = [NOW + 60.0 * n for n in range(until_minutes - minutes + 1)]
    means = [mean for start in starts if (mean := naive_mean(forecast.points, start, duration_s)) is not None]
    now_mean = naive_mean(forecast.points, NOW, duration_s)
    reference = now_mean if now_mean is not None else naive_stand_in(forecast.points, means, duration_s)
    assert choice.mean_g_per_kwh == pytest.approx(naive_mean(forecast.points, choice.start_s, duration_s))
    if not means:
        assert not choice.is_deferred
        assert choice.now_g_per_kwh == pytest.approx(now_mean)
    else:
        assert reference is not None
        assert choice.now_g_per_kwh == pytest.approx(reference)
        assert choice.is_stand_in is (now_mean is None)
    if choice.is_deferred:
        assert NOW < choice.start_s <= deadline_s - duration_s
        assert choice.mean_g_per_kwh is not None
        assert reference is not None
        assert all(choice.mean_g_per_kwh <= mean + 2e-3 for mean in means)
        assert choice.mean_g_per_kwh <= 0.95 * reference + 1e-6
    else:
        assert choice.start_s == NOW
        assert all(reference is not None and mean > 0.95 * reference - 2e-3 for mean in means)
