"""What speaks for a miss of extraction, and how likely one is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.generate.escalate import Signs, miss_probability, signs
from rag.types import Citation, Draft, Source

SHARES = st.floats(0.0, 1.0)
ANY_SIGNS = st.builds(Signs, SHARES, st.sampled_from((0.0, 1.0)), st.sampled_from((0.0, 1.0)))


def quoting(*quotes: str) -> Draft:
    source = Source("a.txt", "A", (), None, 1, 0, 1, None, {})
    cited = tuple(Citation(1, 0, len(quote), quote, "a", "a#1", source) for quote in quotes)
    return Draft(" ".join(f"{quote} [1]" for quote in quotes), False, cited, 0.7)


def test_covered_are_the_terms_that_some_quoted_sentence_holds() -> None:
    found = signs("Which copper, silver and golden coins?", quoting("Some coins were silver.", "Copper is red."))
    assert found.covered == 0.75


def test_question_without_terms_has_nothing_covered() -> None:
    assert signs("?", quoting("Some coins were silver.")).covered == 0.0


@pytest.mark.parametrize(
    ("question", "quote", "asks_number", "lacks_kind"),
    [
        ("How many pumps are there?", "There are 7 pumps.", 1.0, 0.0),
        ("How many pumps are there?", "There are seven pumps.", 1.0, 0.0),
        ("How many pumps were there in 1931?", "Pumps were there in 1931.", 1.0, 1.0),
        ("In which year was it built?", "It was built early.", 1.0, 1.0),
        ("How does it work?", "It works by steam.", 0.0, 0.0),
        ("Who built Holm House?", "Holm House was built by Ida Berg.", 0.0, 0.0),
        ("Who built Holm House?", "The carpenter built Holm House.", 0.0, 1.0),
        ("What is it made of?", "It is made of copper.", 0.0, 0.0),
    ],
)
def test_answer_lacks_the_kind_asked_for_when_it_names_nothing_new_of_it(
    question: str, quote: str, asks_number: float, lacks_kind: float
) -> None:
    found = signs(question, quoting(quote))
    assert (found.asks_number, found.lacks_kind) == (asks_number, lacks_kind)


@given(ANY_SIGNS, SHARES)
def test_more_covered_is_never_a_likelier_miss(found: Signs, covered: float) -> None:
    low, high = sorted((found.covered, covered))
    assert miss_probability(replace(found, covered=high)) <= miss_probability(replace(found, covered=low))


@given(ANY_SIGNS)
def test_probability_is_between_none_and_certainty(found: Signs) -> None:
    assert 0.0 < miss_probability(found) < 1.0


def test_answer_of_another_kind_is_a_likelier_miss() -> None:
    found = Signs(covered=0.7, asks_number=1.0, lacks_kind=0.0)
    assert miss_probability(replace(found, lacks_kind=1.0)) > miss_probability(found)
