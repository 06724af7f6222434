"""PLUG-IN 2: what every store must hold, run on the shipped one and on a naive one that is its oracle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ingest.chunk import chunk_document
from ingest.read import Failure, Origin, read
from rag.errors import InputError
from rag.store import Store, open_store
from rag.types import Document, Filters, Scored, Vector
from tests.corpus import COLLECTION, ingest_into
from tests.fakes import HashEmbedder
from tests.naive_store import NaiveStore

EMBEDDER = HashEmbedder()
WORDS = (
    "apple boat cloud drum eagle field garden harbor island jungle kettle lantern meadow needle orchard puzzle quarry river saddle tower"
).split()
QUERIES = [
    "apple",
    "apple boat apple",
    "the river and the tower",
    "lanterns, needles; orchards!",
    "unheard of apple",
    "cloud drum eagle field garden harbor",
]


def shown(filters: Filters) -> str:
    """The same in every process, as the order of a set is not."""
    return ",".join(f"{key}={'|'.join(sorted(values))}" for key, values in filters.items())


FILTERS: list[Filters] = [
    {"lang": frozenset(["en"])},
    {"lang": frozenset(["en", "de"])},
    {"lang": frozenset(["en", "de"]), "team": frozenset(["a"])},
    {"lang": frozenset(["en", "nobody's"]), "team": frozenset(["a", "b"]), "kind": frozenset(["jsonl"])},
    {"doc_id": frozenset(["r07"])},
    {"team=a": frozenset(["b"])},
    {"doc_id": frozenset(["r07", "r11", "r30"]), "team": frozenset(["a", "b"])},
]
UNMATCHED: list[Filters] = [
    {"lang": frozenset(["xx"])},
    {"lang": frozenset()},
    {"team": frozenset(["a=b"])},
    {"doc_id": frozenset(["no such document"])},
    {"lang": frozenset(["fr"]), "doc_id": frozenset(["r00"])},
]


def corpus() -> list[dict[str, str]]:
    """Forty records of 4 to 30 words, with copies; lengths at which one byte still holds the length of a field."""
    random = Random(11)
    rows = []
    for i in range(40):
        text = " ".join(random.choices(WORDS, k=random.randint(4, 30)))
        rows.append({"_id": f"r{i:02}", "text": text, "lang": "fr" if i == 3 else random.choice("en de".split())})
        if i % 3:
            rows[-1]["team"] = random.choice("a b".split())
    # The same text under the same labels is one row; under other labels it is two rows of equal score.
    rows.append({**rows[5], "_id": "s-copy"})
    rows.append({**rows[6], "_id": "s-twin", "lang": "it"})
    # Labels that look like others: an id that is none, and a key that holds what separates keys from values.
    rows.append({"_id": "s-named", "text": "cloud drum apple tower river", "doc_id": "r07", "team=a": "b", "team": "c"})
    # Several chunks, of few terms each.
    rows.append({"_id": "t-long", "text": "\n\n".join(f"{word}. {'it is of the and. ' * 20}" for word in WORDS[:6])})
    return rows


@dataclass(frozen=True)
class Library:
    data_dir: Path
    naive: NaiveStore


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    base = tmp_path_factory.mktemp("contract")
    path = base / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in corpus()), encoding="utf-8")
    ingest_into(base / "data", path)
    documents: list[Document] = []
    for found in read(path.read_bytes(), Origin(path, path.name, path.name, path.stat().st_mtime)):
        assert not isinstance(found, Failure)
        documents.append(found)
    cut = [(document, chunk_document(document, EMBEDDER, EMBEDDER.max_tokens)) for document in documents]
    return Library(base / "data", NaiveStore(cut, EMBEDDER, COLLECTION))


@pytest.fixture(scope="module", params=["embedded", "naive"])
def store(request: pytest.FixtureRequest, library: Library) -> Iterator[Store]:
    opened: Store = library.naive if request.param == "naive" else open_store(library.data_dir, COLLECTION)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def naive(library: Library) -> NaiveStore:
    return library.naive


def embedded(text: str) -> Vector:
    vector: Vector = EMBEDDER.embed([text], "query")[0]
    return vector


def searched(store: Store, arm: str, text: str, k: int, filters: Filters | None = None) -> Scored:
    if arm == "lexical":
        return store.search_lexical(text, k, filters or {})
    return store.search_dense(embedded(text), k, filters or {})


def matches(store: Store, row: int, filters: Filters) -> bool:
    chunk = store.chunks(np.array([row]))[0]
    labels = {"kind": "jsonl", **chunk.source.metadata}
    ids = {chunk.doc_id, *chunk.source.also_in}
    return all(ids & values if key == "doc_id" else labels.get(key) in values for key, values in filters.items())


both_arms = pytest.mark.parametrize("arm", ["lexical", "dense"])
every_query = pytest.mark.parametrize("text", QUERIES)


def test_store_says_what_it_is(store: Store) -> None:
    assert (store.collection, store.version, store.embedder) == (COLLECTION, 1, EMBEDDER.id)


def test_rows_are_in_order_of_document_and_place(store: Store) -> None:
    chunks = store.chunks(np.arange(store.n_rows))
    places = [(chunk.doc_id, chunk.source.start_char) for chunk in chunks]
    assert places == sorted(places)


def test_exact_copies_under_the_same_labels_are_one_row(store: Store) -> None:
    doc_ids = [chunk.doc_id for chunk in store.chunks(np.arange(store.n_rows))]
    assert "s-copy" not in doc_ids
    assert {"r06", "s-twin"} <= set(doc_ids)


@both_arms
@every_query
def test_hits_are_ordered_by_score_and_then_by_row(store: Store, arm: str, text: str) -> None:
    found = searched(store, arm, text, 100)
    pairs = list(zip(found.rows.tolist(), found.scores.tolist(), strict=True))
    assert pairs == sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    assert len(set(found.rows.tolist())) == len(pairs)


@both_arms
def test_some_hits_are_equal_in_score(store: Store, arm: str) -> None:
    found = searched(store, arm, corpus()[6]["text"], 100)
    assert len(set(found.scores.tolist())) < len(found.scores)


@both_arms
@every_query
def test_fewer_hits_are_the_first_of_more_hits(store: Store, arm: str, text: str) -> None:
    everything = searched(store, arm, text, 1000)
    for k in range(1, len(everything.rows) + 2):
        found = searched(store, arm, text, k)
        assert found.rows.tolist() == everything.rows[:k].tolist()
        assert found.scores.tolist() == everything.scores[:k].tolist()


def test_dense_search_finds_every_row_if_asked_to(store: Store) -> None:
    assert sorted(searched(store, "dense", "apple", 1000).rows.tolist()) == list(range(store.n_rows))


@every_query
def test_lexical_search_finds_exactly_the_rows_that_share_a_term(store: Store, naive: NaiveStore, text: str) -> None:
    expected = naive.search_lexical(text, 1000, {})
    assert sorted(store.search_lexical(text, 1000, {}).rows.tolist()) == sorted(expected.rows.tolist())


@pytest.mark.parametrize("text", ["the of and", "...", "zeppelin"])
def test_text_without_a_known_term_finds_nothing(store: Store, text: str) -> None:
    found = store.search_lexical(text, 10, {})
    assert (found.rows.shape, found.scores.shape) == ((0,), (0,))


@both_arms
def test_hits_have_the_promised_types(store: Store, arm: str) -> None:
    found = searched(store, arm, "apple boat", 5)
    assert (str(found.rows.dtype), str(found.scores.dtype)) == ("int64", "float32")


@every_query
def test_bm25_is_lucenes_formula(store: Store, naive: NaiveStore, text: str) -> None:
    rows = np.arange(store.n_rows)
    np.testing.assert_allclose(store.score_lexical(text, rows), naive.score_lexical(text, rows), rtol=1e-5)


def test_word_said_twice_counts_twice(store: Store) -> None:
    rows = np.arange(store.n_rows)
    np.testing.assert_allclose(store.score_lexical("apple apple", rows), 2 * store.score_lexical("apple", rows), rtol=1e-6)


@every_query
def test_dense_scores_are_cosines(store: Store, naive: NaiveStore, text: str) -> None:
    rows, vector = np.arange(store.n_rows), embedded(text)
    np.testing.assert_allclose(store.score_dense(vector, rows), naive.score_dense(vector, rows), atol=0.01)


@both_arms
@every_query
def test_scores_of_rows_agree_with_the_search(store: Store, arm: str, text: str) -> None:
    found = searched(store, arm, text, 100)
    rows = found.rows[::-1].copy()
    again = store.score_lexical(text, rows) if arm == "lexical" else store.score_dense(embedded(text), rows)
    np.testing.assert_allclose(again, found.scores[::-1], rtol=1e-5, atol=1e-5)


@every_query
def test_rows_that_the_lexical_search_does_not_find_score_zero(store: Store, text: str) -> None:
    found = store.search_lexical(text, 1000, {}).rows
    others = np.setdiff1d(np.arange(store.n_rows), found)
    assert not store.score_lexical(text, others).any()


def test_text_of_stopwords_scores_every_row_zero(store: Store) -> None:
    assert store.score_lexical("the of and", np.arange(3)).tolist() == [0.0, 0.0, 0.0]


def test_no_rows_have_no_scores(store: Store) -> None:
    empty = np.empty(0, np.int64)
    assert store.score_lexical("apple", empty).shape == (0,)
    assert store.score_dense(embedded("apple"), empty).shape == (0,)


def test_document_frequency_counts_rows(store: Store, naive: NaiveStore) -> None:
    terms = ["appl", "boat", "island", "zeppelin"]
    assert store.document_frequency(terms) == naive.document_frequency(terms)
    assert store.document_frequency([]) == []


@both_arms
@pytest.mark.parametrize("filters", FILTERS, ids=shown)
def test_filtered_search_is_the_unfiltered_one_without_the_others(store: Store, arm: str, filters: Filters) -> None:
    text = "cloud drum apple tower river"
    everything = searched(store, arm, text, 1000)
    keep = [i for i, row in enumerate(everything.rows.tolist()) if matches(store, row, filters)]
    found = searched(store, arm, text, 1000, filters)
    assert keep
    assert found.rows.tolist() == everything.rows[keep].tolist()
    np.testing.assert_allclose(found.scores, everything.scores[keep], rtol=1e-6)


@both_arms
def test_filter_is_applied_before_the_best_are_chosen(store: Store, arm: str) -> None:
    text = "cloud drum apple tower river"
    last = searched(store, arm, text, 1000).rows[-1]
    doc_id = store.chunks(np.array([last]))[0].doc_id
    found = searched(store, arm, text, 1, {"doc_id": frozenset([doc_id])})
    assert [chunk.doc_id for chunk in store.chunks(found.rows)] == [doc_id]


@both_arms
@pytest.mark.parametrize("filters", UNMATCHED, ids=shown)
def test_filter_that_nothing_matches_finds_nothing(store: Store, arm: str, filters: Filters) -> None:
    assert not len(searched(store, arm, "apple boat cloud", 10, filters).rows)


@both_arms
@pytest.mark.parametrize(
    "filters", [{"colour": frozenset(["red"])}, {"lang": frozenset(["en"]), "Lang": frozenset(["en"])}], ids=shown
)
def test_unknown_filter_key_is_refused(store: Store, arm: str, filters: Filters) -> None:
    with pytest.raises(InputError) as caught:
        searched(store, arm, "apple", 10, filters)
    assert caught.value.code == "unknown_key"


def test_chunks_come_in_the_order_of_the_rows(store: Store) -> None:
    rows = np.array([7, 3, 41, 0, 3])
    one_by_one = [store.chunks(rows[i : i + 1])[0] for i in range(len(rows))]
    assert store.chunks(rows) == one_by_one


def test_chunks_are_those_of_the_naive_store(store: Store, naive: NaiveStore) -> None:
    def places(one: Store) -> list[tuple[object, ...]]:
        chunks = one.chunks(np.arange(one.n_rows))
        return [
            (c.chunk_id, c.doc_id, c.text, c.n_tokens, c.source.start_char, c.source.end_char, c.source.metadata, c.source.also_in)
            for c in chunks
        ]

    assert places(store) == places(naive)


def test_no_rows_have_no_chunks(store: Store) -> None:
    assert store.chunks(np.empty(0, np.int64)) == []


def test_text_of_a_chunk_is_where_its_source_says(store: Store) -> None:
    chunks = store.chunks(np.arange(store.n_rows))
    assert len({chunk.doc_id for chunk in chunks}) < len(chunks)
    for chunk in chunks:
        assert chunk.text == store.document_text(chunk.doc_id)[chunk.source.start_char : chunk.source.end_char]


def test_collapsed_copy_is_named_by_its_original(store: Store) -> None:
    found = store.search_lexical(corpus()[5]["text"], 1, {})
    chunk = store.chunks(found.rows)[0]
    assert (chunk.doc_id, chunk.source.also_in) == ("r05", ("s-copy",))


@both_arms
def test_document_whose_chunk_is_a_copy_is_found_by_its_id(store: Store, arm: str) -> None:
    filters = {"doc_id": frozenset(["s-copy"])}
    found = searched(store, arm, corpus()[5]["text"], 10, filters)
    assert [chunk.doc_id for chunk in store.chunks(found.rows, filters)] == ["s-copy"]


def test_document_text_is_the_whole_text(store: Store) -> None:
    assert store.document_text("r00") == corpus()[0]["text"]


def test_unknown_document_is_refused(store: Store) -> None:
    with pytest.raises(InputError) as caught:
        store.document_text("no such document")
    assert caught.value.code == "unknown_document"


def test_store_can_be_closed_twice(library: Library) -> None:
    for store in (library.naive, open_store(library.data_dir, COLLECTION)):
        store.close()
        store.close()
        assert store.version == 1  # it still says what it was
