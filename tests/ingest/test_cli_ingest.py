"""Options of `rag ingest` that plan or repeat a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command import Command


@pytest.fixture
def rag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Pumps\n\nThe pump starts at 5 bar.\n", encoding="ascii")
    return Command(tmp_path / "data", capsys)


def test_dry_run_says_what_would_happen_and_writes_nothing(rag: Command, tmp_path: Path) -> None:
    outcome = rag("ingest", tmp_path / "docs", "--dry-run")
    assert outcome.status == 0
    assert "markdown: 1 new (35 bytes)" in outcome.out
    assert "to read: 1 files (35 bytes), 1 chunks, 1 to embed" in outcome.out
    assert "estimated from 1 of 1 files" in outcome.out
    assert "dry run, nothing was written" in outcome.out
    assert not rag.data_dir.exists()


def test_dry_run_prints_its_keys_as_json(rag: Command, tmp_path: Path) -> None:
    found = rag("ingest", tmp_path / "docs", "--dry-run", "--json").value
    assert set(found) == {"collection", "version", "families", "failed", "estimate", "measurement", "dry_run"}
    assert found["families"][0]["new"] == {"n_files": 1, "n_bytes": 35}
    assert set(found["estimate"]["cpu_s"]) == {"value", "lo", "hi"}
    assert found["estimate"]["energy_j"]["unit"] == "J"


def test_dry_run_of_a_collection_in_step_reads_nothing(rag: Command, tmp_path: Path) -> None:
    rag("ingest", tmp_path / "docs")
    outcome = rag("ingest", tmp_path / "docs", "--dry-run")
    assert "markdown: 1 unchanged (35 bytes)" in outcome.out
    assert "nothing is to be read" in outcome.out


def test_dry_run_with_known_failures_ends_with_3(rag: Command, tmp_path: Path) -> None:
    (tmp_path / "docs" / "link.md").symlink_to(tmp_path / "nowhere")
    outcome = rag("ingest", tmp_path / "docs", "--dry-run")
    assert outcome.status == 3
    assert "not readable: " in outcome.out


@pytest.mark.parametrize(
    "options", [("--dry-run", "--watch"), ("--watch", "--defer-until", "+1h", "--forecast", "f.csv", "--expected-duration", "30m")]
)
def test_options_that_contradict_each_other_are_refused(rag: Command, tmp_path: Path, options: tuple[str, ...]) -> None:
    status, code, message = rag.refused("ingest", tmp_path / "docs", *options)
    assert (status, code) == (2, "usage")
    assert "--watch" in message


@pytest.mark.parametrize("option", ["--watch", "--dry-run"])
def test_address_is_refused_where_it_makes_no_sense(rag: Command, option: str) -> None:
    assert rag.refused("ingest", "https://example.com/", option)[:2] == (2, "usage")


def test_wrong_path_of_a_watch_is_refused(rag: Command, tmp_path: Path) -> None:
    outcome = rag("ingest", tmp_path / "missing", "--watch")
    assert outcome.status == 2
    assert outcome.err.endswith("ingest the folder above it\n")
