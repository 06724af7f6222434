from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.machine import CHECKOUT
from bench.result import result_parser, write_result


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    share: float


@dataclass(frozen=True, slots=True)
class Result:
    commit: str
    rows: tuple[Row, ...]


RESULT = Result("abc1234", (Row("café", 0.5),))


@pytest.mark.parametrize(("kind", "expected"), [("", "verify-abc1234.json"), ("quick", "verify-abc1234-quick.json")])
def test_result_is_a_file_named_by_benchmark_commit_and_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, expected: str
) -> None:
    write_result(RESULT, tmp_path / "new" / "folder", "verify", kind)
    [path] = (tmp_path / "new" / "folder").iterdir()
    assert path.name == expected
    assert capsys.readouterr().out == f"{path}\n"
    assert json.loads(path.read_text(encoding="utf-8")) == {"commit": "abc1234", "rows": [{"name": "café", "share": 0.5}]}


def test_result_replaces_the_one_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "verify-abc1234.json").write_text("an older and much longer result" * 100)
    write_result(RESULT, tmp_path, "verify")
    assert json.loads((tmp_path / "verify-abc1234.json").read_text(encoding="utf-8"))["commit"] == "abc1234"


def test_data_come_from_the_option_then_the_environment_then_beside_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAGWATT_TEST_DATA", "named")
    assert result_parser("").parse_args(["--data", "given"]).data == Path("given")
    assert result_parser("").parse_args([]).data == Path("named")
    monkeypatch.setenv("RAGWATT_TEST_DATA", "")
    assert result_parser("").parse_args([]).data == CHECKOUT.parent / "shared" / "data"


def test_results_go_beside_the_benchmarks_unless_told_otherwise() -> None:
    assert result_parser("").parse_args([]).out == CHECKOUT / "bench" / "results"
    assert result_parser("").parse_args(["--out", "there"]).out == Path("there")


def test_benchmark_without_data_sets_knows_no_data_folder() -> None:
    assert not hasattr(result_parser("", has_data=False).parse_args([]), "data")


@pytest.mark.parametrize(
    ("name", "has_data"),
    [("verify", True), ("conversation", True), ("cache", True), ("cascade", True), ("retrieval", True), ("energy", False)],
)
def test_every_benchmark_tells_its_options(capsys: pytest.CaptureFixture[str], name: str, has_data: bool) -> None:
    module = importlib.import_module(f"bench.{name}")
    with pytest.raises(SystemExit, match="0"):
        module.main(["--help"])
    told = capsys.readouterr().out
    assert "\n  --out OUT" in told
    assert ("\n  --data DATA" in told) is has_data
    assert module.__doc__
    assert module.__doc__.splitlines()[0] in told
