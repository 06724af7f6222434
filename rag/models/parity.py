"""What a quantised graph loses and saves against its fp32 original: cosine, nDCG@10 and CPU time."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag.errors import InputError, ModelError
from rag.models.card import Cost, Parity, Quality
from rag.types import Vector, Vectors

Encode = Callable[[str], Vector]
"""A text to its unit vector."""

# The exported fp32 graph must be the original; what differs is the order of fp32 sums.
_MIN_EXPORT_COSINE = 0.9999
# The shipped recipe gives 0.995, a per-tensor one 0.956: below this the quantisation has gone wrong.
MIN_COSINE = 0.98
# Texts for the cosine when no data set is given; the mean of 100 and more moves by less than 0.001 from one draw to the
# next.
N_TEXTS = 128
# Documents and queries timed, and how often each is timed by both graphs in turn; the median is taken over all.
_N_TIMED_DOCUMENTS = 12
_N_TIMED_QUERIES = 24
_N_ROUNDS = 3
_QUERY_WORDS = 12
_DEPTH = 10


@dataclass(frozen=True, slots=True)
class Encoders:
    """The same model three times.

    Attributes:
        original: In its own framework, fp32.
        fp32: Exported.
        int8: Exported and quantised.
    """

    original: Encode
    fp32: Encode
    int8: Encode


@dataclass(frozen=True, slots=True)
class ParityData:
    """Texts to compare two encoders on.

    Attributes:
        name: Of the data set.
        documents: Texts that are looked in, by id.
        queries: Texts that are looked for, by id, with at least one judgement each; empty when there are no judgements.
        judgements: Gain of a document id by query id.
    """

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]


def compare(
    encoders: Encoders,
    data_sets: Sequence[ParityData],
    *,
    prompts: tuple[str, str],
    count: Callable[[str], int],
    force: bool = False,
    progress: Callable[[str], None] = lambda _line: None,
) -> Parity:
    """Measure what export and quantisation changed.

    Args:
        encoders: Original, exported and quantised.
        data_sets: Where nDCG@10 is compared; the first one, or else `builtin_texts`, is also used for cosine and time.
        prompts: Set before a document and before a query.
        count: Tokens of a text.
        force: Return a parity that is worse than `MIN_COSINE` too.
        progress: Called with a line of text at the start of every step.

    Returns:
        Cosines to the original, nDCG@10 and CPU time of fp32 and int8.

    Raises:
        ModelError: If the exported graph is not the original, or the quantised one is too far from it.
    """
    first = data_sets[0] if data_sets else builtin_texts()
    texts = [prompts[0] + text for text in sample(list(first.documents.values()), N_TEXTS)]
    progress(f"comparing with the original on {len(texts)} texts")
    originals = [encoders.original(text) for text in texts]
    exported = min(float(encoders.fp32(text) @ vector) for text, vector in zip(texts, originals, strict=True))
    if not exported >= _MIN_EXPORT_COSINE:
        raise ModelError(
            f"the exported graph is not the model: cosine {exported:.5f}, allowed {_MIN_EXPORT_COSINE} and above; "
            "this architecture is not supported"
        )
    cosines = [float(encoders.int8(text) @ vector) for text, vector in zip(texts, originals, strict=True)]
    mean = float(np.mean(cosines))
    if not mean >= MIN_COSINE and not force:
        raise ModelError(
            f"int8 is too far from the original: mean cosine {mean:.4f}, allowed {MIN_COSINE} and above; "
            "keep it all the same by --force"
        )
    quality = []
    for data in data_sets:
        progress(f"nDCG@10 on {data.name}: {len(data.documents):,} documents, {len(data.queries):,} queries, twice")
        quality.append(measure_quality(data, encoders, prompts))
    progress("timing")
    return Parity(len(texts), round(mean, 5), round(min(cosines), 5), tuple(quality), measure_cost(first, encoders, count))


def read_beir(folder: Path) -> ParityData:
    """Read a folder in BEIR layout: ``corpus.jsonl`` (or ``.gz``), ``queries.jsonl``, ``qrels/test.tsv``.

    Args:
        folder: The folder; its name becomes the name of the data set.

    Returns:
        Title and text of a document joined by a space; only queries with a judgement above 0.

    Raises:
        InputError: If a file is missing or malformed.
    """
    try:
        corpus = next(path for path in (folder / "corpus.jsonl", folder / "corpus.jsonl.gz") if path.is_file())
        documents = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in _json_lines(corpus)}
        judgements: dict[str, dict[str, int]] = {}
        with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
            for query_id, document_id, gain in list(csv.reader(file, delimiter="\t"))[1:]:
                if int(gain) > 0:
                    judgements.setdefault(query_id, {})[document_id] = int(gain)
        queries = {row["_id"]: row["text"] for row in _json_lines(folder / "queries.jsonl") if row["_id"] in judgements}
    except (StopIteration, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"parity data {folder} is not in BEIR layout ({type(error).__name__}: {error}); "
            "it needs corpus.jsonl or corpus.jsonl.gz, queries.jsonl and qrels/test.tsv"
        ) from error
    return ParityData(folder.resolve().name, documents, queries, judgements)


def builtin_texts() -> ParityData:
    """Paragraphs of this package's own docstrings: English of all lengths, there without a network or a data set."""
    root = Path(__file__).parent.parent
    texts = [text for path in sorted(root.rglob("*.py")) for text in _docstring_paragraphs(path.read_text(encoding="utf-8"))]
    return ParityData("docstrings", {str(i): text for i, text in enumerate(dict.fromkeys(texts))}, {}, {})


def sample(texts: Sequence[str], n: int) -> list[str]:
    """Take texts at even distances, in order, all of them when there are no more than ``n``."""
    step = max(1.0, len(texts) / n)
    return [texts[int(i * step)] for i in range(min(n, len(texts)))]


def ndcg10(data: ParityData, documents: Vectors, queries: Vectors) -> float:
    """Mean nDCG@10 of an exact search by cosine, equal cosines in the order of the documents.

    Args:
        data: With judgements.
        documents: float32 of shape (n_documents, dim), unit rows in the order of ``data.documents``.
        queries: float32 of shape (n_queries, dim), unit rows in the order of ``data.queries``.

    Returns:
        0.0 to 1.0.

    References:
        Jaervelin, Kekaelaeinen, TOIS 2002, doi:10.1145/582415.582418; gain as it stands, discount log2(rank + 1).
    """
    ids = list(data.documents)
    discounts = 1.0 / np.log2(np.arange(_DEPTH) + 2)
    values = []
    for query_id, query in zip(data.queries, queries, strict=True):
        gains = data.judgements[query_id]
        best = np.argsort(-(documents @ query), kind="stable")[:_DEPTH]
        found = sum(gains.get(ids[row], 0) * discounts[rank] for rank, row in enumerate(best))
        ideal = sum(gain * discounts[rank] for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:_DEPTH]))
        values.append(found / ideal)
    return float(np.mean(values))


def measure_quality(data: ParityData, encoders: Encoders, prompts: tuple[str, str]) -> Quality:
    """Search one data set with both encoders.

    Args:
        data: With judgements.
        encoders: Of which fp32 and int8 are compared.
        prompts: Set before a document and before a query.

    Returns:
        nDCG@10 of both.
    """
    figures = []
    for encode in (encoders.fp32, encoders.int8):
        documents = np.stack([encode(prompts[0] + text) for text in data.documents.values()])
        queries = np.stack([encode(prompts[1] + text) for text in data.queries.values()])
        figures.append(ndcg10(data, documents, queries))
    return Quality(data.name, len(data.documents), len(data.queries), round(figures[0], 5), round(figures[1], 5))


def measure_cost(data: ParityData, encoders: Encoders, count: Callable[[str], int]) -> Cost:
    """Time both encoders on the same texts in turn, so that a change of the machine's speed meets both.

    Args:
        data: Documents, and queries where it has some; otherwise the beginnings of the documents.
        encoders: Of which fp32 and int8 are compared.
        count: Tokens of a text.

    Returns:
        Medians in CPU milliseconds.
    """
    documents = sample(list(data.documents.values()), _N_TIMED_DOCUMENTS)
    openings = [" ".join(text.split()[:_QUERY_WORDS]) for text in data.documents.values()]
    queries = sample(list(data.queries.values()) or openings, _N_TIMED_QUERIES)
    document_ms = _interleaved_ms(documents, encoders)
    query_ms = _interleaved_ms(queries, encoders)
    return Cost(
        machine=_processor(),
        document_tokens=round(statistics.fmean(map(count, documents)), 1),
        query_tokens=round(statistics.fmean(map(count, queries)), 1),
        document_fp32_ms=document_ms[0],
        document_int8_ms=document_ms[1],
        query_fp32_ms=query_ms[0],
        query_int8_ms=query_ms[1],
    )


def _interleaved_ms(texts: Sequence[str], encoders: Encoders) -> tuple[float, float]:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(_N_ROUNDS):
        for text in texts:
            for encode, times in zip((encoders.fp32, encoders.int8), taken, strict=True):
                began = time.thread_time()
                encode(text)
                times.append((time.thread_time() - began) * 1e3)
    return round(statistics.median(taken[0]), 2), round(statistics.median(taken[1]), 2)


def _processor() -> str:
    """Name of the processor, with what matters to int8: whether it has VNNI."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine() or "unknown"
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return (name[1].strip() if name else platform.machine()) + (", VNNI" if "vnni" in text else ", no VNNI")


def _json_lines(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _docstring_paragraphs(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                # Shorter ones are captions.
                if len(paragraph.split()) >= 5:
                    yield " ".join(paragraph.split())
