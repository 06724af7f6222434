from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import InputError
from rag.power.forecast import Forecast, read_forecast

# Small files, written by hand in the published shapes, and what is read from them.
# Regenerate the latter: PYTHONPATH=. python tests/rag/power/test_forecast.py
GOLDEN = Path(__file__).parents[2] / "golden" / "forecasts"
EXPECTED = GOLDEN / "expected.json"


def golden_files() -> list[Path]:
    return sorted(path for path in GOLDEN.iterdir() if path != EXPECTED)


def as_json(forecast: Forecast) -> object:
    return json.loads(json.dumps(asdict(forecast)))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def read(tmp_path: Path, content: object) -> Forecast:
    path = tmp_path / "given.forecast"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_forecast(path)


def refusal(tmp_path: Path, content: object) -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert caught.value.code == "forecast"
    message = str(caught.value)
    assert "given.forecast: " in message
    assert "allowed: " in message
    assert "\n" not in message
    return message


def sdk(*points: object, **more: object) -> list[object]:
    return [{"location": "x", "forecastData": list(points), **more}]


def sdk_point(minute: int, value: object, duration: object = 5) -> dict[str, object]:
    return {"timestamp": f"2026-03-02T12:{minute:02}:00Z", "duration": duration, "value": value}


def watttime(**meta: object) -> dict[str, object]:
    known = {"region": "X", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh", "data_point_period_seconds": 300}
    return {"data": [{"point_time": "2026-03-02T12:00:00Z", "value": 1000}], "meta": {**known, **meta}}


@pytest.mark.parametrize("path", golden_files(), ids=lambda path: path.name)
def test_golden_file_reads_as_written_down(path: Path) -> None:
    assert as_json(read_forecast(path)) == json.loads(EXPECTED.read_text(encoding="ascii"))[path.name]


def test_every_expected_file_is_there() -> None:
    assert [path.name for path in golden_files()] == sorted(json.loads(EXPECTED.read_text(encoding="ascii")))


def test_both_interfaces_of_the_carbon_aware_sdk_read_alike() -> None:
    web, command = (read_forecast(GOLDEN / name) for name in ("carbon-aware-sdk.json", "carbon-aware-sdk-cli.json"))
    assert web.points == command.points
    assert (web.location, command.location) == ("northeurope", "IE")


def test_pounds_for_a_megawatt_hour_become_grams_for_a_kilowatt_hour() -> None:
    first, *_ = read_forecast(GOLDEN / "watttime.json").points
    assert first.g_per_kwh == pytest.approx(453.592)
    assert first.end_s - first.start_s == 300


@pytest.mark.parametrize(
    ("name", "signal"), [("watttime.json", "marginal"), ("electricity-maps.json", "average"), ("uk-nation.json", "average")]
)
def test_provider_with_one_signal_is_labelled_with_it(name: str, signal: str) -> None:
    assert read_forecast(GOLDEN / name).signal == signal


def test_carbon_aware_sdk_does_not_say_whose_signal_it_passes_on() -> None:
    assert read_forecast(GOLDEN / "carbon-aware-sdk.json").signal == "unknown"


def test_average_signal_of_watttime_is_average(tmp_path: Path) -> None:
    assert read(tmp_path, watttime(signal_type="co2_aoer")).signal == "average"


def test_period_without_value_is_a_gap() -> None:
    points = read_forecast(GOLDEN / "uk-nation.json").points
    assert [point.g_per_kwh for point in points] == [146, 139, 97]
    assert points[1].end_s < points[2].start_s


def test_hour_without_row_is_a_gap_where_rows_have_no_end() -> None:
    points = read_forecast(GOLDEN / "starts.csv").points
    assert [(point.end_s - point.start_s) / 3600 for point in points] == [1, 1, 1]
    assert points[1].end_s < points[2].start_s


def test_electricity_maps_names_its_step(tmp_path: Path) -> None:
    given = {
        "zone": "FR",
        "forecast": [{"carbonIntensity": 20, "datetime": "2026-03-02T12:00:00.000Z"}],
        "temporalGranularity": "15_minutes",
    }
    (point,) = read(tmp_path, given).points
    assert point.end_s - point.start_s == 900


def test_repeated_hour_of_autumn_is_two_hours_by_its_offsets(tmp_path: Path) -> None:
    text = "start,g_per_kwh\n2026-10-25T01:00:00+01:00,10\n2026-10-25T01:00:00+00:00,20\n2026-10-25T02:00:00Z,30\n"
    points = read(tmp_path, text).points
    assert [point.start_s - points[0].start_s for point in points] == [0, 3600, 7200]


def test_missing_hour_of_spring_is_no_gap(tmp_path: Path) -> None:
    text = "start,g_per_kwh\n2026-03-29T00:00:00+00:00,10\n2026-03-29T02:00:00+01:00,20\n"
    first, second = read(tmp_path, text).points
    assert first.end_s == second.start_s == at("2026-03-29T01:00:00Z")


def test_end_at_the_last_second_is_no_gap(tmp_path: Path) -> None:
    text = "start,end,g_per_kwh\n2026-03-02T10:00Z,2026-03-02T10:29:59Z,1\n2026-03-02T10:30Z,2026-03-02T10:59:59Z,2\n"
    first, second = read(tmp_path, text).points
    assert first.end_s == second.start_s


def test_columns_are_found_by_name_and_blank_lines_skipped(tmp_path: Path) -> None:
    text = "\ufeffsignal, G_per_kWh ,start,end\r\nmarginal,5,2026-03-02T10:00Z,2026-03-02T11:00Z\r\n\r\n"
    forecast = read(tmp_path, text)
    assert forecast.signal == "marginal"
    assert forecast.points[0].start_s == at("2026-03-02T10:00Z")


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3)), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, hours: list[tuple[int, int]], random: Random
) -> None:
    start, rows = 1_770_000_000, []
    for grams, gap in hours:
        start += gap * 3600
        rows.append({"timestamp": datetime.fromtimestamp(start).astimezone().isoformat(), "duration": 60, "value": grams})
        start += 3600
    folder = tmp_path_factory.mktemp("order")
    expected = read(folder, sdk(*rows))
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert read(folder, sdk(*shuffled)) == expected
    assert [point.g_per_kwh for point in expected.points] == [grams for grams, _ in hours]


@pytest.mark.parametrize("text", ["2026-03-02T10:00:00", "2026-03-02", "20260302T10"])
def test_time_without_zone_is_refused(tmp_path: Path, text: str) -> None:
    assert f"start of line 2 is '{text}', a time without a zone" in refusal(tmp_path, f"start,g_per_kwh\n{text},5\n")


@pytest.mark.parametrize("time", [None, 1772442000, "tomorrow", "", "0001-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00"])
def test_what_is_no_time_of_our_days_is_refused(tmp_path: Path, time: object) -> None:
    assert "the time of point 1" in refusal(tmp_path, sdk({"timestamp": time, "duration": 5, "value": 1}))


@pytest.mark.parametrize("value", [-1, -0.001, 5000.1, float("nan"), float("inf"), True, "120", [1], 10**400])
def test_value_out_of_range_is_refused(tmp_path: Path, value: object) -> None:
    assert "the value of point 1 of forecastData" in refusal(tmp_path, sdk(sdk_point(0, value)))


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "1e9", "", "12 g"])
def test_value_out_of_range_in_csv_is_refused(tmp_path: Path, value: str) -> None:
    assert "line 2" in refusal(tmp_path, f"start,g_per_kwh\n2026-03-02T10:00Z,{value}\n")


@pytest.mark.parametrize("value", [0, 5000])
def test_ends_of_the_range_are_allowed(tmp_path: Path, value: int) -> None:
    assert read(tmp_path, sdk(sdk_point(0, value))).points[0].g_per_kwh == value


def test_overlap_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, sdk(sdk_point(0, 1, 10), sdk_point(5, 1, 10)))
    assert "2026-03-02T12:00:00+00:00 runs on into that at 2026-03-02T12:05:00+00:00" in message


def test_repeated_point_is_refused_even_with_the_same_value(tmp_path: Path) -> None:
    assert "holds 2026-03-02T12:05:00+00:00 twice" in refusal(tmp_path, sdk(sdk_point(5, 1), sdk_point(0, 1), sdk_point(5, 1)))


@pytest.mark.parametrize("duration", [0, 1441, -5, "24:00:01", "00:00:00", "5 minutes", False])
def test_duration_out_of_range_is_refused(tmp_path: Path, duration: object) -> None:
    message = refusal(tmp_path, sdk(sdk_point(0, 1, duration)))
    assert "lasts" in message or "the duration of point 1" in message


def test_end_before_start_is_refused(tmp_path: Path) -> None:
    assert "lasts -3600 s" in refusal(tmp_path, "start,end,g_per_kwh\n2026-03-02T10:00Z,2026-03-02T09:00Z,1\n")


def test_single_point_of_unknown_length_is_refused(tmp_path: Path) -> None:
    assert "no end" in refusal(tmp_path, "start,g_per_kwh\n2026-03-02T10:00Z,1\n")


def test_mixed_signals_are_refused(tmp_path: Path) -> None:
    text = "start,g_per_kwh,signal\n2026-03-02T10:00Z,1,average\n2026-03-02T11:00Z,1,marginal\n"
    assert "mixes the signals average, marginal" in refusal(tmp_path, text)


def test_signal_that_is_not_always_known_is_refused_as_mixed(tmp_path: Path) -> None:
    text = "start,g_per_kwh,signal\n2026-03-02T10:00Z,1,average\n2026-03-02T11:00Z,1,\n"
    assert "mixes the signals average, unknown" in refusal(tmp_path, text)


def test_signal_of_another_name_is_refused(tmp_path: Path) -> None:
    assert "signal of line 2 is 'mean'" in refusal(tmp_path, "start,g_per_kwh,signal\n2026-03-02T10:00Z,1,mean\n")


def test_several_locations_are_refused(tmp_path: Path) -> None:
    assert "2 forecasts" in refusal(tmp_path, sdk(sdk_point(0, 1)) * 2)


@pytest.mark.parametrize("value", [1, None])
def test_points_of_different_locations_are_refused(tmp_path: Path, value: object) -> None:
    points = ({**sdk_point(0, 1), "location": "IE"}, {**sdk_point(5, value), "location": "FR"})
    assert "its points name the locations ['FR', 'IE']" in refusal(tmp_path, sdk(*points))


def test_point_without_location_is_of_that_of_the_others(tmp_path: Path) -> None:
    points = ({**sdk_point(0, 1), "location": "IE"}, sdk_point(5, 2))
    assert read(tmp_path, sdk(*points, location="")).location == "IE"


def test_all_regions_at_once_are_refused(tmp_path: Path) -> None:
    period = {"from": "2026-03-02T12:00Z", "to": "2026-03-02T12:30Z", "regions": [{"regionid": 1, "intensity": {"forecast": 5}}]}
    assert "several regions" in refusal(tmp_path, {"data": [period, period]})


def test_several_regions_in_one_list_are_refused(tmp_path: Path) -> None:
    assert "several regions" in refusal(tmp_path, {"data": [{"regionid": 1, "data": []}, {"regionid": 2, "data": []}]})


@pytest.mark.parametrize(
    "meta", [{"signal_type": "health_damage"}, {"signal_type": None}, {"units": "percentile"}, {"units": None}]
)
def test_watttime_signal_that_is_not_carbon_is_refused(tmp_path: Path, meta: dict[str, object]) -> None:
    assert next(iter(meta)).partition("_")[0] in refusal(tmp_path, watttime(**meta))


@pytest.mark.parametrize("granularity", ["daily", None, 5])
def test_unknown_granularity_is_refused(tmp_path: Path, granularity: object) -> None:
    assert "temporalGranularity" in refusal(tmp_path, {"zone": "DE", "forecast": [], "temporalGranularity": granularity})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "{",
        "[1]",
        "[" * 100_000,
        '{"data": 5}',
        '{"data": []}',
        '{"data": [{}]}',
        '[{"forecastData": {}}]',
        '{"a": 1}',
    ],
)
def test_file_of_another_shape_is_refused(tmp_path: Path, content: str) -> None:
    assert refusal(tmp_path, content)


def test_forecast_of_nulls_is_refused(tmp_path: Path) -> None:
    assert "no point with a value" in refusal(tmp_path, sdk(sdk_point(0, None)))


@pytest.mark.parametrize("first", ["time,value", "start,g_per_kwh,start", "start;g_per_kwh", "start,end", "start,g_per_kwh,zone"])
def test_csv_with_other_columns_is_refused(tmp_path: Path, first: str) -> None:
    assert "its first line is" in refusal(tmp_path, f"{first}\n1,2,3\n")


@pytest.mark.parametrize("row", ["2026-03-02T10:00Z", "2026-03-02T10:00Z,1,2", '"2026-03-02T10:00Z,1'])
def test_ragged_or_broken_row_is_refused(tmp_path: Path, row: str) -> None:
    assert "line 2" in refusal(tmp_path, f"start,g_per_kwh\n{row}\n")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "given.forecast"
    path.write_bytes(b"start,g_per_kwh\n\xff\xfe\n")
    with pytest.raises(InputError, match="byte 16 is not UTF-8"):
        read_forecast(path)


def test_huge_file_is_refused(tmp_path: Path) -> None:
    assert "larger than" in refusal(tmp_path, "start,g_per_kwh\n" + "\n" * 10_000_000)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_file_that_cannot_be_read_is_told_with_its_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_forecast(path)
    assert str(path) in str(caught.value)


if __name__ == "__main__":
    whole = {path.name: as_json(read_forecast(path)) for path in golden_files()}
    EXPECTED.write_text(json.dumps(whole, indent=1) + "\n", encoding="ascii")
