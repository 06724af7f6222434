"""Office documents and books with known truth, made by python-docx, python-pptx, openpyxl, LibreOffice and the standard library.

Readers are tuned on the ``plain`` design and held to their bars on the ``other`` one, with other words, styles and structure. Nothing
is taken from elsewhere: the words come from the short lists below.
"""

from __future__ import annotations

import html
import io
import os
import random
import shutil
import subprocess
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import docx
import openpyxl  # type: ignore[import-untyped]
import pptx
from docx.text.paragraph import Paragraph
from pptx.util import Inches

Design = Literal["plain", "other"]
Cell = str | float | bool | date | None
PartKind = Literal["heading", "paragraph", "item", "table"]

_WORDS: dict[Design, list[str]] = {
    "plain": """the of a heat pump boiler pressure building energy storage temperature R&D efficiency flow official final valve sensor
        a<b x>y *starred* _under_ [brackets](link) # 1. - | “quoted” naïve Größe 中文 don’t 20 % 3,5 kWh #tag A|B `code` \\ ~10""".split(),
    "other": """tide harbour vessel cargo & keel AT&T <b>bold</b> &amp; crane dock pilot anchor 5 > 3 and 2 < 4 __init__ **not** 2) +
        $5.00 e-mail@example.org łódź Ελλάδα 港口 ‘single’ – dash … (see [12]) | wind wave storm route crew captain chart log
        north-east half—open C:\\temp a_b_c 100\u202f% £7 “she said” ~~old~~ ===""".split(),
}
_MIME_EPUB = b"application/epub+zip"
_EPOCH = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Part:
    """A heading of a level, a paragraph, an item at a depth from 1, or a table."""

    kind: PartKind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    title: str
    parts: tuple[Part, ...]

    def texts(self, *kinds: PartKind) -> list[str]:
        return [part.text for part in self.parts if part.kind in kinds]

    @property
    def rows(self) -> list[str]:
        return [" | ".join(row) for part in self.parts for row in part.rows]


def made_text(design: Design, seed: int = 1, n_chapters: int = 8) -> Made:
    """Eight chapters are about 20 pages, 40 headings and 100 table rows."""
    luck = random.Random(seed)
    words = _WORDS[design]

    def phrase(low: int, high: int) -> str:
        return "The " + " ".join(luck.choice(words) for _ in range(luck.randint(low, high)))

    parts: list[Part] = []
    for chapter in range(1, n_chapters + 1):
        parts.append(Part("heading", f"{phrase(2, 5)} {chapter}", 1))
        for section in range(1, luck.randint(4, 6)):
            depth = luck.randint(2, 4 if design == "other" else 3)
            parts.append(Part("heading", f"{phrase(1, 4)} {chapter}.{section}", depth))
            for _ in range(luck.randint(2, 4)):
                parts.append(Part("paragraph", f"{phrase(20, 90)} end."))
            if luck.random() < 0.5:
                parts += [Part("item", phrase(3, 15), luck.randint(1, 2)) for _ in range(luck.randint(2, 6))]
                parts.append(Part("paragraph", f"{phrase(5, 30)} after."))
            if luck.random() < 0.6:
                n_columns = luck.randint(2, 5)
                rows = tuple(
                    tuple(f"{phrase(0, 3)} {row}.{column}" for column in range(n_columns)) for row in range(luck.randint(3, 9))
                )
                parts += [Part("table", rows=rows), Part("paragraph", f"{phrase(8, 20)} below.")]
    return Made(f"{phrase(3, 6)} report", tuple(parts))


def docx_bytes(made: Made, design: Design) -> bytes:
    """Words of a paragraph are in runs of their own looks, as editing leaves them."""
    luck = random.Random(7)
    document = docx.Document()
    _set_properties(document.core_properties, made)
    if design == "other":
        document.sections[0].header.paragraphs[0].text = "Running head & more"
        document.sections[0].footer.paragraphs[0].text = "Running foot"
    for part in made.parts:
        match part.kind:
            case "heading":
                document.add_heading(part.text, part.level)
            case "paragraph":
                _runs(document.add_paragraph(), part.text, luck)
            case "item":
                style = "List Number" if design == "other" else "List Bullet"
                document.add_paragraph(part.text, style=style if part.level == 1 else f"{style} {part.level}")
            case "table":
                table = document.add_table(rows=len(part.rows), cols=len(part.rows[0]))
                table.style = "Table Grid" if design == "other" else None
                for row, cells in zip(table.rows, part.rows, strict=True):
                    for cell, text in zip(row.cells, cells, strict=True):
                        cell.text = text
    return _saved(document)


def _set_properties(properties: object, made: Made) -> None:
    for name, value in (("title", made.title), ("author", "Ann Author"), ("created", _EPOCH), ("modified", _EPOCH)):
        setattr(properties, name, value)


def _runs(paragraph: Paragraph, text: str, luck: random.Random) -> None:
    at = 0
    while at < len(text):
        end = at + luck.randint(3, 60)
        run = paragraph.add_run(text[at:end])
        run.bold, run.italic = luck.random() < 0.2, luck.random() < 0.2
        at = end


def _saved(document: object) -> bytes:
    stream = io.BytesIO()
    document.save(stream)  # type: ignore[attr-defined]
    return stream.getvalue()


def pptx_bytes(made: Made) -> bytes:
    """A slide a heading: items in its list, paragraphs in boxes, tables as tables; the notes repeat the title."""
    show = pptx.Presentation()
    _set_properties(show.core_properties, made)
    slide = body = None
    for part in made.parts:
        if part.kind == "heading" or slide is None:
            slide = show.slides.add_slide(show.slide_layouts[1])
            slide.shapes.title.text = part.text
            slide.notes_slide.notes_text_frame.text = f"Say: {part.text}"
            body = None
        elif part.kind == "table":
            size = (len(part.rows), len(part.rows[0]))
            table = slide.shapes.add_table(*size, Inches(1), Inches(2), Inches(8), Inches(2)).table
            for y, row in enumerate(part.rows):
                for x, text in enumerate(row):
                    table.cell(y, x).text = text
        elif part.kind == "item":
            frame = slide.placeholders[1].text_frame
            body = frame.paragraphs[0] if body is None else frame.add_paragraph()
            body.text, body.level = part.text, part.level - 1
        else:
            slide.shapes.add_textbox(Inches(1), Inches(1), Inches(8), Inches(1)).text_frame.text = part.text
    return _saved(show)


def html_bytes(made: Made) -> bytes:
    """A page with all parts."""
    return f"<!DOCTYPE html><html><head><title>{html.escape(made.title)}</title></head><body>{_markup(made.parts)}</body></html>".encode()


def _markup(parts: Iterable[Part]) -> str:
    pieces: list[str] = []
    for part in parts:
        text = html.escape(part.text)
        match part.kind:
            case "heading":
                pieces.append(f"<h{part.level}>{text}</h{part.level}>")
            case "paragraph":
                pieces.append(f"<p>{text}</p>")
            case "item":
                pieces.append("<ul>" * part.level + f"<li>{text}</li>" + "</ul>" * part.level)
            case "table":
                rows = ("".join(f"<td><p>{html.escape(cell)}</p></td>" for cell in row) for row in part.rows)
                pieces.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    return "\n".join(pieces)


def epub_bytes(made: Made, *, meta: str = "") -> bytes:
    """A book with a page a chapter, named in another order than it is read."""
    chapters: list[list[Part]] = []
    for part in made.parts:
        if part.level == 1 and part.kind == "heading" or not chapters:
            chapters.append([])
        chapters[-1].append(part)
    names = [f"page {len(chapters) - number}.xhtml" for number in range(len(chapters))]
    items = "".join(
        f'<item id="i{n}" href="{name.replace(" ", "%20")}" media-type="application/xhtml+xml"/>' for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(names)))
    opf = (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{html.escape(made.title)}</dc:title><dc:creator>Ann Author</dc:creator>{meta}</metadata>"
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile full-path="OEBPS/book.opf"/>'
        "</rootfiles></container>"
    )
    pages = {
        f"OEBPS/{name}": (
            '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head>'
            f'<body><a id="top"/>{_markup(parts)}</body></html>'
        )
        for name, parts in zip(names, chapters, strict=True)
    }
    return zip_bytes({"mimetype": _MIME_EPUB, "META-INF/container.xml": container, "OEBPS/book.opf": opf, **pages})


def xlsx_bytes(sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> bytes:
    """Sheets of rows."""
    book = openpyxl.Workbook()
    del book[book.sheetnames[0]]
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return _saved(book)


def zip_bytes(members: Mapping[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP file, the same for the same members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), content, compress_type=compression)
    return stream.getvalue()


def changed_zip(data: bytes, changes: Mapping[str, bytes]) -> bytes:
    """A ZIP file with other contents of some members."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return zip_bytes({name: archive.read(name) for name in archive.namelist()} | dict(changes))


def can_convert() -> bool:
    """Whether LibreOffice is installed."""
    return shutil.which("soffice") is not None


def converted(data: bytes, suffix: str, target: str, folder: Path) -> bytes:
    """A file as LibreOffice writes it in another format.

    Args:
        data: The file.
        suffix: Of its name.
        target: Suffix of the other format.
        folder: For the file, the result and the profile of the program, which makes the second call quicker.
    """
    source = folder / f"made.{suffix}"
    source.write_bytes(data)
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", "--headless", profile, "--convert-to", target, "--outdir", str(folder / target), str(source)]
    environment = os.environ | {"HOME": str(folder)}
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
    return (folder / target / f"made.{target}").read_bytes()
