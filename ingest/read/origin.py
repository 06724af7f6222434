"""Where a document comes from, and the two things that can become of it: a `Document` or a `Failure`.

Readers raise `InputError` with a stable code when a whole file cannot be read; `ingest.read.read` turns it into a `Failure`, so
that one bad file never stops the others and never looks like an empty one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag.errors import InputError
from rag.text import normalise
from rag.types import Document, Section


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that could not be read; the rest goes on.

    Attributes:
        path: The file or folder, with ``:line`` where it is one record of a file.
        code: Short stable name of the failure, for programs.
        message: What was wrong and what to do, for people.
    """

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Origin:
    """What a reader needs to know about a file besides its bytes.

    Attributes:
        path: The file; readers look at its name only.
        doc_id: Id of the document that the file becomes.
        uri: Where the file came from, for people.
        mtime: Modification time, seconds since the epoch, or None.
    """

    path: Path
    doc_id: str
    uri: str
    mtime: float | None


def clean(text: str) -> str:
    """Normalise text so that doing it again, also after joining it to other clean text, changes nothing.

    Args:
        text: Any text.

    Returns:
        Normalised text that does not begin with a byte order mark, however many there were.

    Example:
        >>> clean("\\ufeff\\ufeffone")
        'one'
    """
    return normalise(text.lstrip("\ufeff"))


def one_line(text: str, max_chars: int = 1000) -> str:
    """Make a title or a metadata value: clean, on one line, of bounded length.

    Args:
        text: Any text.
        max_chars: Longest result.

    Returns:
        The text with every run of white space as one space, without byte order marks in front.

    Example:
        >>> one_line("\\n \\ufeff \\ufeff 1.\\t Heat")
        '1. Heat'
    """
    return " ".join(clean(text).split()).lstrip("\ufeff ")[:max_chars].rstrip()


def document(
    origin: Origin,
    kind: str,
    title: str,
    text: str,
    sections: Sequence[Section],
    metadata: Mapping[str, str],
) -> Document:
    """Put a document together from what a reader found.

    Args:
        origin: Where it comes from.
        kind: Format family.
        title: May be empty.
        text: Clean text.
        sections: In ascending order, without overlap.
        metadata: Any keys and values; they are cleaned here.

    Returns:
        The document.

    Raises:
        InputError: With code ``empty``, if no section holds text.
    """
    if not sections:
        raise InputError("holds no text; nothing to index", code="empty")
    tidy = {one_line(key): clean(value).strip() for key, value in metadata.items()}
    tidy = {key: value for key, value in tidy.items() if key and value}
    return Document(origin.doc_id, origin.uri, one_line(title), text, tuple(sections), tidy, kind, origin.mtime)
