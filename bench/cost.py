"""CPU milliseconds of a query and of an ingested chunk, beside the bare forward pass of the same texts.

What is compared is run in turns in one process, one thread, after a warm-up. CPU time is user and system of the whole process; it
moves less than wall time on a shared machine, but it does move, so every figure is a median over rounds. `Calibration` says how
much slower this machine runs the model than the one for which the bars were stated.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.corpora import Corpus, ingest_files
from eval.datasets import Dataset
from rag.models.registry import GRAPH_NAME, SHIPPED_DIR, TOKENIZER_NAME
from rag.models.session import ModelSession, ModelTokenizer
from rag.settings import Settings
from rag.text import indexed_text, normalise
from rag.tokens import SHIPPED_NAME
from rag.types import Query, SearchMode

# CPU ms of one int8 forward pass where the bars come from: 184 tokens, and a query of 15.5 (facts: embed_index).
REFERENCE_DOCUMENT_MS = 12.3
REFERENCE_QUERY_MS = 1.76
_CHUNK_TOKENS = 184
_N_CHUNKS = 150
_QUERY_TOKENS = (15, 16)
_N_SHORT_QUERIES = 25
_N_QUERIES = 100
_N_QUERY_ROUNDS = 5
_N_INGEST_ROUNDS = 5
_MODES: tuple[SearchMode, ...] = ("hybrid", "bm25", "dense")


@dataclass(frozen=True, slots=True)
class StageMs:
    """CPU milliseconds of a stage."""

    name: str
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class QueryCost:
    """A search for ten chunks, warm: means over queries of the median over rounds.

    Attributes:
        n_rows: Chunks in the collection.
        n_queries: Queries timed.
        n_rounds: Times that each was.
        mean_tokens: Mean tokens of a query, special tokens included.
        forward_ms: The bare forward pass of the query.
        hybrid_ms: A whole hybrid search.
        bm25_ms: A whole search by words.
        dense_ms: A whole search by vectors.
        stages: Of the hybrid search; ``between`` is what lies in no stage.
    """

    n_rows: int
    n_queries: int
    n_rounds: int
    mean_tokens: float
    forward_ms: float
    hybrid_ms: float
    bm25_ms: float
    dense_ms: float
    stages: tuple[StageMs, ...]


@dataclass(frozen=True, slots=True)
class IngestCost:
    """Chunks of exactly 184 tokens through the whole pipeline, each its own document, into a fresh data directory.

    Attributes:
        n_chunks: Chunks.
        n_tokens: Tokens of each as embedded, special tokens and title included.
        n_rounds: Runs, of which the median is taken.
        total_ms: A chunk, all stages; nothing is subtracted, opening the model is not included.
        forward_ms: The bare forward pass of the same chunks.
        overhead_ms: The difference.
        ratio: The quotient.
        stages: A chunk; ``between`` is what lies in no stage.
    """

    n_chunks: int
    n_tokens: int
    n_rounds: int
    total_ms: float
    forward_ms: float
    overhead_ms: float
    ratio: float
    stages: tuple[StageMs, ...]


@dataclass(frozen=True, slots=True)
class Calibration:
    """This machine against the one of the bars, by the bare forward pass.

    Attributes:
        document_ms: 184 tokens, here.
        query_ms: 15.5 tokens on average, here.
        reference_document_ms: There.
        reference_query_ms: There.
        document_factor: How many times longer 184 tokens take here.
        query_factor: How many times longer a query takes here.
    """

    document_ms: float
    query_ms: float
    reference_document_ms: float
    reference_query_ms: float
    document_factor: float
    query_factor: float


@dataclass(frozen=True, slots=True)
class Cost:
    """All of it."""

    calibration: Calibration
    query: QueryCost
    ingest: IngestCost


class _Forward:
    """The shipped graph without anything around it; tokens are made before the clock starts."""

    def __init__(self, corpus: Corpus) -> None:
        folder = SHIPPED_DIR / SHIPPED_NAME
        self._session = ModelSession(folder / GRAPH_NAME, corpus.embedder.dim)
        self._tokenizer = ModelTokenizer(folder / TOKENIZER_NAME)
        self._max_tokens = corpus.embedder.max_tokens

    def ids(self, text: str) -> list[int]:
        return self._tokenizer.ids(text, self._max_tokens)

    def ms(self, ids: Sequence[int]) -> float:
        return _cpu_ms(lambda: self._session.run(ids))


def measure_cost(corpus: Corpus) -> Cost:
    """Time queries and ingestion.

    Args:
        corpus: SciFact, or another collection of its size.

    Returns:
        Median CPU times and how this machine compares.
    """
    forward = _Forward(corpus)
    query_cost = _query_cost(corpus, forward)
    ingest_cost = _ingest_cost(corpus, forward)
    query_ms = _short_query_ms(corpus.dataset, forward)
    return Cost(
        Calibration(
            document_ms=ingest_cost.forward_ms,
            query_ms=query_ms,
            reference_document_ms=REFERENCE_DOCUMENT_MS,
            reference_query_ms=REFERENCE_QUERY_MS,
            document_factor=ingest_cost.forward_ms / REFERENCE_DOCUMENT_MS,
            query_factor=query_ms / REFERENCE_QUERY_MS,
        ),
        query_cost,
        ingest_cost,
    )


def _query_cost(corpus: Corpus, forward: _Forward) -> QueryCost:
    engine = corpus.engine()
    texts = [query.text for query in corpus.dataset.queries[:_N_QUERIES]]
    ids = [forward.ids(text) for text in texts]
    samples: dict[str, list[list[float]]] = {}

    def note(name: str, i: int, ms: float) -> None:
        samples.setdefault(name, [[] for _ in texts])[i].append(ms)

    for n_round in range(_N_QUERY_ROUNDS + 1):
        for i, text in enumerate(texts):
            costs = {mode: engine.search(Query(text, mode=mode)).measurement for mode in _MODES}
            forward_ms = forward.ms(ids[i])
            if n_round == 0:  # warm-up
                continue
            note("forward", i, forward_ms)
            for mode, cost in costs.items():
                note(mode, i, cost.cpu_s * 1e3)
            for stage in costs["hybrid"].stages:
                note(f"stage {stage.name}", i, stage.cpu_s * 1e3)
    mean = {name: statistics.fmean(map(statistics.median, rows)) for name, rows in samples.items()}
    stages = [StageMs(name.removeprefix("stage "), ms) for name, ms in mean.items() if name.startswith("stage ")]
    return QueryCost(
        n_rows=corpus.store.n_rows,
        n_queries=len(texts),
        n_rounds=_N_QUERY_ROUNDS,
        mean_tokens=statistics.fmean(map(len, ids)),
        forward_ms=mean["forward"],
        hybrid_ms=mean["hybrid"],
        bm25_ms=mean["bm25"],
        dense_ms=mean["dense"],
        stages=_with_rest(stages, mean["hybrid"]),
    )


def _ingest_cost(corpus: Corpus, forward: _Forward) -> IngestCost:
    with TemporaryDirectory() as folder:
        source = Path(folder) / "chunks.jsonl"
        texts = write_equal_chunks(corpus, source, _N_CHUNKS, _CHUNK_TOKENS)
        ids = [forward.ids(text) for text in texts]
        totals: list[float] = []
        forwards: list[float] = []
        by_stage: dict[str, list[float]] = {}
        for n_round in range(_N_INGEST_ROUNDS + 1):
            shipped = Settings()
            settings = replace(shipped, data_dir=Path(folder) / f"round-{n_round}", ingest=replace(shipped.ingest, workers=1))
            report = ingest_files((source,), settings, corpus.embedder)
            if report.n_embedded != len(texts):
                raise SystemExit(f"{report.n_embedded} chunks were embedded, expected {len(texts)}: the sample is wrong")
            forward_ms = sum(map(forward.ms, ids)) / len(ids)
            if n_round == 0:  # warm-up
                continue
            forwards.append(forward_ms)
            totals.append(report.measurement.cpu_s * 1e3 / len(texts))
            for stage in report.measurement.stages:
                by_stage.setdefault(stage.name, []).append(stage.cpu_s * 1e3 / len(texts))
    total, bare = statistics.median(totals), statistics.median(forwards)
    stages = [StageMs(name, statistics.median(values)) for name, values in by_stage.items()]
    return IngestCost(
        n_chunks=len(texts),
        n_tokens=_CHUNK_TOKENS,
        n_rounds=len(totals),
        total_ms=total,
        forward_ms=bare,
        overhead_ms=total - bare,
        ratio=total / bare,
        stages=_with_rest(stages, total),
    )


def write_equal_chunks(corpus: Corpus, path: Path, n: int, n_tokens: int) -> list[str]:
    """Write real documents cut so that each is one chunk of equal length.

    Args:
        corpus: Whose documents are cut; those that are too short are passed over.
        path: JSONL file to write.
        n: Documents wanted.
        n_tokens: Tokens of the indexed text of each, special tokens included.

    Returns:
        What will be embedded.

    Raises:
        SystemExit: If there are not enough.
    """
    records: list[str] = []
    texts: list[str] = []
    for record in corpus.dataset.corpus:
        text = normalise(record.text).strip()
        spans = corpus.embedder.token_spans(text)
        n_title = corpus.embedder.count_tokens(indexed_text(record.title, (), ""))
        if not 0 < n_tokens - n_title <= len(spans):
            continue
        cut = text[: spans[n_tokens - n_title - 1][1]]
        indexed = indexed_text(record.title, (), cut)
        if corpus.embedder.count_tokens(indexed) != n_tokens:  # the cut fell into a word
            continue
        texts.append(indexed)
        records.append(json.dumps({"_id": record.doc_id, "title": record.title, "text": cut}))
        if len(texts) == n:
            path.write_text("\n".join(records) + "\n", encoding="utf-8")
            return texts
    raise SystemExit(f"{corpus.dataset.name} has {len(texts)} documents of {n_tokens} tokens; {n} are needed")


def _short_query_ms(dataset: Dataset, forward: _Forward) -> float:
    """Median over rounds of the mean of 25 queries of 15 and 16 tokens, as the reference was measured."""
    by_length = {n: [ids for ids in (forward.ids(q.text) for q in dataset.queries) if len(ids) == n] for n in _QUERY_TOKENS}
    chosen = [ids for pair in zip(*by_length.values(), strict=False) for ids in pair][:_N_SHORT_QUERIES]
    if not chosen:
        raise SystemExit(f"{dataset.name} has no queries of {_QUERY_TOKENS} tokens to calibrate with")
    rounds = [statistics.fmean(forward.ms(ids) for ids in chosen) for _ in range(2 * _N_QUERY_ROUNDS)]
    return statistics.median(rounds)


def _with_rest(stages: Sequence[StageMs], total: float) -> tuple[StageMs, ...]:
    return (*stages, StageMs("between", max(0.0, total - sum(stage.cpu_ms for stage in stages))))


def _cpu_ms(work: Callable[[], object]) -> float:
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / 1e6
