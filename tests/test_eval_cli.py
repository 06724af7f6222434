"""`rag eval` from outside, on a small suite."""

from __future__ import annotations

import gzip
import io
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.record import load_result
from rag.__main__ import main
from tests.chat_server import ChatServer, Exchange, running_server
from tests.command import Command
from tests.eval.small import SUITE, write_suite

SUITES = Path(__file__).parents[1] / "eval" / "suites"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the suite, its result in r.json, and the data directory of both."""
    folder = tmp_path_factory.mktemp("eval")
    write_suite(folder)
    assert (
        main(["eval", "run", str(folder / "suite.toml"), "--out", str(folder / "r.json"), "--data-dir", str(folder / "data")]) == 0
    )
    assert main(["ingest", str(folder / "pages"), "--data-dir", str(folder / "data")]) == 0
    return folder


@pytest.fixture(autouse=True)
def _clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ENERGY_POWERCAP_ROOT", str(tmp_path / "no-powercap"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rag(work: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(work / "data", capsys)


def worsened(path: Path, out: Path) -> Path:
    """A result in which the answers of `standard` to half of the questions are wrong."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for question in value["runs"][1]["questions"][::2]:
        if "containment" in question["scores"]:
            question["scores"]["containment"] = 0.0
    out.write_text(json.dumps(value), encoding="utf-8")
    return out


def test_help_lists_every_command(rag: Command) -> None:
    shown = rag("eval", "--help").out
    for name in ("run", "compare", "gate", "interleave", "report", "tune", "new", "judge", "calibrate", "selftest"):
        assert f"\n  {name} " in shown
        assert "usage: rag eval" in rag("eval", name, "--help").out


def test_run_tells_quality_beside_cost(rag: Command, work: Path, tmp_path: Path) -> None:
    outcome = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json.gz", "--limit", "4")
    assert outcome.status == 0
    for shown in ("handbook: 4 questions", "containment", "no-model", "standard", "cpu_s", "peak_rss_bytes", "written to"):
        assert shown in outcome.out
    assert (tmp_path / "a.json.gz").is_file()


def test_run_as_json_is_one_object(rag: Command, work: Path, tmp_path: Path) -> None:
    found = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json", "--json").value
    assert [run["pipeline"] for run in found["runs"]] == ["no-model", "standard"]
    assert found["runs"][1]["quality"]["containment"]["n"] == 7
    assert found["runs"][1]["quality"]["refusal"] == {"value": None, "lo": None, "hi": None, "n": 0, "n_unscored": 8}
    assert found["effort"]["answers_cpu_s"] > 0


def test_question_that_fails_makes_the_status_three(
    rag: Command, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_SEARCH_MAX_QUERY_CHARS", "30")
    outcome = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json")
    assert outcome.status == 3
    assert "of 8 questions failed, the first with query_too_long: " in outcome.out


def test_metric_that_nothing_was_scored_by_is_shown_with_its_reason(rag: Command, work: Path, tmp_path: Path) -> None:
    out = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json").out
    (row,) = [each for each in out.splitlines() if each.split()[:1] == ["refusal"]]
    assert row.count("- (not a question of this kind: 8)") == 2
    found = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json", "--json").value
    assert found["runs"][1]["reasons"]["refusal"] == {"not a question of this kind": 8}
    assert found["runs"][1]["reasons"]["rejection"] == {"has an answer": 7}
    assert "completion_tokens" not in found["runs"][1]["reasons"]


def test_run_of_which_every_question_failed_tells_why(
    rag: Command, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_SEARCH_MAX_QUERY_CHARS", "3")
    outcome = rag("eval", "run", work / "suite.toml", "--out", tmp_path / "a.json")
    assert outcome.status == 3
    assert outcome.out.count("- (failed: 8)") == 30
    assert outcome.out.count("8 of 8 questions failed, the first with query_too_long: ") == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("eval", "fly"), "command", "unknown command 'eval fly'; allowed: run, compare"),
        (("eval", "run"), "usage", "SUITE"),
        (("eval", "run", "nowhere.toml"), "suite", "nowhere.toml cannot be read"),
        (("eval", "run", "nowhere.toml", "--limit", "-1"), "usage", "--limit is -1; allowed: 0"),
        (("eval", "run", "nowhere.toml", "--data-sets", "no-folder"), "usage", "--data-sets no-folder is not a folder"),
        (("eval", "compare", "a.json", "b.json"), "result", "a.json cannot be read"),
        (("eval", "gate", "a.json", "--suite", "s.toml"), "suite", "s.toml cannot be read"),
        (("eval", "report", "a.json"), "result", "a.json cannot be read"),
        (("eval", "judge", "a.json"), "result", "a.json cannot be read"),
        (("eval", "calibrate", "labels.jsonl"), None, "labels.jsonl"),
        (("eval", "selftest", "--collection", "nowhere"), None, "nowhere"),
        (("eval", "new", "--out", "x.jsonl", "--n", "0"), "usage", "--n is 0; allowed: 1 or more"),
        (("eval", "interleave", "nowhere.toml"), "suite", "nowhere.toml cannot be read"),
        (("eval", "interleave", SUITES / "quick.toml", "--self", "--data", "nowhere"), "data", "allowed: xquad-en"),
        (
            ("eval", "tune", SUITES / "quick.toml", "--data", "nowhere"),
            "data",
            "data set 'nowhere' is not in suite 'quick'; allowed: xquad-en",
        ),
        (("eval", "tune", "nowhere.toml"), "suite", "nowhere.toml cannot be read"),
        (("eval", "tune", "nowhere.toml", "--trials", "0"), "usage", "--trials is 0; allowed: 1 or more"),
        (("eval", "tune", "nowhere.toml", "--max-joules", "nan"), "usage", "--max-joules is nan; allowed: "),
        (("eval", "tune", "nowhere.toml", "--max-cpu-s", "nan"), "usage", "--max-cpu-s is nan; allowed: "),
        (("eval", "judge", "a.json", "--price", "nan", "-2"), "usage", "--price is nan -2; allowed: "),
        (("eval", "judge", "a.json", "--price", "1", "-2"), "usage", "--price is 1 -2; allowed: "),
    ],
)
def test_wrong_input_is_one_clear_line(rag: Command, arguments: tuple[str | Path, ...], code: str | None, message: str) -> None:
    status, found, said = rag.refused(*arguments)
    assert status in (1, 2)
    assert code in (None, found)
    assert message in said


def test_missing_data_set_names_the_places_looked_at(rag: Command, work: Path, tmp_path: Path) -> None:
    (tmp_path / "lost.toml").write_text(SUITE.replace("questions.jsonl", "lost.jsonl"))
    _, _, message = rag.refused("eval", "run", tmp_path / "lost.toml", "--data-sets", work)
    assert str(work / "lost.jsonl") in message or (str(work) in message and "lost.jsonl" in message)


def test_compare_shows_rows_and_writes_markdown(rag: Command, work: Path, tmp_path: Path) -> None:
    worse = worsened(work / "r.json", tmp_path / "w.json")
    outcome = rag("eval", "compare", work / "r.json", worse, "--markdown", tmp_path / "c.md")
    assert outcome.status == 0
    assert "containment" in outcome.out
    assert (tmp_path / "c.md").read_text().startswith("## Comparison")
    rows = json.loads(rag("eval", "compare", work / "r.json", worse, "--json").out)["rows"]
    (row,) = [row for row in rows if (row["place"]["pipeline"], row["place"]["metric"]) == ("standard", "containment")]
    assert row["base"] > row["candidate"]


def test_gate_passes_itself_and_writes_for_ci(rag: Command, work: Path, tmp_path: Path) -> None:
    outcome = rag(
        "eval", "gate", work / "r.json", "--suite", work / "suite.toml", "--base", work / "r.json",
        "--junit", tmp_path / "j.xml", "--markdown", tmp_path / "g.md",
    )  # fmt: skip
    assert outcome.status == 0
    assert "PASS" in outcome.out
    assert len(list(ET.parse(tmp_path / "j.xml").getroot().iter("testcase"))) >= 2
    assert "containment" in (tmp_path / "g.md").read_text()


def test_gate_fails_a_worse_release_unless_it_is_waived(rag: Command, work: Path, tmp_path: Path) -> None:
    worse = worsened(work / "r.json", tmp_path / "w.json")
    gate = ("eval", "gate", worse, "--suite", work / "suite.toml", "--base", work / "r.json")
    outcome = rag(*gate)
    assert outcome.status == 1
    assert "FAIL" in outcome.out
    waiver = 'metric = "containment"\ndata = "handbook"\npipeline = "standard"\nreason = "known"\nby = "me"\n'
    (tmp_path / "waivers.toml").write_text(f"[[waiver]]\n{waiver}expires = 2999-01-01\n")
    assert rag(*gate, "--waivers", tmp_path / "waivers.toml").status == 0
    (tmp_path / "waivers.toml").write_text(f"[[waiver]]\n{waiver}expires = 2020-01-01\n")
    assert rag(*gate, "--waivers", tmp_path / "waivers.toml").status == 1


def test_gate_that_cannot_decide_has_its_own_status(rag: Command, work: Path, tmp_path: Path) -> None:
    value = json.loads((work / "r.json").read_text())
    value["runs"][1]["questions"][0]["scores"]["ndcg@10"] = 0.5
    (tmp_path / "c.json").write_text(json.dumps(value))
    (tmp_path / "wide.toml").write_text(SUITE.replace("margin = 0.0\n", ""))
    assert rag("eval", "gate", tmp_path / "c.json", "--suite", tmp_path / "wide.toml", "--base", work / "r.json").status == 4


def test_report_is_written_with_plots_and_refuses_to_overwrite_a_result(rag: Command, work: Path, tmp_path: Path) -> None:
    outcome = rag("eval", "report", work / "r.json", "--out", tmp_path / "r.html", "--plots", tmp_path / "plots")
    assert outcome.status == 0
    page = (tmp_path / "r.html").read_text()
    assert "Who built the boiler?" in page or "containment" in page
    assert sorted({path.suffix for path in (tmp_path / "plots").iterdir()}) == [".png", ".svg"]
    (work / "sub").mkdir()
    for out in (work / "r.json", work / "sub" / ".." / "r.json"):
        assert rag.refused("eval", "report", work / "r.json", "--out", out)[1] == "usage"


def cpu_suite(folder: Path) -> Path:
    """The suite with one gate, on CPU seconds."""
    path = folder / "suite.toml"
    path.write_text(SUITE[: SUITE.index("[[gate]]")] + '[[gate]]\nmetric = "cpu_s"\npipeline = "standard"\nmargin = 0.03\n')
    return path


def test_interleaved_settings_are_measured_and_gated(rag: Command, work: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "i.json", tmp_path / "other.toml"
    config.write_text("[search]\nk = 5\n")
    options = ("--only", "standard", "--rounds", "1", "--limit", "6", "--base-config", config, "--out", out, "--json")
    (ratio,) = rag("eval", "interleave", work / "suite.toml", *options).value["ratios"]
    assert (ratio["data"], ratio["pipeline"], ratio["n_questions"]) == ("handbook", "standard", 6)
    assert ratio["ratio"] > 0
    gate = rag("eval", "gate", work / "r.json", "--suite", cpu_suite(tmp_path), "--base", work / "r.json", "--interleaved", out)
    assert gate.status in (0, 1, 4)
    assert "cpu_s of standard on handbook" in gate.out
    assert "over 6 of 8 questions" in gate.out


def test_release_against_itself_is_noise_that_no_gate_takes(rag: Command, work: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.json"
    interleave = ("eval", "interleave", work / "suite.toml", "--only", "standard", "--rounds", "1", "--limit", "3", "--out", out)
    _, code, message = rag.refused(*interleave)
    assert (code, out.exists()) == ("interleave", False)
    assert "base and candidate are one and the same" in message
    assert "it shows the noise" in rag(*interleave, "--self").out
    gate = ("eval", "gate", work / "r.json", "--suite", cpu_suite(tmp_path), "--interleaved", out)
    assert "made with --self" in rag.refused(*gate)[2]


def test_other_release_ingests_for_itself(rag: Command, work: Path, tmp_path: Path) -> None:
    """The base is another installation: here the same, called through a script of its own."""
    other = tmp_path / "other-rag"
    import sys

    other.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec {Path(sys.executable).with_name("rag")} "$@"\n')
    other.chmod(0o755)
    arguments = ("--base", other, "--only", "standard", "--rounds", "1", "--limit", "3", "--out", tmp_path / "i.json", "--json")
    assert rag("eval", "interleave", work / "suite.toml", *arguments).status == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [calls[0], " ingest " in calls[1], " ask " in calls[2]] == ["--version", True, True]


def test_tune_writes_settings_and_tells_its_own_cost(rag: Command, work: Path, tmp_path: Path) -> None:
    outcome = rag("eval", "tune", work / "suite.toml", "--trials", "3", "--out", tmp_path / "t.toml")
    assert outcome.status == 0
    assert "search" in (tmp_path / "t.toml").read_text()
    assert "CPU" in outcome.out
    asked = rag("search", "pump", "--config", tmp_path / "t.toml", "--json")
    assert asked.status == 0


def test_tune_tells_failures_of_what_it_chose_by_its_status(
    rag: Command, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_SEARCH_MAX_QUERY_CHARS", "30")
    outcome = rag("eval", "tune", work / "suite.toml", "--trials", "2", "--out", tmp_path / "t.toml")
    assert outcome.status == 3
    assert "questions failed" in outcome.out
    chosen = rag("eval", "tune", work / "suite.toml", "--trials", "2", "--out", tmp_path / "t.toml", "--json").value["chosen"]
    assert chosen["n_failed"] + chosen["held_out_n_failed"] > 0
    assert chosen["quality"] < 1.0


def test_review_that_takes_nothing_writes_no_data_set_and_knows_what_was_skipped(
    rag: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "set.jsonl"
    new = ("eval", "new", "--out", out, "--n", "3")
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    assert rag(*new).out.splitlines()[-1].endswith(f"0 accepted, 0 skipped, 0 known; nothing written to {out}")
    monkeypatch.setattr("sys.stdin", io.StringIO("s\ns\nq\n"))
    assert rag(*new, "--json").value == {"n_accepted": 0, "n_skipped": 2, "n_known": 0, "out": None}
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    assert rag(*new, "--json").value == {"n_accepted": 0, "n_skipped": 0, "n_known": 2, "out": None}
    assert not out.exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("e\nHow much?\n\na\n"))
    assert rag(*new).out.splitlines()[-1].endswith(f"1 accepted, 0 skipped, 2 known; written to {out}")


def test_new_data_set_is_made_by_way_of_a_table(rag: Command, work: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "t.csv", tmp_path / "set.jsonl"
    made = rag("eval", "new", "--out", out, "--n", "3", "--csv", table, "--json").value
    assert made["n_drafts"] >= 1
    assert "boiler" in table.read_text().lower() or "garage" in table.read_text().lower() or "pump" in table.read_text().lower()
    read = rag("eval", "new", "--out", out, "--from-csv", table, "--json").value
    assert (read["n_accepted"], read["out"], out.exists()) == (0, None, False)


def test_calibrate_needs_enough_labels(rag: Command, tmp_path: Path) -> None:
    row = json.dumps({"answer": "It is so.", "passages": ["It is so."], "supported": True})
    (tmp_path / "labels.jsonl").write_text(row + "\n")
    _, _, message = rag.refused("eval", "calibrate", tmp_path / "labels.jsonl")
    assert "50" in message


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    with running_server() as server:
        for name, value in {"KIND": "http", "URL": server.settings().url, "MODEL": "m", "WINDOW": "4096"}.items():
            monkeypatch.setenv(f"RAG_JUDGE_{name}", value)
        yield server


def judges(exchange: Exchange) -> None:
    """Every claim is supported, every question answered."""
    asked = exchange.state.requests[-1].body["response_format"]["json_schema"]["schema"]["properties"]["verdicts"]["required"]
    text = json.dumps({"verdicts": dict.fromkeys(asked, "supported"), "relevance": "all"})
    exchange.send_json(
        {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5},
        }
    )


def test_judge_tells_first_and_then_adds_its_metrics(rag: Command, work: Path, tmp_path: Path, judge: ChatServer) -> None:
    dry = rag("eval", "judge", work / "r.json", "--dry-run", "--price", "1", "2", "--json").value
    assert dry["n_calls"] == dry["n_answers"] > 5
    assert dry["usd"] > 0
    assert not judge.requests
    judge.next_answers.extend([judges] * dry["n_calls"])
    found = rag("eval", "judge", work / "r.json", "--out", tmp_path / "j.json", "--json").value
    assert found["n_unscored"] == 0
    result = json.loads((tmp_path / "j.json").read_text())
    assert result["judge"] == found["judge"]
    assert [run["quality"]["judged_support"]["value"] for run in result["runs"]] == [1.0, 1.0]
    assert result["effort"]["judge_tokens"] == 14 * found["effort"]["n_calls"] > 0
    assert rag("eval", "judge", tmp_path / "j.json", "--json").value["effort"]["n_calls"] == 0


def test_answers_that_a_judge_says_nonsense_of_are_counted_and_never_guessed(
    rag: Command, work: Path, tmp_path: Path, judge: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_JUDGE_MODEL", "babbler")

    def babbles(exchange: Exchange) -> None:
        exchange.send_json({"choices": [{"message": {"content": "Well, hard to say."}, "finish_reason": "stop"}]})

    judge.next_answers.extend([babbles] * 20)
    arguments = ("--pipeline", "standard", "--out", tmp_path / "j.json", "--json")
    outcome = rag("eval", "judge", work / "r.json", *arguments)
    assert outcome.status == 3
    found = outcome.value
    quality = json.loads((tmp_path / "j.json").read_text())["runs"][1]["quality"]["judged_support"]
    assert found["n_unscored"] >= 6
    assert (quality["value"], quality["n"], quality["n_unscored"]) == (None, 0, 8)


@pytest.mark.parametrize(("name", "judged"), [("a.json", "a-judged.json"), ("a.json.gz", "a-judged.json.gz")])
def test_judged_result_stands_beside_the_result(
    rag: Command, work: Path, tmp_path: Path, judge: ChatServer, name: str, judged: str
) -> None:
    content = (work / "r.json").read_bytes()
    content = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(content)
    judge.next_answers.extend([judges] * 40)
    outcome = rag("eval", "judge", tmp_path / name, "--json")
    assert (outcome.status, outcome.value["out"]) == (0, str(tmp_path / judged))
    assert load_result(tmp_path / judged).judge
    assert (tmp_path / name).read_bytes() == content


def test_judge_without_a_server_is_refused(rag: Command, work: Path) -> None:
    _, _, message = rag.refused("eval", "judge", work / "r.json")
    assert "judge.kind" in message
