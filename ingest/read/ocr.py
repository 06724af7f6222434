"""Text of pictures by the tesseract program, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from functools import cache

from ingest.read.origin import one_line
from rag.errors import InputError

# A dense page at 300 dpi takes 5 to 25 s on one slow core, and a TIFF may have many pages.
_TIMEOUT_S = 300.0
# Columns of its table: level, page, block, paragraph, line and word number, left, top, width, height, confidence, text.
_N_COLUMNS = 12
_WORD_LEVEL = "5"
INSTALL = "install tesseract (Debian: tesseract-ocr) and the languages of the setting ingest.ocr_languages"
NO_TEXT = "if there is text, scan it anew or set its languages in ingest.ocr_languages"


@dataclass(frozen=True, slots=True)
class Scanned:
    """Text of one page of a picture.

    Attributes:
        paragraphs: In reading order, each on one line; empty where no text was seen.
        n_words: How many words they have.
        confidence: Mean over the words as tesseract states it, 0 to 100; 0 without words.
    """

    paragraphs: tuple[str, ...]
    n_words: int
    confidence: float


@cache
def version() -> str:
    """Name and version of the program, such as ``tesseract 5.3.0``; empty where it is not installed."""
    program = shutil.which("tesseract")
    if program is None:
        return ""
    done = subprocess.run([program, "--version"], capture_output=True, check=False, timeout=_TIMEOUT_S)
    return one_line((done.stdout or done.stderr).decode("utf-8", "replace").partition("\n")[0], 80)


def recognise(picture: bytes, languages: str) -> list[Scanned]:
    """Read the text of a picture.

    Args:
        picture: PNG, JPEG, TIFF, BMP, WEBP or PNM.
        languages: As tesseract names them, joined by ``+``; not empty.

    Returns:
        One a page, in their order; a TIFF may have several.

    Raises:
        InputError: With code ``no_text`` if the program or a language is missing, ``too_large`` if it takes too long, ``unreadable``
            if the picture cannot be decoded.
    """
    program = shutil.which("tesseract")
    if program is None:
        raise InputError(f"is a picture, and tesseract is not installed; {INSTALL}", code="no_text")
    # One thread: more make a page slower on the whole, and files are read in parallel. `env` keeps the rest of the environment.
    command = ["env", "OMP_THREAD_LIMIT=1", program, "stdin", "stdout", "-l", languages, "tsv"]
    try:
        done = subprocess.run(command, input=picture, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"took tesseract more than {_TIMEOUT_S:.0f} s; make it smaller or split it", code="too_large") from error
    if done.returncode:
        why = one_line(done.stderr.decode("utf-8", "replace"), 300)
        if "couldn't load any languages" in why.lower():
            raise InputError(f"needs the languages {languages!r}, which tesseract lacks: {why}; {INSTALL}", code="no_text")
        raise InputError(f"cannot be decoded by tesseract: {why or 'no reason given'}; repair or convert it", code="unreadable")
    return _pages(done.stdout.decode("utf-8", "replace"))


def _pages(table: str) -> list[Scanned]:
    lines: dict[int, defaultdict[tuple[str, str], defaultdict[str, list[str]]]] = {}
    confidences: dict[int, list[float]] = {}
    for row in table.splitlines()[1:]:
        fields = row.split("\t", _N_COLUMNS - 1)
        if len(fields) < _N_COLUMNS - 1:
            continue
        page = int(fields[1])
        found = lines.setdefault(page, defaultdict(lambda: defaultdict(list)))
        words = confidences.setdefault(page, [])
        if fields[0] == _WORD_LEVEL and fields[-1].strip():
            found[fields[2], fields[3]][fields[4]].append(fields[-1].strip())
            words.append(float(fields[10]))
    pages = []
    for page, blocks in sorted(lines.items()):
        paragraphs = tuple(_joined([" ".join(words) for words in block.values()]) for block in blocks.values())
        n = len(confidences[page])
        pages.append(Scanned(paragraphs, n, sum(confidences[page]) / n if n else 0.0))
    return pages


def _joined(lines: list[str]) -> str:
    """Lines of a paragraph; a hyphen at the end of one goes when a small letter follows."""
    text = lines[0]
    for line in lines[1:]:
        is_cut = text.endswith("-") and text[-2:-1].isalpha() and line[0].islower()
        text = text[:-1] + line if is_cut else f"{text} {line}"
    return one_line(text, max_chars=len(text))


def mean_confidence(pages: list[Scanned]) -> str:
    """Mean confidence over the words of all pages, as a whole number for people; empty without words."""
    n = sum(page.n_words for page in pages)
    return str(round(sum(page.confidence * page.n_words for page in pages) / n)) if n else ""
