"""Scores of both sources to one list.

The fused score of a chunk is ``(1 - w) * bm25 / max(bm25) + w * cosine`` over the union of both candidate lists, where the scores
that one list lacks are computed, not taken as zero. Measured (nDCG@10, w = 0.7): SciFact 0.737 against 0.714 for reciprocal rank
fusion with k = 60, XQuAD 0.978 against 0.969; on 807 SciFact training claims, which chose nothing else, w from 0.65 to 0.8 is a
plateau.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rag.errors import InputError
from rag.types import Rows, Scored, Scores


@dataclass(frozen=True, slots=True)
class Fused:
    """Rows best first, equal scores by ascending row, with the scores of both sources; arrays of one shape (n,)."""

    rows: Rows
    scores: Scores
    bm25: Scores
    cosine: Scores


def fuse(rows: Rows, bm25: Scores, cosine: Scores, dense_weight: float) -> Fused:
    """Order candidates by the weighted sum of normalised BM25 and cosine.

    Args:
        rows: int64 of shape (n,), no repeats.
        bm25: float32 of shape (n,), 0.0 or more.
        cosine: float32 of shape (n,), -1.0 to 1.0.
        dense_weight: Share of the cosine, 0.0 to 1.0.

    Returns:
        All rows, best first; equal scores are ordered by ascending row, so the result is reproducible.

    Raises:
        InputError: If the weight is out of range.
    """
    if not 0.0 <= dense_weight <= 1.0:
        raise InputError(f"dense weight is {dense_weight}; allowed: 0.0 to 1.0", code="dense_weight")
    top = float(bm25.max(initial=0.0))
    lexical = bm25 / top if top > 0 else np.zeros_like(bm25)
    scores = ((1.0 - dense_weight) * lexical + dense_weight * cosine).astype(np.float32)
    order = np.lexsort((rows, -scores))
    return Fused(rows[order], scores[order], bm25[order], cosine[order])


def union(first: Rows, second: Rows) -> Rows:
    """Rows of either list.

    Args:
        first: int64 of shape (n,).
        second: int64 of shape (m,).

    Returns:
        Ascending, each once.
    """
    rows = np.sort(np.concatenate((first, second)))  # np.union1d would import numpy.ma, 19 ms of a cold start here
    is_new = np.ones(len(rows), np.bool_)
    is_new[1:] = rows[1:] != rows[:-1]
    return rows[is_new]


def contenders(rows: Rows, cosine: Scores, lexical: Scored, depth: int, dense_weight: float, k: int) -> NDArray[np.bool_]:
    """Which rows can still be among the first ``k`` before the missing BM25 scores are known.

    A row that the lexical search did not return has at most the score of the last row that it did return, or 0.0 when it returned fewer
    than it was asked for. So nearly all rows are decided without computing their BM25, and the first ``k`` are exact all the same.

    Args:
        rows: int64 of shape (n,), ascending: the union of both lists.
        cosine: float32 of shape (n,).
        lexical: What the lexical search returned.
        depth: How many rows it was asked for.
        dense_weight: Share of the cosine.
        k: Rows wanted.

    Returns:
        bool of shape (n,); the best lexical row is always among them, because it sets the scale of the others.
    """
    if len(rows) <= k or not len(lexical.rows):
        return np.ones(len(rows), np.bool_)
    bound = float(lexical.scores[-1]) if len(lexical.rows) >= depth else 0.0
    low = np.zeros(len(rows), np.float32)
    high = np.full(len(rows), bound, np.float32)
    places = np.searchsorted(rows, lexical.rows)
    low[places] = high[places] = lexical.scores
    share = (1.0 - dense_weight) / float(lexical.scores[0])
    lowest = share * low + dense_weight * cosine
    threshold = np.partition(lowest, -k)[-k]
    # The margin covers the rounding of float32; a row too many costs nothing.
    kept = np.asarray(share * high + dense_weight * cosine >= threshold - 1e-5)
    kept[places[0]] = True  # every BM25 is divided by this one
    return kept


def first(fused: Fused, k: int) -> Fused:
    """The first k rows.

    Args:
        fused: Best first.
        k: Rows wanted.

    Returns:
        At most k rows, in their order.
    """
    return Fused(fused.rows[:k], fused.scores[:k], fused.bm25[:k], fused.cosine[:k])


def completed(rows: Rows, known: Scored, score: Callable[[Rows], Scores]) -> Scores:
    """Scores of all rows: those that a source returned, and those computed for the rest.

    Args:
        rows: Ascending; what the source returned beside them is left out.
        known: What the source returned.
        score: Computes the scores of given rows.

    Returns:
        float32 of the shape of ``rows``.
    """
    scores = np.zeros(len(rows), np.float32)
    is_missing = np.ones(len(rows), np.bool_)
    places = np.minimum(np.searchsorted(rows, known.rows), len(rows) - 1)
    is_wanted = rows[places] == known.rows
    scores[places[is_wanted]] = known.scores[is_wanted]
    is_missing[places[is_wanted]] = False
    scores[is_missing] = score(rows[is_missing])
    return scores
