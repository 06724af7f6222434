"""The `rag` command from outside: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from rag.__main__ import COMMANDS, main
from tests.command import Command

GUIDE = "# Guide\n\nThe pump starts at 5 bar.\n\n## Safety\n\nClose the valve before you open the pump."
CITATION_KEYS = {"index", "start", "end", "quote", "doc_id", "chunk_id", "source"}
SOURCE_KEYS = {"uri", "title", "page", "start_char", "end_char"}
MEASUREMENT_KEYS = {
    "wall_s",
    "cpu_s",
    "energy_j",
    "energy_parts_j",
    "saved_cpu_s",
    "saved_j",
    "carbon_g",
    "embodied_g",
    "sci",
    "assumed",
    "notes",
    "tokens",
    "stages",
    "cache",
    "peak_rss_bytes",
    "not_modelled",
}


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one small collection; tests read it only."""
    base = tmp_path_factory.mktemp("cli")
    folder = base / "docs"
    folder.mkdir()
    (folder / "guide.md").write_text(GUIDE, encoding="utf-8")
    (folder / "notes.txt").write_text("Notes on pumps\n\nOld pumps leak. New pumps do not leak at 3 bar.", encoding="utf-8")
    (folder / "evil.txt").write_text("Evil\n\nThe escape \x9b31m and \u202e turn the terminal red.", encoding="utf-8")
    assert main(["ingest", str(folder), "--meta", "team=pumps", "--data-dir", str(base / "data")]) == 0
    return base / "data"


@pytest.fixture(autouse=True)
def _clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RAG_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def rag(collection: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command over the small collection."""
    return Command(collection, capsys)


@pytest.fixture
def fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command over a data directory that does not exist yet."""
    return Command(tmp_path / "data", capsys)


def batch(tmp_path: Path, *lines: str | bytes) -> Path:
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


# Help and usage


def test_help_lists_every_command(fresh: Command) -> None:
    outcome = fresh("--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert all(f"  {name} " in outcome.out for name in COMMANDS)


def test_no_command_prints_help(fresh: Command) -> None:
    assert fresh().out == fresh("--help").out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, fresh: Command) -> None:
    outcome = fresh(name, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith(f"usage: rag {name}")


def test_version_is_printed(fresh: Command) -> None:
    assert fresh("--version").out.startswith("ragwatt ")


def test_unknown_command_is_refused(fresh: Command) -> None:
    status, code, message = fresh.refused("serch", "pump")
    assert (status, code) == (2, "command")
    assert "'serch'" in message
    assert "search" in message


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "pump", "--mode", "fuzzy"),
        ("search", "pump", "-k", "many"),
        ("search", "pump", "--nonsense"),
        ("ask", "pump", "extra"),
        ("ask",),
        ("ask", "pump", "--batch", "x.jsonl"),
        ("ingest",),
        ("context", "pump", "--style", "poem"),
        ("status", "--colection", "x"),
        ("repair", "now"),
    ],
)
def test_wrong_usage_is_one_line_with_status_two(rag: Command, arguments: tuple[str, ...]) -> None:
    status, code, _ = rag.refused(*arguments)
    assert (status, code) == (2, "usage")


def test_process_reports_errors_as_the_function_does(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "rag", "ask", "why", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("rag: no catalog in data directory")
    assert done.stderr.count("\n") == 1


# Questions


@pytest.mark.parametrize("verb", ["search", "context", "ask"])
@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u3000"])
def test_question_without_a_word_is_refused(rag: Command, verb: str, text: str) -> None:
    assert rag.refused(verb, text)[:2] == (2, "query_empty")


@pytest.mark.parametrize("verb", ["search", "context", "ask"])
def test_question_of_a_hundred_thousand_characters_is_refused_with_the_limit(rag: Command, verb: str) -> None:
    status, code, message = rag.refused(verb, "x" * 100_000)
    assert (status, code) == (2, "query_too_long")
    assert "10000" in message
    assert len(message) < 500


@pytest.mark.parametrize(
    "text", ["?!", "the of and", "\x00", "pump\x1b[31m", "中文", "AND OR (", 'body:"x', "\udcff pump", "--", "😀"]
)
@pytest.mark.parametrize("verb", ["search", "context", "ask"])
def test_odd_questions_are_answered(rag: Command, verb: str, text: str) -> None:
    outcome = rag(verb, "--json", "--", text) if text == "--" else rag(verb, text, "--json")
    assert outcome.status == (2 if text == "--" else 0)


def test_unknown_collection_is_refused_with_those_there_are(rag: Command) -> None:
    status, code, message = rag.refused("ask", "pump", "--collection", "manuals")
    assert (status, code) == (2, "unknown_collection")
    assert "there is: default" in message


def test_unknown_filter_key_is_refused_with_those_there_are(rag: Command) -> None:
    status, code, message = rag.refused("search", "pump", "--filter", "color=red")
    assert (status, code) == (2, "unknown_key")
    assert "doc_id, kind, team" in message


@pytest.mark.parametrize("given", ["team", "=pumps", ""])
def test_filter_that_is_no_pair_is_refused(rag: Command, given: str) -> None:
    assert rag.refused("search", "pump", "--filter", given)[:2] == (2, "filter")


@pytest.mark.parametrize("mode", ["hybrid", "bm25", "dense"])
def test_filter_chooses_documents(rag: Command, mode: str) -> None:
    hits = rag("search", "pump", "--filter", "doc_id=notes.txt", "--mode", mode, "--json").value["hits"]
    assert {hit["doc_id"] for hit in hits} == {"notes.txt"}


def test_filter_value_that_no_document_has_finds_nothing(rag: Command) -> None:
    assert rag("search", "pump", "--filter", "team=nobody", "--json").value["hits"] == []


@pytest.mark.parametrize("k", ["0", "-1", "1001"])
def test_k_out_of_range_is_refused(rag: Command, k: str) -> None:
    assert rag.refused("search", "pump", "-k", k)[:2] == (2, "k")


def test_budget_too_small_is_refused(rag: Command) -> None:
    assert rag.refused("context", "pump", "--max-tokens", "5")[:2] == (2, "max_tokens")


def test_missing_tokenizer_file_is_refused(rag: Command) -> None:
    assert rag.refused("context", "pump", "--for", "nowhere.json")[0] == 2


# Results


def test_search_prints_its_keys_as_json(rag: Command) -> None:
    found = rag("search", "when does the pump start", "--json").value
    assert {"hits", "version", "measurement"} <= set(found)
    assert set(found["hits"][0]) == {"chunk_id", "doc_id", "source", "start", "end", "text", "score", "bm25", "cosine"}
    assert set(found["measurement"]) == MEASUREMENT_KEYS
    assert [stage["name"] for stage in found["measurement"]["stages"]][:2] == ["start", "open"]


def test_context_prints_its_keys_as_json(rag: Command) -> None:
    found = rag("context", "when does the pump start", "--max-tokens", "64", "--json").value
    assert {"text", "n_tokens", "citations", "measurement"} <= set(found)
    assert found["n_tokens"] <= 64
    assert set(found["citations"][0]) == CITATION_KEYS


def test_ask_prints_its_keys_as_json(rag: Command) -> None:
    found = rag("ask", "At what pressure does the pump start?", "--json").value
    assert {"answer", "abstained", "citations", "measurement"} <= set(found)
    assert found["abstained"] is False
    (citation, *_) = found["citations"]
    assert set(citation) == CITATION_KEYS
    assert set(citation["source"]) >= SOURCE_KEYS
    assert GUIDE[citation["source"]["start_char"] : citation["source"]["end_char"]] == citation["quote"]
    assert "5 bar" in found["answer"]


def test_ask_abstains_with_a_reason(rag: Command) -> None:
    outcome = rag("ask", "Who won the chess championship in Reykjavik?", "--json")
    assert (outcome.status, outcome.value["abstained"], outcome.value["citations"]) == (0, True, [])
    assert outcome.value["reason"]


def test_eco_mode_asks_the_lexical_index_alone(rag: Command) -> None:
    stages = [s["name"] for s in rag("ask", "pump", "--mode", "eco", "--json").value["measurement"]["stages"]]
    assert "bm25" in stages
    assert not {"embed", "vector"} & set(stages)


def test_human_output_ends_with_its_cost(rag: Command) -> None:
    for verb in ("search", "context", "ask"):
        outcome = rag(verb, "pump")
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out.splitlines()[-1].startswith("cost: ")


# Batches


def test_batch_answers_the_good_lines_and_reports_the_bad_ones(rag: Command, tmp_path: Path) -> None:
    path = batch(
        tmp_path,
        '\ufeff{"_id": "a", "text": "pump"}',
        "{broken",
        "",
        '{"id": 7, "text": "valve"}',
        '{"_id": "c"}',
        '{"text": "no id"}',
        "[1]",
        b'{"_id": "d", "text": "\xff"}',
        '{"_id": "e", "text": "  "}',
        '{"_id": "f", "text": "pump \\ud800"}',
        "[" * 100_000,
    )
    outcome = rag("ask", "--batch", path)
    assert outcome.status == 3
    assert [line["_id"] for line in outcome.lines] == ["a", None, 7, None, None, None, None, "e", "f", None]
    codes = [line["error"]["code"] if "error" in line else "" for line in outcome.lines]
    bad = "bad_record"
    assert codes == ["", bad, "", bad, bad, bad, bad, "query_empty", "", bad]
    assert f"{path}:2 is not an object" in outcome.lines[1]["error"]["message"]


@pytest.mark.parametrize("verb", ["search", "context", "ask"])
def test_batch_of_good_lines_exits_with_zero(rag: Command, tmp_path: Path, verb: str) -> None:
    outcome = rag(verb, "--batch", batch(tmp_path, '{"_id": "a", "text": "pump"}', '{"_id": "b", "text": "valve"}'))
    assert (outcome.status, [line["_id"] for line in outcome.lines]) == (0, ["a", "b"])


def test_batch_is_read_from_standard_input(collection: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "rag", "search", "--batch", "-", "--mode", "bm25", "--data-dir", str(collection)]
    done = subprocess.run(command, input=b'{"_id": "a", "text": "pump"}\n', capture_output=True, cwd=tmp_path, check=True)
    assert json.loads(done.stdout)["_id"] == "a"


def test_missing_batch_file_is_refused(rag: Command) -> None:
    status, code, message = rag.refused("ask", "--batch", "nowhere.jsonl")
    assert (status, code) == (2, "batch")
    assert "nowhere.jsonl" in message


def test_folder_as_batch_file_is_refused(rag: Command, tmp_path: Path) -> None:
    assert rag.refused("ask", "--batch", tmp_path)[:2] == (2, "batch")


# Ingesting


def test_ingest_prints_its_keys_as_json(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(GUIDE)
    found = fresh("ingest", tmp_path / "a.md", "--json").value
    keys = {"collection", "version", "n_added", "n_updated", "n_unchanged", "n_removed", "failed", "n_chunks", "measurement"}
    assert keys <= set(found)
    assert (found["collection"], found["version"], found["n_added"]) == ("default", 1, 1)


def test_binary_among_good_files_is_reported_and_the_rest_is_taken(fresh: Command, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text(GUIDE)
    (folder / "b.txt").write_bytes(b"\x7fELF\x00\x01")
    outcome = fresh("ingest", folder, "--json")
    assert (outcome.status, outcome.value["n_added"]) == (3, 1)
    (failure,) = outcome.value["failed"]
    assert (failure["path"], failure["code"]) == (str(folder / "b.txt"), "binary")
    assert failure["message"]
    human = fresh("ingest", folder)
    assert human.status == 3
    assert f"not read: {folder / 'b.txt'}: binary: " in human.out


def test_empty_folder_is_refused(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert fresh.refused("ingest", tmp_path / "empty")[:2] == (2, "nothing_to_ingest")


def test_missing_folder_is_refused(fresh: Command) -> None:
    assert fresh.refused("ingest", "nowhere")[:2] == (2, "not_found")


@pytest.mark.parametrize("arguments", [("--meta", "team"), ("--collection", "a/b"), ("--include", "a\\")])
def test_bad_option_of_ingest_is_refused(fresh: Command, tmp_path: Path, arguments: tuple[str, str]) -> None:
    (tmp_path / "a.md").write_text(GUIDE)
    assert fresh.refused("ingest", tmp_path / "a.md", *arguments)[0] == 2


def test_bad_settings_are_refused(fresh: Command) -> None:
    Path("ragwatt.toml").write_text("[search]\nkk = 3\n")
    assert fresh.refused("status")[0] == 2


# Stored data


def test_data_directory_without_catalog_is_refused(fresh: Command) -> None:
    for arguments in (("ask", "pump"), ("status",), ("repair",)):
        status, code, message = fresh.refused(*arguments)
        assert (status, code) == (1, "no_data")
        assert "rag ingest" in message
    assert not fresh.data_dir.exists()


def test_catalog_of_a_newer_format_is_refused(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(GUIDE)
    fresh("ingest", tmp_path / "a.md")
    db = sqlite3.connect(fresh.data_dir / "catalog.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    status, code, message = fresh.refused("ask", "pump")
    assert (status, code) == (1, "newer_format")
    assert "99" in message


def test_snapshot_of_a_newer_format_is_refused(fresh: Command, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(GUIDE)
    fresh("ingest", tmp_path / "a.md")
    path = fresh.data_dir / "snapshots" / "default" / "1" / "manifest.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 99'))
    assert fresh.refused("search", "pump")[:2] == (1, "newer_format")


@pytest.mark.parametrize("name", ["rows.npy", "dense.faiss", "manifest.json", "lexical/meta.json"])
def test_damaged_snapshot_is_refused_with_its_name_and_repaired(fresh: Command, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.md").write_text(GUIDE)
    fresh("ingest", tmp_path / "a.md")
    before = fresh("search", "pump", "--mode", "bm25", "--json").value["hits"]
    path = fresh.data_dir / "snapshots" / "default" / "1" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    status, code, message = fresh.refused("search", "pump", "--mode", "bm25")
    assert (status, code) == (1, "damaged")
    assert name in message
    assert "rag repair" in message
    (outcome,) = fresh("repair", "--json").value["collections"]
    assert outcome["verdict"] == "rebuilt"
    assert fresh("search", "pump", "--mode", "bm25", "--json").value["hits"] == before


def test_damaged_catalog_is_refused(fresh: Command) -> None:
    fresh.data_dir.mkdir()
    (fresh.data_dir / "catalog.sqlite").write_bytes(b"not a database, but long enough to be read as one" * 40)
    assert fresh.refused("ask", "pump")[:2] == (1, "catalog")


def test_repair_of_whole_data_changes_nothing(rag: Command) -> None:
    outcome = rag("repair")
    assert (outcome.status, outcome.out) == (0, "default: version 1 whole\n")


def test_status_lists_collections_and_documents(rag: Command) -> None:
    found = rag("status", "--documents", "--json").value
    (only,) = found["collections"]
    assert (only["name"], only["version"], only["n_documents"]) == ("default", 1, 3)
    assert [document["doc_id"] for document in only["documents"]] == ["evil.txt", "guide.md", "notes.txt"]
    assert rag("status", "--documents").out.count("\n") == 4


def test_status_of_an_unknown_collection_is_refused(rag: Command) -> None:
    assert rag.refused("status", "--collection", "manuals")[:2] == (2, "unknown_collection")


# Terminals


def is_harmless(text: str) -> bool:
    return all(char.isprintable() or char in "\n\t" for char in text)


@pytest.mark.parametrize("verb", ["search", "context", "ask"])
def test_control_characters_of_documents_are_not_passed_through(rag: Command, verb: str) -> None:
    outcome = rag(verb, "what turns the terminal red")
    assert "31m" in outcome.out
    assert is_harmless(outcome.out)


def test_control_characters_of_file_names_are_not_passed_through(fresh: Command, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a\x1b[31m.md").write_text(GUIDE)
    (folder / "b\x1b[31m.md").write_bytes(b"%PDF-1.7 \x00")
    outcomes = [fresh("ingest", folder), fresh("status", "--documents"), fresh("search", "pump", "--mode", "bm25")]
    assert [outcome.status for outcome in outcomes] == [3, 0, 0]
    assert all("[31m.md" in outcome.out and is_harmless(outcome.out) for outcome in outcomes)


def test_control_characters_are_not_passed_to_a_terminal(collection: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-P",
        "-m",
        "rag",
        "ask",
        "what turns the terminal red",
        "--mode",
        "eco",
        "--data-dir",
        str(collection),
    ]
    environment = os.environ | {"TERM": "xterm", "NO_COLOR": "1"}
    done = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, cwd=tmp_path, env=environment, check=False)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "31m" in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown


def test_emptied_catalog_beside_snapshots_is_not_taken_for_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rag = Command(tmp_path / "data", capsys)
    (tmp_path / "new.md").write_text("A new note.")
    assert rag("ingest", tmp_path / "new.md").status == 0
    (rag.data_dir / "catalog.sqlite").write_bytes(b"")
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (rag.data_dir / name).unlink(missing_ok=True)
    status, code, message = rag.refused("ingest", tmp_path / "new.md")
    assert (status, code) == (1, "catalog")
    assert "restore it from a backup" in message


def test_empty_path_is_not_the_working_directory(rag: Command) -> None:
    assert rag.refused("ingest", "")[:2] == (2, "usage")


def test_include_that_matches_nothing_removes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rag = Command(tmp_path / "data", capsys)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("A note.")
    assert rag("ingest", tmp_path / "notes").status == 0
    assert rag.refused("ingest", tmp_path / "notes", "--include", "*.nothing")[:2] == (2, "bad_glob")
    assert "a.md" in rag("status", "--documents").out


@pytest.mark.parametrize("key", ["kind", "doc_id"])
def test_metadata_that_every_document_has_cannot_be_set(rag: Command, tmp_path: Path, key: str) -> None:
    assert rag.refused("ingest", tmp_path, "--meta", f"{key}=x")[:2] == (2, "meta")
