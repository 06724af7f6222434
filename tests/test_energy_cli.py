"""`rag energy` and the energy of results, from outside."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rag.__main__ import main
from tests.command import Command

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
    assert (status, code) == (1, "region_unknown")
    assert "DEU Germany" in message


@pytest.mark.parametrize("content", ["", "not json\n", '{"hits": []}\n', '{"measurement": {"energy_j": null}}\n'])
def test_results_without_joules_are_refused(fresh: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "results.jsonl").write_text(content)
    status, code, _ = fresh.refused("energy", "regions", "--results", tmp_path / "results.jsonl")
    assert (status, code) == (2, "bad_record")


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


@pytest.mark.parametrize(("answers", "said"), [("40\n", "ended before all readings"), ("40\nfifty\n", "fifty")])
def test_calibration_that_gets_no_good_reading_writes_nothing(
    fresh: Command, monkeypatch: pytest.MonkeyPatch, answers: str, said: str
) -> None:
    typed(monkeypatch, answers)
    outcome = fresh("energy", "calibrate", "--threads", "0,1", "--settle", "0")
    assert outcome.status == 2
    assert said in outcome.err
    assert not (fresh.data_dir / "calibration.json").exists()


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


def test_bench_measures_every_setting_and_says_what_to_write(fresh: Command) -> None:
    found = fresh("energy", "bench", "--threads", "1", "--batch", "1,4", "--rounds", "1", "--json")
    assert [(trial["threads"], trial["batch"]) for trial in found.value["trials"]] == [(1, 1), (1, 4)]
    assert found.value["chosen"]["trial"]["batch"] == 1  # a batch changes the vectors of the shipped model
    assert all(trial["j_per_query"] > 0 for trial in found.value["trials"])
    assert "run 2 of 2" in found.err


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


def test_ingest_waits_for_the_cleaner_window_and_counts_what_that_saved(fresh: Command, tmp_path: Path) -> None:
    cleaner = datetime.now(tz=UTC) + timedelta(seconds=2)
    rows = [(cleaner - timedelta(hours=1), cleaner, 400), (cleaner, cleaner + timedelta(hours=1), 100)]
    lines = [f"{start.isoformat()},{end.isoformat()},{grams}" for start, end, grams in rows]
    (tmp_path / "forecast.csv").write_text("\n".join(["start,end,g_per_kwh", *lines]))
    options = ("--defer-until", "+10m", "--forecast", tmp_path / "forecast.csv", "--expected-duration", "1m")
    deferred = ingested(fresh, tmp_path, *options)["deferred"]
    assert deferred["deferred"] is True
    assert deferred["waited_s"] > 0
    assert deferred["window_g_per_kwh"] == pytest.approx(100)
    assert deferred["now_g_per_kwh"] > 100
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
    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(rag("ask", "When does the pump start?", "--json").out, parse_constant=refuse)
