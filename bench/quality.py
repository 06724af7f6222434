"""How well each way of searching ranks documents, and whether differences are more than chance.

A document's rank is that of its best chunk. Rankings are made from the first 300 chunks, enough for 100 documents; `Quality.ndcg_k10`
is what is left of nDCG when only the default 10 chunks are asked for. fp32 is the same model before quantisation, on the same chunks,
searched exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.corpora import Corpus
from eval.retrieval import evaluate, score_rankings
from rag.models.registry import SHIPPED_DIR, TOKENIZER_NAME
from rag.models.session import ModelSession, ModelTokenizer
from rag.store.rows import LiveChunk
from rag.tokens import SHIPPED_NAME
from rag.types import Query, SearchMode, Vectors

_N_CHUNKS = 300
_ARMS: tuple[SearchMode, ...] = ("bm25", "dense", "hybrid")
_N_RESAMPLES = 10_000
_SEED = 7
# What is embedded again after an interruption is at most this much, 40 s on a slow core.
_SAVE_EVERY = 500

Rankings = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class ArmScores:
    """Scores of one way of searching, 0.0 to 1.0: nDCG@10, MRR@10 and Recall@100 over ``n_queries``."""

    arm: str
    ndcg10: float
    mrr10: float
    recall100: float
    n_queries: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean difference of nDCG@10 between two arms with its 95 % interval, by a paired bootstrap over queries."""

    arm: str
    less: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """One data set.

    Attributes:
        data: Its name.
        checksum: Of its files.
        n_chunks: Rows of the collection.
        arms: One entry an arm.
        differences: Between pairs of arms.
        ndcg_k10: nDCG@10 of the documents of the first 10 chunks of a hybrid search: the shipped ``search.k``.
    """

    data: str
    checksum: str
    n_chunks: int
    arms: tuple[ArmScores, ...]
    differences: tuple[Difference, ...]
    ndcg_k10: float


def measure_quality(corpus: Corpus, fp32: Path | None, cache: Path) -> Quality:
    """Search with every judged query in every mode, and score the rankings.

    Args:
        corpus: The collection.
        fp32: The model before quantisation as ONNX; None leaves that arm out.
        cache: Folder that keeps its vectors.

    Returns:
        The scores.
    """
    dataset = corpus.dataset
    rankings: dict[str, Rankings] = {str(arm): _engine_rankings(corpus, arm, _N_CHUNKS) for arm in _ARMS}
    pairs = [("hybrid", "bm25"), ("hybrid", "dense")]
    if fp32 is not None:
        rankings["dense fp32"] = _exact_rankings(corpus, fp32, cache)
        pairs.append(("dense", "dense fp32"))
    return Quality(
        data=dataset.name,
        checksum=dataset.checksum,
        n_chunks=corpus.store.n_rows,
        arms=tuple(score_arm(arm, found, dataset.qrels) for arm, found in rankings.items()),
        differences=tuple(compare_arms(a, rankings[a], b, rankings[b], dataset.qrels) for a, b in pairs),
        ndcg_k10=evaluate(_engine_rankings(corpus, "hybrid", corpus.settings.search.k), dataset.qrels).ndcg,
    )


def document_ranking(doc_ids: Iterable[str]) -> tuple[str, ...]:
    """Documents in the order of their best chunk.

    Args:
        doc_ids: Document of every chunk found, best first.

    Returns:
        Each document once.

    Example:
        >>> document_ranking(["b", "a", "b"])
        ('b', 'a')
    """
    return tuple(dict.fromkeys(doc_ids))


def score_arm(arm: str, rankings: Rankings, qrels: Mapping[str, Mapping[str, int]]) -> ArmScores:
    """Average the measures of one arm.

    Args:
        arm: Its name.
        rankings: Documents by query, best first.
        qrels: Judgements by query.

    Returns:
        The scores.
    """
    scores = evaluate(rankings, qrels)
    return ArmScores(arm, scores.ndcg, scores.reciprocal_rank, scores.recall, scores.n_queries)


def compare_arms(arm: str, rankings: Rankings, less: str, other: Rankings, qrels: Mapping[str, Mapping[str, int]]) -> Difference:
    """Mean difference in nDCG@10 and its interval.

    Args:
        arm: Name of the first arm.
        rankings: Its rankings.
        less: Name of the arm that is subtracted.
        other: Its rankings.
        qrels: Judgements by query.

    Returns:
        The difference, with the 2.5th and 97.5th percentile of its mean over resampled queries.
    """
    of_one, of_other = (score_rankings(found, qrels, ["ndcg@10"]) for found in (rankings, other))
    deltas = np.array([of_one[q]["ndcg@10"] - of_other[q]["ndcg@10"] for q in qrels])
    generator = np.random.default_rng(_SEED)
    means = [float(deltas[generator.integers(0, len(deltas), len(deltas))].mean()) for _ in range(_N_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(arm, less, float(deltas.mean()), float(low), float(high))


def _engine_rankings(corpus: Corpus, mode: SearchMode, k: int) -> Rankings:
    engine = corpus.engine()
    found: dict[str, Sequence[str]] = {}
    for query in corpus.dataset.queries:
        hits = engine.search(Query(query.text, k=k, mode=mode)).hits
        found[query.query_id] = document_ranking(hit.chunk.doc_id for hit in hits)
    return found


def _exact_rankings(corpus: Corpus, model: Path, cache: Path) -> Rankings:
    """Rankings by the cosine of vectors of another graph with the shipped tokenizer, over the same chunks."""
    tokenizer = ModelTokenizer(SHIPPED_DIR / SHIPPED_NAME / TOKENIZER_NAME)
    session = ModelSession(model, corpus.embedder.dim)
    max_tokens = corpus.embedder.max_tokens
    chunks = corpus.chunks()
    with model.open("rb") as file:
        kept = cache / f"fp32-{hashlib.file_digest(file, 'sha256').hexdigest()[:12]}.npz"
    vectors = _vectors(chunks, tokenizer, session, max_tokens, kept)
    found: dict[str, Sequence[str]] = {}
    for query in corpus.dataset.queries:
        cosines = vectors @ session.run(tokenizer.ids(query.text, max_tokens))
        best = np.lexsort((np.arange(len(cosines)), -cosines))[:_N_CHUNKS]
        found[query.query_id] = document_ranking(chunks[row].doc_id for row in best)
    return found


def _vectors(chunks: Sequence[LiveChunk], tokenizer: ModelTokenizer, session: ModelSession, max_tokens: int, kept: Path) -> Vectors:
    """Vectors of the chunks, those that the cache lacks computed and kept."""
    known: dict[bytes, NDArray[np.float32]] = {}
    if kept.exists():
        with np.load(kept, allow_pickle=False) as stored:
            known = {digest.tobytes(): vector for digest, vector in zip(stored["digests"], stored["vectors"], strict=True)}
    missing = [chunk for chunk in chunks if chunk.digest not in known]
    for n, chunk in enumerate(missing, start=1):
        known[chunk.digest] = session.run(tokenizer.ids(chunk.indexed_text, max_tokens))
        if n % _SAVE_EVERY == 0 or n == len(missing):
            digests = np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)
            np.savez(kept, digests=digests, vectors=np.stack(list(known.values())))
    return np.stack([known[chunk.digest] for chunk in chunks])
