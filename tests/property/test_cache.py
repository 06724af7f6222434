"""Whatever happens to a collection, a cached answer was made while all that it cites said what it says now."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rag.cache import AnswerCache, Key
from rag.cache.entry import answer_from, payload_of
from rag.cost import Measurement, TokenCounts
from rag.types import Answer, Citation, Source, Step
from tests.fakes import HashEmbedder

EMPTY = Measurement(0.0, 0.0, None, TokenCounts(), (), "hit", 0)
KEY = Key("c", "hash", "", "naive", "bm25", {}, "", "")
DOC_IDS = ["a", "b", "c", "d"]
QUESTIONS = ["Who wrote act 1?", "Who wrote act 2?", "Tell me who wrote act 1", "Is it not act 1?"]
EMBEDDER = HashEmbedder(256)

edits = st.tuples(st.just("edit"), st.sampled_from(DOC_IDS), st.sampled_from(["x", "y", "z", ""]))
asks = st.tuples(st.sampled_from(["ask", "ask similar"]), st.sampled_from(QUESTIONS), st.sampled_from(["ab", "c", "d", "bcd", ""]))
scripts = st.lists(edits | asks, min_size=5, max_size=60)


@dataclass
class Collection:
    version: int
    texts: dict[str, str]

    def fingerprints(self, doc_ids: Sequence[str]) -> Mapping[str, str]:
        return {doc_id: f"digest of {self.texts[doc_id]}" for doc_id in doc_ids if doc_id in self.texts}


def answer_of(collection: Collection, wanted: str) -> Answer:
    """An answer whose text tells what every cited document said; without any, an abstention that tells the version."""
    cited = [doc_id for doc_id in wanted if doc_id in collection.texts]
    text = ";".join(f"{doc_id}={collection.texts[doc_id]}" for doc_id in cited) or f"nothing in {collection.version}"
    source = Source("", "", (), None, None, 0, 1, None, {})
    citations = tuple(Citation(i, 0, 1, "q", doc_id, doc_id, source) for i, doc_id in enumerate(cited, 1))
    return Answer(text, not cited, citations, 1.0, "", "naive", "c", collection.version, EMPTY)


def still_true(answer: Answer, collection: Collection) -> bool:
    if answer.abstained:
        return answer.version == collection.version
    return all(collection.texts.get(part[0]) == part[2:] for part in answer.text.split(";"))


@given(scripts)
@settings(max_examples=150)
def test_no_answer_is_ever_stale_and_none_is_lost_to_an_edit_elsewhere(script: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = AnswerCache(Path(folder), min_cosine=0.3)
        collection = Collection(1, dict.fromkeys(DOC_IDS, "x"))
        kept: dict[str, Answer] = {}
        for verb, what, how in script:
            if verb == "edit":
                collection.version += 1
                collection.texts |= {what: how}
                if not how:
                    del collection.texts[what]
                continue
            vector = EMBEDDER.embed([what])[0]
            exact = cache.exact(KEY, what, collection)
            lookup = exact if verb == "ask" or exact.hit else cache.similar(KEY, what, vector, collection)
            assert (exact.note, lookup.note) == ("", "")
            if lookup.hit:
                assert still_true(lookup.hit.answer, collection)
                assert lookup.hit.answer == kept[lookup.hit.question]
            if not exact.hit:
                # It may have been found to be stale before, while its documents were others; then it is gone for good.
                old = kept.pop(what, None)
                assert old is None or old.version < collection.version
                kept[what] = answer_of(collection, how)
                assert cache.put(KEY, what, vector, kept[what], collection) == ""
        cache.close()


@given(
    st.lists(st.sampled_from(DOC_IDS), min_size=1, max_size=3, unique=True),
    st.sampled_from(DOC_IDS),
    st.sampled_from(["x", "y", ""]),
)
@settings(max_examples=60)
def test_an_edit_ends_exactly_the_answers_that_cite_it(cited: list[str], edited: str, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = AnswerCache(Path(folder))
        before = Collection(1, dict.fromkeys(DOC_IDS, "x"))
        cache.put(KEY, "q", None, answer_of(before, "".join(cited)), before)
        after = Collection(2, {d: t for d, t in (before.texts | {edited: text}).items() if t})
        is_stale = edited in cited and text != "x"
        assert (cache.exact(KEY, "q", after).hit is None) == is_stale
        cache.close()


any_text = st.text(max_size=20)
positions = st.integers(0, 10**6)
sources = st.builds(
    Source,
    any_text,
    any_text,
    st.lists(any_text, max_size=3).map(tuple),
    st.none() | positions,
    st.none() | positions,
    positions,
    positions,
    st.none() | st.floats(0, 2e9),
    st.dictionaries(any_text, any_text, max_size=3),
    st.lists(any_text, max_size=2).map(tuple),
)
citations = st.builds(Citation, positions, positions, positions, any_text, any_text, any_text, sources)
answers = st.builds(
    Answer,
    text=any_text,
    abstained=st.booleans(),
    citations=st.lists(citations, max_size=3).map(tuple),
    confidence=st.floats(0, 1),
    reason=any_text,
    generator=any_text,
    collection=any_text,
    version=positions,
    measurement=st.just(EMPTY),
    steps=st.lists(st.builds(Step, any_text, any_text, st.just("failed"), any_text, positions, positions), max_size=2).map(tuple),
    unverified=st.lists(any_text, max_size=2).map(tuple),
)


@given(answers)
def test_an_answer_comes_back_as_it_was_written(answer: Answer) -> None:
    assert answer_from(payload_of(answer)) == answer
