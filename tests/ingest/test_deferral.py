"""What a deferred ingest refuses, it refuses before it waits."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.check import check_request
from ingest.pipeline import IngestRequest
from rag.settings import Settings
from tests.command import Command
from tests.fakes import HashEmbedder

HOUR = timedelta(hours=1)


@pytest.fixture
def rag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "data", capsys)


def deferral(tmp_path: Path, first: int = 400) -> tuple[str | Path, ...]:
    """Options for a wait of two seconds, which is told on standard error: `Command.refused` allows no line there but the error."""
    (tmp_path / "pumps.md").write_text("# Pumps\n\nThe pump starts at 5 bar.", encoding="ascii")
    cleaner = datetime.now(tz=UTC) + timedelta(seconds=2)
    rows = (f"{(cleaner + n * HOUR).isoformat()},{grams}" for n, grams in enumerate((first, 100, 100, 100), -1))
    (tmp_path / "forecast.csv").write_text("\n".join(("start,g_per_kwh", *rows)), encoding="ascii")
    return ("--defer-until", "+3h", "--expected-duration", "30m", "--forecast", tmp_path / "forecast.csv")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("missing.md",), "not_found"),
        (("pumps.md", "--collection", "../x"), "bad_name"),
        (("pumps.md", "--exclude", "!"), "bad_glob"),
        ((".", "--include", "*.nothing"), "bad_glob"),
    ],
)
def test_wrong_argument_is_refused_before_the_wait(
    rag: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: str
) -> None:
    options = deferral(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert rag.refused("ingest", *arguments, *options)[:2] == (2, code)


def test_unknown_embedder_is_refused_before_the_wait(rag: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_EMBEDDER_MODEL", "no-such-model")
    assert "no-such-model" in rag.refused("ingest", tmp_path / "pumps.md", *deferral(tmp_path))[2]


def test_limit_that_the_embedder_cannot_read_is_refused_before_the_wait(
    rag: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_INGEST_MAX_CHUNK_TOKENS", "100000")
    assert rag.refused("ingest", tmp_path / "pumps.md", *deferral(tmp_path))[1] == "chunk_limit"


@pytest.mark.parametrize("place", ["a-file", "a-file/below", "link-to-nothing"])
def test_data_directory_that_cannot_be_made_is_refused_before_the_wait(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "a-file").touch()
    (tmp_path / "link-to-nothing").symlink_to(tmp_path / "nothing")
    rag = Command(tmp_path / place, capsys)
    assert rag.refused("ingest", tmp_path / "pumps.md", *deferral(tmp_path))[:2] == (1, "data_dir")


def test_catalog_of_something_else_is_refused_before_the_wait(rag: Command, tmp_path: Path) -> None:
    rag.data_dir.mkdir()
    other = sqlite3.connect(rag.data_dir / "catalog.sqlite")
    other.execute("CREATE TABLE other (x)")
    other.close()
    assert rag.refused("ingest", tmp_path / "pumps.md", *deferral(tmp_path))[:2] == (1, "catalog")


def test_check_makes_nothing(tmp_path: Path, hash_embedder: HashEmbedder) -> None:
    (tmp_path / "pumps.md").touch()
    check_request(IngestRequest((tmp_path,), "default"), Settings(data_dir=tmp_path / "new" / "data"), hash_embedder)
    assert [path.name for path in tmp_path.iterdir()] == ["pumps.md"]


@pytest.mark.parametrize("prepared", ["nothing", "folder", "empty catalog", "collection"])
def test_right_request_passes_the_check(rag: Command, tmp_path: Path, prepared: str) -> None:
    options = deferral(tmp_path, first=100)
    if prepared != "nothing":
        rag.data_dir.mkdir()
    if prepared == "empty catalog":
        (rag.data_dir / "catalog.sqlite").touch()
    if prepared == "collection":
        assert rag("ingest", tmp_path / "pumps.md").status == 0
    outcome = rag("ingest", tmp_path / "pumps.md", *options, "--json")
    assert outcome.status == 0
    assert outcome.value["deferred"]["deferred"] is False


@pytest.mark.parametrize("option", ["--defer-until=--", "--defer-until=", "--forecast=--", "--forecast="])
def test_value_that_is_no_value_is_refused(rag: Command, tmp_path: Path, option: str) -> None:
    options = [item for item in deferral(tmp_path) if not option.startswith("--defer") or item not in ("--defer-until", "+3h")]
    assert rag.refused("ingest", tmp_path / "pumps.md", *options, option)[0] == 2
