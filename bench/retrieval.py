"""Retrieval quality and cost on SciFact and XQuAD, held against the bars, as one JSON file named by commit.

    python -m bench.retrieval [--data DIR] [--out DIR] [--work DIR] [--fp32 MODEL.onnx] [--only SECTION ...]

The data folder is that of --data, else RAGWATT_TEST_DATA, else ../shared/data. The collections are ingested into a temporary folder,
or into --work, where a later run finds them again. --fp32 is the shipped model before quantisation, as ONNX with the inputs of the
shipped graph; without it that comparison is left out. `python -m bench.table`
prints the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.abstain import measure_answers
from bench.bars import Bar, Measured, bars_of
from bench.context import measure_context
from bench.corpora import Corpus, open_corpus
from bench.cost import measure_cost
from bench.machine import Machine, commit, this_machine
from bench.processes import measure_install, measure_processes
from bench.quality import measure_quality
from bench.result import result_parser, today, write_result
from rag.settings import Settings

SECTIONS = ("quality", "cost", "processes", "install", "context", "answers")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """The settings that decide the figures: shipped defaults."""

    embedder: str
    k: int
    depth: int
    dense_weight: float
    max_answer_sentences: int
    max_chunk_tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """A whole result, as written."""

    format: int
    commit: str
    date: str
    machine: Machine
    settings: Choices
    bars: tuple[Bar, ...]
    measured: Measured


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the bars and write the result."""
    options = _options(argv)
    sections = tuple(options.only or SECTIONS)
    commit_name, machine = commit(), this_machine()
    with ExitStack() as held:
        work = options.work or Path(held.enter_context(TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        measured = measure(options.data, work, sections, options.fp32)
    result = Result(
        format=_FORMAT,
        commit=commit_name,
        date=today(),
        machine=machine,
        settings=_choices(Settings()),
        bars=bars_of(measured),
        measured=measured,
    )
    for bar in result.bars:
        scaled = "" if bar.scaled is None else f" ({bar.scaled:.3f} at reference speed)"
        print(f"{'ok  ' if bar.met else 'MISS'} {bar.what}: {bar.figure:.4f} {bar.unit}{scaled}, bar {bar.side} {bar.limit:g}")
    write_result(result, options.out, "retrieval")


def measure(data: Path, work: Path, sections: Sequence[str], fp32: Path | None = None) -> Measured:
    """Run the wanted sections.

    Args:
        data: Folder with the data sets ``scifact`` and ``xquad-en``.
        work: Where collections and the vectors of fp32 are kept.
        sections: Of `SECTIONS`.
        fp32: The model before quantisation, or None.

    Returns:
        What was measured.
    """
    with ExitStack() as held:

        def corpus(name: str, *users: str) -> Corpus | None:
            if not set(users) & set(sections):
                return None
            print(f"ingest {name}", flush=True)
            opened = open_corpus(data / name, work)
            held.callback(opened.store.close)
            return opened

        scifact = corpus("scifact", "quality", "cost", "processes")
        xquad = corpus("xquad-en", "quality", "context", "answers")

        def wanted(section: str) -> bool:
            if section in sections:
                print(section, flush=True)
            return section in sections

        # Costs first: a collection that has just been ingested is in the page cache, and nothing else has grown this process.
        return Measured(
            cost=measure_cost(scifact) if scifact and wanted("cost") else None,
            processes=measure_processes(scifact) if scifact and wanted("processes") else None,
            install=measure_install() if wanted("install") else None,
            context=measure_context(xquad) if xquad and wanted("context") else (),
            answers=measure_answers(xquad) if xquad and wanted("answers") else (),
            quality=tuple(measure_quality(c, fp32, work) for c in (scifact, xquad) if c) if wanted("quality") else (),
        )


def _choices(settings: Settings) -> Choices:
    return Choices(
        embedder=settings.embedder.model,
        k=settings.search.k,
        depth=settings.search.depth,
        dense_weight=settings.search.dense_weight,
        max_answer_sentences=settings.answer.max_sentences,
        max_chunk_tokens=settings.ingest.max_chunk_tokens,
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = result_parser(__doc__)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--fp32", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS)
    options = parser.parse_args(argv)
    if not options.data.is_dir():
        parser.error(f"no data sets in {options.data}; set --data or RAGWATT_TEST_DATA to a folder of BEIR data sets")
    return options


if __name__ == "__main__":
    main()
