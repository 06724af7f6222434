from __future__ import annotations

import pytest

from rag.context import pack
from rag.tokens import SHIPPED_NAME, TokenCounter, open_counter
from rag.types import Candidate, Chunk, Source

LONG = "The bridge over the river was opened by the king in a storm of applause from the crowd that lined both banks of it."


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return open_counter(SHIPPED_NAME)


def candidate(name: str, text: str, *, title: str = "", headings: tuple[str, ...] = (), score: float = 0.8) -> Candidate:
    source = Source(f"{name}.txt", title, headings, None, 1, 0, len(text), None, {})
    return Candidate(Chunk(f"{name}#1", name, text, 1000, source), score, 1.0, score)


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
