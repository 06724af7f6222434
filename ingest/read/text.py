"""Plain text: paragraphs between blank lines, the first short line as title."""

from __future__ import annotations

from ingest.read.decode import decode
from ingest.read.origin import Origin, clean, document
from rag.text import paragraphs
from rag.types import Document

# A longer first line is the begin of a paragraph.
_MAX_TITLE_CHARS = 120


def read_text(data: bytes, origin: Origin) -> Document:
    """Read plain text; raises `InputError` with code ``binary``, ``encoding`` or ``empty``.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document whose text is that of the file, so that line numbers are true.
    """
    text = clean(decode(data))
    sections = paragraphs(text)
    first_line = text[sections[0].start : sections[0].end].partition("\n")[0].strip() if sections else ""
    is_title = len(first_line) <= _MAX_TITLE_CHARS and any(char.isalnum() for char in first_line)
    return document(origin, "text", first_line if is_title else origin.path.stem, text, sections, {})
