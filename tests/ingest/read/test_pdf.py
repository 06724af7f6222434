"""What is found on the pages of a PDF, and what becomes of files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.read import Failure, read
from ingest.read.ocr import version
from ingest.read.origin import Origin
from ingest.read.pdf import read_pdf
from rag.text import normalise
from rag.types import Document
from tests.made.pdf import Design, Press, Shown, content_of, made_report, printed, program, scored, small_pdf

pytest.importorskip("pypdfium2")

ORIGIN = Origin(Path("files/report.pdf"), "d", "u", None)
NO_OCR = Origin(Path("files/report.pdf"), "d", "u", None, ocr_languages="")
N_CHAPTERS = 2
PROSE = "The heat pump takes energy from the air outside and gives it"


def pdf_of(*pages: list[Shown]) -> Document:
    return read_pdf(small_pdf([content_of(page) for page in pages]), ORIGIN)


def column(texts: list[str], x: float = 50, y: float = 700, step: float = 12) -> list[Shown]:
    return [Shown(x, y - step * no, text) for no, text in enumerate(texts)]


def sections(document: Document, kind: str = "") -> list[str]:
    return [document.text[s.start : s.end] for s in document.sections if not kind or s.kind == kind]


def code_of(data: bytes, origin: Origin = ORIGIN) -> str:
    (failure,) = read(data, origin)
    assert isinstance(failure, Failure), failure
    assert failure.message
    return failure.code


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("printed")


@pytest.mark.parametrize("design", ["plain", "other"])
@pytest.mark.parametrize("press", ["libreoffice", "tex", "tex_columns"])
def test_report_is_found_as_it_was_printed(press: Press, design: Design, folder: Path) -> None:
    if program(press) is None:
        pytest.skip(f"the program of the press {press} is not installed")
    if (press, design) == ("libreoffice", "plain"):
        pytest.importorskip("docx")
    document = read_pdf(printed(press, design, 11, N_CHAPTERS, folder), NO_OCR)

    score = scored(document, made_report(11, N_CHAPTERS))

    assert score.paragraphs >= 0.85
    assert score.items >= 0.85
    assert score.headings >= 0.9
    assert score.rows >= 0.9
    assert score.n_false_headings + score.n_false_rows == 0
    assert "second volume" not in document.text
    assert document.title == made_report(11, N_CHAPTERS).title


def test_lines_make_a_paragraph_and_a_wide_gap_ends_it() -> None:
    document = pdf_of(
        column([f"{PROSE} to the", f"water of the house, {PROSE.lower()}", "to rooms."]) + [Shown(50, 640, "Then it stops.")]
    )

    assert sections(document) == [f"{PROSE} to the water of the house, {PROSE.lower()} to rooms.", "Then it stops."]


def test_indent_begins_a_paragraph() -> None:
    lines = column([PROSE, PROSE, PROSE, PROSE])
    lines[2] = Shown(62, lines[2].y, f"Second {PROSE}")

    assert sections(pdf_of(lines)) == [f"{PROSE} {PROSE}", f"Second {PROSE} {PROSE}"]


def test_line_that_ends_early_after_a_full_stop_ends_a_paragraph() -> None:
    assert sections(pdf_of(column([PROSE, "to rooms.", f"Here {PROSE}", PROSE]))) == [f"{PROSE} to rooms.", f"Here {PROSE} {PROSE}"]


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("is con-", "sumed here", "is consumed here"),
        ("the air-to-", "water pump", "the air-to-water pump"),
        ("in A-", "Z", "in A- Z"),
    ],
)
def test_hyphen_at_the_end_of_a_line_goes_where_it_only_parts_a_word(first: str, second: str, joined: str) -> None:
    assert sections(pdf_of(column([PROSE, first, second]))) == [f"{PROSE} {joined}"]


def test_hyphen_at_the_end_of_a_line_stays_in_a_word_that_has_one_elsewhere() -> None:
    lines = column([f"Here is a long-term {PROSE}", f"{PROSE} in the long-", "term and shorter"])

    assert "in the long-term and shorter" in pdf_of(lines).text


def test_larger_and_bold_lines_are_headings_with_levels_by_size() -> None:
    body = column([PROSE, PROSE])
    page = [
        Shown(50, 800, "Heat", 20, is_bold=True),
        Shown(50, 760, "Pumps", 14, is_bold=True),
        Shown(50, 730, "Cost", 10, is_bold=True),
    ]
    document = pdf_of([*page, *body])

    assert [s.kind for s in document.sections] == ["heading", "heading", "heading", "prose"]
    assert document.sections[-1].headings == ("Heat", "Pumps", "Cost")


def test_heading_over_two_lines_is_one() -> None:
    page = [Shown(50, 800, "Heat pumps and", 20), Shown(50, 777, "their costs", 20), *column([PROSE, PROSE, PROSE])]

    assert sections(pdf_of(page), "heading") == ["Heat pumps and their costs"]


def test_cells_in_line_are_rows_of_one_table() -> None:
    rows = [Shown(x, 600 - 14 * no, text) for no, row in enumerate((("Type", "Cost"), ("pump", "12"), ("old boiler", "9"))) for x, text in
            zip((50, 200), row, strict=True)]  # fmt: skip
    document = pdf_of([*column([PROSE, PROSE]), *rows, Shown(50, 500, PROSE)])

    assert sections(document, "table") == ["Type | Cost\npump | 12\nold boiler | 9"]


GRID = [Shown(50, 600, "Part"), Shown(150, 600, "What it does"), Shown(300, 600, "Cost")]


def test_cells_of_several_lines_drawn_one_after_the_other_are_one_row() -> None:
    pump = [Shown(50, 586, "Heat pump"), Shown(150, 586, "It takes heat from"), Shown(150, 574, "the air"), Shown(300, 586, "12")]
    valve = [Shown(50, 560, "Valve of a"), Shown(50, 548, "long name"), Shown(150, 560, "Opens"), Shown(300, 560, "7")]
    document = pdf_of([*column([PROSE, PROSE]), *GRID, *pump, *valve, *column([PROSE, PROSE], y=520)])

    rows = "Part | What it does | Cost\nHeat pump | It takes heat from the air | 12\nValve of a long name | Opens | 7"
    assert sections(document) == [f"{PROSE} {PROSE}", rows, f"{PROSE} {PROSE}"]


def test_cells_of_several_lines_drawn_line_by_line_are_one_row() -> None:
    pump = [
        Shown(50, 586, "Pump"),
        Shown(150, 586, "It takes heat"),
        Shown(300, 586, "12"),
        Shown(150, 574, "out of"),
        Shown(300, 574, "EUR"),
    ]

    assert sections(pdf_of([*GRID, *pump]), "table") == ["Part | What it does | Cost\nPump | It takes heat out of | 12 EUR"]


def test_row_that_lacks_a_cell_keeps_the_others_in_their_columns() -> None:
    pump = [Shown(50, 586, "Pump"), Shown(150, 586, "Heats"), Shown(300, 586, "12"), Shown(50, 572, "Valve"), Shown(300, 572, "7")]

    assert sections(pdf_of([*GRID, *pump]), "table") == ["Part | What it does | Cost\nPump | Heats | 12\nValve |  | 7"]


def test_columns_drawn_line_by_line_are_read_one_after_the_other() -> None:
    lines = [
        Shown(x, 700 - 12 * no, f"{side} {no} words go on and") for no in range(8) for x, side in ((50, "left"), (320, "right"))
    ]
    document = pdf_of(lines)

    assert document.text.index("left 7") < document.text.index("right 0")
    assert not sections(document, "table")


def test_bullets_are_lines_of_one_list() -> None:
    page = [*column([PROSE, "needs:"]), *column(["\xb7 a pump", "\xb7 a valve"], x=60, y=660)]

    assert sections(pdf_of(page))[-1] == "- a pump\n- a valve"


def test_head_foot_and_page_number_that_repeat_are_left_out_and_counted() -> None:
    pages = [[Shown(50, 810, "Heat in houses"), *column([f"Page of {word} {PROSE}", f"{word} end."]), Shown(300, 30, f"- {no} -")]
             for no, word in enumerate(("one", "two", "three"), start=7)]  # fmt: skip
    document = pdf_of(*pages)

    assert "Heat in houses" not in document.text
    assert "- 8 -" not in document.text
    assert document.metadata["n_running_lines"] == "6"


def test_sections_know_the_page_on_which_they_begin() -> None:
    document = pdf_of(column([PROSE, "One ends."]), column([f"Two {PROSE}."]))

    assert [s.page for s in document.sections] == [1, 2]


def test_paragraph_goes_on_over_the_end_of_a_page() -> None:
    document = pdf_of(column([PROSE, f"{PROSE} in"]), column([f"winter too, {PROSE}", "and more."]))

    assert [s.page for s in document.sections] == [1]


def test_paragraph_longer_than_a_chunk_is_cut_behind_the_sentence_that_goes_over_the_end_of_a_page() -> None:
    names = ["north", "south", "east", "west", "upper", "lower", "inner", "outer"]
    lines = [f"{one}{other} {PROSE} back. {PROSE}" for one in names[:3] for other in names]
    document = pdf_of(column(lines[:8]), column(lines[8:16]), column(lines[16:]))

    first, second, third = sections(document)
    assert [s.page for s in document.sections] == [1, 2, 3]
    assert first.endswith(f"{PROSE} southnorth {PROSE} back.")
    assert third.startswith(PROSE)
    assert f"{first} {second} {third}" == " ".join(lines)


def test_rows_of_a_table_know_their_page() -> None:
    def rows(names: str) -> list[Shown]:
        return [
            Shown(x, 700 - 14 * row, text)
            for row, name in enumerate(names.split())
            for x, text in ((50, f"Pump {name}"), (200, f"{row} kW"), (350, f"{row} EUR"))
        ]

    document = pdf_of(rows("Ash Birch Cedar Elm Fir Oak"), rows("Pine Plane Rowan Spruce Willow Yew"))

    assert [s.page for s in document.sections] == [1, 2]
    first, second = sections(document, "table")
    assert (first.split("\n")[-1], second.split("\n")[0]) == ("Pump Oak | 5 kW | 5 EUR", "Pump Pine | 0 kW | 0 EUR")


def test_items_of_a_list_know_their_page() -> None:
    document = pdf_of(column(["\xb7 a pump", "\xb7 a valve"]), column(["\xb7 a pipe", "\xb7 a tank"]))

    assert [(s.page, document.text[s.start : s.end]) for s in document.sections] == [
        (1, "- a pump\n- a valve"),
        (2, "- a pipe\n- a tank"),
    ]


def test_codes_of_a_font_of_tex_that_does_not_name_its_characters_are_read() -> None:
    document = pdf_of(column(["An o\x1ecial of\x1cce: \x10a \x1dow\x11 takes e\x1bort of-", "\x1ccially \x15 long."]))

    assert document.text == "An official office: \u201ca flow\u201d takes effort officially \u2013 long."


def test_metadata_comes_from_the_file() -> None:
    info = "/Title (Heat) /Author (A. Writer) /CreationDate (D:20240131120000Z)"
    document = read_pdf(small_pdf([content_of(column([PROSE]))], info=info), ORIGIN)

    assert document.title == "Heat"
    assert document.metadata == {"author": "A. Writer", "date": "2024-01-31", "n_pages": "1"}


def test_title_is_the_largest_text_of_the_first_page_where_the_file_has_none() -> None:
    assert pdf_of([Shown(50, 800, "Small", 12), Shown(50, 770, "Heat pumps", 22), *column([PROSE])]).title == "Heat pumps"


def test_page_with_a_drawing_and_no_text_is_named() -> None:
    data = small_pdf([content_of(column([PROSE])), b"10 10 100 100 re f", b""])

    assert read_pdf(data, NO_OCR).metadata["pages_without_text"] == "2"


def test_file_of_drawings_is_no_text() -> None:
    assert code_of(small_pdf([b"10 10 100 100 re f"]), NO_OCR) == "no_text"


def test_file_of_blank_pages_is_no_text() -> None:
    assert code_of(small_pdf([b"", b""])) == "no_text"


@pytest.mark.skipif(not version(), reason="tesseract is not installed")
def test_scanned_page_between_pages_of_text_is_read_in_its_place() -> None:
    import pypdfium2

    picture = pypdfium2.PdfDocument(small_pdf([content_of([Shown(60, 700, "Scanned words here", 36)])]))
    bitmap = picture[0].render(scale=1, grayscale=True)
    rows = b"".join(bytes(bitmap.buffer[r * bitmap.stride : r * bitmap.stride + bitmap.width]) for r in range(bitmap.height))
    image = b"q 595 0 0 842 0 0 cm BI /W %d /H %d /BPC 8 /CS /G ID " % (bitmap.width, bitmap.height) + rows + b" EI Q"
    document = read_pdf(small_pdf([content_of(column([f"{PROSE}."])), image, content_of(column(["Last words."]))]), ORIGIN)

    assert [(s.page, document.text[s.start : s.end]) for s in document.sections] == [
        (1, f"{PROSE}."), (2, "Scanned words here"), (3, "Last words."),
    ]  # fmt: skip
    assert document.metadata["ocr_pages"] == "2"
    assert document.metadata["ocr"].startswith("tesseract ")
    assert 50 <= int(document.metadata["ocr_confidence"]) <= 100


def test_file_that_needs_a_password_is_encrypted() -> None:
    lock = f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{'41' * 32}> /U <{'42' * 32}> >> /ID [<00> <00>]"

    assert code_of(small_pdf([content_of(column([PROSE]))], trailer=lock)) == "encrypted"


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"no pdf at all", b"%PDF-1.7\nxref\n0 99999999\ntrailer << /Root 1 0 R >>"])
def test_file_that_is_no_pdf_is_unreadable(data: bytes) -> None:
    assert code_of(data) == "unreadable"


def test_file_without_bytes_is_empty() -> None:
    assert code_of(b" \n") == "empty"


def test_file_without_pages_is_a_failure() -> None:
    assert code_of(small_pdf([])) in {"unreadable", "no_text"}


def test_page_that_unpacks_to_very_many_characters_is_too_large() -> None:
    bomb = b"BT /F1 1 Tf 0 0 Td " + b"(%b) Tj\n" % (b"a" * 100) * 3_100 + b"ET"

    assert code_of(small_pdf([bomb], is_packed=True)) == "too_large"


def test_damaged_index_of_objects_is_repaired() -> None:
    data = small_pdf([content_of(column([PROSE]))])
    start = data.index(b"xref")

    assert PROSE in read_pdf(data[:start] + b"xref\n0 7\n garbage" + data[start + 40 :], ORIGIN).text


def test_missing_page_content_leaves_the_other_pages() -> None:
    data = small_pdf([content_of(column([f"One {PROSE}"])), content_of(column([f"Two {PROSE}"]))])

    assert "Two" in read_pdf(data.replace(b"/Contents 6 0 R", b"/Contents 99 0 R"), NO_OCR).text


WHOLE = small_pdf([content_of([Shown(50, 800, "Heat", 20), *column([PROSE, "\xb7 a", "b", "c"])]), content_of(column([PROSE]))])


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=0, max_size=4)), min_size=1, max_size=6), st.booleans()
)
def test_mutated_file_gives_a_sound_document_or_a_failure_with_a_code(changes: list[tuple[int, bytes]], is_cut: bool) -> None:
    data = bytearray(WHOLE)
    for place, new in changes:
        data[place : place + len(new)] = new
    (outcome,) = read(bytes(data[: changes[0][0]] if is_cut else data), NO_OCR)

    if isinstance(outcome, Failure):
        assert outcome.code in {"empty", "encrypted", "no_text", "too_large", "unreadable"}
        return
    assert normalise(outcome.text) == outcome.text
    before = 0
    for found in outcome.sections:
        assert before <= found.start < found.end <= len(outcome.text)
        assert outcome.text[found.start : found.end].strip()
        before = found.end
