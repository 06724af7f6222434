from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.table import BEGIN, END, main, markdown, read_summary, replace_between_markers, summarise
from rag.errors import InputError


def bar(what: str, figure: float, **more: object) -> dict[str, object]:
    plain: dict[str, object] = {"side": ">=", "limit": 0.73, "unit": "", "met": True, "scaled": None, "met_scaled": None}
    return {"what": what, "figure": figure} | plain | more


@pytest.fixture
def result() -> dict[str, Any]:
    slow = {"side": "<=", "limit": 3.0, "unit": "ms", "met": False, "scaled": 2.5, "met_scaled": True}
    return {
        "commit": "abc1234",
        "date": "2030-01-02",
        "machine": {"cpu": "Some CPU", "n_cores": 2, "python": "3.11.7"},
        "measured": {"cost": {"calibration": {"query_factor": 2.04, "document_factor": 3.26}}},
        "bars": [
            bar("SciFact", 0.73712),
            bar("search", 5.0123, **slow),
            bar("disk", 21.34, side="<=", limit=20.0, unit="MB", met=False),
        ],
    }


def test_table_shows_every_bar_with_its_figure_and_verdict(result: dict[str, Any]) -> None:
    assert markdown(summarise(result)).splitlines()[:5] == [
        "| what | bar | measured | estimate at reference speed | met |",
        "| --- | --- | --- | --- | --- |",
        "| SciFact | >= 0.73 | 0.737 |  | yes |",
        "| search | <= 3 ms | 5.012 ms | 2.5 ms | **no**; by estimate yes |",
        "| disk | <= 20 MB | 21.3 MB |  | **no** |",
    ]


def test_table_names_commit_machine_and_how_much_slower_it_is(result: dict[str, Any]) -> None:
    origin = markdown(summarise(result)).splitlines()[-1]
    assert "Commit abc1234, 2030-01-02, on Some CPU, 2 cores, Python 3.11.7" in origin
    assert "2.0 times as long for the forward pass of a query, and 3.3 times for 184 tokens" in origin


def test_table_of_a_run_without_timing_has_no_column_for_it(result: dict[str, Any]) -> None:
    result["measured"]["cost"] = None
    result["bars"] = result["bars"][:1]
    table = markdown(summarise(result))
    assert table.startswith("| what | bar | measured | met |\n")
    assert "estimate" not in table


def test_replacing_keeps_everything_outside_the_markers() -> None:
    page = f"# Title\n\n{BEGIN}\nold\nlines\n{END}\n\nend |\n"
    assert replace_between_markers(page, "new") == f"# Title\n\n{BEGIN}\nnew\n{END}\n\nend |\n"


def test_replacing_twice_is_replacing_once() -> None:
    once = replace_between_markers(f"{BEGIN}{END}", "table")
    assert replace_between_markers(once, "table") == once


@pytest.mark.parametrize("page", ["", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_replacing_refuses_a_page_without_one_pair_of_markers(page: str) -> None:
    with pytest.raises(InputError, match="needs one line <!-- bench:begin -->"):
        replace_between_markers(page, "table")


def test_command_writes_the_table_into_the_page(result: dict[str, Any], tmp_path: Path) -> None:
    file, readme = tmp_path / "result.json", tmp_path / "README.md"
    file.write_text(json.dumps(result))
    readme.write_text(f"a\n{BEGIN}\n{END}\nb\n")
    main([str(file), "--write", "--readme", str(readme)])
    assert readme.read_text() == f"a\n{BEGIN}\n{markdown(read_summary(file))}\n{END}\nb\n"


def test_command_leaves_a_page_without_markers_alone(result: dict[str, Any], tmp_path: Path) -> None:
    file, readme = tmp_path / "result.json", tmp_path / "README.md"
    file.write_text(json.dumps(result))
    readme.write_text("no markers\n")
    with pytest.raises(SystemExit):
        main([str(file), "--write", "--readme", str(readme)])
    assert readme.read_text() == "no markers\n"


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_file_that_is_no_result_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(content)
    with pytest.raises(InputError, match="is not a result of bench.retrieval"):
        read_summary(file)
