from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.groundedness.context import Context
from rag.groundedness.features import FEATURES, features, stated

PASSAGE = "The stone bridge was opened in 1931 by Ida Holm. It is not long. Two ferries cross."


def of(claim: str, passage: str = PASSAGE) -> dict[str, float]:
    context, what = Context([passage]), stated(claim)
    return dict(zip(FEATURES, features(what, context, context.evidence(what.distinct)), strict=True))


def naive_sequence(one: Sequence[str], other: Sequence[str]) -> int:
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return naive_sequence(one[:-1], other[:-1]) + 1
    return max(naive_sequence(one[:-1], other), naive_sequence(one, other[:-1]))


def test_a_copy_has_all_shares_and_nothing_against_it() -> None:
    found = of("The stone bridge was opened in 1931 by Ida Holm.")
    assert list(found.values()) == [1.0] * 11 + [0.0] * 4


def test_a_claim_of_another_topic_has_none() -> None:
    found = of("Tax on Danish sugar rose 7 percent")
    assert [found[name] for name in FEATURES[:4]] == [0.0] * 4
    assert (found["number_absent"], found["number_far"], found["name_absent"], found["negation"]) == (1.0, 1.0, 1.0, 0.0)


def test_shares_are_what_the_hand_computes() -> None:
    found = of("Stone ferries sink")
    assert found["in_context"] == pytest.approx(2 / 3)
    assert found["in_best"] == pytest.approx(1 / 3)
    assert found["in_best_two"] == pytest.approx(2 / 3)
    assert found["pairs"] == 0.0


def test_a_number_of_the_context_that_stands_elsewhere_is_far_not_absent() -> None:
    filler = " ".join(f"The stone bridge has pillar {word}." for word in ("north", "south", "east", "west"))
    found = of("The stone bridge has pillar 19", f"{filler} Unrelated matters: nineteen.")
    assert (found["number_absent"], found["number_far"]) == (0.0, 1.0)


def test_negation_counts_where_the_best_sentence_says_the_contrary() -> None:
    assert of("It is long")["negation"] == 1.0
    assert of("It is not long")["negation"] == 0.0


def test_a_related_word_is_near() -> None:
    assert of("reopening")["near_in_window"] == 0.0
    assert 0.3 < of("bridgework stone")["near_in_window"] < 1.0


def test_the_pronoun_is_no_name() -> None:
    assert stated("Today I saw Ida").names == {"ida"}


terms = st.lists(st.sampled_from(("cat", "dog", "sun", "map")), min_size=1, max_size=7)


@given(one=terms, other=terms)
def test_sequence_is_the_longest_common_subsequence(one: list[str], other: list[str]) -> None:
    found = of(" ".join(one), " ".join(other))
    expected = naive_sequence(one, other) / len(one) if set(one) & set(other) else 0.0
    assert found["sequence"] == pytest.approx(expected)


@given(st.text(st.sampled_from("abc 12.N"), min_size=1, max_size=40), st.text(st.sampled_from("abc 12.N"), max_size=80))
def test_every_figure_lies_between_0_and_1(claim: str, passage: str) -> None:
    if stated(claim).terms:
        assert all(0.0 <= figure <= 1.0 for figure in of(claim, passage).values())
