"""What readers find of files with known truth, and how fast: office formats here, PDF in `bench.formats_pdf`.

    python -P -m bench.formats [--seed 1] [--out FOLDER]

Files are made at the start, in the design that the readers were not tuned on. Paragraphs, headings and table rows count as found
where the text of a section, or one of its lines, is theirs to the letter. For comparison kreuzberg reads the same files, twice, and is
given the better of its plain text, Markdown and tables for each kind. A page is 3,000 characters; times are the best of five runs.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bench.machine import Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from ingest.read import Origin
from ingest.read.html import read_html
from ingest.read.office import OfficeKind, read_office
from ingest.read.origin import one_line
from rag.errors import InputError
from rag.types import Document, SectionKind
from tests.made.office import Made, can_convert, converted, docx_bytes, epub_bytes, html_bytes, made_text, pptx_bytes

if TYPE_CHECKING:
    from kreuzberg import ExtractionResult

    from bench.formats_pdf import PdfFigures

_ESCAPE = re.compile(r"\\(\W)|\*\*")
_N_RUNS = 5
_PAGE_CHARS = 3_000
_MIMES = {
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "odt": "application/vnd.oasis.opendocument.text",
    "rtf": "application/rtf",
    "epub": "application/epub+zip",
    "html": "text/html",
}


@dataclass(frozen=True, slots=True)
class Recall:
    """Found of all, 0.0 to 1.0, of each kind; ``extra_headings`` counts headings that are none."""

    paragraphs: float
    headings: float
    items: float
    rows: float
    extra_headings: int


@dataclass(frozen=True, slots=True)
class FormatScore:
    """One format read by one reader.

    Attributes:
        format: Suffix.
        maker: Who wrote the file.
        reader: ``ragwatt`` or ``kreuzberg``.
        recall: None where the reader failed.
        failure: Why it failed; empty otherwise.
        cpu_ms: Of one file, best of five.
        pages_per_s: Pages of 3,000 characters a second of one core.
    """

    format: str
    maker: str
    reader: str
    recall: Recall | None
    failure: str
    cpu_ms: float
    pages_per_s: float


@dataclass(frozen=True, slots=True)
class FormatsResult:
    """What a run found."""

    commit: str
    date: str
    machine: Machine
    seed: int
    n_bytes: dict[str, int]
    scores: tuple[FormatScore, ...]
    pdf: tuple[PdfFigures, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Texts that a reader took for each kind, with how often it found them, and characters in all."""

    paragraphs: Counter[str]
    headings: Counter[str]
    items: Counter[str]
    rows: Counter[str]
    n_chars: int


def found_in(document: Document) -> Found:
    """Take the sections of a document apart.

    Args:
        document: What was read.

    Returns:
        Prose sections as paragraphs; lines of prose after a bullet as items; headings; lines of tables as rows.
    """
    texts: dict[SectionKind, list[str]] = {"prose": [], "heading": [], "code": [], "table": []}
    for at in document.sections:
        texts[at.kind].append(document.text[at.start : at.end])
    lines = (line.strip() for text in texts["prose"] for line in text.split("\n"))
    return Found(
        paragraphs=Counter(texts["prose"]),
        headings=Counter(texts["heading"]),
        items=Counter(line.removeprefix("- ") for line in lines if line.startswith("- ")),
        rows=Counter(line for text in texts["table"] for line in text.split("\n")),
        n_chars=len(document.text),
    )


def recall_of(made: Made, found: Found) -> Recall:
    """Compare what was read with what was written.

    Args:
        made: What was written; texts count to the letter, as often as they were written.
        found: What was read.

    Returns:
        How much of each kind was found.
    """
    headings = _truth(made.texts("heading"))
    return Recall(
        paragraphs=_share(_truth(made.texts("paragraph")), found.paragraphs),
        headings=_share(headings, found.headings),
        items=_share(_truth(made.texts("item")), found.items),
        rows=_share(_truth(made.rows), found.rows),
        extra_headings=(found.headings - headings).total(),
    )


def _truth(texts: Iterable[str]) -> Counter[str]:
    # Readers put white space and characters into one form; so must the truth be.
    return Counter(one_line(text, 1_000_000) for text in texts)


def _share(wanted: Counter[str], found: Counter[str]) -> float:
    return (wanted & found).total() / wanted.total()


def _score(maker: str, kind: str, made: Made, reader: str, read: Callable[[bytes, str], Found], data: bytes) -> FormatScore:
    best = float("inf")
    found = None
    for _ in range(_N_RUNS):
        began = time.process_time()
        try:
            found = read(data, kind)
        except InputError as error:
            return FormatScore(kind, maker, reader, None, f"{error.code}: {error}", 0.0, 0.0)
        best = min(best, time.process_time() - began)
    assert found is not None
    pages = found.n_chars / _PAGE_CHARS
    return FormatScore(kind, maker, reader, recall_of(made, found), "", round(best * 1_000, 2), round(pages / best, 1))


def _ours(data: bytes, kind: str) -> Found:
    origin = Origin(Path(f"made.{kind}"), "made", "made", None)
    return found_in(read_html(data, origin) if kind == "html" else read_office(data, origin, _office(kind)))


def _office(kind: str) -> OfficeKind:
    kinds: dict[str, OfficeKind] = {"docx": "docx", "odt": "odt", "rtf": "rtf", "epub": "epub", "pptx": "pptx"}
    return kinds[kind]


def _kreuzberg(data: bytes, kind: str) -> Found:
    """The best of each of its outputs: paragraphs of plain text, headings and items of Markdown without markup, cells of tables."""
    from kreuzberg import ConcurrencyConfig, ExtractionConfig, extract_bytes_sync
    from kreuzberg.exceptions import KreuzbergError

    def extract(form: str) -> ExtractionResult:
        config = ExtractionConfig(use_cache=False, output_format=form, concurrency=ConcurrencyConfig(max_threads=1))
        try:
            return extract_bytes_sync(data, _MIMES[kind], config)
        except KreuzbergError as error:
            raise InputError(str(error), code="unreadable") from error

    plain, marked = extract("plain"), extract("markdown")
    lines = [one_line(line, 1_000_000) for line in marked.content.split("\n")]
    return Found(
        paragraphs=_truth(plain.content.split("\n")),
        headings=Counter(_ESCAPE.sub(r"\1", line.lstrip("# ")) for line in lines if line.startswith("#")),
        items=Counter(_ESCAPE.sub(r"\1", line[2:]) for line in lines if line.startswith("- ")),
        rows=_truth(" | ".join(one_line(cell) for cell in row) for table in marked.tables for row in table.cells),
        n_chars=len(plain.content),
    )


def made_files(made: Made, folder: Path) -> dict[tuple[str, str], bytes]:
    """Files by maker and format, those of LibreOffice where it is installed.

    Args:
        made: What they hold.
        folder: For LibreOffice.

    Returns:
        Their contents.
    """
    word = docx_bytes(made, "other")
    files = {
        ("python-docx", "docx"): word,
        ("python-pptx", "pptx"): pptx_bytes(made),
        ("zipfile", "epub"): epub_bytes(made),
        ("text", "html"): html_bytes(made),
    }
    if can_convert():
        files |= {
            ("libreoffice", target): converted(word, "docx", target, folder) for target in ("docx", "odt", "rtf", "epub", "html")
        }
    return files


def main() -> None:
    """Make the files, read them, write the result."""
    from bench.formats_pdf import pdf_figures

    parser = result_parser(__doc__, has_data=False)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    made = made_text("other", options.seed)
    with tempfile.TemporaryDirectory() as folder:
        files = made_files(made, Path(folder))
    readers = {"ragwatt": _ours} | ({"kreuzberg": _kreuzberg} if find_spec("kreuzberg") else {})
    scores = tuple(
        _score(maker, kind, made, name, read, data) for (maker, kind), data in files.items() for name, read in readers.items()
    )
    skipped = () if can_convert() else ("LibreOffice is not installed",)
    for score in scores:
        print(
            score.maker, score.format, score.reader, score.recall or score.failure, score.cpu_ms, "ms", score.pages_per_s, "pages/s"
        )
    sizes = {f"{maker} {kind}": len(data) for (maker, kind), data in files.items()}
    pdf = pdf_figures()
    for figures in pdf:
        print(figures)
    result = FormatsResult(commit(), today(), this_machine(), options.seed, sizes, scores, pdf, skipped)
    write_result(result, options.out, "formats")


if __name__ == "__main__":
    main()
