"""PDF files: text by PDFium, parts by `ingest.read.layout`, pages without text by tesseract.

PDFium parses hostile bytes in C++: in a folder run this module is used in a process of its own with limits (`ingest.sandbox`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingest.read.blocks import Block, laid_out
from ingest.read.layout import Laid, lay_out
from ingest.read.lines import Line, lines_of
from ingest.read.ocr import INSTALL, NO_TEXT, Scanned, mean_confidence, recognise, version
from ingest.read.origin import Origin, document
from ingest.read.unseen import unseen_chars
from rag.errors import InputError, MissingExtraError
from rag.types import Document

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

# The largest books and bills of law have some 5,000 pages and 20 million characters.
_MAX_PAGES = 20_000
_MAX_CHARS = 50_000_000
# A dense page has 8,000 characters, a wall chart perhaps 100,000; more is a picture made of letters, or an attack.
_MAX_PAGE_CHARS = 300_000
# Tesseract is made for 300 dpi; fewer cost accuracy in small print, a large poster would cost memory.
_DPI = 300
_MAX_PIXELS = 25_000_000
_DATE = re.compile(r"(?:D:)?(\d{4})(\d{2})?(\d{2})?")
_FIELDS = (("author", "Author"), ("subject", "Subject"), ("keywords", "Keywords"))


@dataclass(frozen=True, slots=True)
class _Pages:
    """What the pages of a file hold; ``unseen`` and ``scanned`` by page number, ``silent`` are those with content and no text."""

    lines: Sequence[Sequence[Line]]
    unseen: Mapping[int, Sequence[Line]]
    scanned: Mapping[int, Scanned]
    silent: Sequence[int]


def read_pdf(data: bytes, origin: Origin) -> Document:
    """Read a PDF file.

    Args:
        data: Content of the file.
        origin: Where it comes from, and the languages of scanned pages.

    Returns:
        One document: sections by heading, with their page, a table as lines of cells joined by `` | ``. Running heads and feet are no
        part of the text; the metadata counts their lines (``n_running_lines``), names the pages with content but no text
        (``pages_without_text``) and those that were read by tesseract (``ocr_pages``). What a reader of a page would not see
        (`ingest.read.unseen`) comes behind its other text, in sections of its own, flagged ``hidden``.

    Raises:
        InputError: With code ``empty`` for no bytes, ``encrypted`` for a file that needs a password, ``no_text`` if no page has text,
            ``too_large``, or ``unreadable``.
        MissingExtraError: If pypdfium2 is not installed.
    """
    if not data.strip(b" \t\r\n\0"):
        raise InputError("holds no bytes; nothing to index", code="empty")
    with closing(_opened(data)) as pdf:
        n_pages = len(pdf)
        if n_pages > _MAX_PAGES:
            raise InputError(f"has {n_pages:,} pages, allowed are {_MAX_PAGES:,}; split it", code="too_large")
        pages = _read_pages(pdf, origin.ocr_languages)
        info = {key: str(value) for key, value in pdf.get_metadata_dict(skip_empty=True).items()}
    laid = _with_others(lay_out(pages.lines), _others(pages))
    if not laid.blocks:
        raise InputError(f"has no text on its {n_pages:,} pages: {_why_silent(pages, origin.ocr_languages)}", code="no_text")
    text, sections = laid_out(laid.blocks)
    placed = [replace(section, page=page) for section, page in zip(sections, laid.pages, strict=True)]
    metadata = _metadata(info, pages, n_pages) | {"n_running_lines": str(laid.n_running) if laid.n_running else ""}
    return document(origin, "pdf", info.get("Title", "").strip() or laid.title or origin.path.stem, text, placed, metadata)


def _opened(data: bytes) -> PdfDocument:
    try:
        import pypdfium2
        import pypdfium2.raw as pdfium
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading PDF files", "pdf") from error
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise InputError("is encrypted and needs a password; save it without one", code="encrypted") from error
        raise InputError(f"cannot be parsed as PDF: {error}; repair it or print it anew", code="unreadable") from error


def _read_pages(pdf: PdfDocument, languages: str) -> _Pages:
    import pypdfium2

    lines: list[list[Line]] = []
    unseen: dict[int, list[Line]] = {}
    scanned: dict[int, Scanned] = {}
    silent: list[int] = []
    n_chars = 0
    for number in range(1, len(pdf) + 1):
        try:
            page = pdf[number - 1]
        except pypdfium2.PdfiumError:
            # A damaged page; the others may be whole.
            lines.append([])
            silent.append(number)
            continue
        with closing(page):
            found = _text_lines(page, number)
            lines.append([line for line in found if not line.is_hidden])
            if len(lines[-1]) < len(found):
                unseen[number] = [line for line in found if line.is_hidden]
            n_chars += sum(len(line.text) for line in found)
            if n_chars > _MAX_CHARS:
                raise InputError(f"holds more than {_MAX_CHARS:,} characters up to page {number}; split it", code="too_large")
            if not found and any(True for _ in page.get_objects(max_depth=1)):
                scan = _scan(page, languages)
                if scan is not None and scan.n_words:
                    scanned[number] = scan
                else:
                    silent.append(number)
    return _Pages(lines, unseen, scanned, silent)


def _text_lines(page: PdfPage, number: int) -> list[Line]:
    with closing(page.get_textpage()) as text_page:
        if text_page.count_chars() > _MAX_PAGE_CHARS:
            message = f"holds {text_page.count_chars():,} characters on page {number}, allowed are {_MAX_PAGE_CHARS:,}; split it"
            raise InputError(message, code="too_large")
        return lines_of(text_page, number, unseen_chars(page, text_page))


def _scan(page: PdfPage, languages: str) -> Scanned | None:
    """Text of a page by tesseract; None where that is not possible."""
    if not languages or not version():
        return None
    width, height = page.get_size()
    scale = min(_DPI / 72, (_MAX_PIXELS / max(width * height, 1.0)) ** 0.5)
    with closing(page.render(scale=scale, grayscale=True)) as bitmap:
        pixels = memoryview(bitmap.buffer).cast("B")
        rows = (bytes(pixels[row * bitmap.stride : row * bitmap.stride + bitmap.width]) for row in range(bitmap.height))
        picture = b"P5 %d %d 255\n" % (bitmap.width, bitmap.height) + b"".join(rows)
    (scanned,) = recognise(picture, languages) or (None,)
    return scanned


def _others(pages: _Pages) -> dict[int, list[Block]]:
    """By page, what is not laid out with the lines of all pages: paragraphs of scans, and what is unseen."""
    found = {number: [Block(text, "prose", ()) for text in scan.paragraphs] for number, scan in pages.scanned.items()}
    for number, lines in pages.unseen.items():
        # Headings of the page are seen. What repeats from page to page is kept: nothing that is unseen goes unsaid.
        blocks = lay_out([lines], has_running=False).blocks
        found[number] = [Block(at.text, "prose" if at.kind == "heading" else at.kind, (), flags=("hidden",)) for at in blocks]
    return found


def _with_others(laid: Laid, others: Mapping[int, Sequence[Block]]) -> Laid:
    """Put blocks behind those of their page, under the heading that was last before them."""
    if not others:
        return laid
    blocks: list[Block] = []
    pages: list[int] = []
    left = sorted(others)

    def add_others(before: int) -> None:
        while left and left[0] < before:
            number = left.pop(0)
            headings = blocks[-1].headings if blocks else ()
            blocks.extend(replace(block, headings=headings) for block in others[number])
            pages.extend(number for _ in others[number])

    for block, page in zip(laid.blocks, laid.pages, strict=True):
        add_others(page)
        blocks.append(block)
        pages.append(page)
    add_others(max(others) + 1)
    return replace(laid, blocks=tuple(blocks), pages=tuple(pages))


def _why_silent(pages: _Pages, languages: str) -> str:
    if not pages.silent:
        return "they are blank"
    if not languages:
        return "they are pictures, and scans are not read; set ingest.ocr_languages"
    if not version():
        return f"they are pictures, and tesseract is not installed; {INSTALL}"
    return f"tesseract sees none in {languages!r}; {NO_TEXT}"


def _metadata(info: Mapping[str, str], pages: _Pages, n_pages: int) -> dict[str, str]:
    found = {key: info.get(name, "") for key, name in _FIELDS}
    found["n_pages"] = str(n_pages)
    for key in ("ModDate", "CreationDate"):
        if date := _DATE.match(info.get(key, "")):
            found["date"] = "-".join(part for part in date.groups() if part)
    if pages.silent:
        found["pages_without_text"] = _ranges(pages.silent)
    if pages.scanned:
        found |= {"ocr": version(), "ocr_pages": _ranges(sorted(pages.scanned))}
        found["ocr_confidence"] = mean_confidence(list(pages.scanned.values()))
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers for people: ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
