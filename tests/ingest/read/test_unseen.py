"""Which text of a PDF page counts as unseen, and that it is kept apart from what is seen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.read import Failure, read
from ingest.read.origin import Origin
from ingest.read.pdf import read_pdf
from rag.types import Document
from tests.made.pdf import converted, program, small_pdf, typeset

pytest.importorskip("pypdfium2")

ORIGIN = Origin(Path("files/report.pdf"), "d", "u", None, ocr_languages="")
FORM = "/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /Font 3 0 R /XObject << /Inner 8 0 R >> >>"
FORMS = "/Resources << /Font 3 0 R /XObject << /Outer 7 0 R >> >>"
RAINBOW = """<< /PatternType 2 /Shading << /ShadingType 2 /ColorSpace /DeviceRGB /Coords [0 0 300 0] /Extend [true true]
    /Function << /FunctionType 2 /Domain [0 1] /C0 [1 0 0] /C1 [0 0 1] /N 1 >> >> >>"""
RAINBOWS = f"/Resources << /Font 3 0 R /Pattern << /Rainbow {RAINBOW} >> >>"
FAINT = "/Resources << /Font 3 0 R /ExtGState << /Faint << /ca 0.01 >> /Half << /ca 0.5 >> >> >>"


def words(text: str, y: float = 680, x: float = 50, size: float = 10) -> bytes:
    return f" BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n".encode("latin-1")


def picture(x: float, y: float, width: float, height: float) -> bytes:
    """A picture of one grey pixel."""
    return f"q {width} 0 0 {height} {x} {y} cm BI /W 1 /H 1 /BPC 8 /CS /G ID ".encode() + b"\x80 EI Q\n"


BAND = b"0 0 .4 rg 40 670 200 20 re f\n"
SCAN = picture(0, 0, 595, 842)
SEEN = words("Seen words stand here.", 700)


def document_of(*contents: bytes, page: str = "", extra: tuple[tuple[str, bytes], ...] = ()) -> Document:
    return read_pdf(small_pdf(contents, page=page, extra=extra), ORIGIN)


def seen(document: Document) -> str:
    return " ".join(document.text[at.start : at.end] for at in document.sections if not at.flags)


def hidden(document: Document) -> str:
    return " ".join(document.text[at.start : at.end] for at in document.sections if at.flags == ("hidden",))


@pytest.mark.parametrize(
    "content",
    [
        b"1 g" + words("unseen words"),
        b"0 0 0 0 k" + words("unseen words"),
        b".98 .97 1 rg" + words("unseen words"),
        b"1 g" + words("unseen words") + BAND,
        b"1 g 40 670 200 20 re f" + words("unseen words"),
        b"0 g 40 674 200 .5 re f 40 682 200 .5 re f 1 g" + words("unseen words"),
        b"1 Tr 1 G" + words("unseen words"),
        b"2 Tr 1 g 1 G" + words("unseen words"),
        b"3 Tr" + words("unseen words"),
        b"3 Tr" + words("unseen words") + picture(500, 780, 50, 50),
        words("unseen words", size=0.5),
        b"BT /F1 10 Tf .05 0 0 .05 50 680 Tm (unseen words) Tj ET",
        b"BT /F1 10 Tf 1 Tz 50 680 Td (unseen words) Tj ET",
        words("unseen words", x=700),
        words("unseen words", y=900),
        b"1 g BT /F1 10 Tf 0 1 -1 0 300 300 Tm (unseen words) Tj ET",
    ],
)
def test_unseen_text_is_kept_and_flagged(content: bytes) -> None:
    document = document_of(SEEN + content)

    assert (seen(document), hidden(document)) == ("Seen words stand here.", "unseen words")


@pytest.mark.parametrize(
    "content",
    [
        BAND + b"1 g" + words("words in white"),
        picture(40, 670, 200, 20) + b"1 g" + words("words in white"),
        b"0 g 285 290 30 200 re f 1 g BT /F1 10 Tf 0 1 -1 0 300 300 Tm (words in white) Tj ET",
        b"0 G 20 w 40 684 m 200 684 l S 1 g" + words("words in white"),
        b".85 g" + words("pale words"),
        b"2 Tr 1 g 0 G" + words("words with an edge"),
        b"1 Tr 1 g 0 G" + words("words that are only edge"),
        b"q 7 Tr" + words("words cut out of blue") + b"0 0 1 rg 0 0 595 842 re f Q",
        SCAN + b"3 Tr" + words("recognised words"),
        b"3 Tr" + words("recognised words") + SCAN,
        b"".join(picture(5, 5 + 80 * no, 585, 79) for no in range(10)) + b"3 Tr" + words("recognised words"),
        picture(40, 600, 300, 150) + b"3 Tr" + words("recognised words"),
        words("small words", size=1),
        words("words over the edge of the page", x=500),
        words("-") + words("|", y=660) + words(".", y=640),
        b"1 g" + words(". . ."),
    ],
)
def test_text_that_is_seen_is_not_flagged(content: bytes) -> None:
    assert not hidden(document_of(SEEN + content))


def test_slide_in_white_on_a_dark_page_is_not_flagged() -> None:
    document = document_of(b"0 0 .2 rg 0 0 595 842 re f 1 g" + words("Heat", 700, size=24) + words("White words here.", 660))

    assert [(at.kind, at.flags) for at in document.sections] == [("heading", ()), ("prose", ())]


def test_line_around_unseen_text_stays_one_line() -> None:
    line = words("Seen words") + b"1 g" + words("unseen words", x=110) + b"0 g" + words("go on.", x=180)
    document = document_of(SEEN + line)

    assert (seen(document), hidden(document)) == ("Seen words stand here. Seen words go on.", "unseen words")


def test_dust_between_letters_does_not_part_their_word() -> None:
    document = document_of(words("ig") + words("xyz", x=57.6, size=0.01) + words("nore that.", x=57.8))

    assert (seen(document), hidden(document)) == ("ignore that.", "xyz")


def test_white_text_that_leaves_its_ground_is_flagged_from_there() -> None:
    document = document_of(SEEN + b"0 g 40 670 35 20 re f 1 g" + words("white on dark"))

    assert (seen(document), hidden(document)) == ("Seen words stand here. white", "on dark")


def test_text_that_leaps_off_the_page_is_flagged_from_there() -> None:
    document = document_of(SEEN + b"BT /F1 10 Tf 50 680 Td [(Words) -100000 (off the page)] TJ ET")

    assert (seen(document), hidden(document)) == ("Seen words stand here. Words", "off the page")


def test_letters_placed_one_by_one_are_told_apart() -> None:
    letters = b"".join(words(letter, x=50 + 7 * no) for no, letter in enumerate("unseen"))
    document = document_of(SEEN + b"1 g" + letters)

    assert (seen(document), hidden(document).replace(" ", "")) == ("Seen words stand here.", "unseen")


def test_characters_that_stand_for_several_do_not_shift_what_is_unseen() -> None:
    table = b"""begincmap 1 begincodespacerange <00> <ff> endcodespacerange
        2 beginbfchar <41> <D83DDE00> <42> <00660069> endbfchar endcmap"""
    font = "/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 7 0 R >> >> >>"
    content = words("AABB smile") + b"1 g" + words("unseen A words", x=120) + b"0 g" + words("go on", x=220)
    document = document_of(content, page=font, extra=(("", table),))

    assert (seen(document), hidden(document)) == ("😀😀fifi smile go on", "unseen 😀 words")


def test_unseen_text_follows_its_page_under_the_heading_that_was_last() -> None:
    page = words("Heat", 720, size=20) + SEEN + b"1 g" + words("Cold", 650, size=30) + words("unseen words", 600)
    document = document_of(page, words("Pumps", 700, size=20))

    assert [(at.page, at.kind, at.flags, document.text[at.start : at.end]) for at in document.sections] == [
        (1, "heading", (), "Heat"),
        (1, "prose", (), "Seen words stand here."),
        (1, "prose", ("hidden",), "Cold"),
        (1, "prose", ("hidden",), "unseen words"),
        (2, "heading", (), "Pumps"),
    ]
    assert [at.headings for at in document.sections] == [("Heat",)] * 4 + [("Pumps",)]
    assert document.title == "Heat"


def test_unseen_text_that_repeats_at_the_edge_of_pages_is_kept() -> None:
    pages = [words(f"{name} page has words.", 700) + b"1 g" + words("Unseen foot", 30) for name in ("First", "Second", "Third")]
    document = document_of(*pages)

    assert hidden(document) == "Unseen foot Unseen foot Unseen foot"
    assert "n_running_lines" not in document.metadata


def test_file_of_unseen_text_only_is_read() -> None:
    assert hidden(document_of(b"1 g" + words("All of it is unseen."))) == "All of it is unseen."


@pytest.mark.parametrize(
    ("place", "form", "inner", "is_unseen"),
    [
        (b"/Outer Do", b"1 g" + words("words in a form"), b"", True),
        (b"0 g 100 100 200 30 re f q 1 0 0 1 100 100 cm /Outer Do Q", b"1 g" + words("words", 10, 10), b"", False),
        (b"q .02 0 0 .02 0 300 cm /Outer Do Q", words("words scaled to dust"), b"", True),
        (b"q 20 0 0 20 0 0 cm /Outer Do Q", words("words", 30, 2, size=0.5), b"", False),
        (b"q 1 0 0 1 2000 0 cm /Outer Do Q", words("words moved away"), b"", True),
        (b"q 2 0 0 2 90 90 cm /Outer Do Q", b"0 g 0 0 90 30 re f q .5 0 0 .5 5 5 cm /Inner Do Q", b"1 g" + words("words", 0, 0), False),
        (b"q 2 0 0 2 90 90 cm /Outer Do Q", b"0 g 0 0 90 30 re f q .5 0 0 .5 5 60 cm /Inner Do Q", b"1 g" + words("words", 0, 0), True),
        (picture(0, 0, 10, 10), b"", b"", False),
    ],
)  # fmt: skip
def test_forms_are_looked_into_where_they_stand(place: bytes, form: bytes, inner: bytes, is_unseen: bool) -> None:
    document = document_of(SEEN + place, page=FORMS, extra=((FORM, form), (FORM, inner)))

    assert bool(hidden(document)) is is_unseen


def test_scan_in_a_form_is_a_scan() -> None:
    document = document_of(b"/Outer Do 3 Tr" + words("recognised words"), page=FORMS, extra=((FORM, SCAN),))

    assert not hidden(document)


@pytest.mark.parametrize("turn", ["", "/Rotate 90", "/Rotate 270 /CropBox [20 50 500 800]"])
def test_white_text_on_a_colour_gradient_is_not_flagged(turn: str) -> None:
    ground = b"/Pattern cs /Rainbow scn 40 590 300 40 re f 1 g" + words("white on colours", 605)
    document = document_of(SEEN + ground + words("unseen words", 300), page=f"{RAINBOWS} {turn}")

    assert "white on colours" in seen(document)
    assert hidden(document) == "unseen words"


def test_text_in_a_colour_gradient_is_not_flagged() -> None:
    assert not hidden(document_of(SEEN + b"/Pattern cs /Rainbow scn" + words("coloured words"), page=RAINBOWS))


@pytest.mark.parametrize(("state", "is_unseen"), [(b"/Faint gs", True), (b"/Half gs", False)])
def test_transparent_text_is_flagged(state: bytes, is_unseen: bool) -> None:
    assert bool(hidden(document_of(SEEN + state + words("words like glass"), page=FAINT))) is is_unseen


def test_text_that_was_cropped_away_is_flagged() -> None:
    document = document_of(SEEN + words("words below the crop", 30), page="/CropBox [20 50 500 800]")

    assert (seen(document), hidden(document)) == ("Seen words stand here.", "words below the crop")


@pytest.mark.parametrize("number", ["1e38", "-1e38", "nan", "100000"])
def test_places_beyond_all_bounds_do_no_harm(number: str) -> None:
    far = f"1 g BT /F1 10 Tf {number} 0 0 {number} 10 10 Tm (huge) Tj ET 0 g {number} 3 4 {number} re f".encode()
    form = (FORM, b"1 g" + words("words in a form", 10, 10))
    document = document_of(
        SEEN + far + f"q {number} 0 0 {number} 0 0 cm /Outer Do Q".encode(), page=FORMS, extra=(form, (FORM, b""))
    )

    assert seen(document).startswith("Seen words stand here.")


def test_text_behind_very_many_objects_is_told_by_its_characters() -> None:
    content = BAND + b"0 0 1 rg\n" + b"1 1 2 2 re f\n" * 20_000
    last = b"0 g" + SEEN + b"1 g" + words("white on dark") + words("white words", 640) + b"0 g" + words("dust here", 600, size=0.5)
    document = document_of(content + last + b"3 Tr" + words("not painted", 560))

    assert seen(document) == "Seen words stand here. white on dark"
    assert hidden(document) == "white words dust here not painted"


LINES = st.lists(st.tuples(st.sampled_from(["0 g", "1 g", "1 0 0 rg", "1 1 1 rg"]), st.booleans()), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(LINES)
def test_every_word_is_read_once_and_flagged_if_white_on_white(lines: list[tuple[str, bool]]) -> None:
    content, unseen = b"", set()
    for no, (colour, has_ground) in enumerate(lines):
        y = 800 - 40 * no
        content += f"0 0 .5 rg 40 {y - 10} 200 30 re f {colour}".encode() if has_ground else colour.encode()
        content += words(f"word{no}x", y)
        unseen |= {f"word{no}x"} if colour.startswith("1 ") and "0 0" not in colour and not has_ground else set()
    document = document_of(content)

    found = seen(document).split() + hidden(document).split()
    assert sorted(found) == sorted(f"word{no}x" for no in range(len(lines)))
    assert set(hidden(document).split()) == unseen


MIXED = small_pdf([SEEN + BAND + b"1 g" + words("on dark") + words("white", 600) + b"3 Tr" + words("none", 500) + b"/Outer Do"],
                  page=FORMS, extra=((FORM, b"0 g 1 1 9 9 re f" + words("dust", size=0.4)), (FORM, b"")))  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(MIXED) - 1), st.binary(min_size=0, max_size=4)), min_size=1, max_size=6))
def test_mutated_file_gives_a_document_or_a_failure(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(MIXED)
    for place, new in changes:
        data[place : place + len(new)] = new
    (outcome,) = read(bytes(data), ORIGIN)

    assert isinstance(outcome, Failure) or outcome.sections


TEX = r"""\documentclass{article}\usepackage{color}\begin{document}
\section{Seen heading}
The seen paragraph has words. \textcolor{white}{Unseen words in it.} It goes on here with so many more words that it has several lines
and stays a paragraph of its own that is whole.

\colorbox{black}{\textcolor{white}{White in a dark box}}

{\color{white}A whole paragraph in white, which runs over more than one line of the page, as it is long enough for that, and then ends.}

\fcolorbox{black}{white}{\textcolor{white}{White in a frame}}

\pdfliteral direct{3 Tr}Invisible by its mode.\pdfliteral direct{0 Tr}
\end{document}"""


@pytest.mark.skipif(program("tex") is None, reason="pdflatex is not installed")
def test_colours_of_tex(tmp_path: Path) -> None:
    document = read_pdf(typeset(TEX, tmp_path), ORIGIN)

    assert "words. It goes on here with so many more words that it has several lines and stays a paragraph" in seen(document)
    assert "White in a dark box" in seen(document)
    for text in ("Unseen words in it.", "A whole paragraph in white, which runs", "White in a frame", "Invisible by its mode."):
        assert text in hidden(document)


@pytest.mark.skipif(program("libreoffice") is None, reason="LibreOffice is not installed")
def test_colours_of_libreoffice(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    file = docx.Document()
    paragraph = file.add_paragraph("Seen words before.")
    for text, look in ((" Unseen words.", "white"), (" Seen words behind.", ""), (" Dust of words.", "tiny")):
        run = paragraph.add_run(text)
        if look == "white":
            run.font.color.rgb = docx.shared.RGBColor(255, 255, 255)
        elif look:
            run.font.size = docx.shared.Pt(0.5)
    cell = file.add_table(1, 1).cell(0, 0)
    cell.paragraphs[0].add_run("White in a cell").font.color.rgb = docx.shared.RGBColor(255, 255, 255)
    shade = docx.oxml.OxmlElement("w:shd")
    shade.set(docx.oxml.ns.qn("w:fill"), "202060")
    cell._tc.get_or_add_tcPr().append(shade)  # the library has no call for it
    content = io.BytesIO()
    file.save(content)
    document = read_pdf(converted(content.getvalue(), ".docx", tmp_path), ORIGIN)

    assert seen(document) == "Seen words before. Seen words behind. White in a cell"
    assert hidden(document) == "Unseen words. Dust of words."
