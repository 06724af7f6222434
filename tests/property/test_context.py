"""Packed context: never above the budget, always exact, whoever counts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.context import pack
from rag.text import normalise
from rag.tokens import SHIPPED_NAME, TokenCounter, open_counter
from rag.types import Candidate, Chunk, ContextStyle, Source

SENTENCES = [
    "The bridge opened in 1932.",
    "The bridge did not open in 1932.",
    "Boats pass below the bridge!",
    "中文没有空格的句子。",
    "Is it grey?",
    "- a list item about rivers\n",
    "x" * 150,
    "\U0001f468‍\U0001f469‍\U0001f467 on the bridge.",
    "Dr. A. Smith paid $3.50 (e.g. tolls) at the river.",
    "\n\n",
]
bodies = st.lists(st.sampled_from(SENTENCES) | st.text(max_size=12), min_size=1, max_size=10).map(
    lambda parts: normalise(" ".join(parts)).strip()
)
titles = st.sampled_from(["", "Guide", "A long title of many words " * 6, "한국어 제목 " * 20]) | st.text(max_size=8).map(normalise)
questions = st.sampled_from(["bridge 1932", "who paid tolls at the river", "句子", "", "zebra", "\ud800"]) | st.text(max_size=20)
styles: st.SearchStrategy[ContextStyle] = st.sampled_from(["sentences", "passages"])


class NastyCounter:
    """A token a character, three more for every line, and ten for every number in brackets: parts do not add up."""

    name = "nasty"
    exact = True

    def count(self, text: str) -> int:
        return len(text) + 3 * text.count("\n") + 10 * text.count("] ") + 20 * text.count(" … ") if text else 0


@pytest.fixture(scope="module", params=["exact", "estimate", "nasty"])
def counter(request: pytest.FixtureRequest) -> TokenCounter:
    match request.param:
        case "exact":
            return open_counter(SHIPPED_NAME)
        case "estimate":
            return open_counter("")
        case _:
            return NastyCounter()


@st.composite
def candidate_lists(draw: st.DrawFn) -> list[Candidate]:
    found = []
    for rank, body in enumerate(draw(st.lists(bodies.filter(bool), max_size=5))):
        start = draw(st.integers(0, 50))
        source = Source("a.txt", draw(titles), (), None, 1, start, start + len(body), None, {})
        found.append(Candidate(Chunk(f"d{rank}#1", f"d{rank}", body, len(body), source), 0.9 - rank / 50, 1.0, 0.9 - rank / 50))
    return found


@given(question=questions, candidates=candidate_lists(), budget=st.integers(1, 300), style=styles)
@settings(max_examples=60)
def test_context_is_never_above_the_budget(
    question: str, candidates: list[Candidate], budget: int, style: ContextStyle, counter: TokenCounter
) -> None:
    context = pack(question, candidates, budget, style, counter)
    assert context.n_tokens == counter.count(context.text) <= budget


@given(question=questions, candidates=candidate_lists(), budget=st.integers(16, 300), style=styles)
@settings(max_examples=60)
def test_citations_are_exact_and_in_the_order_of_the_text(
    question: str, candidates: list[Candidate], budget: int, style: ContextStyle, counter: TokenCounter
) -> None:
    context = pack(question, candidates, budget, style, counter)
    by_id = {candidate.chunk.doc_id: candidate.chunk for candidate in candidates}
    for citation in context.citations:
        chunk = by_id[citation.doc_id]
        start, end = (at - chunk.source.start_char for at in (citation.source.start_char, citation.source.end_char))
        assert context.text[citation.start : citation.end] == citation.quote == chunk.text[start:end] != ""
    assert all(left.end < right.start for left, right in pairwise(context.citations))


@given(question=questions, candidates=candidate_lists(), budget=st.integers(16, 300), style=styles)
@settings(max_examples=40)
def test_sources_are_numbered_from_one_without_a_gap(
    question: str, candidates: list[Candidate], budget: int, style: ContextStyle, counter: TokenCounter
) -> None:
    numbers = [citation.index for citation in pack(question, candidates, budget, style, counter).citations]
    assert sorted(set(numbers)) == list(range(1, len(set(numbers)) + 1))
    assert numbers == sorted(numbers)


@given(question=questions, candidates=candidate_lists(), budget=st.integers(16, 300), style=styles)
@settings(max_examples=30)
def test_same_arguments_give_the_same_context(
    question: str, candidates: list[Candidate], budget: int, style: ContextStyle, counter: TokenCounter
) -> None:
    assert pack(question, candidates, budget, style, counter) == pack(question, candidates, budget, style, counter)


@given(passages=st.lists(st.lists(st.sampled_from(SENTENCES[:3]), min_size=1, max_size=5), min_size=1, max_size=4))
@settings(max_examples=40)
def test_sentences_that_say_the_same_are_packed_once(passages: list[list[str]]) -> None:
    found = []
    for rank, sentences in enumerate(passages):
        body = "\n\n".join(sentences)
        source = Source("a.txt", "", (), None, 1, 0, len(body), None, {})
        found.append(Candidate(Chunk(f"d{rank}#1", f"d{rank}", body, 9, source), 0.9, 1.0, 0.9))
    text = pack("bridge 1932 boats", found, 1000, "sentences", open_counter(SHIPPED_NAME)).text
    for sentence in SENTENCES[:3]:
        assert text.count(sentence) == (1 if any(sentence in sentences for sentences in passages) else 0)


@given(candidates=candidate_lists().filter(bool), style=styles)
@settings(max_examples=40)
def test_some_evidence_is_always_better_than_none(candidates: list[Candidate], style: ContextStyle) -> None:
    assert pack("bridge", candidates, 16, style, open_counter(SHIPPED_NAME)).citations
