"""PDF files printed here with known truth: how much of them is found, and how fast.

The reader was tuned on the ``plain`` design of `tests.made.pdf`; the ``other`` design, with other words, fonts, spacing and numbering,
is the one to go by. Pages a second are of one core, from bytes to sections, the fastest of several runs: CPU time, so that other work
on the machine counts little.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ingest.read.origin import Origin
from ingest.read.pdf import read_pdf
from tests.made.pdf import Design, Press, Score, made_report, printed, program, scored

_N_CHAPTERS = 8
_N_RUNS = 5
_SEEDS: dict[Design, int] = {"plain": 1, "other": 7}


@dataclass(frozen=True, slots=True)
class PdfFigures:
    """One printed report.

    Attributes:
        press: Program that printed it.
        design: How it looks.
        n_pages: Its pages.
        score: What was found of it.
        n_pages_per_s: Pages read a CPU second.
    """

    press: Press
    design: Design
    n_pages: int
    score: Score
    n_pages_per_s: float


def pdf_figures() -> tuple[PdfFigures, ...]:
    """Print and read the reports of every press that is installed.

    Returns:
        One a press and design, in the order of `tests.made.pdf.Press`; none where no press is installed.
    """
    with tempfile.TemporaryDirectory() as name:
        return tuple(_figures(Path(name)))


def _figures(folder: Path) -> Iterator[PdfFigures]:
    for press in get_args(Press):
        if program(press) is None:
            continue
        for design, seed in _SEEDS.items():
            data = printed(press, design, seed, _N_CHAPTERS, folder)
            origin = Origin(Path("report.pdf"), "report", "report", None, ocr_languages="")
            document = read_pdf(data, origin)
            times_s = []
            for _ in range(_N_RUNS):
                begin = time.process_time()
                read_pdf(data, origin)
                times_s.append(time.process_time() - begin)
            n_pages = int(document.metadata["n_pages"])
            yield PdfFigures(press, design, n_pages, scored(document, made_report(seed, _N_CHAPTERS)), n_pages / min(times_s))
