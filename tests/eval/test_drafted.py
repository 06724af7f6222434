from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.datasets.jsonl import read_jsonl
from eval.draft import GAP, Draft
from eval.drafted import Reviewed, decided, guarded, keep, read_table, unguarded, write_table
from rag.errors import InputError


def draft(n: int, question: str = "How long is it?") -> Draft:
    return Draft(f"d#{n}", question, ("412 metres", "412"), "d", "The bridge is\n412 metres; long.", "look")


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def save(path: Path, table: list[dict[str, str]], delimiter: str = ",", encoding: str = "utf-8-sig") -> Path:
    """As a spreadsheet program would."""
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(table)
    return path


def accepted(folder: Path, *changes: dict[str, str]) -> Path:
    """A table of as many drafts, all of them accepted, each with its changes."""
    path = folder / "table.csv"
    write_table([draft(n) for n in range(len(changes))], path)
    return save(path, [row | {"accept": "yes"} | change for row, change in zip(rows(path), changes, strict=True)])


def test_taken_draft_is_a_question_of_the_data_set(tmp_path: Path) -> None:
    out = tmp_path / "new" / "set.jsonl"
    assert keep([draft(1)], out) == Reviewed(1, 0)
    dataset = read_jsonl(out)
    (query,) = dataset.queries
    assert (query.query_id, query.text, query.answers) == ("d#1", "How long is it?", ("412 metres", "412"))
    assert (query.group, query.citations, dataset.qrels) == ("d", ("d",), {"d#1": {"d": 1}})


def test_taken_and_skipped_drafts_are_known_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    assert decided(out) == frozenset()
    keep([draft(1), "d#2"], out)
    assert decided(out) >= {"d#1", "d#2"}


def test_what_was_taken_before_an_interruption_is_kept(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Draft | str]:
        yield draft(1)
        raise KeyboardInterrupt

    out = tmp_path / "set.jsonl"
    with pytest.raises(KeyboardInterrupt):
        keep(interrupted(), out)
    keep([draft(2)], out)
    assert [query.query_id for query in read_jsonl(out).queries] == ["d#1", "d#2"]


def test_damaged_data_set_is_refused_before_anything_is_added(tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    out.write_text('{"question": "Wh', encoding="utf-8")
    with pytest.raises(InputError, match=r"set\.jsonl, line 1 is not valid JSON"):
        decided(out)


def test_folder_in_place_of_the_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: Is a directory; give another --out"):
        keep([draft(1)], tmp_path)


def test_accepted_rows_come_back_and_the_others_do_not(tmp_path: Path) -> None:
    path = accepted(tmp_path, {}, {"accept": ""}, {"accept": "No"}, {"accept": "X", "question": "Why?", "answers": "so|because"})
    out = tmp_path / "set.jsonl"
    assert read_table(path, out) == Reviewed(2, 2)
    assert [(query.text, query.answers) for query in read_jsonl(out).queries] == [
        ("How long is it?", ("412 metres", "412")),
        ("Why?", ("so", "because")),
    ]


def test_row_that_was_taken_before_stays_as_it_is(tmp_path: Path) -> None:
    out = tmp_path / "set.jsonl"
    keep([draft(0)], out)
    assert read_table(accepted(tmp_path, {"question": "Changed?"}, {}), out) == Reviewed(1, 0, 1)
    assert [query.text for query in read_jsonl(out).queries] == ["How long is it?", "How long is it?"]


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (",", "utf-8")])
def test_table_is_read_as_spreadsheet_programs_save_it(tmp_path: Path, delimiter: str, encoding: str) -> None:
    table = [dict(reversed((row | {"accept": "1", "mine": "x"}).items())) for row in rows(accepted(tmp_path, {}))]
    path = save(tmp_path / "saved.csv", table, delimiter, encoding)
    assert read_table(path, tmp_path / "set.jsonl") == Reviewed(1, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"accept": "perhaps"}, "line 5: accept is 'perhaps'; allowed: yes, or no"),
        ({"question": f"It is {GAP} long."}, "line 5: question 'It is ____ long.' is accepted, but no question with an answer"),
        ({"question": " "}, "line 5: question '' is accepted, but no question"),
        ({"answers": " | "}, "is accepted, but no question with an answer"),
        ({"id": "d#0"}, "line 5: id 'd#0' stands twice"),
        ({"doc_id": ""}, "line 5: id 'd#1' or doc_id is empty"),
    ],
)
def test_row_that_is_no_question_is_refused_and_nothing_is_written(tmp_path: Path, change: dict[str, str], message: str) -> None:
    out = tmp_path / "set.jsonl"
    with pytest.raises(InputError, match=message):
        read_table(accepted(tmp_path, {}, change), out)
    assert not out.exists()


def test_missing_column_is_refused_by_name(tmp_path: Path) -> None:
    table = [{key: cell for key, cell in row.items() if key != "doc_id"} for row in rows(accepted(tmp_path, {}))]
    with pytest.raises(InputError, match=r"table\.csv, line 1 lacks the columns doc_id"):
        read_table(save(tmp_path / "table.csv", table), tmp_path / "set.jsonl")


def test_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "table.csv", [rows(accepted(tmp_path, {}))[0] | {"question": "Wärme?"}], encoding="latin-1")
    with pytest.raises(InputError, match="is not UTF-8"):
        read_table(path, tmp_path / "set.jsonl")


def test_table_that_somebody_works_on_is_not_overwritten(tmp_path: Path) -> None:
    accepted(tmp_path, {})
    with pytest.raises(InputError, match=r"table\.csv exists; read it with --from-csv"):
        write_table([draft(1)], tmp_path / "table.csv")


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(tmp_path: Path, sign: str) -> None:
    hostile = f"{sign}cmd|' /C calc'!A0"
    path = tmp_path / "table.csv"
    write_table([Draft(hostile, hostile, (hostile,), hostile, hostile, hostile)], path)
    cells = [cell for cell in rows(path)[0].values() if cell]
    assert len(cells) == 6
    assert all(cell.startswith("'") for cell in cells)


def test_guarded_cells_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table([Draft("@1", "=is it?", ("-5",), "+d", "")], path)
    save(path, [row | {"accept": "y"} for row in rows(path)])
    read_table(path, tmp_path / "set.jsonl")
    (query,) = read_jsonl(tmp_path / "set.jsonl").queries
    assert (query.query_id, query.text, query.answers, query.group) == ("@1", "=is it?", ("-5",), "+d")


CELLS = st.text(st.sampled_from("'=+-@\t\rx \n"), max_size=6) | st.text(st.characters(codec="utf-8"), max_size=6)


@given(CELLS)
def test_guard_can_be_taken_away(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    assert not guarded(cell).startswith(("=", "+", "-", "@", "\t", "\r"))


@given(st.lists(CELLS, min_size=3, max_size=3))
def test_cells_survive_the_table(cells: list[str]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerow([guarded(cell) for cell in cells])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert [unguarded(cell) for cell in row] == cells
