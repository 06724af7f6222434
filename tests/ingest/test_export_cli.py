"""`rag export`, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import Command


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "data"


@pytest.fixture
def rag(ingested: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    command = Command(ingested, capsys)
    if not ingested.exists():
        (tmp_path / "a.md").write_text("# Apples\n\nApples are red.\n")
        assert command("ingest", tmp_path / "a.md").status == 0
    return command


def test_documents_go_to_standard_output_and_the_summary_beside(rag: Command) -> None:
    outcome = rag("export")
    (record,) = outcome.lines

    assert (outcome.status, record["id"], record["text"]) == (0, "a.md", "# Apples\n\nApples are red.\n")
    assert "1 documents, 1 chunks" in outcome.err


def test_summary_is_json_on_standard_error_when_documents_go_to_standard_output(rag: Command) -> None:
    outcome = rag("export", "--json", "--out", "-")

    assert outcome.value["id"] == "a.md"
    assert json.loads(outcome.err.splitlines()[-1])["n_documents"] == 1


@pytest.mark.parametrize("name", ["c.jsonl.gz", "c.parquet"])
def test_export_and_ingest_find_the_same(rag: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    summary = rag("export", "--out", tmp_path / name, "--json").value
    assert (summary["collection"], summary["version"], summary["n_documents"]) == ("default", 1, 1)
    assert summary["n_bytes"] == (tmp_path / name).stat().st_size
    other = Command(tmp_path / "again", capsys)
    assert other("ingest", tmp_path / name).status == 0

    def hits(command: Command) -> list[object]:
        return [hit["chunk_id"] for hit in command("search", "red apples", "--json").value["hits"]]

    assert hits(other) == hits(rag)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--collection", "nothing"], "unknown_collection"),
        (["--format", "xml"], "usage"),
        (["--format", "parquet"], "usage"),
        (["--format", "parquet", "--out", "c.jsonl"], "usage"),
        (["--format", "jsonl", "--out", "c.parquet"], "usage"),
        (["--out", ""], "usage"),
        (["--out", "missing/folder/c.jsonl"], "out"),
        (["--out", "/"], "usage"),
        (["--out", ".."], "out"),
        (["more"], "usage"),
    ],
)
def test_wrong_usage_is_refused(rag: Command, arguments: list[str], code: str) -> None:
    status, found, _ = rag.refused("export", *arguments)

    assert (status, found) == (2, code)


def test_existing_file_is_kept_unless_forced(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("mine")
    status, code, message = rag.refused("export", "--out", str(tmp_path / "c.jsonl"))
    assert (status, code) == (2, "out")
    assert "--force" in message
    assert (tmp_path / "c.jsonl").read_text() == "mine"

    assert rag("export", "--out", tmp_path / "c.jsonl", "--force").status == 0
    assert '"id": "a.md"' in (tmp_path / "c.jsonl").read_text()


def test_unknown_collection_leaves_no_file(rag: Command, tmp_path: Path) -> None:
    rag("export", "--collection", "nothing", "--out", tmp_path / "c.jsonl")

    assert not list(tmp_path.glob("*c.jsonl*"))


def test_folder_without_data_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, code, _ = Command(tmp_path / "none", capsys).refused("export")

    assert (status, code) == (1, "no_data")
