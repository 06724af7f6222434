from __future__ import annotations

import json
import math
import os
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from rag.errors import InputError, PowerError
from rag.power.calibration import Calibration, Reading, calibrated_price, check_place, fit, load, parse_readings, save

CPU = "AMD EPYC 7763 64-Core Processor"
BENT = ((0.0, 100.0), (2.0, 148.0), (4.0, 188.0), (8.0, 236.0))  # 24, 20 and 12 W a thread


def readings(*pairs: tuple[float, float]) -> tuple[Reading, ...]:
    return tuple(Reading(*pair) for pair in pairs)


def fitted(*pairs: tuple[float, float], n_threads: int = 8) -> Calibration:
    return fit(readings(*pairs), CPU, n_threads, "2026-02-28")


def refusal(*pairs: tuple[float, float], n_threads: int = 8) -> str:
    with pytest.raises(InputError) as caught:
        fitted(*pairs, n_threads=n_threads)
    assert caught.value.code == "calibration_readings"
    return str(caught.value)


def saved(folder: Path) -> Path:
    path = folder / "calibration.json"
    save(path, fitted(*BENT))
    return path


def code_of(path: Path) -> str:
    with pytest.raises(PowerError) as caught:
        load(path)
    return caught.value.code


def rewritten(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change the fields and give them the check number of the changed ones, so that the other checks are met."""
    fields = json.loads(path.read_bytes())
    del fields["check"]
    change(fields)
    check = f"{zlib.crc32(json.dumps(fields, sort_keys=True).encode()):08x}"
    path.write_text(json.dumps({**fields, "check": check}), encoding="utf-8")


@given(
    st.floats(0, 10_000),
    st.floats(0.001, 200),
    st.integers(1, 256),
    st.lists(st.floats(0, 1), max_size=20),
)
def test_exact_line_is_recovered(idle_w: float, active_w: float, n_threads: int, shares: list[float]) -> None:
    idle_w += 0.123457  # a meter of many digits, for which no slope is too small
    pairs = [(share * n_threads, idle_w + active_w * share * n_threads) for share in (0.0, 1.0, *shares)]
    calibration = fitted(*pairs, n_threads=n_threads)
    assert math.isclose(calibration.idle_w, idle_w, rel_tol=1e-6, abs_tol=1e-6)
    # Beside large idle watts the last digits of a small slope are lost.
    assert math.isclose(calibration.active_w, active_w, rel_tol=1e-6, abs_tol=1e-9 * idle_w)


@given(st.permutations(BENT * 2))
def test_order_of_the_readings_does_not_change_the_line(pairs: list[tuple[float, float]]) -> None:
    assert replace(fitted(*pairs), readings=()) == replace(fitted(*BENT, *BENT), readings=())


def test_line_has_the_least_squares() -> None:
    calibration = fitted(*BENT)
    # By hand: mean load 3.5, mean watts 168; products of the distances sum to 584, squares of those of the loads to 35.
    assert (calibration.active_w, calibration.idle_w) == pytest.approx((584 / 35, 168 - 3.5 * 584 / 35))


def test_band_reaches_from_the_flattest_to_the_steepest_piece_and_covers_the_meter() -> None:
    calibration = fitted(*BENT)
    # Half a watt at both ends of pieces of 4 and of 2 threads.
    assert (calibration.active_lo_w, calibration.active_hi_w) == pytest.approx((11.75 * 0.95, 24.5 * 1.05))


def test_straight_line_of_many_digits_has_the_gain_of_the_meter() -> None:
    calibration = fitted((0, 100.00001), (4, 140.00001), (8, 180.00001))
    assert (calibration.active_lo_w, calibration.active_hi_w) == pytest.approx((9.5, 10.5))


def test_few_digits_widen_the_band_of_a_small_slope() -> None:
    calibration = fitted((0, 5), (1, 6), (2, 7), n_threads=2)
    assert calibration.active_w == pytest.approx(1.0)
    assert (calibration.active_lo_w, calibration.active_hi_w) == pytest.approx((0.0, 2 * 1.05))


def test_one_reading_with_a_digit_more_tells_the_step_of_the_meter() -> None:
    calibration = fitted((0, 5.0), (1, 6.1), (2, 7.0), n_threads=2)
    assert (calibration.active_lo_w, calibration.active_hi_w) == pytest.approx((0.8 * 0.95, 1.2 * 1.05))


def test_readings_that_flicker_at_one_load_widen_the_band() -> None:
    steady = fitted(*((busy, 100.05 + 10 * busy) for busy in (0, 0, 4, 4, 8, 8)))
    restless = fitted(*((busy, 100.05 + 10 * busy + off) for busy in (0, 4, 8) for off in (-4, 4)))
    assert restless.active_w == pytest.approx(steady.active_w)
    assert restless.active_lo_w < 0.7 * steady.active_lo_w
    assert restless.active_hi_w > 1.3 * steady.active_hi_w


def test_more_readings_of_a_restless_load_narrow_the_band_again() -> None:
    few, many = (fitted(*((busy, 100 + 10 * busy + off) for busy in (0, 4, 8) for off in (-2, 2) * n)) for n in (1, 50))
    assert many.active_hi_w < few.active_hi_w


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (((0, 40), (1, 40), (2, 41)), "steps of 1 W"),
        (((0, 40), (2, 41)), "steps of 1 W"),
        (((0, 40.11), (0, 43.17), (2, 41.05), (2, 44.02)), "differ by 2.1 W"),
    ],
)
def test_slope_that_may_be_nothing_but_error_is_refused(pairs: tuple[tuple[float, float], ...], why: str) -> None:
    message = refusal(*pairs, n_threads=2)
    assert "allowed: more than that error; use a meter with finer digits" in message
    assert why in message


def test_two_loads_leave_the_bend_unseen() -> None:
    calibration = fitted((0, 100.00001), (8, 180.00001))
    assert calibration.active_lo_w == pytest.approx(0.6 * 0.95 * calibration.active_w)
    assert calibration.active_hi_w == pytest.approx(2.0 * 1.05 * calibration.active_w)


def test_nearly_equal_loads_are_one_load() -> None:
    calibration = fitted((0, 100), (0.2, 102), (8, 180), (7.9, 179))
    assert calibration.active_lo_w < 0.6 * calibration.active_w
    assert calibration.active_hi_w > 2.0 * calibration.active_w


def test_noise_between_nearly_equal_loads_is_no_slope() -> None:
    calibration = fitted((0, 100), (4.0, 141), (4.001, 139), (8, 180))
    # As flicker of 1.4 W it counts, as a step of 2 W over a thousandth of a thread it does not.
    assert 10.5 < calibration.active_hi_w < 13


def test_piece_that_falls_has_zero_as_lower_end() -> None:
    assert fitted((0, 100), (4, 180), (8, 178)).active_lo_w == 0


@given(
    st.lists(st.tuples(st.floats(0, 8), st.floats(1, 1000)), max_size=30),
)
def test_band_always_holds_the_slope(pairs: list[tuple[float, float]]) -> None:
    try:
        calibration = fitted((0, 100), (8, 300), *pairs)
    except InputError:
        assume(False)
    assert 0 <= calibration.active_lo_w <= 0.95001 * calibration.active_w
    assert calibration.active_hi_w >= 1.04999 * calibration.active_w


def test_one_reading_is_refused() -> None:
    assert "1 readings; allowed: 2 to" in refusal((0, 100))


def test_readings_without_one_at_rest_are_refused() -> None:
    assert "one reading at 0.4 or less" in refusal((2, 100), (8, 200))


def test_readings_without_a_busy_one_are_refused() -> None:
    assert "one reading at 4 or more" in refusal((0, 100), (3.9, 200))


def test_one_load_twice_is_refused() -> None:
    assert "the highest load is 0 busy threads" in refusal((0, 100), (0, 101))


def test_power_that_falls_with_load_is_refused() -> None:
    assert "for a busy thread" in refusal((0, 100), (8, 90))


def test_power_that_does_not_rise_is_refused() -> None:
    assert "100 W at rest and 0 W for a busy thread" in refusal((0, 100), (8, 100))


def test_line_below_zero_at_rest_is_refused() -> None:
    assert "at rest" in refusal((0, 1), (4, 2), (8, 100))


def test_refusal_says_what_to_note() -> None:
    assert "with a quarter, half and all of the threads busy" in refusal((0, 100))


def test_more_busy_threads_than_the_machine_has_are_refused() -> None:
    assert "9 busy threads on a machine of 8" in refusal((0, 100), (9, 200))


@pytest.mark.parametrize(
    "pair", [(8, 0), (8, -1), (8, 100_000), (8, math.nan), (8, math.inf), (math.nan, 90), (math.inf, 90), (-1, 90)]
)
def test_impossible_reading_is_refused(pair: tuple[float, float]) -> None:
    assert f"{Reading(*pair)}; allowed: 0 or more busy threads, watts above 0" in refusal((0, 100), (8, 200), pair)


@pytest.mark.parametrize(
    ("cpu", "n_threads", "made"),
    [
        ("", 8, "2026-02-28"),
        (" ", 8, "2026-02-28"),
        ("a\nb", 8, "2026-02-28"),
        ("a" * 201, 8, "2026-02-28"),
        (CPU, 0, "2026-02-28"),
        (CPU, 65_537, "2026-02-28"),
        (CPU, 8, "2026-02-29"),
        (CPU, 8, "20260228"),
        (CPU, 8, "2026-W09-6"),
        (CPU, 8, ""),
    ],
)
def test_impossible_machine_is_refused(cpu: str, n_threads: int, made: str) -> None:
    with pytest.raises(InputError) as caught:
        fit(readings(*BENT), cpu, n_threads, made)
    assert caught.value.code == "calibration_readings"


@pytest.mark.parametrize("line", ["2,148.5", "2;148.5", "2\t148.5", "2 148.5", "  2 ,  148.5 ", "2.0\t\t1485e-1", "2 148.5 # half"])
def test_columns_may_be_parted_in_several_ways(line: str) -> None:
    assert parse_readings([line], "notes") == (Reading(2.0, 148.5),)


def test_comments_blank_lines_and_a_header_are_passed_over() -> None:
    lines = ["\ufeff# meter: in the cupboard\n", "\n", "busy threads, watts\n", "0,100\n", "  # half\n", "4,150\n"]
    assert parse_readings(lines, "notes") == readings((0, 100), (4, 150))


@pytest.mark.parametrize(
    "line",
    [
        "4",
        "4 150 1",
        "4,,150",
        "4 nan",
        "4 inf",
        "-1 150",
        "4 0",
        "4 -3",
        "4 1e999",
        "4 100000",
        "0,5;150",
        "4 1_0",
        "4 watts",
        "four 4",
        "\u0664 5",
    ],
)
def test_bad_line_is_named_with_its_place_and_value(line: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_readings(["0 100", "# so far so good", line], "notes.csv")
    assert caught.value.code == "calibration_reading"
    assert str(caught.value).startswith(f"notes.csv:3: {line!r} is not a reading; allowed: two numbers")


@pytest.mark.parametrize("line", ["0W,39W", "nan,nan", "-inf,inf", "NaN 39W", "busy2 watts", "--,--", "watts,"])
def test_first_line_that_is_no_names_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="notes:1: "):
        parse_readings([line, "0 100", "4 150"], "notes")


def test_second_line_of_words_is_no_header() -> None:
    with pytest.raises(InputError, match="notes:2: "):
        parse_readings(["busy watts", "threads W", "0 100"], "notes")


def test_header_after_a_reading_is_refused() -> None:
    with pytest.raises(InputError, match="notes:2: "):
        parse_readings(["0 100", "busy watts"], "notes")


@pytest.mark.parametrize("lines", [[], ["# nothing"], ["busy watts"]])
def test_notes_without_readings_are_refused(lines: list[str]) -> None:
    with pytest.raises(InputError, match="notes: no readings found"):
        parse_readings(lines, "notes")


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 99_999)), min_size=1), st.sampled_from([",", ";", "\t", " ", " , "]))
def test_written_readings_are_read_again(pairs: list[tuple[float, float]], separator: str) -> None:
    assert parse_readings([f"{a!r}{separator}{b!r}\n" for a, b in pairs], "notes") == readings(*pairs)


@given(st.lists(st.text(max_size=20)))
def test_any_notes_give_readings_or_a_refusal(lines: list[str]) -> None:
    try:
        found = parse_readings(lines, "notes")
    except InputError:
        return
    assert found
    assert all(0 < reading.watts < 100_000 and reading.busy_threads >= 0 for reading in found)


def test_saved_calibration_is_loaded_again(tmp_path: Path) -> None:
    assert load(saved(tmp_path)) == fitted(*BENT)


def test_save_makes_the_folder_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "calibration.json"
    save(path, fitted(*BENT))
    save(path, fitted((0, 90), (8, 200)))
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.json"]
    assert load(path) == fitted((0, 90), (8, 200))


def test_failed_save_keeps_the_old_state(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").mkdir()
    with pytest.raises(PowerError) as caught:
        save(tmp_path / "calibration.json", fitted(*BENT))
    assert caught.value.code == "calibration_not_saved"
    assert [entry.name for entry in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("name", [".", "file/calibration.json"])
def test_place_that_cannot_be_written_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(PowerError, match="cannot be written"):
        save(tmp_path / name, fitted(*BENT))


@pytest.mark.parametrize("name", [".", "file/calibration.json"])
def test_place_that_cannot_be_written_is_told_beforehand(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(PowerError, match="cannot be written") as caught:
        check_place(tmp_path / name)
    assert caught.value.code == "calibration_not_saved"


def test_look_at_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    check_place(tmp_path / "new" / "folder" / "calibration.json")
    assert list(tmp_path.iterdir()) == []


def test_file_holds_the_fields_that_are_documented(tmp_path: Path) -> None:
    fields = json.loads(saved(tmp_path).read_bytes())
    assert list(fields) == "format cpu n_threads made readings idle_w active_w active_lo_w active_hi_w check".split()
    assert fields["readings"][1] == {"busy_threads": 2.0, "watts": 148.0}


def test_missing_file_is_told_apart(tmp_path: Path) -> None:
    assert code_of(tmp_path / "absent.json") == "calibration_missing"


def test_folder_in_place_of_the_file_is_damaged(tmp_path: Path) -> None:
    assert code_of(tmp_path) == "calibration_damaged"


def test_newer_format_is_told_apart(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_text('{"format": 2, "curve": []}', encoding="utf-8")
    assert code_of(path) == "calibration_format"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b"1" * 5000,
        b" " * (2 << 20) + b"{}",
        b'{"format": true}',
    ],
)
def test_file_that_is_no_calibration_is_damaged(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "calibration.json"
    path.write_bytes(data)
    assert code_of(path) == "calibration_damaged"


def test_edited_field_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_text(path.read_text("utf-8").replace('"2026-02-28"', '"2026-02-27"'), encoding="utf-8")
    assert code_of(path) == "calibration_damaged"


@pytest.mark.parametrize("name", ["idle_w", "active_w", "active_lo_w", "active_hi_w"])
def test_line_that_its_readings_do_not_give_is_noticed(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path)
    rewritten(path, lambda fields: fields.update({name: getattr(fitted(*BENT), name) * 1.001}))
    with pytest.raises(PowerError, match=f"{name} is .*, but its readings give"):
        load(path)


def test_changed_reading_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, lambda fields: fields.update(readings=[{"busy_threads": a, "watts": b + 1} for a, b in BENT]))
    assert code_of(path) == "calibration_damaged"


def test_rewriting_without_a_change_is_none(tmp_path: Path) -> None:
    path = saved(tmp_path)
    rewritten(path, lambda _: None)
    assert load(path) == fitted(*BENT)


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from(["1", "2026-02-28", -1, 0, 1, 1e308]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
FIELDS = st.sampled_from("format cpu n_threads made readings idle_w active_w active_lo_w active_hi_w".split())


def loaded(path: Path) -> Calibration | None:
    """What the file gives; None where it is refused in the way that is documented."""
    found: Calibration | PowerError
    try:
        found = load(path)
    except PowerError as error:
        found = error
    if isinstance(found, Calibration):
        return found
    assert found.code in {"calibration_damaged", "calibration_format"}
    assert len(str(found).splitlines()) == 1
    return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FIELDS, JSON, st.booleans())
def test_altered_field_loads_as_an_error_or_the_same(tmp_path: Path, name: str, value: object, is_dropped: bool) -> None:
    path = saved(tmp_path)
    fields = json.loads(path.read_bytes())
    if is_dropped:
        del fields[name]
    else:
        fields[name] = value
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert loaded(path) in (None, fitted(*BENT))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FIELDS, JSON)
def test_wrong_type_behind_a_right_check_number_is_refused(tmp_path: Path, name: str, value: object) -> None:
    path = saved(tmp_path)
    rewritten(path, lambda fields: fields.update({name: value}))
    found = loaded(path)
    if found is None:
        return
    # A forged name, count or day cannot be told; the line still is that of the readings.
    assert name in {"cpu", "n_threads", "made", "format"} or getattr(found, name) == getattr(fitted(*BENT), name)
    assert (type(found.n_threads), type(found.cpu), type(found.made)) == (int, str, str)
    assert found.active_w == fitted(*BENT).active_w


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_wrong_reading_behind_a_right_check_number_is_refused(tmp_path: Path, value: object) -> None:
    path = saved(tmp_path)
    rewritten(
        path, lambda fields: fields.update(readings=[{"busy_threads": 0, "watts": value}, {"busy_threads": 8, "watts": 236}, value])
    )
    assert code_of(path) == "calibration_damaged"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2000), st.binary(max_size=4), st.integers(0, 8))
def test_damaged_bytes_load_as_an_error_or_the_same(tmp_path: Path, place: int, put: bytes, n_dropped: int) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    place %= len(data)
    path.write_bytes(data[:place] + put + data[place + n_dropped :])
    assert loaded(path) in (None, fitted(*BENT))


def test_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    data = path.read_bytes()
    for end in range(len(data)):
        path.write_bytes(data[:end])
        assert code_of(path) == "calibration_damaged"


def test_price_is_per_thread_and_modelled_at_the_wall() -> None:
    calibration = fitted((0, 80.00001), (4, 120.00001), (8, 160.00001))
    price = calibrated_price(calibration, CPU, 8)
    assert (price.active_w.value, price.active_w.lo, price.active_w.hi) == pytest.approx((10, 9.5, 10.5))
    assert (price.idle_w.value, price.idle_w.lo, price.idle_w.hi) == pytest.approx((10, 9.5, 10.5))
    assert (price.method, price.boundary, price.year, price.window_s) == ("modelled", "server_wall", 2026, None)
    assert price.source == "calibration of 2026-02-28 from 3 wall-meter readings"


def test_idle_band_covers_what_was_read_at_rest() -> None:
    price = calibrated_price(fitted(*BENT), CPU, 8)
    assert price.idle_w.value > 100 / 8
    # By hand: half a watt at each reading lifts the line by up to 0.5 * (0.6 + 0.4 + 0.2 + 0.2) W, the weights of its end at rest.
    assert price.idle_w.lo == pytest.approx((100 - 0.7) * 0.95 / 8)
    assert price.idle_w.hi == pytest.approx((price.idle_w.value * 8 + 0.7) * 1.05 / 8)


@pytest.mark.parametrize(("name", "n_threads"), [("Another CPU", 8), (CPU, 16)])
def test_calibration_of_another_machine_is_refused(name: str, n_threads: int) -> None:
    with pytest.raises(PowerError) as caught:
        calibrated_price(fitted(*BENT), name, n_threads)
    assert caught.value.code == "calibration_other_machine"


def test_unreadable_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    os.symlink(path, path)
    assert code_of(path) == "calibration_damaged"


@pytest.mark.slow
def test_many_readings_fit_into_a_file(tmp_path: Path) -> None:
    chance = random.Random(3)
    loads = [0.0, 8.0, *(chance.uniform(0, 8) for _ in range(9_998))]
    calibration = fitted(*((busy, 100 + 10 * busy + chance.gauss(0, 3)) for busy in loads))
    save(tmp_path / "calibration.json", calibration)
    assert load(tmp_path / "calibration.json") == calibration
