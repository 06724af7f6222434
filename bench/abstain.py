"""Extractive answers: how often they hold the gold answer, and how well confidence tells that there is none.

Two kinds of unanswerable question, neither of them written to be unanswerable:

- removed: the same question with its gold paragraph hidden from the collection; answerable is the whole collection. The words of
  the hidden paragraph still count in the collection's statistics, which changes an idf by at most one document in 240.
- paired: the gold paragraph by itself against its nearest neighbour by BM25 by itself.

Thresholds are chosen on one half of the articles and read on the other. Paragraphs of XQuAD come in fives from one article, so
paragraph n belongs to the choosing half when ``(n // 5) % 2 == 0``.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.corpora import Corpus
from bench.hiding import HidingStore
from eval.answers import contains_answer, roc_auc
from eval.datasets import EvalQuery, relevant_documents
from rag.engine import Engine
from rag.evidence import confidence
from rag.text import normalise
from rag.types import Candidate, Query, SearchMode

_ARTICLE = 5
_FALSE_ACCEPTS = 0.10
_MODES: tuple[SearchMode, ...] = ("hybrid", "bm25")


@dataclass(frozen=True, slots=True)
class Judged:
    """One question in one mode.

    Attributes:
        paragraph: Number of its gold paragraph.
        answerable: Confidence with the whole collection.
        removed: Confidence with the gold paragraph hidden.
        gold: Confidence with the gold paragraph by itself.
        neighbour: Confidence with the paragraph nearest to it by itself.
        contained: Whether the answer, given without regard to confidence, holds a gold answer.
        n_tokens: Tokens of that answer.
    """

    paragraph: int
    answerable: float
    removed: float
    gold: float
    neighbour: float
    contained: bool
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Operating:
    """A threshold, and what it does on the half that did not choose it.

    Attributes:
        threshold: Answers of at least this confidence are given.
        kept: Share of answerable questions that are answered.
        false_accepts: Share of questions with hidden paragraph that are answered.
        contained: Share of the answers to answerable questions that hold the gold answer.
    """

    threshold: float
    kept: float
    false_accepts: float
    contained: float


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers and abstention in one mode.

    Attributes:
        mode: How evidence was searched for.
        n_questions: Questions.
        contained: Share of answers that hold the gold answer, abstention off.
        mean_tokens: Mean tokens of an answer, citation marks included, by the shipped tokenizer.
        auc_removed: Area under the curve of confidence, whole collection against hidden paragraph.
        auc_paired: Likewise, gold paragraph against its nearest neighbour.
        balanced: Threshold of the best mean of answers kept and false answers withheld.
        at_10_percent: Threshold at which a tenth of the unanswerable questions is answered.
    """

    mode: str
    n_questions: int
    contained: float
    mean_tokens: float
    auc_removed: float
    auc_paired: float
    balanced: Operating
    at_10_percent: Operating


def measure_answers(corpus: Corpus) -> tuple[Answers, ...]:
    """Answer every question with and without its paragraph.

    Args:
        corpus: XQuAD, or another collection with answers whose paragraphs of one article stand together.

    Returns:
        One entry a mode.
    """
    return tuple(summarise(mode, _judged(corpus, mode)) for mode in _MODES)


def summarise(mode: str, judged: Sequence[Judged]) -> Answers:
    """Figures of one mode.

    Args:
        mode: Its name.
        judged: Its questions, of articles of both halves.

    Returns:
        The figures; thresholds are chosen on one half and read on the other.
    """
    choosing = [row for row in judged if (row.paragraph // _ARTICLE) % 2 == 0]
    reading = [row for row in judged if (row.paragraph // _ARTICLE) % 2 == 1]
    positives, negatives = [row.answerable for row in choosing], [row.removed for row in choosing]
    return Answers(
        mode=mode,
        n_questions=len(judged),
        contained=statistics.fmean(row.contained for row in judged),
        mean_tokens=statistics.fmean(row.n_tokens for row in judged),
        auc_removed=roc_auc([row.answerable for row in judged], [row.removed for row in judged]),
        auc_paired=roc_auc([row.gold for row in judged], [row.neighbour for row in judged]),
        balanced=_read(balanced_threshold(positives, negatives), reading),
        at_10_percent=_read(accepting_threshold(negatives, _FALSE_ACCEPTS), reading),
    )


def balanced_threshold(positives: Sequence[float], negatives: Sequence[float]) -> float:
    """The threshold of the highest balanced accuracy.

    Args:
        positives: Confidences of what should be accepted, at least one.
        negatives: Confidences of what should not, at least one.

    Returns:
        Midway between two neighbouring confidences, rounded to two digits; of equals the lowest.

    Example:
        >>> balanced_threshold([0.9, 0.7], [0.5, 0.3])
        0.6
    """
    values = sorted({*positives, *negatives})
    middles = [round((low + high) / 2, 2) for low, high in zip(values, values[1:], strict=False)] or [values[0]]
    return max(sorted(set(middles)), key=lambda t: _share(positives, t) - _share(negatives, t))


def accepting_threshold(negatives: Sequence[float], share: float) -> float:
    """The lowest threshold that accepts at most a share of the negatives.

    Args:
        negatives: Confidences, at least one.
        share: 0.0 to 1.0.

    Returns:
        The threshold, rounded up to three digits.

    Example:
        >>> accepting_threshold([0.1, 0.2, 0.3, 0.4], 0.25)
        0.301
    """
    falling = sorted(negatives, reverse=True)
    n_allowed = int(share * len(falling))
    return 0.0 if n_allowed == len(falling) else float(np.floor(falling[n_allowed] * 1000) + 1) / 1000


def _read(threshold: float, judged: Sequence[Judged]) -> Operating:
    kept = [row for row in judged if row.answerable >= threshold]
    return Operating(
        threshold=threshold,
        kept=len(kept) / len(judged),
        false_accepts=_share([row.removed for row in judged], threshold),
        contained=statistics.fmean(row.contained for row in kept) if kept else 0.0,
    )


def _share(values: Sequence[float], threshold: float) -> float:
    return sum(value >= threshold for value in values) / len(values)


def _judged(corpus: Corpus, mode: SearchMode) -> list[Judged]:
    settings = replace(corpus.settings, answer=replace(corpus.settings.answer, abstain_below=-1.0))
    whole = corpus.engine(settings)
    rows_of: dict[str, list[int]] = {}
    for row, chunk in enumerate(corpus.chunks()):
        rows_of.setdefault(chunk.doc_id, []).append(row)
    paragraph = {record.doc_id: n for n, record in enumerate(corpus.dataset.corpus)}
    neighbours = {doc_id: _neighbour(corpus, doc_id, rows) for doc_id, rows in rows_of.items()}
    found = []
    for query in corpus.dataset.queries:
        answering = relevant_documents(corpus.dataset.qrels[query.query_id])
        gold = answering[0]
        rows = [row for doc_id in answering for row in rows_of[doc_id]]
        hidden = corpus.engine(settings, HidingStore(corpus.store, np.array(rows, np.int64)))
        answer = whole.ask(Query(query.text, mode=mode))
        found.append(
            Judged(
                paragraph=paragraph[gold],
                answerable=answer.confidence,
                removed=_confidence(hidden, query, mode),
                gold=_alone(corpus, query, mode, rows_of[gold]),
                neighbour=_alone(corpus, query, mode, rows_of[neighbours[gold]]),
                contained=contains_answer(answer.text, query.answers),
                n_tokens=answer.measurement.tokens.completion,
            )
        )
    return found


def _confidence(engine: Engine, query: EvalQuery, mode: SearchMode) -> float:
    return engine.ask(Query(query.text, mode=mode)).confidence


def _alone(corpus: Corpus, query: EvalQuery, mode: SearchMode, rows: Sequence[int]) -> float:
    """Confidence when a document is all that was found: that of its best chunk."""
    store, numbers = corpus.store, np.array(rows, np.int64)
    cosines: list[float | None] = [None] * len(rows)
    if mode == "hybrid":
        vector = corpus.embedder.embed([normalise(query.text).strip()], "query")[0]
        cosines = store.score_dense(vector, numbers).tolist()
    candidates = [
        Candidate(chunk, score=0.0, bm25=0.0, cosine=cosine) for chunk, cosine in zip(store.chunks(numbers), cosines, strict=True)
    ]
    return max(confidence(query.text, [one], store.document_frequency, store.n_rows) for one in candidates)


def _neighbour(corpus: Corpus, doc_id: str, rows: Sequence[int]) -> str:
    """The document with the chunk nearest by BM25 to a document's first chunk."""
    store = corpus.store
    text = store.chunks(np.array(rows[:1], np.int64))[0].text
    found = HidingStore(store, np.array(rows, np.int64)).search_lexical(text, 1, {})
    if not len(found.rows):
        raise SystemExit(f"document {doc_id} shares no word with any other; it has no neighbour")
    return store.chunks(found.rows)[0].doc_id
