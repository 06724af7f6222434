from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from rag.cache import AnswerCache, Hit, Key, Lookup
from rag.cache.answers import DAMAGED_NAME, FILE_NAME, TTL_S
from rag.cache.entry import answer_from, canonical, payload_of
from rag.cost import Energy, Figure, Measurement, TokenCounts
from rag.errors import SnapshotError
from rag.store.catalog import Catalog
from rag.types import Answer, Citation, Document, Source, Vector
from tests.fakes import HashEmbedder

KEY = Key("docs", "hash-64", "t1", "extractive", "hybrid", {}, "", "k=10")
QUESTION = "Who wrote Hamlet?"
EMPTY = Measurement(0.0, 0.0, None, TokenCounts(), (), "hit", 0)


@dataclass
class Shelved:
    """A collection of fingerprints."""

    version: int = 1
    documents: dict[str, str] = field(default_factory=lambda: {"a": "1", "b": "1"})

    def fingerprints(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        return {doc_id: self.documents[doc_id] for doc_id in doc_ids if doc_id in self.documents}


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def cited(*doc_ids: str, text: str = "Shakespeare.", also_in: tuple[str, ...] = ()) -> Answer:
    source = Source("uri", "Plays", ("Tragedies",), None, 3, 0, 4, 1.5, {"lang": "en"}, also_in)
    citations = tuple(Citation(i, 0, 4, "quot", doc_id, f"{doc_id}#1", source) for i, doc_id in enumerate(doc_ids, 1))
    return Answer(text, not doc_ids, citations, 0.75, "", "extractive", "docs", 1, replace(EMPTY, cpu_s=0.25))


def vector(text: str) -> Vector:
    found: Vector = HashEmbedder(512).embed([text])[0]
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> AnswerCache:
    return AnswerCache(tmp_path, min_cosine=0.5, clock=clock)


def put(cache: AnswerCache, answer: Answer, edition: Shelved, question: str = QUESTION, key: Key = KEY) -> None:
    assert cache.put(key, question, vector(question), answer, edition) == ""


def found(lookup: Lookup) -> Hit:
    assert lookup.note == ""
    assert lookup.hit is not None
    return lookup.hit


def similar(cache: AnswerCache, question: str, edition: Shelved, key: Key = KEY) -> Lookup:
    return cache.similar(key, question, vector(question), edition)


# Exact


def test_same_question_but_for_case_and_space_is_an_exact_hit(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    hit = found(cache.exact(KEY, "  who WROTE\nhamlet? ", Shelved()))
    assert (hit.kind, hit.question, hit.cosine, hit.version) == ("exact", QUESTION, 1.0, 1)
    assert hit.answer == replace(cited("a"), measurement=EMPTY)


def test_word_forms_make_another_question(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    assert cache.exact(KEY, "Who writes Hamlet?", Shelved()) == Lookup(None)


def test_accents_are_the_same_however_they_are_encoded() -> None:
    assert canonical("Cafe\u0301") == canonical("CAF\u00c9") != canonical("cafe")


def test_capitals_that_make_another_word_count() -> None:
    assert canonical("Who leads IT?") != canonical("Who leads it?") == canonical("WHO LEADS IT?")


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, collection="other"),
        replace(KEY, embedder="other"),
        replace(KEY, template="t2"),
        replace(KEY, generator="gguf"),
        replace(KEY, mode="bm25"),
        replace(KEY, filters={"lang": frozenset({"en"})}),
        replace(KEY, scope="tenant"),
        replace(KEY, settings="k=11"),
    ],
)
def test_whatever_decides_an_answer_is_in_the_key(cache: AnswerCache, other: Key) -> None:
    put(cache, cited("a"), Shelved())
    assert cache.exact(other, QUESTION, Shelved()) == similar(cache, QUESTION, Shelved(), other) == Lookup(None)


def test_order_of_filter_values_does_not_matter() -> None:
    one = replace(KEY, filters={"x": frozenset("ab"), "y": frozenset("c")})
    assert one.digest() == replace(KEY, filters={"y": frozenset("c"), "x": frozenset("ba")}).digest()


def test_hit_tells_what_the_answer_took(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    hit = found(cache.exact(KEY, QUESTION, Shelved()))
    assert (hit.cpu_s, hit.energy) == (0.25, None)


def test_joules_come_back_as_the_figure_that_they_were(cache: AnswerCache) -> None:
    total = Figure(0.5, 0.25, 1.0, "J", "modelled", "table", "cpu", None, 2024)
    energy = Energy(total, total, total, None, None, None, None, total, None, total, (), (), ())
    answer = cited("a")
    put(cache, replace(answer, measurement=replace(answer.measurement, energy=energy)), Shelved())
    assert found(cache.exact(KEY, QUESTION, Shelved())).energy == total


def test_newer_answer_replaces_the_older_one(cache: AnswerCache) -> None:
    put(cache, cited("a", text="old"), Shelved())
    put(cache, cited("a", text="new"), Shelved())
    assert found(cache.exact(KEY, QUESTION, Shelved())).answer.text == "new"
    assert found(similar(cache, QUESTION, Shelved())).answer.text == "new"
    assert cache.stats().n_entries == 1


# Validity


def test_edit_elsewhere_keeps_an_answer_alive(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    later = Shelved(7, {"a": "1", "b": "2", "c": "1"})
    assert found(cache.exact(KEY, QUESTION, later)).version == 1


@pytest.mark.parametrize("documents", [{"a": "2", "b": "1"}, {"b": "1"}])
def test_edited_or_deleted_citation_ends_an_answer(cache: AnswerCache, documents: dict[str, str]) -> None:
    put(cache, cited("b", "a"), Shelved())
    assert cache.exact(KEY, QUESTION, Shelved(2, documents)).hit is None
    assert cache.stats().n_entries == 0


def test_named_duplicate_counts_as_cited(cache: AnswerCache) -> None:
    put(cache, cited("a", also_in=("b",)), Shelved())
    assert cache.exact(KEY, QUESTION, Shelved(2, {"a": "1"})).hit is None


def test_abstention_does_not_outlive_its_version(cache: AnswerCache) -> None:
    put(cache, cited(), Shelved(3))
    assert found(cache.exact(KEY, QUESTION, Shelved(3))).answer.abstained
    assert cache.exact(KEY, QUESTION, Shelved(4)).hit is None


def test_reader_of_an_older_version_neither_gets_nor_deletes_a_newer_answer(cache: AnswerCache) -> None:
    newer = Shelved(2, {"a": "2"})
    put(cache, cited("a"), newer)
    assert cache.exact(KEY, QUESTION, Shelved(1)).hit is None
    assert cache.exact(KEY, QUESTION, newer).hit is not None


def test_answer_that_cites_what_its_version_lacks_is_not_kept(cache: AnswerCache) -> None:
    assert "'gone'" in cache.put(KEY, QUESTION, None, cited("gone"), Shelved())
    assert cache.stats().n_entries == 0


def test_prune_deletes_what_no_longer_holds_and_nothing_else(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    put(cache, cited("b"), Shelved(), "Who wrote Faust?")
    put(cache, cited(), Shelved(), "Who wrote it?")
    put(cache, cited("b"), Shelved(), "Who?", replace(KEY, collection="other"))
    assert cache.prune(Shelved(2, {"a": "1"}), "docs") == 2
    assert cache.stats().n_entries == 2


def test_catalog_tells_fingerprints_of_the_version_looked_at(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path, create=True)
    catalog.begin("docs", "hash", 2)
    for version, doc_id, fingerprint in ((1, "a", "a1"), (1, "b", "b1"), (2, "a", "a2")):
        catalog.remove_document("docs", version, doc_id)
        catalog.put_document("docs", version, doc_id, Document(doc_id, "", "", "text", ()), (), fingerprint)
    catalog.remove_document("docs", 2, "b")
    assert catalog.view("docs", 1).fingerprints(["a", "b", "c"]) == {"a": "a1", "b": "b1"}
    assert catalog.view("docs", 2).fingerprints(["a", "b", "c"]) == {"a": "a2"}
    assert catalog.view("docs", 2).fingerprints([]) == {}
    assert catalog.view("other", 2).fingerprints(["a"]) == {}
    catalog.close()


# Paraphrases


def test_paraphrase_is_a_semantic_hit(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    hit = found(similar(cache, "Tell me who wrote Hamlet", Shelved()))
    assert (hit.kind, hit.question) == ("semantic", QUESTION)
    assert 0.5 < hit.cosine < 1.0


def test_question_below_the_least_cosine_is_none_whatever_its_words(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path, min_cosine=0.999)
    put(cache, cited("a"), Shelved())
    assert similar(cache, "Tell me who wrote Hamlet", Shelved()) == Lookup(None)


def test_near_miss_is_no_hit_however_near(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved(), "Who wrote act 3 of Hamlet?")
    assert similar(cache, "Who wrote act 4 of Hamlet?", Shelved()) == Lookup(None)


def test_paraphrase_of_a_stale_answer_is_no_hit(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    assert similar(cache, "Tell me who wrote Hamlet", Shelved(2, {"a": "2"})).hit is None


def test_second_best_paraphrase_is_taken_where_the_best_no_longer_holds(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    put(cache, cited("b"), Shelved(), "Please tell me who wrote Hamlet")
    hit = found(similar(cache, QUESTION, Shelved(2, {"b": "1"})))
    assert hit.question == "Please tell me who wrote Hamlet"


def test_answer_without_a_vector_is_found_by_the_same_question_only(cache: AnswerCache) -> None:
    assert cache.put(KEY, QUESTION, None, cited("a"), Shelved()) == ""
    assert similar(cache, QUESTION, Shelved()) == Lookup(None)
    assert cache.exact(KEY, QUESTION, Shelved()).hit is not None


def test_replaced_answers_do_not_crowd_out_the_one_that_holds(cache: AnswerCache) -> None:
    for i in range(100):
        put(cache, cited("a", text=str(i)), Shelved())
        assert found(similar(cache, "Tell me who wrote Hamlet", Shelved())).answer.text == str(i)


# Bounds


def test_answer_ends_with_its_time(cache: AnswerCache, clock: Clock) -> None:
    put(cache, cited("a"), Shelved())
    clock.now += TTL_S
    assert cache.exact(KEY, QUESTION, Shelved()).hit is not None
    clock.now += 1
    assert cache.exact(KEY, QUESTION, Shelved()).hit is None
    assert cache.stats().n_entries == 0


def test_answer_from_the_future_is_none(cache: AnswerCache, clock: Clock) -> None:
    put(cache, cited("a"), Shelved())
    clock.now -= 3600
    assert cache.exact(KEY, QUESTION, Shelved()).hit is None


def test_the_one_used_longest_ago_goes_first(tmp_path: Path, clock: Clock) -> None:
    cache = AnswerCache(tmp_path, max_entries=2, clock=clock)
    for question in ("first", "second"):
        put(cache, cited("a"), Shelved(), question)
        clock.now += 100
    found(cache.exact(KEY, "first", Shelved()))
    put(cache, cited("a"), Shelved(), "third")
    held = [question for question in ("first", "second", "third") if cache.exact(KEY, question, Shelved()).hit]
    assert held == ["first", "third"]


def test_clear_forgets_one_collection_or_all(cache: AnswerCache) -> None:
    other = replace(KEY, collection="other")
    put(cache, cited("a"), Shelved())
    put(cache, cited("a"), Shelved(), key=other)
    assert cache.clear("docs") == 1
    assert similar(cache, QUESTION, Shelved()).hit is None
    assert similar(cache, QUESTION, Shelved(), other).hit is not None
    assert (cache.clear(), cache.clear()) == (1, 0)


def test_stats_count_answers_and_vectors(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    cache.put(KEY, "other", None, cited("a"), Shelved())
    stats = cache.stats()
    assert (stats.n_entries, stats.n_vectors) == (2, 1)
    assert stats.n_bytes > 0


# Sharing


def test_answers_outlive_the_process(cache: AnswerCache, tmp_path: Path, clock: Clock) -> None:
    put(cache, cited("a"), Shelved())
    cache.close()
    other = AnswerCache(tmp_path, min_cosine=0.5, clock=clock)
    assert other.exact(KEY, QUESTION, Shelved()).hit is not None
    assert similar(other, "Tell me who wrote Hamlet", Shelved()).hit is not None


def test_two_open_caches_see_what_the_other_keeps_and_deletes(cache: AnswerCache, tmp_path: Path, clock: Clock) -> None:
    other = AnswerCache(tmp_path, min_cosine=0.5, clock=clock)
    assert similar(other, QUESTION, Shelved()) == Lookup(None)
    put(cache, cited("a"), Shelved())
    assert similar(other, QUESTION, Shelved()).hit is not None
    cache.clear()
    assert similar(other, QUESTION, Shelved()) == Lookup(None)


def test_threads_share_one_cache(cache: AnswerCache) -> None:
    def work(i: int) -> bool:
        question = f"What is number {i}?"
        put(cache, cited("a", text=str(i)), Shelved(), question)
        exact, near = cache.exact(KEY, question, Shelved()), similar(cache, f"Tell me, what is number {i}", Shelved())
        return found(exact).answer.text == found(near).answer.text == str(i)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(60)))


# Failures


def asked(cache: AnswerCache) -> list[Callable[[], str]]:
    return [
        lambda: cache.exact(KEY, QUESTION, Shelved()).note,
        lambda: similar(cache, QUESTION, Shelved()).note,
        lambda: cache.put(KEY, QUESTION, None, cited("a"), Shelved()),
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("damage", [b"this is no database at all" * 99, b"SQLite format 3\0" + b"\xff" * 9000])
def test_damaged_file_is_set_aside_with_a_note_and_a_new_one_works(tmp_path: Path, which: int, damage: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(damage)
    cache = AnswerCache(tmp_path)
    assert DAMAGED_NAME in asked(cache)[which]()
    assert (tmp_path / DAMAGED_NAME).read_bytes() == damage
    put(cache, cited("a"), Shelved())
    assert found(cache.exact(KEY, QUESTION, Shelved())).answer.text == "Shakespeare."


def test_file_of_another_format_is_set_aside(cache: AnswerCache, tmp_path: Path) -> None:
    put(cache, cited("a"), Shelved())
    cache.close()
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    assert "format 1" in cache.exact(KEY, QUESTION, Shelved()).note
    assert cache.exact(KEY, QUESTION, Shelved()) == Lookup(None)


def test_locked_file_is_a_note_and_the_file_stays(cache: AnswerCache, tmp_path: Path) -> None:
    put(cache, cited("a"), Shelved())
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "locked" in cache.put(KEY, "other", None, cited("a"), Shelved())
    assert found(cache.exact(KEY, QUESTION, Shelved())).answer.text == "Shakespeare."
    other.execute("ROLLBACK")
    other.close()
    assert cache.put(KEY, "other", None, cited("a"), Shelved()) == ""


def test_hit_does_not_fail_because_its_use_cannot_be_noted(cache: AnswerCache, clock: Clock, tmp_path: Path) -> None:
    put(cache, cited("a"), Shelved())
    clock.now += 3600
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert found(cache.exact(KEY, QUESTION, Shelved())).answer.text == "Shakespeare."
    other.close()


def test_missing_folder_is_a_note(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "nowhere")
    assert all(FILE_NAME in ask() for ask in asked(cache))


@pytest.mark.parametrize(("column", "value"), [("payload", "{}"), ("payload", "{"), ("documents", "["), ("energy", "[1]")])
def test_unreadable_answer_is_deleted_with_a_note(cache: AnswerCache, tmp_path: Path, column: str, value: str) -> None:
    put(cache, cited("a"), Shelved())
    put(cache, cited("a"), Shelved(), "other")
    with sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute(f"UPDATE entry SET {column} = ? WHERE canonical = ?", (value, canonical(QUESTION)))
    db.close()
    assert "could not be read" in cache.exact(KEY, QUESTION, Shelved()).note
    assert cache.exact(KEY, QUESTION, Shelved()) == Lookup(None)
    assert cache.stats().n_entries == 1


@pytest.mark.parametrize("call", [lambda c: c.clear(), lambda c: c.stats(), lambda c: c.prune(Shelved(), "docs")])
def test_who_asks_about_the_cache_itself_gets_an_error(tmp_path: Path, call: Callable[[AnswerCache], object]) -> None:
    with pytest.raises(SnapshotError) as caught:
        call(AnswerCache(tmp_path / "nowhere"))
    assert caught.value.code == "cache"


# Form


def test_stored_answer_is_plain_json_without_the_measurement() -> None:
    stored = json.loads(payload_of(cited("a")))
    assert "measurement" not in stored
    assert stored["citations"][0]["source"]["metadata"] == {"lang": "en"}


@pytest.mark.parametrize("payload", ["", "[]", "null", '{"text": "x"}'])
def test_what_is_no_answer_is_refused(payload: str) -> None:
    with pytest.raises(ValueError, match=".+"):
        answer_from(payload)


def test_vectors_are_compared_as_they_were(cache: AnswerCache) -> None:
    put(cache, cited("a"), Shelved())
    hit = found(similar(cache, QUESTION, Shelved()))
    assert hit.cosine == pytest.approx(float(np.dot(vector(QUESTION), vector(QUESTION))), abs=1e-6)
