from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.groundedness.segment import segments, without_references


def texts(answer: str) -> list[str]:
    return [" ".join(piece.text.split()) for piece in segments(answer)]


def kinds(answer: str) -> list[str]:
    return [piece.kind for piece in segments(answer)]


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        ("It is tall. It is old.", ["It is tall.", "It is old."]),
        (
            "The stone bridge is very old; the iron bridge is quite new.",
            ["The stone bridge is very old", "the iron bridge is quite new."],
        ),
        (
            "The stone bridge carries two lanes, and it was opened by Ida Holm.",
            ["The stone bridge carries two lanes", "it was opened by Ida Holm."],
        ),
        (
            "Ida Holm opened the bridge, which carries two broad lanes.",
            ["Ida Holm opened the bridge", "carries two broad lanes."],
        ),
        ("The bridge is long; it was built in 1932.", ["The bridge is long", "it was built in 1932."]),
        ("Cats and dogs are common; so.", ["Cats and dogs are common; so."]),
        ("1. Stone is heavy.\n2. Wood is light.", ["Stone is heavy.", "Wood is light."]),
        ("- **Age**: It is old.", ["It is old."]),
        ("According to the provided passages, it is old. Passage 2 states that it is tall.", ["it is old.", "it is tall."]),
        ("However, it is old.", ["it is old."]),
        ("Step 2: Heat the oven.", ["Heat the oven."]),
    ],
)
def test_an_answer_is_cut_into_sentences_clauses_and_list_items(answer: str, pieces: list[str]) -> None:
    assert texts(answer) == pieces


def test_references_to_passages_are_blanked_out() -> None:
    answer = "It is tall [1, 2] (Passage 1). It is old.[2][7] It is grey in passages 1 and 3."
    assert texts(answer) == ["It is tall .", "It is old.", "It is grey ."]
    assert len(without_references(answer)) == len(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "The documents do not say who built it.",
        "The documents do not seem to answer this.",
        "The provided context doesn't mention a date.",
        "I don't know.",
        "I'm unable to answer that.",
        "There is no information about the architect.",
        "The year is not mentioned in the passages.",
        "This cannot be determined from the given context.",
        "NO ANSWER",
    ],
)
def test_saying_that_there_is_no_answer_is_an_abstention(answer: str) -> None:
    assert kinds(answer) == ["abstention"]


@pytest.mark.parametrize(
    "answer",
    [
        "The study did not find an effect.",
        "We did not find any difference between groups.",
        "There is no information that could be shared between the modules.",
        "Participants were unable to tell the drugs apart.",
        "The context window cannot be larger than 4096 tokens.",
        "No answer was given by the ministry.",
        "The bridge is not open.",
    ],
)
def test_a_negated_claim_is_no_abstention(answer: str) -> None:
    assert kinds(answer) == ["claim"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("Is it old?", "question"),
        ("Sure!", "boilerplate"),
        ("Here are the main points:", "boilerplate"),
        ("# The old bridge", "boilerplate"),
        ("Let me know if you need more.", "boilerplate"),
        ("It was the.", "boilerplate"),
        ("Paris", "claim"),
        ("1931", "claim"),
    ],
)
def test_what_claims_nothing_is_told_apart(answer: str, kind: str) -> None:
    assert kinds(answer) == [kind]


@pytest.mark.parametrize("answer", ["", "  \n", "!!!", "3.\n- \n*"])
def test_an_answer_without_a_claim_has_few_pieces(answer: str) -> None:
    assert "claim" not in kinds(answer.replace("3", ""))


@given(st.text(st.sampled_from("ab. ;,\n-*#?1[]()and which"), max_size=120))
def test_pieces_are_ascending_spans_of_the_answer(answer: str) -> None:
    pieces = segments(answer)
    bare = without_references(answer)
    assert all(bare[piece.start : piece.end] == piece.text for piece in pieces)
    places = [place for piece in pieces for place in (piece.start, piece.end)]
    assert places == sorted(places)
    assert all(piece.start < piece.end for piece in pieces)


def test_a_sentence_of_many_semicolons_is_read_in_linear_time() -> None:
    answer = "stone bridge lane; " * 5000
    assert len(segments(answer)) == 5000
