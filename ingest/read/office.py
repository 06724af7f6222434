"""Office documents and books: DOCX, ODT, RTF, PPTX and EPUB, by the kind that the name of the file says."""

from __future__ import annotations

from typing import Literal, assert_never

from ingest.read.flow import Placed, join_placed
from ingest.read.odf import odf_properties, odt_blocks, open_odf
from ingest.read.ooxml import Package
from ingest.read.origin import Origin, document
from rag.errors import InputError
from rag.types import Document

OfficeKind = Literal["docx", "odt", "rtf", "epub", "pptx"]


def read_office(data: bytes, origin: Origin, kind: OfficeKind) -> Document:
    """Read an office document or a book.

    Args:
        data: Content of the file.
        origin: Where it comes from.
        kind: Its format.

    Returns:
        One document: headings as paths, table rows one a line with `` | `` between cells, lists with bullets, slides as pages; what a
        reader of the page would not see is there, flagged ``hidden``. Its title is that of its properties, else its first heading,
        else the name of the file.

    Raises:
        InputError: With code ``empty``, ``encrypted``, ``unreadable``, ``zip_bomb``, ``too_deep``, ``too_large``, ``binary`` or
            ``encoding``.
    """
    if not data:
        raise InputError("holds no bytes; nothing to index", code="empty")
    match kind:
        case "docx":
            from ingest.read.docx import docx_blocks

            package = Package(data)
            return _document(origin, kind, docx_blocks(package), package.properties())
        case "pptx":
            from ingest.read.pptx import pptx_blocks

            package = Package(data)
            return _document(origin, kind, pptx_blocks(package), package.properties())
        case "odt":
            package = open_odf(data, ("text",))
            return _document(origin, kind, odt_blocks(package), odf_properties(package))
        case "rtf":
            from ingest.read.rtf import rtf_story

            story = rtf_story(data)
            return _document(origin, kind, story.blocks, story.metadata)
        case "epub":
            from ingest.read.epub import epub_book

            book = epub_book(Package(data))
            metadata = dict(book.metadata)
            return document(origin, kind, metadata.pop("title", "") or origin.path.stem, book.text, book.sections, metadata)
        case never:
            assert_never(never)


def _document(origin: Origin, kind: str, blocks: list[Placed], properties: dict[str, str]) -> Document:
    text, sections = join_placed(blocks)
    metadata = dict(properties)
    first = next((placed.block.text for placed in blocks if placed.block.kind == "heading"), "")
    return document(origin, kind, metadata.pop("title", "") or first or origin.path.stem, text, sections, metadata)
