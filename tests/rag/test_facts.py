from __future__ import annotations

import pytest

from rag.facts import is_number, n_negations, names_of, numbers_of, plain, plain_words


@pytest.mark.parametrize(
    ("word", "form"),
    [
        ("1,200", "1200"),
        ("1,20", "1,20"),
        ("2.50", "2.5"),
        ("3.0", "3"),
        ("007", "7"),
        ("0", "0"),
        ("twelve", "12"),
        ("one", "one"),
    ],
)
def test_a_number_has_one_form(word: str, form: str) -> None:
    assert plain(word) == form


def test_words_are_lower_case_without_articles() -> None:
    assert plain_words("The 1,200 boats of AN old Dane") == ["1200", "boats", "of", "old", "dane"]


def test_numbers_inside_of_words_count_and_one_does_not() -> None:
    assert numbers_of("In the 1990s, B12 for two, and one more") == {"1990", "12", "2"}


@pytest.mark.parametrize(("word", "expected"), [("1,200.5", True), ("12a", False), ("two", False), ("", False)])
def test_a_number_is_written_in_digits(word: str, expected: bool) -> None:
    assert is_number(word) is expected


@pytest.mark.parametrize(("text", "n"), [("It isn't so, nor will it be.", 2), ("I CANNOT", 1), ("nothing", 1), ("another knot", 0)])
def test_negations_are_counted_as_words(text: str, n: int) -> None:
    assert n_negations(text) == n


def test_names_are_capitalised_words_but_the_first() -> None:
    assert names_of("Bridges of Ida Holm are GREY") == {"ida", "holm", "grey"}
