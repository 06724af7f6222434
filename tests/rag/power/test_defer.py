from __future__ import annotations

import json
import time
from argparse import ArgumentParser
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.cost import Figure
from rag.errors import InputError
from rag.power.defer import Deferral, Deferred, add_defer_options, parse_deferral, saved_carbon, wait
from rag.usage import Parser

HOUR = 3600.0
NOW = datetime.fromisoformat("2026-03-02T12:00:00Z").timestamp()
JOULES = Figure(7.2e6, 3.6e6, 14.4e6, "J", "apportioned", "counter", "cpu_package")


class Clock:
    """Time that passes by sleeping only; ``jumps`` are further seconds that pass during the sleep of that number."""

    def __init__(self, jumps: dict[int, float] | None = None) -> None:
        self.now_s = NOW
        self.slept: list[float] = []
        self.jumps = jumps or {}
        self.told: list[str] = []

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds + self.jumps.get(len(self.slept), 0.0)

    def wait(self, deferral: Deferral) -> Deferred:
        return wait(deferral, self.now, self.sleep, self.told.append)


def csv_file(folder: Path, *grams: float, start_s: float = NOW) -> Path:
    path = folder / "forecast.csv"
    rows = (f"{datetime.fromtimestamp(start_s + n * HOUR).astimezone().isoformat()},{value}" for n, value in enumerate(grams))
    path.write_text("\n".join(("start,g_per_kwh", *rows)), encoding="ascii")
    return path


def parsed(*arguments: str, parser_type: type[ArgumentParser] = Parser) -> Deferral | None:
    parser = parser_type(prog="rag test")
    add_defer_options(parser)
    return parse_deferral(parser.parse_args(arguments), NOW)


def test_job_waits_for_its_window_and_tells(tmp_path: Path) -> None:
    clock = Clock()
    result = clock.wait(Deferral(NOW + 4 * HOUR, HOUR, csv_file(tmp_path, 300, 200, 100, 400)))
    assert result == Deferred(
        deferred=True,
        waited_s=2 * HOUR,
        started_s=NOW + 2 * HOUR,
        started_at="2026-03-02T14:00:00+00:00",
        reason="forecast mean of 100 g/kWh against 300 of a start at once",
        signal="unknown",
        now_g_per_kwh=300,
        now_is_stand_in=False,
        window_g_per_kwh=100,
        forecast_source="csv",
        forecast_location="",
    )
    (line,) = clock.told
    assert datetime.fromisoformat(line.removeprefix("waits until ").split(": ")[0]).timestamp() == NOW + 2 * HOUR
    assert "100 g/kWh against 300" in line
    assert "Ctrl-C stops" in line


def test_sleep_is_cut_in_slices_of_a_minute(tmp_path: Path) -> None:
    clock = Clock()
    clock.wait(Deferral(NOW + 2 * HOUR, HOUR, csv_file(tmp_path, 300, 100)))
    assert max(clock.slept) <= 60
    assert sum(clock.slept) == pytest.approx(HOUR)


def test_suspended_machine_starts_as_soon_as_it_wakes_and_admits_it(tmp_path: Path) -> None:
    clock = Clock({3: 1.5 * HOUR})
    result = clock.wait(Deferral(NOW + 4 * HOUR, HOUR, csv_file(tmp_path, 300, 100, 200, 200)))
    assert len(clock.slept) == 3
    assert result.waited_s == 1.5 * HOUR + 180
    assert result.window_g_per_kwh == pytest.approx((27 * 100 + 33 * 200) / 60)
    assert result.reason.endswith("started 33 min late, at 155 g/kWh")


def test_late_start_beyond_the_forecast_has_no_intensity(tmp_path: Path) -> None:
    result = Clock({1: 20 * HOUR}).wait(Deferral(NOW + 2 * HOUR, HOUR, csv_file(tmp_path, 300, 100)))
    assert result.window_g_per_kwh is None
    assert "unknown intensity" in result.reason


def test_clock_that_is_set_back_does_not_prolong_the_wait(tmp_path: Path) -> None:
    clock = Clock({2: -5 * HOUR})
    result = clock.wait(Deferral(NOW + 2 * HOUR, HOUR, csv_file(tmp_path, 300, 100)))
    assert sum(clock.slept) == pytest.approx(HOUR)
    assert result.waited_s == 0


def test_without_forecast_the_job_runs_at_once_and_says_so() -> None:
    clock = Clock()
    result = clock.wait(Deferral(NOW + 4 * HOUR, HOUR, None))
    assert (result.deferred, result.waited_s, result.forecast_source) == (False, 0, None)
    assert result.reason == "no forecast was given"
    assert clock.told == ["runs at once: no forecast was given"]
    assert clock.slept == []


@pytest.mark.parametrize("content", [None, "nonsense", "start,g_per_kwh\n2026-03-02T12:00:00,5\n"])
def test_bad_or_missing_forecast_runs_at_once_with_the_fault_in_the_result(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "f.csv"
    if content is not None:
        path.write_text(content, encoding="ascii")
    clock = Clock()
    result = clock.wait(Deferral(NOW + 4 * HOUR, HOUR, path))
    assert not result.deferred
    assert result.reason.startswith(f"no usable forecast: forecast {path}")
    assert result.reason in clock.told[0]
    assert clock.slept == []


def test_forecast_without_gain_runs_at_once_and_names_itself(tmp_path: Path) -> None:
    clock = Clock()
    result = clock.wait(Deferral(NOW + 2 * HOUR, HOUR, csv_file(tmp_path, 100, 99)))
    assert (result.deferred, result.forecast_source, result.now_g_per_kwh, result.window_g_per_kwh) == (False, "csv", 100, 100)
    assert clock.told[0].startswith("runs at once: no window is 5% or more below")


def test_forecast_that_begins_at_the_next_step_waits_against_a_stand_in_and_says_so(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 300, 300, 100, 300, start_s=NOW + 1200)
    result = Clock().wait(Deferral(NOW + 5 * HOUR, HOUR, path))
    assert (result.deferred, result.now_g_per_kwh, result.now_is_stand_in, result.window_g_per_kwh) == (True, 300, True, 100)
    assert result.reason.endswith("a start at once, with the point that begins in 20 min standing for now")


@given(st.lists(st.integers(0, 900), min_size=2, max_size=8), st.integers(0, 500), st.integers(1, 300))
@settings(max_examples=50)
def test_deadline_is_never_missed_by_waiting(
    tmp_path_factory: pytest.TempPathFactory, grams: list[int], until_minutes: int, minutes: int
) -> None:
    deferral = Deferral(NOW + 60.0 * until_minutes, 60.0 * minutes, csv_file(tmp_path_factory.mktemp("deadline"), *grams))
    result = Clock().wait(deferral)
    assert result.started_s <= max(NOW, deferral.deadline_s - deferral.duration_s) + 1e-3


def test_result_can_be_written_as_json(tmp_path: Path) -> None:
    result = Clock().wait(Deferral(NOW + 2 * HOUR, HOUR, csv_file(tmp_path, 300, 100)))
    assert json.loads(json.dumps(asdict(result), allow_nan=False))["started_at"] == "2026-03-02T13:00:00+00:00"


def test_no_option_is_no_deferral() -> None:
    assert parsed() is None


@pytest.mark.parametrize(("text", "ahead_s"), [("+6h", 6 * HOUR), ("+90m", 5400.0), ("+1d12h", 36 * HOUR), ("+1h30m", 5400.0)])
def test_deadline_may_be_relative(text: str, ahead_s: float) -> None:
    assert parsed("--defer-until", text) == Deferral(NOW + ahead_s, HOUR, None)


@pytest.mark.parametrize("text", ["2026-03-02T20:00:00Z", "2026-03-02T21:00+01:00", "2026-03-02 15:00-05:00"])
def test_deadline_may_have_a_zone(text: str) -> None:
    assert parsed("--defer-until", text) == Deferral(NOW + 8 * HOUR, HOUR, None)


def test_deadline_without_zone_is_local() -> None:
    there = time.strptime("2026-03-04 06:00", "%Y-%m-%d %H:%M")
    assert parsed("--defer-until", "2026-03-04T06:00") == Deferral(time.mktime(there), HOUR, None)


@pytest.mark.parametrize(
    "text",
    ["", "+", "+0m", "+15d", "6h", "-6h", "+h", "+1m2h", "soon", "2026-03-02T11:59Z", "2026-03-17T12:00Z", "0001-01-01", "+99999d"],
)
def test_deadline_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--defer-until is .*; allowed: ") as caught:
        parsed(f"--defer-until={text}")
    assert caught.value.code == "deferral"


@pytest.mark.parametrize("value", ["", "--"])
@pytest.mark.parametrize("option", ["--defer-until", "--forecast", "--expected-duration"])
def test_value_that_is_empty_or_two_dashes_is_refused(option: str, value: str) -> None:
    options = {"--defer-until": "+6h", option: value}
    with pytest.raises(InputError, match=f"{option} is '{value}'; allowed: ") as caught:
        parsed(*(f"{name}={given_}" for name, given_ in options.items()), parser_type=ArgumentParser)
    assert caught.value.code == "deferral"


@pytest.mark.parametrize("value", ["", "--"])
def test_empty_option_without_deadline_is_refused(value: str) -> None:
    with pytest.raises(InputError, match=f"--forecast is '{value}' without --defer-until"):
        parsed(f"--forecast={value}", parser_type=ArgumentParser)


def test_duration_and_forecast_are_taken_over() -> None:
    given_ = parsed("--defer-until", "+6h", "--expected-duration", "2h30m", "--forecast", "f.json")
    assert given_ == Deferral(NOW + 6 * HOUR, 2.5 * HOUR, Path("f.json"))


@pytest.mark.parametrize("text", ["", "0m", "59s", "15d", "90", "1.5h", "two hours", "+1h"])
def test_duration_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--expected-duration is .*; allowed: 1m to 14d"):
        parsed("--defer-until", "+6h", f"--expected-duration={text}")


@pytest.mark.parametrize("option", ["--forecast", "--expected-duration"])
def test_option_that_means_nothing_alone_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is '1h' without --defer-until"):
        parsed(option, "1h")


def deferred(tmp_path: Path, *grams: float, clock: Callable[[], Clock] = Clock) -> Deferred:
    return clock().wait(Deferral(NOW + len(grams) * HOUR, HOUR, csv_file(tmp_path, *grams)))


def test_saving_is_energy_times_the_difference(tmp_path: Path) -> None:
    saved = saved_carbon(JOULES, deferred(tmp_path, 300, 100))
    assert saved is not None
    assert saved.value == pytest.approx(400)
    assert (saved.unit, saved.method, saved.boundary) == ("g", "modelled", "cpu_package")
    assert "counterfactual: 300 g/kWh at once less 100" in saved.source
    assert "unknown signal" in saved.source


def test_saving_against_a_stand_in_says_so(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 300, 100, start_s=NOW + 600)
    saved = saved_carbon(JOULES, Clock().wait(Deferral(NOW + 3 * HOUR, HOUR, path)))
    assert saved is not None
    assert saved.value == pytest.approx(400)
    assert "300 g/kWh at once (a stand-in) less 100" in saved.source


def test_saving_may_be_nothing_and_is_never_more_than_a_start_at_once_emits(tmp_path: Path) -> None:
    saved = saved_carbon(JOULES, deferred(tmp_path, 300, 100))
    assert saved is not None
    assert saved.lo == 0
    assert saved.hi == pytest.approx(14.4 / 3.6 * 300)


def test_saving_of_assumed_joules_is_assumed(tmp_path: Path) -> None:
    joules = Figure(1, 1, 1, "J", "assumed", "", "cpu_package")
    saved = saved_carbon(joules, deferred(tmp_path, 300, 100))
    assert saved is not None
    assert saved.method == "assumed"


def test_start_at_once_saves_exactly_nothing(tmp_path: Path) -> None:
    saved = saved_carbon(JOULES, deferred(tmp_path, 100, 100))
    assert saved is not None
    assert (saved.value, saved.lo, saved.hi) == (0, 0, 0)
    assert "ran at once" in saved.source


def test_saving_of_unknown_intensity_is_unknown(tmp_path: Path) -> None:
    assert saved_carbon(JOULES, deferred(tmp_path, 300, 100, clock=lambda: Clock({1: 20 * HOUR}))) is None


def test_late_start_in_dirtier_hours_claims_no_saving(tmp_path: Path) -> None:
    assert saved_carbon(JOULES, deferred(tmp_path, 300, 100, 400, 400, clock=lambda: Clock({1: 2 * HOUR}))) is None
