"""Office documents and books: what of known text is found, and what becomes of damaged and hostile files."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import docx
import pptx
import pytest
from docx.shared import Pt, RGBColor

from bench.formats import found_in, recall_of
from ingest.read import Failure, Origin
from ingest.read import read as read_any
from ingest.read.html import read_html
from ingest.read.office import OfficeKind, read_office
from rag.errors import InputError
from rag.types import Document
from tests.made.office import (
    Made,
    Part,
    can_convert,
    changed_zip,
    converted,
    docx_bytes,
    epub_bytes,
    html_bytes,
    made_text,
    pptx_bytes,
    zip_bytes,
)

SMALL = Made(
    "Small & short",
    (
        Part("heading", "One & <two>", 1),
        Part("paragraph", "First *text* with R&D."),
        Part("item", "alpha", 1),
        Part("item", "beta", 2),
        Part("heading", "Three", 2),
        Part("table", rows=(("a|b", "1"), ("c", "2"))),
    ),
)
NEEDS_LIBREOFFICE = pytest.mark.skipif(not can_convert(), reason="LibreOffice is not installed; on Debian: libreoffice-writer")


def read(data: bytes, kind: OfficeKind = "docx") -> Document:
    return read_office(data, Origin(Path(f"folder/made.{kind}"), "d", "u", None), kind)


def sections(document: Document) -> list[str]:
    return [document.text[at.start : at.end] for at in document.sections]


def hidden(document: Document) -> list[str]:
    return [document.text[at.start : at.end] for at in document.sections if at.flags == ("hidden",)]


def failure_code(data: bytes, kind: OfficeKind = "docx") -> str:
    with pytest.raises(InputError) as caught:
        read(data, kind)
    return caught.value.code


def saved(document: docx.document.Document) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def made() -> Made:
    return made_text("other", n_chapters=4)


@pytest.fixture(scope="module")
def libreoffice_files(made: Made, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("libreoffice")
    word = docx_bytes(made, "other")
    return {target: converted(word, "docx", target, folder) for target in ("odt", "rtf")}


def check_bars(made: Made, document: Document) -> None:
    recall = recall_of(made, found_in(document))
    assert recall.paragraphs >= 0.95
    assert (recall.headings, recall.extra_headings) == (1.0, 0)
    assert recall.items >= 0.95
    assert recall.rows == 1.0


def test_docx_is_found_again(made: Made) -> None:
    check_bars(made, read(docx_bytes(made, "other")))


def test_epub_is_found_again(made: Made) -> None:
    check_bars(made, read(epub_bytes(made), "epub"))


def test_pptx_is_found_again(made: Made) -> None:
    check_bars(made, read(pptx_bytes(made), "pptx"))


def test_html_is_found_again(made: Made) -> None:
    check_bars(made, read_html(html_bytes(made), Origin(Path("made.html"), "d", "u", None)))


@NEEDS_LIBREOFFICE
@pytest.mark.parametrize("kind", ["odt", "rtf"])
def test_what_libreoffice_writes_is_found_again(made: Made, libreoffice_files: dict[str, bytes], kind: OfficeKind) -> None:
    check_bars(made, read(libreoffice_files[kind], kind))


def test_docx_reads_as_blocks_below_their_headings() -> None:
    document = read(docx_bytes(SMALL, "plain"))

    assert [(at.kind, at.headings) for at in document.sections] == [
        ("heading", ("One & <two>",)),
        ("prose", ("One & <two>",)),
        ("prose", ("One & <two>",)),
        ("heading", ("One & <two>", "Three")),
        ("table", ("One & <two>", "Three")),
    ]
    assert sections(document)[2:] == ["- alpha\n  - beta", "Three", "a|b | 1\nc | 2"]


def test_core_properties_are_title_and_metadata() -> None:
    document = read(docx_bytes(SMALL, "plain"))

    assert (document.title, document.metadata["author"], document.metadata["date"]) == (
        "Small & short",
        "Ann Author",
        "2024-05-06T07:08:09Z",
    )


def test_title_falls_back_to_the_first_heading() -> None:
    document = docx.Document()
    document.core_properties.title = ""
    document.add_heading("Named here", 1)

    assert read(saved(document)).title == "Named here"


def test_header_and_footer_stand_before_the_text() -> None:
    assert sections(read(docx_bytes(SMALL, "other")))[:2] == ["Running head & more", "Running foot"]


def test_line_break_is_kept_and_tab_parts_words() -> None:
    document = docx.Document()
    document.add_paragraph("one\ntwo\tthree")

    assert read(saved(document)).text == "one\ntwo three"


def test_paragraphs_of_a_code_style_are_one_code_section() -> None:
    document = docx.Document()
    document.add_paragraph("def f():", style="macro")
    document.add_paragraph("    return 1", style="macro")
    read_back = read(saved(document))

    assert (read_back.text, read_back.sections[0].kind) == ("def f():\n    return 1", "code")


@pytest.mark.parametrize("look", ["vanish", "white", "tiny"])
def test_text_that_word_does_not_show_is_kept_and_flagged(look: str) -> None:
    document = docx.Document()
    document.add_paragraph("seen")
    run = document.add_paragraph().add_run("unseen")
    match look:
        case "vanish":
            run.font.hidden = True
        case "white":
            run.font.color.rgb = RGBColor(255, 255, 255)
        case _:
            run.font.size = Pt(0.5)

    assert hidden(read(saved(document))) == ["unseen"]


def test_white_text_of_a_table_heading_is_not_flagged() -> None:
    document = docx.Document()
    run = document.add_table(1, 1).cell(0, 0).paragraphs[0].add_run("Column")
    run.font.color.rgb = RGBColor(255, 255, 255)

    assert hidden(read(saved(document))) == []


def with_body(body: str) -> bytes:
    """A Word document with this body, in which ``w:`` is the usual prefix."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    markup = f'<w:document {space} xmlns:mc="m"><w:body>{body}</w:body></w:document>'
    return changed_zip(docx_bytes(SMALL, "plain"), {"word/document.xml": markup.encode()})


def test_text_box_follows_its_paragraph_and_is_not_read_twice() -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent>"
    both = f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"

    assert sections(read(with_body(f"<w:p><w:r><w:t>be</w:t></w:r><w:r>{both}</w:r><w:r><w:t>fore</w:t></w:r></w:p>"))) == [
        "before",
        "box",
    ]


def test_deleted_text_and_field_codes_are_not_text() -> None:
    body = (
        "<w:p><w:del><w:r><w:delText>old</w:delText></w:r></w:del><w:r><w:instrText>PAGE</w:instrText></w:r>"
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins></w:p>"
    )

    assert read(with_body(body)).text == "new"


def test_footnote_follows_its_paragraph() -> None:
    body = '<w:p><w:r><w:t>Claim.</w:t><w:footnoteReference w:id="2"/></w:r></w:p><w:p><w:r><w:t>Next.</w:t></w:r></w:p>'
    notes = '<w:footnotes xmlns:w="w"><w:footnote w:id="2"><w:p><w:r><w:t>Source.</w:t></w:r></w:p></w:footnote></w:footnotes>'
    data = with_body(body)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        links = archive.read("word/_rels/document.xml.rels")
    link = b'<Relationship Id="n1" Type="http://x/relationships/footnotes" Target="footnotes.xml"/></Relationships>'
    changes = {"word/footnotes.xml": notes.encode(), "word/_rels/document.xml.rels": links.replace(b"</Relationships>", link)}

    assert sections(read(changed_zip(data, changes))) == ["Claim.", "Source.", "Next."]


def test_slides_are_pages_in_the_order_of_the_show() -> None:
    show = pptx.Presentation(io.BytesIO(pptx_bytes(SMALL)))
    order = show.slides._sldIdLst
    order.append(order[0])
    stream = io.BytesIO()
    show.save(stream)
    document = read(stream.getvalue(), "pptx")

    assert [(at.page, document.text[at.start : at.end]) for at in document.sections if at.kind == "heading"] == [
        (1, "Three"),
        (2, "One & <two>"),
    ]


def test_speaker_notes_are_below_their_slide_and_marked() -> None:
    document = read(pptx_bytes(SMALL), "pptx")
    notes = [at for at in document.sections if at.headings[-1:] == ("Speaker notes",)]

    assert [(at.page, document.text[at.start : at.end]) for at in notes] == [(1, "Say: One & <two>"), (2, "Say: Three")]


def test_hidden_slide_is_kept_and_flagged() -> None:
    show = pptx.Presentation(io.BytesIO(pptx_bytes(SMALL)))
    show.slides[1]._element.set("show", "0")
    stream = io.BytesIO()
    show.save(stream)
    document = read(stream.getvalue(), "pptx")

    assert {at.page for at in document.sections if at.flags} == {2}
    assert {at.page for at in document.sections if not at.flags} == {1}


@pytest.mark.parametrize("is_group", [False, True])
def test_hidden_shape_and_shapes_of_a_hidden_group_are_flagged(is_group: bool) -> None:
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[6])
    group = slide.shapes.add_group_shape()
    for shapes, text in ((slide.shapes, "before"), (group.shapes, "within"), (slide.shapes, "behind")):
        shapes.add_textbox(0, 0, 100, 100).text_frame.text = text
    part = group if is_group else group.shapes[0]
    part._element.xpath(".//p:cNvPr")[0].set("hidden", "1")  # the library has no call for it
    stream = io.BytesIO()
    show.save(stream)
    document = read(stream.getvalue(), "pptx")

    assert hidden(document) == ["within"]
    assert sorted(sections(document)) == ["before", "behind", "within"]


def test_slide_without_a_title_is_not_below_that_of_the_last() -> None:
    show = pptx.Presentation(io.BytesIO(pptx_bytes(SMALL)))
    show.slides[1].shapes.title.text = ""
    stream = io.BytesIO()
    show.save(stream)

    assert {at.headings for at in read(stream.getvalue(), "pptx").sections if at.page == 2} == {(), ("Speaker notes",)}


def test_epub_pages_follow_the_spine_and_not_their_names() -> None:
    two = Made("T", (Part("heading", "First", 1), Part("paragraph", "x"), Part("heading", "Second", 1)))

    assert sections(read(epub_bytes(two), "epub")) == ["First", "x", "Second"]


def test_protected_epub_is_reported() -> None:
    data = epub_bytes(SMALL)
    encryption = b'<encryption><CipherReference URI="OEBPS/page%201.xhtml"/></encryption>'

    assert failure_code(changed_zip(data, {"META-INF/encryption.xml": encryption}), "epub") == "encrypted"


def odt(body: str, styles: str = "") -> bytes:
    """An OpenDocument text."""
    content = f'<o xmlns:text="t" xmlns:table="b" xmlns:style="s" xmlns:fo="f">{styles}<body>{body}</body></o>'
    return zip_bytes({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def test_odt_keeps_spaces_breaks_and_notes() -> None:
    body = (
        "<text:h text:outline-level='2'>H</text:h><text:p>a<text:s text:c='2'/>b<text:tab/>c<text:line-break/>d"
        "<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>note</text:p></text:note-body></text:note>e</text:p>"
    )

    assert sections(read(odt(body), "odt")) == ["H", "a b c\nde", "note"]


def test_odt_hidden_text_is_flagged_and_deleted_text_left_out() -> None:
    styles = '<style:style style:name="X"><style:text-properties text:display="none"/></style:style>'
    body = (
        "<text:tracked-changes><text:p>gone</text:p></text:tracked-changes><text:p>seen</text:p>"
        "<text:p><text:span text:style-name='X'>unseen</text:span></text:p>"
        "<text:section text:display='none'><text:p>section</text:p></text:section>"
    )
    document = read(odt(body, styles), "odt")

    assert (sections(document), hidden(document)) == (["seen", "unseen", "section"], ["unseen", "section"])


def test_odt_white_text_is_flagged_but_on_a_ground_and_in_tables() -> None:
    white = '<style:text-properties fo:color="#FFFFFF"/>'
    styles = (
        f'<style:style style:name="W">{white}</style:style>'
        '<style:style style:name="B"><style:text-properties fo:color="#000000"/></style:style>'
        f'<style:style style:name="G"><style:paragraph-properties fo:background-color="#224488"/>{white}</style:style>'
    )
    body = (
        '<text:p>seen <text:span text:style-name="B">black</text:span></text:p>'
        '<text:p>ink <text:span text:style-name="W">unseen</text:span></text:p>'
        '<text:p text:style-name="W"><text:span text:style-name="B">black again</text:span></text:p>'
        '<text:p text:style-name="G">title on blue</text:p>'
        '<table:table><table:table-row><table:table-cell><text:p text:style-name="W">head</text:p></table:table-cell>'
        "</table:table-row></table:table>"
    )

    assert hidden(read(odt(body, styles), "odt")) == ["ink unseen"]


def test_odt_all_paragraphs_of_a_cell_are_read() -> None:
    cell = "<table:table-cell><text:p>one</text:p><text:p>two</text:p></table:table-cell>"

    assert (
        read(odt(f"<table:table><table:table-row>{cell}{cell}</table:table-row></table:table>"), "odt").text == "one two | one two"
    )


def test_odt_with_a_password_is_reported() -> None:
    manifest = {"META-INF/manifest.xml": b"<m><manifest:encryption-data/></m>"}

    assert failure_code(changed_zip(odt("<text:p>x</text:p>"), manifest), "odt") == "encrypted"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"one\par two\par", ["one", "two"]),
        (r"\'e4\u8364 ?\u-10179 ?\u-8704 ?\emdash x\~y\par", ["ä€😀—x y"]),
        (r"{\uc2\u8364 ab}c\par", ["€c"]),
        (r"{\pict 0a0b}{\*\unknown x}{\field{\*\fldinst LINK}{\fldrslt shown}}\par", ["shown"]),
        (r"\pard\outlinelevel0 Head\par\pard text\par", ["Head", "text"]),
        (r"\trowd\pard\intbl a\cell b\cell\row\pard\intbl c\cell\cell\row\pard after\par", ["a | b\nc |", "after"]),
        (r"a{\footnote note\par}b\par", ["ab", "note"]),
        (r"\pard\ls1\ilvl0{\listtext 1.\tab}one\par\pard\ls1\ilvl1 two\par", ["- one\n  - two"]),
        (r"{\header top\par}text\par", ["top", "text"]),
        ("a\\bin3 {}}b\\par", ["ab"]),
    ],
)
def test_rtf(source: str, expected: list[str]) -> None:
    document = read(f"{{\\rtf1\\ansi\\ansicpg1252 {source}}}".encode("latin-1"), "rtf")

    assert [text.rstrip() for text in sections(document)] == expected


def test_rtf_style_sheet_names_headings() -> None:
    document = read(rb"{\rtf1{\stylesheet{\s0 Normal;}{\s3 heading 2;}}\pard\s3 Head\par\pard\s0 text\par}", "rtf")

    assert [(at.kind, at.headings) for at in document.sections] == [("heading", ("Head",)), ("prose", ("Head",))]


def test_rtf_fonts_have_their_own_characters() -> None:
    assert read(rb"{\rtf1{\fonttbl{\f0 A;}{\f1\fcharset204 B;}}\f0\'e4\f1\'e4\par}", "rtf").text == "äд"


COLOURS = r"{\colortbl;\red255\green255\blue255;\red32\green32\blue96;\red255\green255\blue254;}"


@pytest.mark.parametrize(
    "source",
    [
        r"{\v unseen}\par",
        r"{\fs1 unseen\fs20}\par",
        r"\fs0 unseen\par\fs20 seen\par",
        r"\cf1 unseen\cf2\par",
        r"\cf1\highlight2\highlight0 unseen\plain\par",
        r"\cf1\chcbpat1 unseen\plain\par",
        r"\cf1 {\highlight2 \cf2 seen }unseen\plain\par seen\par",
        r"\pard\cbpat1\cf1 unseen\plain\par",
        r"\pard\cbpat2 seen\par\pard\cf1 unseen\plain\par",
        r"{\v\cf1 unseen}\par\trowd\pard\intbl {\cf1 Head}\cell\row\pard seen\par",
    ],
)
def test_rtf_hidden_white_and_tiny_text_is_kept_and_flagged(source: str) -> None:
    document = read(f"{{\\rtf1{COLOURS}first\\par {source}}}".encode(), "rtf")

    assert [text.replace("seen unseen", "unseen") for text in hidden(document)] == ["unseen"]


@pytest.mark.parametrize(
    "source",
    [
        r"{\cf2 seen}{\cf3 seen}{\cf0 seen}{\cf9 seen}{\fs2 seen}{\v0 seen}\par",
        r"\cf1\highlight2 seen\par",
        r"\cf1\chcbpat2\highlight0 seen\par",
        r"\cf1\chshdng10000 seen\par",
        r"\pard\cbpat2{\cf1 seen}\par",
        r"\pard\shading5000{\cf1 seen}\par",
        r"\trowd\pard\intbl\cf1 Head\cell\row\pard\cf2 seen\par",
        r"seen{\shp{\*\shpinst{\sp{\sn fillColor}{\sv 0}}{\shptxt \plain\cf1 in a box\par}}}\par",
        r"{\cf1\fs0 }{\v  }seen\par",
    ],
)
def test_rtf_text_that_is_seen_is_not_flagged(source: str) -> None:
    assert hidden(read(f"{{\\rtf1{COLOURS}first\\par {source}}}".encode(), "rtf")) == []


@NEEDS_LIBREOFFICE
def test_rtf_by_libreoffice_tells_white_text_and_headings_of_tables(tmp_path: Path) -> None:
    document = docx.Document()
    document.add_paragraph("Seen words.")
    document.add_paragraph().add_run("Unseen words.").font.color.rgb = RGBColor(255, 255, 255)
    document.add_paragraph().add_run("Dust of words.").font.size = Pt(0.5)
    cell = document.add_table(1, 1).cell(0, 0)
    cell.paragraphs[0].add_run("White in a cell").font.color.rgb = RGBColor(255, 255, 255)

    assert hidden(read(converted(saved(document), "docx", "rtf", tmp_path), "rtf")) == ["Unseen words.", "Dust of words."]


def test_rtf_that_is_cut_is_reported() -> None:
    assert failure_code(rb"{\rtf1 text\par{more", "rtf") == "unreadable"


def test_rtf_that_nests_too_deep_is_reported() -> None:
    assert failure_code(rb"{\rtf1" + b"{" * 200_000, "rtf") == "too_deep"


@pytest.mark.parametrize("kind", ["docx", "odt", "rtf", "epub", "pptx"])
def test_empty_file_is_reported(kind: OfficeKind) -> None:
    assert failure_code(b"", kind) == "empty"


@pytest.mark.parametrize("kind", ["docx", "odt", "rtf", "epub", "pptx"])
def test_another_format_is_reported(kind: OfficeKind) -> None:
    assert failure_code(b"plain text", kind) == "unreadable"
    assert failure_code(zip_bytes({"some.txt": "text"}), kind) == "unreadable"


def test_document_without_text_is_reported() -> None:
    assert failure_code(saved(docx.Document())) == "empty"


def test_document_with_a_password_is_reported() -> None:
    compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le")

    assert failure_code(compound) == "encrypted"


def test_entities_are_refused() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "lol">{laughs}]><x>&l9;</x>'.encode()

    assert failure_code(changed_zip(docx_bytes(SMALL, "plain"), {"word/document.xml": bomb})) == "unreadable"


def test_deep_nesting_ends_with_a_code() -> None:
    deep = b"<w>" * 200_000 + b"</w>" * 200_000

    assert failure_code(changed_zip(docx_bytes(SMALL, "plain"), {"word/document.xml": deep})) == "too_deep"


def test_zip_bomb_is_reported_before_it_is_unpacked() -> None:
    assert failure_code(changed_zip(docx_bytes(SMALL, "plain"), {"word/document.xml": bytes(20_000_000)})) == "zip_bomb"


def damaged(data: bytes) -> Iterator[bytes]:
    """The file cut at 30 places, with bytes changed in 50 ways, and with words changed in its members in 20 ways."""
    for part in range(30):
        yield data[: len(data) * part // 30]
    luck = random.Random(3)
    for _ in range(50):
        changed = bytearray(data)
        for _ in range(luck.randint(1, 30)):
            changed[luck.randrange(len(changed))] = luck.randrange(256)
        yield bytes(changed)
    if zipfile.is_zipfile(io.BytesIO(data)):
        yield from _damaged_members(data, luck)


def _damaged_members(data: bytes, luck: random.Random) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(name for name in members if members[name].lstrip().startswith(b"<"))
    for _ in range(20):
        name = luck.choice(names)
        content = members[name]
        # What is between tags and quotes is changed, so that most of the files stay XML.
        words = [at for at, (left, right) in enumerate(pairwise(content)) if chr(left).isalnum() and chr(right).isalnum()]
        changed = bytearray(content)
        for at in luck.choices(words, k=luck.randint(1, 5)) if words else ():
            changed[at] = ord(luck.choice("0123456789abcXYZ-_"))
        yield zip_bytes(members | {name: bytes(changed)}, zipfile.ZIP_STORED)


def check_damaged(data: bytes, kind: str) -> None:
    n_read = 0
    for broken in damaged(data):
        for outcome in read_any(broken, Origin(Path(f"made.{kind}"), "d", "u", None)):
            if isinstance(outcome, Failure):
                assert outcome.code in {
                    "empty",
                    "unreadable",
                    "zip_bomb",
                    "too_deep",
                    "too_large",
                    "encrypted",
                    "encoding",
                    "binary",
                }
            else:
                n_read += 1
                assert outcome.sections
    assert n_read or kind == "epub"


@pytest.mark.parametrize("kind", ["docx", "pptx", "epub", "odt", "rtf"])
def test_damaged_files_are_documents_or_failures(kind: str) -> None:
    files = {
        "docx": docx_bytes(SMALL, "other"),
        "pptx": pptx_bytes(SMALL),
        "epub": epub_bytes(SMALL),
        "odt": odt(
            "<text:h text:outline-level='2'>H</text:h><text:list><text:list-item><text:p>a</text:p></text:list-item></text:list>"
        ),
        "rtf": rb"{\rtf1{\fonttbl{\f0 A;}}{\stylesheet{\s1 heading 1;}}\pard\s1 A\par\trowd\intbl a\cell\row\pard\u8364 ?b\'e4\par}",
    }
    check_damaged(files[kind], kind)
