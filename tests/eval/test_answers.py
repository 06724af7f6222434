from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.answers import contains_answer, normalise_answer, roc_auc
from rag.errors import InputError

scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The Denver Broncos!", "denver broncos"),
        ("an  apple\na day", "apple day"),
        ("U.S.", "us"),
        ("twenty-one", "twentyone"),
        ("don't", "dont"),
        ("theatre another", "theatre another"),
        ("the", ""),
        ("São Paulo’s", "são paulo’s"),
    ],
)
def test_answers_are_normalised_as_in_squad(text: str, normalised: str) -> None:
    assert normalise_answer(text) == normalised


def test_articles_go_after_punctuation_has_gone() -> None:
    # Punctuation first joins "a.m." to "am"; articles first would leave "m".
    assert normalise_answer("9 a.m.") == "9 am"


@given(text=st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise_answer(text)
    assert normalise_answer(once) == once


@pytest.mark.parametrize(
    ("text", "answers", "there"),
    [
        ("The score was 24-10.", ("24–10", "24-10"), True),
        ("It lies in the Santa Clara, California.", ("santa clara california",), True),
        ("founded in 1961", ("1",), False),
        ("founded in 1961", ("1961",), True),
        ("anything", (), False),
        ("anything", ("the",), False),
        ("in the end", ("the",), True),
        ("anything", ("", "  "), False),
        ("", ("x",), False),
        ("cat and dog", ("cat dog",), False),
    ],
)
def test_answer_is_contained_as_a_run_of_whole_words(text: str, answers: tuple[str, ...], there: bool) -> None:
    assert contains_answer(text, answers) is there


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        ([2.0, 3.0], [0.0, 1.0], 1.0),
        ([0.0], [1.0], 0.0),
        ([1.0, 1.0], [1.0], 0.5),
        # Pairs: .8 beats .5 and .2; .5 ties .5 and beats .2; .1 loses twice: (2 + 1.5 + 0) / 6.
        ([0.8, 0.5, 0.1], [0.5, 0.2], 3.5 / 6),
    ],
)
def test_roc_auc_of_hand_counted_pairs(positives: list[float], negatives: list[float], expected: float) -> None:
    assert roc_auc(positives, negatives) == expected


@given(positives=scores, negatives=scores)
def test_roc_auc_equals_counting_every_pair(positives: list[float], negatives: list[float]) -> None:
    won = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
    assert roc_auc(positives, negatives) == pytest.approx(won / (len(positives) * len(negatives)))


@given(positives=scores, negatives=scores)
def test_roc_auc_of_swapped_sides_is_the_complement(positives: list[float], negatives: list[float]) -> None:
    assert roc_auc(negatives, positives) == pytest.approx(1 - roc_auc(positives, negatives))


@pytest.mark.parametrize(("positives", "negatives"), [([], [1.0]), ([1.0], [])])
def test_roc_auc_refuses_an_empty_side(positives: list[float], negatives: list[float]) -> None:
    with pytest.raises(InputError, match="give at least one of each"):
        roc_auc(positives, negatives)


def test_roc_auc_refuses_nan() -> None:
    with pytest.raises(InputError, match="NaN"):
        roc_auc([float("nan")], [1.0])
