"""Tables as lines that can be understood alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ingest.read.csv import read_csv
from ingest.read.origin import Origin
from rag.errors import InputError
from rag.types import Document


def read(text: str, name: str = "prices.csv") -> Document:
    return read_csv(text.encode(), Origin(Path(name), "d", "u", None))


def test_row_carries_the_names_of_its_columns() -> None:
    assert read("city,price\nBonn,3\nKiel,4\n").text == "city: Bonn; price: 3\ncity: Kiel; price: 4"


def test_every_row_is_a_section_with_its_source_line() -> None:
    document = read('city,note\nBonn,"two\nlines"\n\nKiel,x\n')

    assert [(document.text[s.start : s.end], s.kind, s.line) for s in document.sections] == [
        ("city: Bonn; note: two lines", "table", 2),
        ("city: Kiel; note: x", "table", 5),
    ]


def test_empty_cells_are_left_out() -> None:
    assert read("a,b,c\n1,,3\n").text == "a: 1; c: 3"


def test_cells_beyond_the_header_are_kept() -> None:
    assert read("a,b\n1,2,3\n4\n").text == "a: 1; b: 2; column 3: 3\na: 4"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found(delimiter: str) -> None:
    rows = (("name", "price"), ("x", "1"), ("y", "2"))

    assert read("\n".join(delimiter.join(row) for row in rows)).text == "name: x; price: 1\nname: y; price: 2"


def test_decimal_commas_do_not_hide_the_semicolon() -> None:
    assert read("a;b\n1,5;2,5\n3,5;4,5\n").text == "a: 1,5; b: 2,5\na: 3,5; b: 4,5"


def test_tab_separated_file_is_not_cut_at_commas() -> None:
    assert read("a\tb\n1, 2, 3\t4\n", "x.tsv").text == "a: 1, 2, 3; b: 4"


def test_directive_of_spreadsheets_is_obeyed_and_counted() -> None:
    document = read("sep=;\na;b\nc;d\n")

    assert (document.text, document.sections[0].line) == ("a: c; b: d", 3)


@pytest.mark.parametrize("first", ["1,2", "a,a", "2024-01-05,x", "5 %,x"])
def test_file_whose_first_row_names_nothing_has_numbered_columns(first: str) -> None:
    assert read(f"{first}\n3,4\n").text.startswith("column 1: ")


def test_years_above_values_are_names() -> None:
    assert read("country,2019,2020\nA,1,2\n").text == "country: A; 2019: 1; 2020: 2"


def test_column_without_name_is_numbered() -> None:
    assert read(",b,c\n1,2,3\n").text == "column 1: 1; b: 2; c: 3"


def test_single_row_is_data() -> None:
    assert read("a,b\n").text == "column 1: a; column 2: b"


def test_line_separator_inside_a_cell_ends_no_row() -> None:
    assert read("a,b\nx\u2028y,z\n").text == "a: x y; b: z"


def test_cell_above_the_limit_of_the_module_is_read() -> None:
    assert len(read('a,b\n"' + "x" * 200_000 + '",2\n').text) > 200_000


def test_limit_of_the_module_is_never_lowered() -> None:
    before = csv.field_size_limit(100_000_000)
    try:
        read("a,b\n1,2\n")
        assert csv.field_size_limit() == 100_000_000
    finally:
        csv.field_size_limit(before)


def test_unclosed_quote_that_swallows_too_much_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        read('a,b\n"' + "x" * 17_000_000)

    assert caught.value.code == "unreadable"


def test_title_is_the_file_name() -> None:
    assert read("a,b\n1,2\n").title == "prices"
