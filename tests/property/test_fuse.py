"""Fusion is the sum that it says it is, whatever the order of the rows, and deciding early loses nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import InputError
from rag.fuse import contenders, fuse, union
from rag.types import Rows, Scored, Scores

# Few distinct values make ties; a sum of BM25 terms is never tiny.
bm25_values = st.sampled_from([0.0, 0.5, 1.0, 3.0]) | st.floats(1 / 64, 60, width=32)
cosine_values = st.sampled_from([-1.0, 0.0, 0.25, 1.0]) | st.floats(-1, 1, width=32)
weights = st.sampled_from([0.0, 0.7, 1.0]) | st.floats(0, 1)
scored_rows = st.lists(st.tuples(st.integers(0, 500), bm25_values, cosine_values), max_size=40, unique_by=lambda row: row[0])

Row = tuple[int, float, float]


def arrays(rows: list[Row]) -> tuple[Rows, Scores, Scores]:
    return (
        np.array([row for row, _, _ in rows], np.int64),
        np.array([bm25 for _, bm25, _ in rows], np.float32),
        np.array([cosine for _, _, cosine in rows], np.float32),
    )


def naive(rows: list[Row], weight: float) -> dict[int, float]:
    top = max((bm25 for _, bm25, _ in rows), default=0.0)
    return {row: (1 - weight) * (bm25 / top if top else 0.0) + weight * cosine for row, bm25, cosine in rows}


@given(scored_rows, weights)
def test_fused_scores_are_the_weighted_sum(rows: list[Row], weight: float) -> None:
    fused = fuse(*arrays(rows), weight)
    expected = naive(rows, weight)
    assert sorted(fused.rows.tolist()) == sorted(expected)
    np.testing.assert_allclose(fused.scores, [expected[row] for row in fused.rows.tolist()], atol=1e-6)


@given(scored_rows, weights)
def test_fused_rows_are_ordered_by_score_and_then_by_row(rows: list[Row], weight: float) -> None:
    fused = fuse(*arrays(rows), weight)
    pairs = list(zip(fused.rows.tolist(), fused.scores.tolist(), strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


@given(scored_rows, weights)
def test_every_row_keeps_the_scores_of_its_sources(rows: list[Row], weight: float) -> None:
    fused = fuse(*arrays(rows), weight)
    known = {row: (bm25, cosine) for row, bm25, cosine in zip(*(array.tolist() for array in arrays(rows)), strict=True)}
    found = zip(fused.bm25.tolist(), fused.cosine.tolist(), strict=True)
    assert dict(zip(fused.rows.tolist(), found, strict=True)) == known


@given(scored_rows, weights, st.randoms(use_true_random=False))
def test_order_of_the_candidates_does_not_matter(rows: list[Row], weight: float, random: object) -> None:
    shuffled = sorted(rows, key=lambda _: random.random())  # type: ignore[attr-defined]
    one, other = fuse(*arrays(rows), weight), fuse(*arrays(shuffled), weight)
    for name in ("rows", "scores", "bm25", "cosine"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("weight", [-0.01, 1.01, float("nan"), float("inf")])
def test_weight_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(InputError) as caught:
        fuse(*arrays([(0, 1.0, 1.0)]), weight)
    assert caught.value.code == "dense_weight"


def test_equal_scores_are_ordered_by_row() -> None:
    assert fuse(*arrays([(9, 1.0, 0.5), (2, 1.0, 0.5), (5, 1.0, 0.5)]), 0.7).rows.tolist() == [2, 5, 9]


@given(st.lists(st.integers(0, 50)).map(set), st.lists(st.integers(0, 50)).map(set))
def test_union_is_ascending_and_without_repeats(first: set[int], second: set[int]) -> None:
    found = union(np.array(list(first), np.int64), np.array(list(second), np.int64))
    assert found.tolist() == sorted(first | second)


@dataclass
class Asked:
    """What a search of a collection found, where every score is known to us."""

    rows: list[Row]
    lexical: Scored
    depth: int


@st.composite
def searches(draw: st.DrawFn) -> Asked:
    """A union of two lists of which the lexical one is cut at its depth, as `Store.search_lexical` promises."""
    rows = draw(
        st.lists(st.tuples(st.integers(0, 500), bm25_values, cosine_values), min_size=1, max_size=40, unique_by=lambda r: r[0])
    )
    depth = draw(st.integers(1, 20))
    ranked = sorted((row for row in arrays_of_positive(rows)), key=lambda pair: (-pair[1], pair[0]))[:depth]
    lexical = Scored(np.array([row for row, _ in ranked], np.int64), np.array([score for _, score in ranked], np.float32))
    return Asked(sorted(rows), lexical, depth)


def arrays_of_positive(rows: list[Row]) -> list[tuple[int, float]]:
    return [(row, bm25) for row, bm25, _ in rows if bm25 > 0]


def decided_early(asked: Asked, weight: float, k: int) -> tuple[list[int], list[float]]:
    rows, bm25, cosine = arrays(asked.rows)
    kept = contenders(rows, cosine, asked.lexical, asked.depth, weight, k)
    fused = fuse(rows[kept], bm25[kept], cosine[kept], weight)
    return fused.rows[:k].tolist(), fused.scores[:k].tolist()


@given(searches(), weights, st.integers(1, 12))
def test_no_contender_of_the_first_k_is_dropped(asked: Asked, weight: float, k: int) -> None:
    rows, bm25, cosine = arrays(asked.rows)
    kept = contenders(rows, cosine, asked.lexical, asked.depth, weight, k)
    assert set(fuse(rows, bm25, cosine, weight).rows[:k].tolist()) <= set(rows[kept].tolist())


@given(searches(), weights, st.integers(1, 12))
def test_deciding_early_gives_the_first_k_of_all_with_their_scores(asked: Asked, weight: float, k: int) -> None:
    everything = fuse(*arrays(asked.rows), weight)
    rows, scores = decided_early(asked, weight, k)
    assert rows == everything.rows[:k].tolist()
    assert scores == everything.scores[:k].tolist()


def test_best_lexical_row_sets_the_scale_even_where_it_is_no_contender() -> None:
    # Row 0 is all words and no meaning: it cannot be the first, but every BM25 is a share of its own.
    rows = [(0, 10.0, -1.0), (1, 5.0, 0.9), (2, 4.0, 0.8)]
    lexical = Scored(np.array([0, 1, 2]), np.array([10.0, 5.0, 4.0], np.float32))
    found, scores = decided_early(Asked(rows, lexical, 100), 0.7, 1)
    assert found == [1]
    assert scores == pytest.approx([0.3 * 0.5 + 0.7 * 0.9])


def test_nearly_everything_is_decided_early() -> None:
    # Far more rows than k, of which the lexical search returned the first hundred.
    random = np.random.default_rng(3)
    bm25 = np.sort(random.gamma(2.0, 4.0, 200).astype(np.float32))[::-1]
    cosine = random.normal(0.2, 0.15, 200).astype(np.float32)
    lexical = Scored(np.arange(100), bm25[:100])
    kept = contenders(np.arange(200), cosine, lexical, 100, 0.7, 10)
    assert int(kept.sum()) < 60
