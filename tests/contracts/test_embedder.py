"""PLUG-IN 1: what every embedder must hold, run on each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from rag.embed import Embedder, open_embedder
from rag.settings import EmbedderSettings
from tests.embedding_server import running_server
from tests.fakes import HashEmbedder

ODD_TEXTS = [
    "",
    " \n\t ",
    "word",
    "A sentence with several words, and a comma.",
    "naïve café — “quotes” … Ünïcödé",
    "你好，世界。こんにちは",
    "\U0001f600\U0001f468‍\U0001f469‍\U0001f467",
    "مرحبا بالعالم नमस्ते",
    "lone surrogates \ud800 and \udfff",
    "NUL \x00 and \x07 bell, \ufffd replacement, \u200b zero width",
    "x" * 300,
    "a\u0301" * 5,
]


@pytest.fixture(scope="module", params=["onnx", "onnx-2-threads", "http", "hash"])
def embedder(request: pytest.FixtureRequest) -> Iterator[Embedder]:
    match request.param:
        case "onnx":
            yield open_embedder(EmbedderSettings(), Path("no-such-folder"))
        case "onnx-2-threads":
            yield open_embedder(EmbedderSettings(threads=2), Path("no-such-folder"))
        case "http":
            with running_server() as server:
                yield open_embedder(server.settings(api_key="secret"), Path("no-such-folder"))
        case _:
            yield HashEmbedder()


def test_id_names_the_model_and_stays_the_same(embedder: Embedder) -> None:
    assert embedder.id
    assert embedder.id == embedder.id.strip()


def test_no_texts_give_no_rows(embedder: Embedder) -> None:
    vectors = embedder.embed([])
    assert vectors.shape == (0, embedder.dim)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("role", ["document", "query"])
def test_any_text_has_a_finite_unit_vector(embedder: Embedder, role: str) -> None:
    vectors = embedder.embed(ODD_TEXTS, "query" if role == "query" else "document")
    assert vectors.shape == (len(ODD_TEXTS), embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_vector_does_not_depend_on_the_neighbours(embedder: Embedder) -> None:
    together = embedder.embed(ODD_TEXTS)
    for text, row in zip(ODD_TEXTS, together, strict=True):
        assert np.array_equal(embedder.embed([text])[0], row)


def test_order_of_rows_is_the_order_of_texts(embedder: Embedder) -> None:
    texts = [f"text number {i} about {topic}" for i, topic in enumerate(["cats", "ships", "rain", "law"] * 9)]
    assert np.array_equal(embedder.embed(texts[::-1])[::-1], embedder.embed(texts))


def test_threads_get_the_same_vectors(embedder: Embedder) -> None:
    texts = [f"thread text {i}" for i in range(12)]
    expected = embedder.embed(texts)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda text: embedder.embed([text])[0], texts))
    assert np.array_equal(np.stack(rows), expected)


def test_similar_texts_are_nearer_than_unrelated_ones(embedder: Embedder) -> None:
    a, b, c = embedder.embed(["The cat sat on the mat.", "A cat is on the mat.", "Quarterly revenue fell by nine percent"])
    assert a @ b > a @ c + 0.1


def test_token_spans_ascend_and_lie_in_the_text(embedder: Embedder) -> None:
    for text in ODD_TEXTS:
        spans = list(embedder.token_spans(text))
        assert all(0 <= start <= end <= len(text) for start, end in spans)
        assert spans == sorted(spans)


def test_token_spans_cut_words_from_the_text(embedder: Embedder) -> None:
    text = "Grounded answers \U0001f600 per joule."
    words = [text[start:end] for start, end in embedder.token_spans(text)]
    assert "".join(words).replace("\U0001f600", "").lower() == "groundedanswersperjoule."


def test_count_covers_the_spans_and_the_special_tokens(embedder: Embedder) -> None:
    for text in ODD_TEXTS:
        assert embedder.count_tokens(text) > len(embedder.token_spans(text))


def test_counting_knows_no_limit(embedder: Embedder) -> None:
    text = "word " * (2 * embedder.max_tokens)
    assert embedder.count_tokens(text) > 2 * embedder.max_tokens
    assert len(embedder.token_spans(text)) >= 2 * embedder.max_tokens


def test_what_lies_behind_the_limit_is_ignored(embedder: Embedder) -> None:
    long = "word " * embedder.max_tokens
    assert np.array_equal(embedder.embed([long])[0], embedder.embed([long + "and something else entirely"])[0])


def test_cpu_time_is_that_of_the_caller_and_of_the_lane(embedder: Embedder) -> None:
    if embedder.is_remote:
        pytest.skip("the work is done elsewhere")
    texts = ["so many words that native threads share the work of one text " * 12] * 10
    embedder.embed(texts)  # loads
    process, thread, charged = _clocks_ns(embedder)
    embedder.embed(texts)
    process_after, thread_after, charged_after = _clocks_ns(embedder)
    told = thread_after - thread + charged_after - charged
    assert told == pytest.approx(process_after - process, rel=0.2)


def test_lane_charges_its_work_to_the_caller(embedder: Embedder) -> None:
    if embedder.lane is None:
        pytest.skip("no native threads")
    embedder.embed(["word " * 200])
    before = embedder.lane.charged_ns()
    embedder.embed(["word " * 200] * 5)
    assert embedder.lane.charged_ns() > before


def test_remote_embedder_has_no_lane(embedder: Embedder) -> None:
    assert not (embedder.is_remote and embedder.lane)


def _clocks_ns(embedder: Embedder) -> tuple[int, int, int]:
    return time.process_time_ns(), time.thread_time_ns(), embedder.lane.charged_ns() if embedder.lane else 0
