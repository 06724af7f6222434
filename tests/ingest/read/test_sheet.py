"""Workbooks: rows that can be understood alone, and what is hidden in them."""

from __future__ import annotations

import io
from datetime import date, datetime
from pathlib import Path

import openpyxl  # type: ignore[import-untyped]
import pytest

from ingest.read.origin import Origin
from ingest.read.sheet import read_sheet
from rag.errors import InputError
from rag.types import Document
from tests.ingest.read.test_office import check_damaged
from tests.made.office import Cell, can_convert, changed_zip, converted, xlsx_bytes, zip_bytes

PEOPLE: dict[str, list[list[Cell]]] = {"People": [["name", "age", "city"], ["Ann & Bo", 41, "Bonn"], ["<Cy>", 7.5, None]]}


def read(data: bytes, name: str = "folder/made.xlsx") -> Document:
    return read_sheet(data, Origin(Path(name), "d", "u", None))


def saved(book: openpyxl.Workbook) -> bytes:
    stream = io.BytesIO()
    book.save(stream)
    return stream.getvalue()


def rows(document: Document) -> list[tuple[int | None, str]]:
    return [(at.line, document.text[at.start : at.end]) for at in document.sections]


def failure_code(data: bytes, name: str = "made.xlsx") -> str:
    with pytest.raises(InputError) as caught:
        read(data, name)
    return caught.value.code


def test_row_carries_the_names_of_its_columns_and_its_number() -> None:
    assert rows(read(xlsx_bytes(PEOPLE))) == [(2, "name: Ann & Bo; age: 41; city: Bonn"), (3, "name: <Cy>; age: 7.5")]


def test_every_row_of_a_large_sheet_is_found() -> None:
    log: list[list[Cell]] = [[f"event {number}", number] for number in range(2_000)]

    assert read(xlsx_bytes({"Log": [["event", "count"], *log]})).text.split("\n") == [
        f"event: event {number}; count: {number}" for number in range(2_000)
    ]


def test_sheets_are_headings_in_the_order_of_their_tabs() -> None:
    document = read(xlsx_bytes(PEOPLE | {"Places": [["place", "size"], ["Kiel", 2]]}))

    assert [at.headings for at in document.sections] == [("People",), ("People",), ("Places",)]
    assert {at.kind for at in document.sections} == {"table"}


def test_title_above_the_table_is_prose_and_not_its_header() -> None:
    document = read(xlsx_bytes({"S": [["Prices of 2020"], [], ["city", "price"], ["Bonn", 3], ["Kiel", 4]]}))

    assert rows(document) == [(1, "Prices of 2020"), (4, "city: Bonn; price: 3"), (5, "city: Kiel; price: 4")]
    assert document.sections[0].kind == "prose"


def test_table_may_begin_in_any_column() -> None:
    margin: list[Cell] = [None] * 5

    assert rows(read(xlsx_bytes({"S": [[*margin, "a", "b"], [*margin, "x", 1]]}))) == [(2, "a: x; b: 1")]


def test_values_are_written_as_they_are_shown() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["day", "moment", "share", "sum", "yes", "year"])
    sheet.append([date(2020, 1, 31), datetime(2020, 1, 31, 12, 30), 0.255, 0.1 + 0.2, True, 2020])
    sheet["C2"].number_format = "0.0%"

    assert read(saved(book)).text == "day: 2020-01-31; moment: 2020-01-31 12:30:00; share: 25.5%; sum: 0.3; yes: TRUE; year: 2020"


def test_hidden_rows_and_sheets_are_kept_and_flagged() -> None:
    book = openpyxl.load_workbook(io.BytesIO(xlsx_bytes(PEOPLE | {"Secret": [["a", "b"], ["x", "y"]]})))
    book["People"].row_dimensions[3].hidden = True
    book["Secret"].sheet_state = "veryHidden"
    document = read(saved(book))

    assert [(at.headings, at.line, at.flags) for at in document.sections] == [
        (("People",), 2, ()),
        (("People",), 3, ("hidden",)),
        (("Secret",), 2, ("hidden",)),
    ]


def test_cells_of_hidden_columns_follow_their_sheet_and_are_flagged() -> None:
    book = openpyxl.load_workbook(io.BytesIO(xlsx_bytes(PEOPLE)))
    book["People"].column_dimensions["B"].hidden = True
    document = read(saved(book))

    assert rows(document) == [(2, "name: Ann & Bo; city: Bonn"), (3, "name: <Cy>"), (2, "age: 41"), (3, "age: 7.5")]
    assert [at.flags for at in document.sections] == [(), (), ("hidden",), ("hidden",)]


def test_formula_counts_as_its_stored_value() -> None:
    sheet = b'<worksheet><sheetData><row><c t="str"><f>A2</f><v>stored</v></c></row></sheetData></worksheet>'

    assert read(changed_zip(xlsx_bytes(PEOPLE), {"xl/worksheets/sheet1.xml": sheet})).text == "column 1: stored"


@pytest.mark.skipif(not can_convert(), reason="LibreOffice is not installed; on Debian: libreoffice-calc")
def test_formula_that_no_program_has_computed_is_kept_as_it_stands() -> None:
    book = openpyxl.Workbook()
    for row in (["part", "total"], ["pump", "=B1*2"]):
        book.active.append(row)

    assert rows(read(saved(book))) == [(2, "part: pump; total: =B1*2")]


def test_ods_reads_as_xlsx(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(io.BytesIO(xlsx_bytes(PEOPLE | {"Secret": [["a", "b"], ["x", "y"]]})))
    book["People"].row_dimensions[3].hidden = True
    book["People"].column_dimensions["B"].hidden = True
    book["Secret"].sheet_state = "hidden"
    data = saved(book)
    document, expected = read(converted(data, "xlsx", "ods", tmp_path), "made.ods"), read(data)

    assert (document.text, document.sections) == (expected.text, expected.sections)


@pytest.mark.skipif(not can_convert(), reason="LibreOffice is not installed; on Debian: libreoffice-calc")
def test_binary_workbook_is_read(tmp_path: Path) -> None:
    document = read(converted(xlsx_bytes(PEOPLE), "xlsx", "xls", tmp_path), "made.xls")

    assert (document.text, document.sections[0].headings) == (
        "name: Ann & Bo; age: 41; city: Bonn\nname: <Cy>; age: 7.5",
        ("People",),
    )


@pytest.mark.skipif(not can_convert(), reason="LibreOffice is not installed; on Debian: libreoffice-calc")
def test_damaged_binary_workbooks_are_documents_or_failures(tmp_path: Path) -> None:
    check_damaged(converted(xlsx_bytes(PEOPLE), "xlsx", "xls", tmp_path), "xls")


def ods(table: str) -> bytes:
    """An OpenDocument spreadsheet of one sheet."""
    content = f'<o xmlns:table="b" xmlns:text="t"><body><table:table table:name="S">{table}</table:table></body></o>'
    return zip_bytes({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": content})


def test_ods_repeated_rows_and_cells_count() -> None:
    cell = "<table:table-cell table:number-columns-repeated='2'><text:p>x</text:p></table:table-cell>"
    table = (
        "<table:table-row table:number-rows-repeated='4'><table:table-cell/></table:table-row>"
        f"<table:table-row table:number-rows-repeated='2'>{cell}</table:table-row>"
    )

    assert rows(read(ods(table), "made.ods")) == [(5, "column 1: x; column 2: x"), (6, "column 1: x; column 2: x")]


def test_ods_that_claims_a_million_full_rows_ends_with_a_code() -> None:
    cell = "<table:table-cell table:number-columns-repeated='16384'><text:p>x</text:p></table:table-cell>"

    assert (
        failure_code(ods(f"<table:table-row table:number-rows-repeated='2000000'>{cell}</table:table-row>"), "made.ods")
        == "too_large"
    )


def test_million_columns_end_with_a_code() -> None:
    row = b"<c><v>1</v></c>" * 1_000_000
    data = changed_zip(xlsx_bytes(PEOPLE), {"xl/worksheets/sheet1.xml": b"<w><row>" + row + b"</row></w>"})

    assert failure_code(data) in ("too_large", "zip_bomb")


@pytest.mark.parametrize("place", ["ZZZ1", "A99999999", "1A", "XFE1"])
def test_cell_beyond_every_sheet_is_reported(place: str) -> None:
    sheet = f'<w><row r="1"><c r="{place}"><v>1</v></c></row></w>'

    assert failure_code(changed_zip(xlsx_bytes(PEOPLE), {"xl/worksheets/sheet1.xml": sheet.encode()})) == "too_large"


@pytest.mark.parametrize("name", ["made.xlsx", "made.ods"])
def test_another_format_is_reported(name: str) -> None:
    assert failure_code(b"a,b\n1,2\n", name) == "unreadable"


def test_workbook_without_cells_is_reported() -> None:
    assert failure_code(xlsx_bytes({"S": []})) == "empty"


def test_damaged_workbooks_are_documents_or_failures() -> None:
    check_damaged(xlsx_bytes(PEOPLE | {"Two": [["a", "b"], [date(2020, 1, 31), 0.5]]}), "xlsx")


def test_damaged_open_document_workbooks_are_documents_or_failures() -> None:
    cell = "<table:table-cell table:number-columns-repeated='2'><text:p>x</text:p></table:table-cell>"
    check_damaged(ods(f"<table:table-row table:number-rows-repeated='2'>{cell}</table:table-row>"), "ods")
