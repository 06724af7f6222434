"""`rag energy` and the energy of results, from outside."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rag.__main__ import main
from rag.usage import Parser
from tests.command import Command
from tests.powercap import Powercap

PAGE = "# Pumps\n\nThe pump starts at 5 bar. Old pumps leak at 3 bar."
FIGURE_KEYS = {"value", "lo", "hi", "unit", "method", "source", "boundary", "window_s", "year"}
READINGS = "busy_threads,watts\n0,40\n1,50\n2,58\n"


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("energy")
    (base / "pumps.md").write_text(PAGE)
    assert main(["ingest", str(base / "pumps.md"), "--data-dir", str(base / "data")]) == 0
    return base / "data"


@pytest.fixture(autouse=True)
def _no_counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests say what counters there are."""
    monkeypatch.setenv("RAG_ENERGY_POWERCAP_ROOT", str(tmp_path / "no-powercap"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rag(collection: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(collection, capsys)


@pytest.fixture
def fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "data", capsys)


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


# Results


@pytest.mark.parametrize(
    "arguments", [("search", "pump"), ("context", "pump", "--max-tokens", "64"), ("ask", "When does the pump start?")]
)
def test_every_result_tells_energy_carbon_and_how_it_knows(rag: Command, arguments: tuple[str, ...]) -> None:
    measurement = rag(*arguments, "--json").value["measurement"]
    for name in ("energy_j", "carbon_g", "embodied_g", "sci"):
        assert set(measurement[name]) == FIGURE_KEYS
        assert 0 < measurement[name]["lo"] <= measurement[name]["value"] <= measurement[name]["hi"]
        assert measurement[name]["method"] == "modelled"
    assert set(measurement["energy_parts_j"]) == {"active", "idle", "dram", "gpu", "remote", "facility"}
    assert all(stage["energy_j"] is not None for stage in measurement["stages"])
    assert {"region", "pue"} <= set(measurement["assumed"])
    assert {"water", "network"} <= set(measurement["not_modelled"])


def test_line_under_an_answer_tells_joules_method_and_grams(rag: Command) -> None:
    (line,) = [line for line in rag("ask", "When does the pump start?").out.splitlines() if line.startswith("cost: ")]
    assert "J (" in line
    assert "modelled)" in line
    assert "CO2e at the world average" in line


def test_region_of_the_settings_is_used_and_no_longer_flagged(rag: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_REGION", "FRA")
    measurement = rag("search", "pump", "--json").value["measurement"]
    assert "region" not in measurement["assumed"]
    assert "Ember" in measurement["carbon_g"]["source"]
    assert "world" not in rag("search", "pump").out


def test_unknown_region_is_said_under_the_answer_and_the_answer_given(rag: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_REGION", "Atlantis")
    outcome = rag("ask", "When does the pump start?")
    assert outcome.status == 0
    assert "5 bar" in outcome.out
    assert "note: world average used: energy.region is 'Atlantis'" in outcome.out


def test_batch_lines_have_energy_each(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"_id": 1, "text": "pump"}\n{"_id": 2, "text": "leak"}\n')
    assert [line["measurement"]["energy_j"]["unit"] for line in rag("search", "--batch", tmp_path / "q.jsonl").lines] == ["J", "J"]


# Doctor


def test_doctor_says_what_is_used_why_not_the_rest_and_how_to_mend_it(fresh: Command) -> None:
    outcome = fresh("energy", "doctor")
    assert outcome.status == 0
    assert "absent     powercap counters" in outcome.out
    assert "-> " in outcome.out
    found = fresh("energy", "doctor", "--json").value
    assert {finding["status"] for finding in found["findings"]} <= {"used", "available", "unreadable", "absent", "unset"}
    assert found["chain"].startswith("Watts come from ")


# Regions


def test_regions_are_compared_for_the_joules_of_results(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(rag("search", "pump", "--json").out * 2)
    found = rag("energy", "regions", "DEU", "fra", "--results", tmp_path / "results.jsonl", "--json").value
    assert [row["code"] for row in found["regions"]] == ["FRA", "DEU"]
    assert found["load_j"]["source"] == "sum of 2 results"
    french, german = (row["carbon_g"]["value"] for row in found["regions"])
    assert 0 < french < german


def test_regions_without_a_load_are_those_of_the_whole_table_for_one_kwh(fresh: Command) -> None:
    found = fresh("energy", "regions", "--json").value
    assert len(found["regions"]) > 200
    assert found["region"]["is_known"] is False
    grams = [row["g_per_kwh"]["value"] for row in found["regions"]]
    assert grams == sorted(grams)
    assert all(row["year"] and row["source"] for row in found["regions"])


def test_region_of_this_machine_is_marked(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_REGION", "FR")
    lines = fresh("energy", "regions", "FRA", "DEU").out.splitlines()
    assert [line[:5] for line in lines if line.startswith("*")] == ["* FRA"]


def test_unknown_region_to_compare_is_refused_with_what_is_near(fresh: Command) -> None:
    status, code, message = fresh.refused("energy", "regions", "Germny")
    assert (status, code) == (2, "region_unknown")
    assert message.startswith("REGION is 'Germny'")
    assert "DEU Germany" in message
    assert "energy.region" not in message


def test_results_without_joules_are_refused_with_their_place(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('\n{"measurement": {"energy_j": null}}\n')
    status, code, message = fresh.refused("energy", "regions", "--results", tmp_path / "results.jsonl")
    assert (status, code) == (2, "bad_record")
    assert message.startswith(f"{tmp_path / 'results.jsonl'}:2 ")


def test_results_file_without_a_name_is_not_taken_for_none(fresh: Command) -> None:
    assert fresh.refused("energy", "regions", "--results", "")[:2] == (2, "unreadable")


def test_grams_of_an_assumed_load_are_assumed(fresh: Command) -> None:
    (row,) = fresh("energy", "regions", "FRA", "--json").value["regions"]
    assert row["carbon_g"]["method"] == "assumed"
    assert row["carbon_g"]["value"] == pytest.approx(row["g_per_kwh"]["value"], rel=0.1)


def test_grams_of_results_are_modelled_and_name_their_table(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(rag("search", "pump", "--json").out)
    (row,) = rag("energy", "regions", "FRA", "--results", tmp_path / "results.jsonl", "--json").value["regions"]
    assert (row["carbon_g"]["method"], row["carbon_g"]["boundary"], row["carbon_g"]["unit"]) == ("modelled", "server_wall", "g")
    assert "Ember" in row["carbon_g"]["source"]


def test_questions_of_a_batch_that_failed_are_skipped_and_counted(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"_id": 1, "text": "pump"}\n{"_id": 2}\n')
    (tmp_path / "results.jsonl").write_text(rag("search", "--batch", tmp_path / "q.jsonl").out)
    arguments = ("energy", "regions", "FRA", "--results", tmp_path / "results.jsonl")
    found = rag(*arguments, "--json").value
    assert (found["n_skipped"], found["load_j"]["source"]) == (1, "sum of 1 results")
    assert "skipped: 1 lines" in rag(*arguments).out


def test_joules_of_servers_elsewhere_are_told_and_not_in_the_load(fresh: Command, tmp_path: Path) -> None:
    def joules(value: float, boundary: str) -> dict[str, object]:
        return {"value": value, "lo": value, "hi": value, "unit": "J", "method": "modelled", "boundary": boundary}

    parts = {"active": joules(2, "server_wall"), "idle": joules(1, "server_wall"), "remote": joules(70, "remote_server")}
    result = {"measurement": {"energy_j": joules(73, "server_wall+remote_server"), "energy_parts_j": parts}}
    (tmp_path / "results.jsonl").write_text(json.dumps(result))
    arguments = ("energy", "regions", "FRA", "--results", tmp_path / "results.jsonl")
    found = fresh(*arguments, "--json").value
    assert (found["load_j"]["value"], found["load_j"]["boundary"]) == (3, "server_wall")
    assert "servers elsewhere" in found["notes"][-1]
    assert f"note: {found['notes'][-1]}" in fresh(*arguments).out


def test_regions_tell_of_broken_sources(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_REGION", "Atlantis")
    assert any("Atlantis" in note for note in fresh("energy", "regions", "FRA", "--json").value["notes"])
    assert "note: world average used: " in fresh("energy", "regions", "FRA").out


# Calibration


def test_calibration_from_piped_readings_is_used_by_the_next_result(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "readings.csv").write_text(READINGS)
    made = fresh("energy", "calibrate", "--readings", tmp_path / "readings.csv", "--json").value
    assert made["calibration"]["idle_w"] == pytest.approx(40.3, abs=0.1)
    assert Path(made["path"]).is_file()
    (tmp_path / "pumps.md").write_text(PAGE)
    energy = fresh("ingest", tmp_path / "pumps.md", "--json").value["measurement"]["energy_j"]
    assert energy["source"].startswith("calibration of ")
    assert energy["method"] == "modelled"
    assert "used       calibration file" in fresh("energy", "doctor").out


def test_calibration_asks_for_a_reading_at_every_load(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "40.5\n51\n")
    outcome = fresh("energy", "calibrate", "--threads", "0,1", "--settle", "0", "--json")
    assert outcome.status == 0
    assert outcome.value["calibration"]["readings"] == [{"busy_threads": 0, "watts": 40.5}, {"busy_threads": 1, "watts": 51}]
    assert outcome.err.count("watts shown: ") == 2


def test_slip_at_a_prompt_is_told_and_asked_again(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "4O.5\n\n40,5\n40.5\n51\n")
    outcome = fresh("energy", "calibrate", "--threads", "0,1", "--settle", "0", "--json")
    assert [reading["watts"] for reading in outcome.value["calibration"]["readings"]] == [40.5, 51]
    assert outcome.err.count("once more") == 3
    assert "'40,5' is not a number of watts" in outcome.err


@pytest.mark.parametrize(
    ("answers", "said"), [("40\n", "ended before all readings"), ("40\n" + "fifty\n" * 4, "'fifty' is not a number of watts")]
)
def test_calibration_that_gets_no_good_reading_writes_nothing(
    fresh: Command, monkeypatch: pytest.MonkeyPatch, answers: str, said: str
) -> None:
    typed(monkeypatch, answers)
    outcome = fresh("energy", "calibrate", "--threads", "0,1", "--settle", "0")
    assert outcome.status == 2
    assert said in outcome.err
    assert not (fresh.data_dir / "calibration.json").exists()


def test_calibration_that_could_not_be_written_asks_nothing(
    fresh: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAG_ENERGY_CALIBRATION", str(tmp_path / "file" / "calibration.json"))
    typed(monkeypatch, "40.5\n51\n")
    outcome = fresh("energy", "calibrate", "--threads", "0,1", "--settle", "0")
    assert outcome.status == 1
    assert "cannot be written" in outcome.err
    assert "watts shown" not in outcome.err


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e12", "-1", "3601", "--settle=--"])
def test_time_to_settle_that_nobody_waits_is_refused(fresh: Command, seconds: str) -> None:
    option = seconds if "=" in seconds else f"--settle={seconds}"
    assert fresh.refused("energy", "calibrate", option)[:2] == (2, "usage")


@pytest.mark.parametrize(
    "arguments",
    [
        ("energy", "regions", "--results=--"),
        ("ingest", "x", "--defer-until=--"),
        ("search", "x", "--collection=--"),
        ("status", "--config=--"),
        ("models", "list", "--set=--"),
    ],
)
def test_value_that_argparse_drops_is_refused(fresh: Command, arguments: tuple[str, ...]) -> None:
    status, code, message = fresh.refused(*arguments)
    assert (status, code) == (2, "usage")
    assert f"{arguments[-1]} has the value --" in message


def test_question_may_look_like_a_dropped_value() -> None:
    parser = Parser()
    parser.add_argument("question")
    assert parser.parse_args(["--", "--pump=--"]).question == "--pump=--"


@pytest.mark.parametrize("readings", ["", "0,40\n", "0,40\n1,30\n", "0,40\n1,x\n", "0,40\n1,-3\n"])
def test_bad_readings_are_refused_and_nothing_is_written(fresh: Command, tmp_path: Path, readings: str) -> None:
    (tmp_path / "readings.csv").write_text(readings)
    status, _, _ = fresh.refused("energy", "calibrate", "--readings", tmp_path / "readings.csv")
    assert status == 2
    assert not (fresh.data_dir / "calibration.json").exists()


def test_broken_calibration_is_said_under_the_result_and_the_table_used(rag: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_CALIBRATION", "gone.json")
    outcome = rag("search", "pump")
    assert outcome.status == 0
    assert "note: calibration not used: " in outcome.out


# Bench


@pytest.mark.slow
def test_bench_measures_every_setting_and_says_what_to_write(fresh: Command) -> None:
    found = fresh("energy", "bench", "--threads", "1", "--batch", "1,4", "--rounds", "1", "--json")
    assert [(trial["threads"], trial["batch"]) for trial in found.value["trials"]] == [(1, 1), (1, 4)]
    assert found.value["chosen"]["trial"]["batch"] == 1  # a batch changes the vectors of the shipped model
    for trial in found.value["trials"]:
        assert set(trial["j_per_query"]) == FIGURE_KEYS
        assert 0 < trial["j_per_query"]["lo"] <= trial["j_per_query"]["value"]
        assert (trial["j_per_query"]["unit"], trial["j_per_query"]["method"]) == ("J", "modelled")
    assert "run 2 of 2" in found.err


@contextmanager
def busy_counters(tree: Powercap) -> Iterator[None]:
    """A package that takes about ten watts while the body runs."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(0.01):
            tree.advance(0.1)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_bench_is_priced_by_counters_that_saw_it(fresh: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree = Powercap(tmp_path / "powercap")
    tree.add("intel-rapl:0", "package-0")
    monkeypatch.setenv("RAG_ENERGY_POWERCAP_ROOT", str(tree.root))
    with busy_counters(tree):
        found = fresh("energy", "bench", "--threads", "1", "--batch", "1", "--rounds", "1", "--json").value
    assert (found["price"]["method"], found["price"]["boundary"]) == ("apportioned", "cpu_package")
    assert found["trials"][0]["j_per_query"]["source"].startswith("RAPL package-0")


@pytest.mark.slow
def test_bench_tells_of_broken_sources(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ENERGY_CALIBRATION", "gone.json")
    arguments = ("energy", "bench", "--threads", "1", "--batch", "1", "--rounds", "1")
    assert any("gone.json" in note for note in fresh(*arguments, "--json").value["notes"])
    assert "note: calibration not used: " in fresh(*arguments).out


@pytest.mark.parametrize(
    "arguments",
    [("--threads", "x"), ("--threads", "0"), ("--batch", "0"), ("--batch", "1000"), ("--rounds", "0"), ("--max-latency-ms", "0")],
)
def test_bench_refuses_numbers_that_mean_nothing(fresh: Command, arguments: tuple[str, str]) -> None:
    assert fresh.refused("energy", "bench", *arguments)[0] == 2


# Deferral


def ingested(command: Command, tmp_path: Path, *arguments: str | Path) -> dict[str, Any]:
    (tmp_path / "pumps.md").write_text(PAGE)
    outcome = command("ingest", tmp_path / "pumps.md", *arguments, "--json")
    assert outcome.status == 0
    return outcome.value


def test_ingest_without_deferral_says_null(fresh: Command, tmp_path: Path) -> None:
    assert ingested(fresh, tmp_path)["deferred"] is None


class Clock:
    """Takes the place of `time`: it stands still but for sleep, which is over at once."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def time(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_ingest_waits_for_the_cleaner_window_and_counts_what_that_saved(
    fresh: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = datetime(2026, 5, 1, 12, tzinfo=UTC)
    monkeypatch.setattr("ingest.cli.time", Clock(asked.timestamp()))
    cleaner = asked + timedelta(hours=1)
    rows = [(asked, cleaner, 400), (cleaner, cleaner + timedelta(hours=1), 100)]
    lines = [f"{start.isoformat()},{end.isoformat()},{grams}" for start, end, grams in rows]
    (tmp_path / "forecast.csv").write_text("\n".join(["start,end,g_per_kwh", *lines]))
    options = ("--defer-until", "+2h", "--forecast", tmp_path / "forecast.csv", "--expected-duration", "1m")
    deferred = ingested(fresh, tmp_path, *options)["deferred"]
    assert deferred["deferred"] is True
    assert deferred["waited_s"] == pytest.approx(3600)
    assert deferred["window_g_per_kwh"] == pytest.approx(100)
    assert deferred["now_g_per_kwh"] == pytest.approx(400)
    assert deferred["saved_g"]["value"] > 0
    assert "counterfactual" in deferred["saved_g"]["source"]


def test_ingest_with_a_bad_forecast_runs_at_once_and_says_why(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "forecast.csv").write_text("nonsense")
    deferred = ingested(fresh, tmp_path, "--defer-until", "+5h", "--forecast", tmp_path / "forecast.csv")["deferred"]
    assert deferred["deferred"] is False
    assert "no usable forecast" in deferred["reason"]
    assert deferred["saved_g"]["value"] == 0


def test_ingest_without_a_forecast_runs_at_once(fresh: Command, tmp_path: Path) -> None:
    deferred = ingested(fresh, tmp_path, "--defer-until", "+5h")["deferred"]
    assert (deferred["deferred"], deferred["reason"]) == (False, "no forecast was given")


@pytest.mark.parametrize(
    "arguments", [("--defer-until", "yesterday"), ("--defer-until", "2001-01-01T00:00Z"), ("--forecast", "f.csv")]
)
def test_deferral_that_makes_no_sense_is_refused(fresh: Command, tmp_path: Path, arguments: tuple[str, str]) -> None:
    (tmp_path / "pumps.md").write_text(PAGE)
    status, code, _ = fresh.refused("ingest", tmp_path / "pumps.md", *arguments)
    assert (status, code) == (2, "deferral")


def test_result_is_valid_json_for_strict_readers(rag: Command) -> None:
    not_json: list[str] = []  # NaN and the infinities, which Python reads and writes unless told otherwise
    found = json.loads(rag("ask", "When does the pump start?", "--json").out, parse_constant=not_json.append)
    assert found["measurement"]["energy_j"]["value"] > 0
    assert not_json == []
