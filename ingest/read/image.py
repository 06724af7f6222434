"""Pictures of text: scans and photographs, read by tesseract where it is installed."""

from __future__ import annotations

from dataclasses import replace

from ingest.read.blocks import Block, laid_out
from ingest.read.ocr import NO_TEXT, mean_confidence, recognise, version
from ingest.read.origin import Origin, document
from rag.errors import InputError
from rag.types import Document

# Leptonica's own limit is 2^29 bytes of pixels, which it checks; files beyond this are no scans of a page.
_MAX_BYTES = 200_000_000


def read_image(data: bytes, origin: Origin) -> Document:
    """Read the text of a picture.

    Args:
        data: PNG, JPEG, TIFF (of several pages too), BMP or WEBP.
        origin: Where it comes from, and the languages of the text.

    Returns:
        One document whose title is the name of the file; metadata says which program read it and how sure it was.

    Raises:
        InputError: With code ``empty``, ``too_large``, ``unreadable``, or ``no_text`` when nothing was read, whatever the reason.
    """
    if not data:
        raise InputError("holds no bytes; nothing to index", code="empty")
    if len(data) > _MAX_BYTES:
        raise InputError(f"is a picture of {len(data):,} bytes, allowed are {_MAX_BYTES:,}; make it smaller", code="too_large")
    if not origin.ocr_languages:
        raise InputError("is a picture, and scans are not read; set ingest.ocr_languages", code="no_text")
    pages = recognise(data, origin.ocr_languages)
    blocks = [Block(text, "prose", ()) for page in pages for text in page.paragraphs]
    numbers = [no for no, page in enumerate(pages, start=1) for _ in page.paragraphs]
    if not blocks:
        raise InputError(f"shows no text that tesseract can read in {origin.ocr_languages!r}; {NO_TEXT}", code="no_text")
    text, sections = laid_out(blocks)
    placed = [replace(section, page=no) for section, no in zip(sections, numbers, strict=True)]
    metadata = {"n_pages": str(len(pages)), "ocr": version(), "ocr_confidence": mean_confidence(pages)}
    return document(origin, "image", origin.path.stem, text, placed, metadata)
