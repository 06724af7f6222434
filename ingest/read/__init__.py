"""Readers of the core install: bytes of one file to documents, one file of this folder per format family.

The text of a document is normalised before its sections are computed, so offsets are exact. The family is chosen by the file name
alone; content that does not fit it is a `Failure` with a stable code, never an exception and never an empty document.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, assert_never

from ingest.read.origin import Failure, Origin
from rag.errors import InputError
from rag.types import Document

__all__ = ["READER_VERSION", "Failure", "Kind", "kind_of", "read"]

Kind = Literal["text", "markdown", "html", "csv", "jsonl", "eml", "code"]

READER_VERSION = 1
"""Raised when the output of any reader changes; part of the recipe fingerprint, so that files are then read again."""

_KINDS: tuple[tuple[Kind, str], ...] = (
    ("markdown", ".md .markdown .mdown .mkd .mdx .qmd .rmd"),
    ("html", ".html .htm .xhtml .shtml"),
    ("csv", ".csv .tsv .tab"),
    ("jsonl", ".jsonl .ndjson .jsonl.gz .ndjson.gz"),
    ("eml", ".eml"),
)


def kind_of(path: Path) -> Kind:
    """Tell the format family of a file by its name.

    Args:
        path: The file; it need not exist.

    Returns:
        The family; ``text`` for names that say nothing, whose content is then judged by the reader.

    Example:
        >>> kind_of(Path("corpus.jsonl.gz"))
        'jsonl'
    """
    from ingest.read.code import language_of

    name = path.name.lower()
    for kind, suffixes in _KINDS:
        if name.endswith(tuple(suffixes.split())):
            return kind
    return "code" if language_of(path) else "text"


def read(data: bytes, path: Path, doc_id: str, uri: str, mtime: float | None) -> Iterator[Document | Failure]:
    """Read one file.

    Args:
        data: Its content.
        path: Its name, which decides the format family; nothing is opened.
        doc_id: Id of the document; records of a JSONL file have their own.
        uri: Where the file came from, for people.
        mtime: Modification time, seconds since the epoch, or None.

    Yields:
        One document, or one a record of a JSONL file, in the order of the file; a failure in the place of what could not be
        read, with one of the codes ``binary encoding empty bad_record duplicate_id bad_gzip too_deep unreadable``.
    """
    origin = Origin(path, doc_id, uri, mtime)
    try:
        yield from _read(data, origin)
    except InputError as error:
        yield Failure(str(path), error.code, str(error))


def _read(data: bytes, origin: Origin) -> Iterator[Document | Failure]:
    match kind_of(origin.path):
        case "text":
            from ingest.read.text import read_text

            yield read_text(data, origin)
        case "markdown":
            from ingest.read.markdown import read_markdown

            yield read_markdown(data, origin)
        case "html":
            from ingest.read.html import read_html

            yield read_html(data, origin)
        case "csv":
            from ingest.read.csv import read_csv

            yield read_csv(data, origin)
        case "jsonl":
            from ingest.read.jsonl import read_jsonl

            yield from read_jsonl(data, origin)
        case "eml":
            from ingest.read.eml import read_eml

            yield read_eml(data, origin)
        case "code":
            from ingest.read.code import read_code

            yield read_code(data, origin)
        case never:
            assert_never(never)
