from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import SnapshotError
from rag.store.catalog import Catalog
from rag.store.vectors import MAX_VARIABLES, VectorTable, text_digest
from rag.types import Vectors


def unit(n: int, dim: int, seed: int = 0) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    opened = Catalog(tmp_path_factory.mktemp("vectors"), create=True)
    yield opened
    opened.close()


def stored(catalog: Catalog, vectors: Vectors, embedder: str) -> Vectors:
    digests = [text_digest(f"{embedder} {i}") for i in range(len(vectors))]
    table = catalog.vectors(embedder)
    table.put(digests, vectors)
    return table.get(digests)


@pytest.mark.parametrize("dim", [2, 16, 384, 1024])
def test_stored_vectors_keep_their_direction(catalog: Catalog, dim: int) -> None:
    vectors = unit(500, dim)
    cosines = np.sum(stored(catalog, vectors, f"random-{dim}") * vectors, axis=1)
    assert float(cosines.min()) > 0.9999


@settings(max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=8, max_size=8), st.integers(0, 2**32))
def test_any_vector_comes_back_as_a_unit_vector_in_its_direction(catalog: Catalog, values: list[float], salt: int) -> None:
    vector = np.array([values], np.float32)
    norm = np.linalg.norm(vector)
    if norm < 1e-3:
        return
    vector /= norm
    found = stored(catalog, vector, f"any {salt} {values}")
    assert float(np.linalg.norm(found[0])) == pytest.approx(1.0, abs=1e-6)
    assert float(found[0] @ vector[0]) > 0.9999


def test_vectors_come_in_the_order_of_the_digests(catalog: Catalog) -> None:
    vectors = unit(5, 16, seed=1)
    table, digests = catalog.vectors("ordered"), [text_digest(str(i)) for i in range(5)]
    table.put(digests, vectors)
    found = table.get([digests[3], digests[0], digests[3]])
    np.testing.assert_allclose(found, vectors[[3, 0, 3]], atol=0.01)


def test_known_vector_stays_as_it_is(catalog: Catalog) -> None:
    table, digest = catalog.vectors("first wins"), text_digest("text")
    first, second = unit(2, 16, seed=2)
    table.put([digest], first[None])
    before = table.get([digest])
    table.put([digest], second[None])
    np.testing.assert_array_equal(table.get([digest]), before)


def test_vectors_of_another_embedder_are_not_seen(catalog: Catalog) -> None:
    digest = text_digest("shared text")
    catalog.vectors("one").put([digest], unit(1, 16))
    assert catalog.vectors("other").missing([digest]) == {digest}
    assert catalog.vectors("one").missing([digest]) == set()


def test_missing_vectors_are_named_by_their_number(catalog: Catalog) -> None:
    table = catalog.vectors("gaps")
    table.put([text_digest("here")], unit(1, 16))
    with pytest.raises(SnapshotError, match="2 of 3 vectors .* ingest again into a new --data-dir") as caught:
        table.get([text_digest("gone"), text_digest("here"), text_digest("lost")])
    assert caught.value.code == "missing_vectors"


def test_more_digests_than_a_statement_takes_variables(catalog: Catalog) -> None:
    table, digest = catalog.vectors("many"), text_digest("one")
    table.put([digest], unit(1, 2))
    assert table.get([digest] * (MAX_VARIABLES + 1)).shape == (MAX_VARIABLES + 1, 2)


def test_digest_tells_texts_apart_and_takes_any_text() -> None:
    texts = ["", " ", "a", "A", "a\n", "\ud800", "é", "e\u0301"]
    digests = {text_digest(text) for text in texts}
    assert len(digests) == len(texts)
    assert {len(digest) for digest in digests} == {16}


def test_stored_vector_takes_one_byte_a_component(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE vector (embedder TEXT, digest BLOB, data BLOB NOT NULL, PRIMARY KEY (embedder, digest))")
    VectorTable(db, "e").put([text_digest("x")], unit(1, 384))
    assert len(db.execute("SELECT data FROM vector").fetchone()[0]) == 384 + 4
    db.close()
