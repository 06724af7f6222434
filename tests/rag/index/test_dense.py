from __future__ import annotations

import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from rag.errors import SnapshotError
from rag.index.dense import DenseIndex, build_dense
from rag.types import Vectors

N, DIM, N_QUERIES = 2000, 64, 100


def unit(vectors: NDArray[np.float64]) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def clustered(n: int, dim: int, seed: int) -> Vectors:
    """Unit vectors around 40 centres, as texts about 40 topics."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, dim))
    return unit(centres[random.integers(0, 40, n)] + 0.7 * random.normal(size=(n, dim)))


VECTORS = clustered(N, DIM, 1)
QUERIES = clustered(N_QUERIES, DIM, 2)
EVEN = np.arange(N) % 2 == 0


@pytest.fixture(scope="module", params=["flat", "quantised"])
def index_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp(request.param) / "dense.faiss"
    build_dense(path, VECTORS, max_flat_rows=N if request.param == "flat" else N - 1)
    return path


@pytest.fixture(scope="module")
def index(index_file: Path) -> DenseIndex:
    return DenseIndex(index_file)


@pytest.fixture(scope="module")
def decoded(index_file: Path) -> Vectors:
    """What the 8-bit codes in the file stand for."""
    read = faiss.read_index(str(index_file))
    codes = faiss.downcast_index(read.refine_index) if isinstance(read, faiss.IndexRefine) else read
    found: Vectors = codes.reconstruct_n(0, N)
    return found


def recall(index: DenseIndex, k: int = 10) -> float:
    exact = np.argsort(-(QUERIES @ VECTORS.T), axis=1, kind="stable")[:, :k]
    return float(
        np.mean([len({*truth.tolist()} & {*index.search(q, k).rows.tolist()}) / k for q, truth in zip(QUERIES, exact, strict=True)])
    )


def written(path: Path, vectors: Vectors, **how: int) -> DenseIndex:
    build_dense(path, vectors, **how)
    return DenseIndex(path)


def test_large_index_is_quantised_and_a_small_one_is_not(tmp_path: Path) -> None:
    for name, limit, kind in (("flat", N, faiss.IndexScalarQuantizer), ("large", N - 1, faiss.IndexRefine)):
        build_dense(tmp_path / name, VECTORS, max_flat_rows=limit)
        assert isinstance(faiss.read_index(str(tmp_path / name)), kind)


def test_index_knows_its_shape(index: DenseIndex) -> None:
    assert (index.n_rows, index.dim) == (N, DIM)


def test_codes_are_close_to_the_vectors(decoded: Vectors) -> None:
    assert float(np.abs(decoded - VECTORS).max()) < 0.01


def test_scores_of_hits_are_cosines_of_the_codes(index: DenseIndex, decoded: Vectors) -> None:
    for query in QUERIES[:20]:
        found = index.search(query, 20)
        np.testing.assert_allclose(found.scores, decoded[found.rows] @ query, atol=1e-4)


def test_scores_of_rows_are_cosines_of_the_codes(index: DenseIndex, decoded: Vectors) -> None:
    rows = np.array([N - 1, 5, 0, 5])
    np.testing.assert_allclose(index.score(QUERIES[0], rows), decoded[rows] @ QUERIES[0], atol=1e-5)


def test_scores_of_rows_agree_with_the_search(index: DenseIndex) -> None:
    found = index.search(QUERIES[0], 30)
    np.testing.assert_allclose(index.score(QUERIES[0], found.rows), found.scores, atol=1e-5)


def test_hits_are_distinct_and_the_best_comes_first(index: DenseIndex) -> None:
    for query in QUERIES[:20]:
        found = index.search(query, 50)
        assert len(set(found.rows.tolist())) == 50
        assert np.all(np.diff(found.scores) <= 0)


def test_flat_index_finds_what_exact_search_finds(tmp_path: Path) -> None:
    assert recall(written(tmp_path / "flat", VECTORS)) >= 0.98


def test_quantised_index_finds_most_of_what_exact_search_finds(tmp_path: Path) -> None:
    assert recall(written(tmp_path / "large", VECTORS, max_flat_rows=100)) >= 0.9


def test_filtered_search_is_exact_on_the_codes(index: DenseIndex, decoded: Vectors) -> None:
    for query in QUERIES[:20]:
        found = index.search(query, 10, EVEN)
        cosines = np.where(EVEN, decoded @ query, -2.0)
        assert np.all(EVEN[found.rows])
        np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1][:10], atol=1e-5)


def test_filter_with_one_row_finds_that_row(index: DenseIndex) -> None:
    only = np.zeros(N, np.bool_)
    only[N - 1] = True
    assert index.search(QUERIES[0], 10, only).rows.tolist() == [N - 1]


def test_filter_without_rows_finds_nothing(index: DenseIndex) -> None:
    found = index.search(QUERIES[0], 10, np.zeros(N, np.bool_))
    assert (found.rows.shape, found.scores.shape) == ((0,), (0,))


def test_as_many_hits_as_rows_are_all_rows(index: DenseIndex) -> None:
    assert sorted(index.search(QUERIES[0], N + 50).rows.tolist()) == list(range(N))


def test_no_rows_have_no_scores(index: DenseIndex) -> None:
    assert index.score(QUERIES[0], np.empty(0, np.int64)).shape == (0,)


@pytest.mark.parametrize("allowed", [None, np.arange(60) != 3])
def test_equal_scores_are_in_order_of_rows_also_at_the_cut(tmp_path: Path, allowed: NDArray[np.bool_] | None) -> None:
    # Ten different vectors, each of them six times, far apart.
    vectors = np.tile(VECTORS[:10], (6, 1))
    index = written(tmp_path / "i", vectors)
    everything = index.search(QUERIES[0], 60, allowed)
    pairs = list(zip(everything.rows.tolist(), everything.scores.tolist(), strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    for k in range(1, len(pairs)):
        assert index.search(QUERIES[0], k, allowed).rows.tolist() == everything.rows[:k].tolist()


@pytest.mark.parametrize("max_flat_rows", [0, 100])
def test_index_of_nothing_finds_nothing(tmp_path: Path, max_flat_rows: int) -> None:
    index = written(tmp_path / "i", np.empty((0, DIM), np.float32), max_flat_rows=max_flat_rows)
    assert (index.n_rows, index.search(QUERIES[0], 10).rows.tolist()) == (0, [])


def test_index_of_one_row_finds_it(tmp_path: Path) -> None:
    found = written(tmp_path / "i", VECTORS[:1]).search(VECTORS[0], 10)
    assert found.rows.tolist() == [0]
    assert found.scores.tolist() == pytest.approx([1.0], abs=1e-3)


@pytest.mark.parametrize("dim", [16, 50, 64, 384])
def test_quantised_index_takes_vectors_of_any_length(tmp_path: Path, dim: int) -> None:
    vectors = clustered(300, dim, 3)
    index = written(tmp_path / "i", vectors, max_flat_rows=100)
    assert index.search(vectors[7], 1).rows.tolist() == [7]


def test_same_vectors_make_the_same_file(tmp_path: Path) -> None:
    for name in "ab":
        build_dense(tmp_path / name, VECTORS, max_flat_rows=100)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("content", [b"", b"not an index", b"IxSQ"])
def test_file_that_is_no_index_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dense.faiss"
    path.write_bytes(content)
    with pytest.raises(SnapshotError, match="rag repair") as caught:
        DenseIndex(path)
    assert caught.value.code == "dense"
    assert str(path) in str(caught.value)


def test_search_uses_one_thread_whichever_thread_asks(index_file: Path) -> None:
    index = DenseIndex(index_file)
    threads: list[int] = []

    def ask() -> None:
        faiss.omp_set_num_threads(4)
        index.search(QUERIES[0], 5)
        threads.append(faiss.omp_get_max_threads())

    asker = threading.Thread(target=ask)
    asker.start()
    asker.join()
    assert threads == [1]
