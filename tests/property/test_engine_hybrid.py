"""What the engine returns in hybrid mode is the plain formula over everything that either index found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ingest.chunk import chunk_document
from ingest.read import Origin, read
from rag.engine import Engine
from rag.generate.extractive import ExtractiveGenerator
from rag.settings import SearchSettings
from rag.store import Store, open_store
from rag.types import Document, Filters, Query
from tests.corpus import COLLECTION, ingest_into, settings_for
from tests.fakes import HashEmbedder
from tests.naive_store import NaiveStore

EMBEDDER = HashEmbedder(dim=16)
WORDS = "amber basil cedar delta ember flint grove haven inlet jetty knoll larch mango north olive pearl quill ridge stone thorn".split()


def corpus() -> str:
    random = Random(5)
    rows = [
        {"_id": f"d{i:03}", "text": " ".join(random.choices(WORDS, k=random.randint(2, 25))), "side": random.choice("lr")}
        for i in range(150)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module", params=["embedded", "naive"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    base: Path = tmp_path_factory.mktemp("hybrid")
    path = base / "records.jsonl"
    path.write_text(corpus(), encoding="utf-8")
    opened: Store
    if request.param == "embedded":
        ingest_into(base / "data", path, embedder=EMBEDDER)
        opened = open_store(base / "data", COLLECTION)
    else:
        documents = [found for found in read(path.read_bytes(), Origin(path, "r", "r", None)) if isinstance(found, Document)]
        cut = [(document, chunk_document(document, EMBEDDER, EMBEDDER.max_tokens)) for document in documents]
        opened = NaiveStore(cut, EMBEDDER, COLLECTION)
    yield opened
    opened.close()


def plain(store: Store, query: Query, depth: int, weight: float) -> list[tuple[int, float, float, float]]:
    """Row, score, BM25 and cosine of every row that either index found, best first."""
    vector = EMBEDDER.embed([query.text], "query")[0]
    lexical = store.search_lexical(query.text, depth, query.filters)
    dense = store.search_dense(vector, depth, query.filters)
    rows = np.array(sorted({*lexical.rows.tolist(), *dense.rows.tolist()}), np.int64)
    bm25, cosine = store.score_lexical(query.text, rows).tolist(), store.score_dense(vector, rows).tolist()
    top = max(bm25, default=0.0) or 1.0
    found = [(row, (1 - weight) * b / top + weight * c, b, c) for row, b, c in zip(rows.tolist(), bm25, cosine, strict=True)]
    return sorted(found, key=lambda row: (-row[1], row[0]))


texts = st.lists(st.sampled_from([*WORDS, "zeppelin", "the"]), min_size=1, max_size=6).map(" ".join)
filters = st.sampled_from([{}, {"side": frozenset(["l"])}, {"doc_id": frozenset(f"d{i:03}" for i in range(0, 150, 7))}])


@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=texts,
    k=st.sampled_from([1, 3, 10, 200]),
    depth=st.sampled_from([1, 5, 30, 200]),
    weight=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    wanted=filters,
)
def test_hybrid_search_is_the_plain_formula(store: Store, text: str, k: int, depth: int, weight: float, wanted: Filters) -> None:
    settings = replace(settings_for(Path("unused")), search=SearchSettings(depth=depth, dense_weight=weight))
    engine = Engine(store, EMBEDDER, ExtractiveGenerator(settings.answer), settings)
    query = Query(text, k, "hybrid", wanted)
    hits = engine.search(query).hits
    expected = plain(store, query, max(depth, k), weight)
    chunk_ids = [chunk.chunk_id for chunk in store.chunks(np.array([row for row, _, _, _ in expected], np.int64), wanted)]
    by_id = dict(zip(chunk_ids, expected, strict=True))
    assert len(hits) == min(k, len(expected))
    # Scores within rounding of each other may stand in either order.
    np.testing.assert_allclose([hit.score for hit in hits], [row[1] for row in expected[:k]], atol=2e-5)
    for hit in hits:
        _, score, bm25, cosine = by_id[hit.chunk.chunk_id]
        assert (hit.score, hit.bm25, hit.cosine) == pytest.approx((score, bm25, cosine), abs=2e-5)
    assert len({hit.chunk.chunk_id for hit in hits}) == len(hits)
