from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rag.models.registry import GRAPH_NAME, SHIPPED_DIR, TOKENIZER_NAME
from rag.models.session import ModelSession, ModelTokenizer, open_graph
from rag.tokens import SHIPPED_NAME

FOLDER = SHIPPED_DIR / SHIPPED_NAME
DIM = 384


@pytest.fixture(scope="module")
def texts() -> Sequence[list[int]]:
    tokenizer = ModelTokenizer(FOLDER / TOKENIZER_NAME)
    return [tokenizer.ids("some words of a sentence " * n, 256) for n in (0, 1, 2, 5, 10, 60)]


def session(threads: int) -> ModelSession:
    return ModelSession(FOLDER / GRAPH_NAME, DIM, threads)


@pytest.mark.parametrize("threads", [2, 3])
def test_vectors_do_not_depend_on_the_threads(texts: Sequence[list[int]], threads: int) -> None:
    one, several = session(1), session(threads)
    for ids in texts:
        np.testing.assert_allclose(several.run(ids), one.run(ids), atol=1e-6)


def test_one_thread_has_no_lane() -> None:
    assert session(1).lane is None


def test_lane_charges_the_thread_that_called_and_no_other(texts: Sequence[list[int]]) -> None:
    several = session(2)
    lane = several.lane
    assert lane is not None
    with ThreadPoolExecutor(1) as other:
        other.submit(several.run, texts[-1]).result()
        assert other.submit(lane.charged_ns).result() > 0
    assert lane.charged_ns() == 0


def test_callers_may_share_a_pool(texts: Sequence[list[int]]) -> None:
    several = session(2)
    expected = [several.run(ids) for ids in texts]
    with ThreadPoolExecutor(4) as pool:
        for found, vector in zip(pool.map(several.run, list(texts) * 5), expected * 5, strict=True):
            assert np.array_equal(found, vector)


def test_graph_takes_padded_texts_together(texts: Sequence[list[int]]) -> None:
    tokens = np.zeros((2, 9), dtype=np.int64)
    mask = np.zeros_like(tokens)
    for row, ids in enumerate(texts[:2]):
        tokens[row, : len(ids)] = ids
        mask[row, : len(ids)] = 1
    together = open_graph(FOLDER / GRAPH_NAME)(tokens, mask)
    alone = np.array([session(1).run(ids) for ids in texts[:2]])
    # Near, not equal: one activation scale covers both.
    assert ((together * alone).sum(axis=1) > 0.95).all()


def test_a_session_writes_no_device_id_into_the_home_folder(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from rag.models.session import open_graph; open_graph(Path({str(FOLDER / GRAPH_NAME)!r}))"
    subprocess.run([sys.executable, "-P", "-c", code], env={"HOME": str(tmp_path)}, check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
