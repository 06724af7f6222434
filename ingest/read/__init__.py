"""Readers: bytes of one file to documents, one file of this folder per format family.

The text of a document is normalised before its sections are computed, so offsets are exact. The family is chosen by the file name
alone; content that does not fit it is a `Failure` with a stable code, never an exception and never an empty document.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, assert_never

from ingest.read.origin import Failure, Origin
from rag.errors import InputError, MissingExtraError
from rag.types import Document

__all__ = ["READER_VERSION", "Failure", "Kind", "Origin", "kind_of", "read"]

_Single = Literal[
    "text",
    "markdown",
    "html",
    "csv",
    "eml",
    "code",
    "pdf",
    "docx",
    "odt",
    "rtf",
    "epub",
    "pptx",
    "xlsx",
    "image",
    "notebook",
    "web",
]
_Several = Literal["jsonl", "parquet", "archive", "mbox"]
Kind = Literal[_Single, _Several]

READER_VERSION = 3
"""Raised when the output of any reader changes; part of the recipe fingerprint, so that files are then read again."""

_KINDS: tuple[tuple[Kind, str], ...] = (
    ("markdown", ".md .markdown .mdown .mkd .mdx .qmd .rmd"),
    ("html", ".html .htm .xhtml .shtml"),
    ("csv", ".csv .tsv .tab"),
    ("jsonl", ".jsonl .ndjson .jsonl.gz .ndjson.gz"),
    ("parquet", ".parquet"),
    ("eml", ".eml"),
    ("mbox", ".mbox"),
    ("notebook", ".ipynb"),
    ("pdf", ".pdf"),
    ("docx", ".docx .docm .dotx"),
    ("odt", ".odt .ott"),
    ("rtf", ".rtf"),
    ("epub", ".epub"),
    ("pptx", ".pptx .pptm .ppsx"),
    ("xlsx", ".xlsx .xlsm .xlsb .xls .ods"),
    ("image", ".png .jpg .jpeg .tif .tiff .bmp .webp"),
    ("archive", ".zip .tar .tar.gz .tgz .tar.bz2 .tbz2 .tar.xz .txz"),
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


def read(data: bytes, origin: Origin, kind: Kind | None = None) -> Iterator[Document | Failure]:
    """Read one file.

    Args:
        data: Its content.
        origin: Its name, which decides the format family, and what its documents are called; nothing is opened.
        kind: The family, where something else than the name says it.

    Yields:
        One document, or one a record, mail or member of a file that holds several, in the order of the file; a failure in the place
        of what could not be read, with one of the codes ``binary encoding empty no_text bad_record bad_member duplicate_id
        bad_gzip zip_bomb too_deep too_large encrypted missing_extra unreadable``.
    """
    try:
        yield from _read(data, origin, kind or kind_of(origin.path))
    except (InputError, MissingExtraError) as error:
        yield Failure(str(origin.path), error.code, str(error))


def _read(data: bytes, origin: Origin, kind: Kind) -> Iterator[Document | Failure]:
    match kind:
        case "jsonl":
            from ingest.read.jsonl import read_jsonl

            yield from read_jsonl(data, origin)
        case "parquet":
            from ingest.read.parquet import read_parquet

            yield from read_parquet(data, origin)
        case "archive":
            from ingest.read.archive import read_archive

            yield from read_archive(data, origin, read)
        case "mbox":
            from ingest.read.mbox import read_mbox

            yield from read_mbox(data, origin)
        case _:
            yield _read_single(data, origin, kind)


def _read_single(data: bytes, origin: Origin, kind: _Single) -> Document | Failure:  # noqa: C901 - one case a family
    match kind:
        case "text":
            from ingest.read.text import read_text

            return read_text(data, origin)
        case "markdown":
            from ingest.read.markdown import read_markdown

            return read_markdown(data, origin)
        case "html":
            from ingest.read.html import read_html

            return read_html(data, origin)
        case "csv":
            from ingest.read.csv import read_csv

            return read_csv(data, origin)
        case "eml":
            from ingest.read.eml import read_eml

            return read_eml(data, origin)
        case "code":
            from ingest.read.code import read_code

            return read_code(data, origin)
        case "pdf":
            from ingest.read.pdf import read_pdf

            return read_pdf(data, origin)
        case "docx" | "odt" | "rtf" | "epub" | "pptx":
            from ingest.read.office import read_office

            return read_office(data, origin, kind)
        case "xlsx":
            from ingest.read.sheet import read_sheet

            return read_sheet(data, origin)
        case "image":
            from ingest.read.image import read_image

            return read_image(data, origin)
        case "notebook":
            from ingest.read.notebook import read_notebook

            return read_notebook(data, origin)
        case "web":
            from ingest.read.web import read_web

            return read_web(data, origin)
        case never:
            assert_never(never)
