from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from eval.run import RunOptions
from eval.side import (
    PairRecord,
    Side,
    SideBySide,
    SideRecord,
    SuitePair,
    find_pair,
    interleave_suite,
    load_interleaved,
    save_interleaved,
)
from eval.suite import load_suite
from rag.errors import InputError, RagError
from rag.settings import Settings
from tests.eval.small import write_suite
from tests.fakes import SilentProgress

PAIR = PairRecord("set", "c0", "standard", ("q1", "q2"), (0.1, 0.2), (0.3, 0.4))
MEASURED = SideBySide("suite", "s0", SideRecord("1.0.0", ""), SideRecord("1.1.0", "new.toml"), is_self=False, pairs=(PAIR,))
THIS = Path(sys.executable).with_name("rag")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    save_interleaved(MEASURED, tmp_path / "i.json")
    found = load_interleaved(tmp_path / "i.json")
    assert found == MEASURED
    assert find_pair(found, "set", "standard") == PAIR
    assert find_pair(found, "set", "eco") is None


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([replace(PAIR, base_cpu_s=(0.1, -0.2))], "-0.2 CPU seconds; allowed: finite and above 0"),
        ([replace(PAIR, candidate_cpu_s=(0.0, 0.2))], "0.0 CPU seconds"),
        ([replace(PAIR, candidate_cpu_s=(0.2,))], "has not one figure of each side a question"),
        ([replace(PAIR, questions=(), base_cpu_s=(), candidate_cpu_s=())], "has not one figure of each side a question"),
        ([replace(PAIR, questions=("q1", "q1"))], "has a question twice"),
        ([PAIR, PAIR], "set, standard stands twice"),
    ],
)
def test_figures_that_no_measurement_gives_are_refused(tmp_path: Path, pairs: list[PairRecord], message: str) -> None:
    save_interleaved(replace(MEASURED, pairs=tuple(pairs)), tmp_path / "i.json")
    with pytest.raises(InputError, match=message):
        load_interleaved(tmp_path / "i.json")


def test_seconds_without_end_are_refused(tmp_path: Path) -> None:
    save_interleaved(MEASURED, tmp_path / "i.json")
    content = (tmp_path / "i.json").read_text()
    assert "0.4" in content
    (tmp_path / "i.json").write_text(content.replace("0.4", "1e999"))
    with pytest.raises(InputError):
        load_interleaved(tmp_path / "i.json")


@pytest.mark.parametrize("key", ["suite", "suite_checksum", "base", "candidate", "is_self"])
def test_file_without_its_identity_is_refused(tmp_path: Path, key: str) -> None:
    save_interleaved(MEASURED, tmp_path / "i.json")
    value: dict[str, Any] = json.loads((tmp_path / "i.json").read_text())
    del value[key]
    (tmp_path / "i.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="is not written by 'rag eval interleave'"):
        load_interleaved(tmp_path / "i.json")


def measure(folder: Path, pair: SuitePair) -> SideBySide:
    suite = load_suite(write_suite(folder))
    options = RunOptions(Settings(data_dir=folder / "data"), only=("standard",), limit=2)
    return interleave_suite(suite, pair, options, 1, folder / "work", SilentProgress())


def test_one_release_against_itself_is_refused_unless_it_is_meant(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(THIS)
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("[search]\nk = 5\n")
    base = Side(tmp_path / "link", tmp_path / "a.toml", is_other=True)
    with pytest.raises(InputError, match="base and candidate are one and the same: .*; give --base, .* or --self"):
        measure(tmp_path, SuitePair(base, Side(THIS, tmp_path / "b.toml", is_other=False)))


def test_self_with_two_releases_is_refused(tmp_path: Path) -> None:
    pair = SuitePair(Side(tmp_path / "rag", None, is_other=True), Side(THIS, None, is_other=False), is_self=True)
    with pytest.raises(InputError, match="--self measures one release against itself"):
        measure(tmp_path, pair)


@pytest.mark.parametrize(
    ("body", "message"), [("exit 1", "tells no version"), ("", "tells no version"), (None, "cannot be started")]
)
def test_side_that_tells_no_version_is_refused(tmp_path: Path, body: str | None, message: str) -> None:
    other = tmp_path / "rag"
    if body is not None:
        other.write_text(f"#!/bin/sh\n{body}\n")
        other.chmod(0o755)
    with pytest.raises(RagError, match=message):
        measure(tmp_path, SuitePair(Side(other, None, is_other=True), Side(THIS, None, is_other=False)))
