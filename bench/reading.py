"""How fast text becomes chunks: CPU of the tokenizer alone, the chunker, normalisation, the search for instructions, and reading.

    python -P -m bench.reading [--data FOLDER] [--runs 7] [--max-texts 500] [--out FOLDER]

The texts are docs/ of the checkout, XQuAD and SciFact; reading is measured on the same texts put into files of every family that needs no
optional package. All works run in turn, as often as told; a speed is that of the median run, in MB (10^6 bytes of UTF-8 text, or of files
for reading) per second of process CPU. Shares are medians over the runs of the ratio within one run, so that a busy machine spoils
them least.
"""

from __future__ import annotations

import csv
import html
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.machine import CHECKOUT, Machine, commit, this_machine
from bench.result import result_parser, today, write_result
from eval.datasets import load_beir
from ingest.chunk import chunk_document
from ingest.read import Origin, read
from ingest.read.hostile import instructions
from rag.embed import Embedder
from rag.embed.onnx import OnnxEmbedder
from rag.models.registry import find_model
from rag.text import normalise, paragraphs
from rag.tokens import SHIPPED_NAME
from rag.types import Document

_N_RUNS = 7
# SciFact has 5,183 abstracts; these are 0.7 MB, a second or two a run of all works.
_MAX_TEXTS = 500
# Of a chunk, the default of the shipped model.
_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Speed:
    """One work on one corpus, ``mb_per_s`` of process CPU."""

    corpus: str
    work: str
    mb: float
    mb_per_s: float


@dataclass(frozen=True, slots=True)
class Share:
    """The chunker beside the tokenizer, and the search for instructions within reading, on one corpus.

    Attributes:
        corpus: Its name.
        chunker: Speed of the chunker over that of the tokenizer alone; 1.0 would be a chunker that costs nothing.
        instructions: CPU of the search for instructions over that of reading the same texts as plain text, which contains it.
    """

    corpus: str
    chunker: float
    instructions: float


@dataclass(frozen=True, slots=True)
class ReadingResult:
    """What a run found."""

    commit: str
    date: str
    machine: Machine
    n_runs: int
    speeds: tuple[Speed, ...]
    shares: tuple[Share, ...]


def as_files(texts: Sequence[str]) -> dict[str, tuple[str, list[bytes]]]:
    """Put texts into files of the families that need no optional package.

    Args:
        texts: Any texts.

    Returns:
        For every family a file name and the files: one a text, but one for all where the family holds records.
    """
    rows = io.StringIO()
    csv.writer(rows).writerows([("number", "text"), *enumerate(texts)])
    pages = [f"<html><body><h1>Text</h1><p>{html.escape(text)}</p></body></html>" for text in texts]
    mails = [f"From: a@example.org\nSubject: Text\nContent-Type: text/plain; charset=utf-8\n\n{text}" for text in texts]
    files = {
        "text": ("a.txt", list(texts)),
        "markdown": ("a.md", [f"# Text\n\n{text}" for text in texts]),
        "code": ("a.py", [f'"""{text}"""\n' for text in texts]),
        "html": ("a.html", pages),
        "eml": ("a.eml", mails),
        "csv": ("a.csv", [rows.getvalue()]),
        "jsonl": ("a.jsonl", ["\n".join(json.dumps({"text": text}) for text in texts)]),
    }
    return {family: (name, [text.encode() for text in made]) for family, (name, made) in files.items()}


def interleaved(works: Mapping[str, Callable[[], object]], n_runs: int) -> dict[str, list[float]]:
    """Run every work in turn, and all again.

    Args:
        works: By name.
        n_runs: How often.

    Returns:
        Process CPU of every run of every work, seconds, in the order of the runs.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(n_runs):
        for name, work in works.items():
            begin = time.process_time()
            work()
            taken[name].append(time.process_time() - begin)
    return taken


def measure(corpus: str, texts: Sequence[str], embedder: Embedder, n_runs: int) -> tuple[list[Speed], Share]:
    """Measure all works on one corpus.

    Args:
        corpus: Its name.
        texts: At least one, none empty.
        embedder: Its tokenizer cuts the chunks.
        n_runs: At least 1; the first is not warmed up.

    Returns:
        The speeds, first those on text, then reading family by family, and the shares.
    """
    files = as_files(texts)
    clean = [normalise(text) for text in texts]
    documents = [Document(str(i), str(i), "Text", text, paragraphs(text)) for i, text in enumerate(clean)]
    works: dict[str, Callable[[], object]] = {
        "tokenizer": lambda: [embedder.token_spans(text) for text in clean],
        "chunker": lambda: [chunk_document(document, embedder, _MAX_TOKENS) for document in documents],
        "normalise": lambda: [normalise(text) for text in texts],
        "instructions": lambda: [instructions(text) for text in clean],
    }
    sizes = dict.fromkeys(works, sum(len(text.encode()) for text in texts) / 1e6)
    for family, (name, made) in files.items():
        works[f"read {family}"] = lambda name=name, made=made: _read_all(name, made)  # type: ignore[misc]
        sizes[f"read {family}"] = sum(map(len, made)) / 1e6
    taken = interleaved(works, n_runs)
    speeds = [Speed(corpus, work, round(sizes[work], 3), round(sizes[work] / median(runs), 2)) for work, runs in taken.items()]
    return speeds, Share(
        corpus,
        round(_median_ratio(taken["tokenizer"], taken["chunker"]), 3),
        round(_median_ratio(taken["instructions"], taken["read text"]), 3),
    )


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return median(a / b for a, b in zip(above, below, strict=True))


def _read_all(name: str, files: Sequence[bytes]) -> int:
    """How many documents the files are."""
    origin = Origin(Path(name), name, name, None)
    return sum(isinstance(found, Document) for data in files for found in read(data, origin))


def corpora(data: Path, max_texts: int) -> dict[str, list[str]]:
    """Texts of docs/, XQuAD and SciFact.

    Args:
        data: Holds the folders ``xquad-en`` and ``scifact``.
        max_texts: Of each, in the order of the files.

    Returns:
        By name.
    """
    found = {"docs": [path.read_text(encoding="utf-8") for path in sorted((CHECKOUT / "docs").rglob("*.md"))]}
    for name in ("xquad-en", "scifact"):
        found[name] = [record.text for record in load_beir(data / name).corpus]
    return {name: [text for text in texts if text.strip()][:max_texts] for name, texts in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write the result.

    Args:
        arguments: Of the command line; None means those of the process.
    """
    parser = result_parser(__doc__)
    parser.add_argument("--runs", type=int, default=_N_RUNS)
    parser.add_argument("--max-texts", type=int, default=_MAX_TEXTS)
    args = parser.parse_args(arguments)
    embedder = OnnxEmbedder(find_model(SHIPPED_NAME, Path("none")))
    embedder.count_tokens("")  # loads it
    speeds: list[Speed] = []
    shares: list[Share] = []
    for corpus, texts in corpora(args.data, args.max_texts).items():
        found, share = measure(corpus, texts, embedder, args.runs)
        speeds += found
        shares.append(share)
        for speed in found:
            print(f"{corpus:10}{speed.work:16}{speed.mb_per_s:10.2f} MB/s")
        print(f"{corpus:10}chunker/tokenizer {share.chunker:.3f}  instructions/reading {share.instructions:.3f}")
    write_result(ReadingResult(commit(), today(), this_machine(), args.runs, tuple(speeds), tuple(shares)), args.out, "reading")


if __name__ == "__main__":
    main()
