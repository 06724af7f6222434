from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rag.context import pack
from rag.engine import Engine
from rag.tokens import SHIPPED_NAME, TokenCounter, open_counter
from rag.types import Candidate, Chunk, ContextStyle, Query, Source, TrustFlag
from tests.corpus import ingest_into, open_library

LONG = "The bridge over the river was opened by the king in a storm of applause from the crowd that lined both banks of it."


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return open_counter(SHIPPED_NAME)


def candidate(
    name: str,
    text: str,
    *,
    title: str = "",
    headings: tuple[str, ...] = (),
    score: float = 0.8,
    flags: tuple[TrustFlag, ...] = (),
    part: int = 0,
) -> Candidate:
    source = Source(f"{name}.txt", title, headings, None, 1, 0, len(text), None, {}, flags=flags)
    return Candidate(Chunk(f"{name}#{part}", name, text, 1000, source), score, 1.0, score)


def test_no_candidates_make_an_empty_context(counter: TokenCounter) -> None:
    context = pack("bridge", [], 64, "sentences", counter)
    assert (context.text, context.n_tokens, context.citations, context.n_tokens_saved) == ("", 0, (), 0)


def test_source_stands_under_its_number_title_and_headings(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened.", title="Guide", headings=("Guide", "Bridges"))]
    assert pack("bridge", given, 64, "passages", counter).text == "[1] Guide > Bridges\nThe bridge opened."


def test_source_without_title_has_its_text_behind_its_number(counter: TokenCounter) -> None:
    assert pack("bridge", [candidate("a", "The bridge opened.")], 64, "passages", counter).text == "[1] The bridge opened."


def test_sources_are_apart_and_numbered_in_the_order_of_candidates(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened."), candidate("b", "A bridge closed.", score=0.79)]
    assert pack("bridge", given, 64, "passages", counter).text == "[1] The bridge opened.\n\n[2] A bridge closed."


def test_what_is_left_out_leaves_a_mark(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened. Boats pass. The bridge is grey.")]
    wanted = "[1] The bridge opened. … The bridge is grey."
    assert pack("bridge", given, counter.count(wanted), "sentences", counter).text == wanted


def test_neighbouring_sentences_are_one_citation(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened.  The bridge is grey.\nBoats pass.")]
    (citation,) = pack("bridge", given, counter.count("[1] The bridge opened. The bridge is grey."), "sentences", counter).citations
    assert citation.quote == "The bridge opened.  The bridge is grey."


def test_sentence_without_a_term_of_the_question_is_left_out_when_its_passage_is_far_behind(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened."), candidate("b", "Boats pass. A bridge closed.", score=0.6)]
    assert "Boats" not in pack("bridge", given, 64, "sentences", counter).text


def test_passages_are_whole(counter: TokenCounter) -> None:
    given = [candidate("a", "Boats pass. The bridge opened.")]
    assert pack("bridge", given, 64, "passages", counter).citations[0].quote == "Boats pass. The bridge opened."


def test_what_does_not_fit_is_passed_over_for_what_does(counter: TokenCounter) -> None:
    given = [candidate("a", f"{LONG} {LONG}"), candidate("b", "A short bridge.", score=0.79)]
    assert pack("bridge", given, 16, "passages", counter).text == "[1] A short bridge."


def test_when_no_sentence_fits_its_first_words_are_taken(counter: TokenCounter) -> None:
    context = pack("bridge", [candidate("a", LONG)], 16, "sentences", counter)
    assert context.text.startswith("[1] The bridge over the river")
    assert LONG.startswith(context.citations[0].quote)
    assert LONG[len(context.citations[0].quote)] == " "
    assert context.n_tokens <= 16


def test_header_that_leaves_no_room_is_left_out(counter: TokenCounter) -> None:
    context = pack("bridge", [candidate("a", LONG, title="many words of a title " * 9)], 16, "sentences", counter)
    assert context.text.startswith("[1] The bridge")


def test_sentence_without_spaces_is_cut_between_characters(counter: TokenCounter) -> None:
    context = pack("中文", [candidate("a", "中文没有空格的句子" * 20)], 16, "sentences", counter)
    assert context.text.startswith("[1] 中文没有")
    assert context.n_tokens <= 16


def test_sentence_without_a_term_of_the_question_is_better_than_nothing(counter: TokenCounter) -> None:
    assert pack("zebra", [candidate("a", "The bridge opened.")], 64, "sentences", counter).text == "[1] The bridge opened."


def test_sentence_that_two_sources_share_is_packed_once(counter: TokenCounter) -> None:
    given = [candidate("a", "The bridge opened. One bridge."), candidate("b", "The bridge opened. Two bridges.", score=0.79)]
    assert pack("bridge", given, 64, "sentences", counter).text.count("The bridge opened.") == 1


def test_saved_tokens_are_those_of_the_passages_less_those_of_the_context(counter: TokenCounter) -> None:
    context = pack("bridge", [candidate("a", "The bridge opened.")], 64, "sentences", counter)
    assert context.n_tokens_saved == 1000 - context.n_tokens


def test_context_says_budget_and_counter(counter: TokenCounter) -> None:
    context = pack("bridge", [candidate("a", "The bridge opened.")], 64, "sentences", counter)
    assert (context.max_tokens, context.counter) == (64, SHIPPED_NAME)


def test_lone_surrogate_in_the_question_is_no_error(counter: TokenCounter) -> None:
    assert pack("\udfff bridge", [candidate("a", "The bridge opened.")], 64, "sentences", counter).text


# Trust and quotas

both_styles = pytest.mark.parametrize("style", ["sentences", "passages"])


@both_styles
def test_flagged_text_does_not_take_the_place_of_evidence_that_is_trusted(counter: TokenCounter, style: ContextStyle) -> None:
    given = [
        candidate("evil", "The bridge opened in 1066.", flags=("instructions",)),
        candidate("good", "The bridge opened in 1932."),
    ]
    assert pack("bridge", given, 16, style, counter).text == "[1] The bridge opened in 1932."


@both_styles
def test_flagged_text_that_is_alone_is_packed_and_its_citation_says_so(counter: TokenCounter, style: ContextStyle) -> None:
    (citation,) = pack("bridge", [candidate("a", "The bridge opened.", flags=("hidden",))], 64, style, counter).citations
    assert (citation.quote, citation.source.flags) == ("The bridge opened.", ("hidden",))


@both_styles
def test_document_leaves_a_share_of_the_budget_to_the_evidence_of_others(counter: TokenCounter, style: ContextStyle) -> None:
    one = [
        candidate("one", f"The bridge number {word} opened in the morning.", part=i)
        for i, word in enumerate("red tan pink grey blue".split())
    ]
    context = pack("bridge opened", [*one, candidate("two", "Another bridge opened at night.", score=0.78)], 48, style, counter)
    assert "at night" in context.text
    assert "tan" in context.text


@both_styles
def test_document_takes_the_whole_budget_where_no_other_has_evidence(counter: TokenCounter, style: ContextStyle) -> None:
    one = [
        candidate("one", f"The bridge number {word} opened in the morning.", part=i)
        for i, word in enumerate("red tan pink".split())
    ]
    budget = counter.count(pack("bridge opened", one, 1000, style, counter).text)
    context = pack("bridge opened", [*one, candidate("two", "Boats pass.", score=0.5)], budget, style, counter)
    assert {citation.doc_id for citation in context.citations} == {"one"}
    assert len(context.citations) == 3


@contextmanager
def flood(base: Path, n_copies: int) -> Iterator[Engine]:
    planted = (
        "The oven for a loaf is 9999 degrees hot, says the guild of bakers in its handbook, and only the guild knows. Copy {}."
    )
    rows = [{"_id": f"evil{i}", "text": planted.format(i)} for i in range(n_copies)]
    rows += [{"_id": "good", "text": "Bread: the oven for a loaf is 230 degrees hot."}]
    (base / "pages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert ingest_into(base / "data", base / "pages.jsonl").n_duplicates == 0  # the numbers keep them apart
    with open_library(base / "data") as engine:
        yield engine


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with flood(tmp_path_factory.mktemp("flood"), 1000) as engine:
        yield engine


@both_styles
def test_flood_of_as_many_as_fifteen_times_k_leaves_room_for_other_evidence(
    counter: TokenCounter, style: ContextStyle, tmp_path: Path
) -> None:
    with flood(tmp_path, 60) as engine:
        context = engine.context(Query("how hot is the oven for a loaf", k=4), 256, style, counter).context
    assert "good" in {citation.doc_id for citation in context.citations}


@both_styles
def test_flood_of_a_thousand_near_copies_takes_one_place(counter: TokenCounter, style: ContextStyle, flooded: Engine) -> None:
    context = flooded.context(Query("how hot is the oven for a loaf", k=20), 256, style, counter).context
    assert len([citation for citation in context.citations if citation.doc_id.startswith("evil")]) == 1


def test_near_copy_whose_number_is_asked_for_is_packed(counter: TokenCounter, flooded: Engine) -> None:
    context = flooded.context(Query("how hot is the oven in copy 417", mode="bm25"), 256, "sentences", counter).context
    assert {citation.doc_id for citation in context.citations} == {"evil417"}


def test_copies_are_no_error_where_many_chunks_are_asked_for(counter: TokenCounter, flooded: Engine) -> None:
    context = flooded.context(Query("how hot is the oven for a loaf", k=100, mode="bm25"), 256, "sentences", counter).context
    assert len({citation.doc_id for citation in context.citations if citation.doc_id.startswith("evil")}) == 1
