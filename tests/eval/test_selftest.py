from __future__ import annotations

from random import Random

import pytest

from eval.selftest import ErrorKind, plant, self_test, self_test_text
from rag.errors import InputError
from rag.groundedness import open_scorer
from rag.groundedness.context import Context

SCORER = open_scorer()
CONTEXT = Context(["The bridge of Ida Holm was opened in 1931. Its mason Jonas Berg used 4200 stones."])
CLAIM = "The bridge of Ida Holm was opened in 1931."
NOUNS = "bridge ferry tower mill harbour chapel market school station library".split()
VERBS = "opened repaired painted visited measured flooded".split()
NAMES = "Holm Berg Lund Dahl Vik Strand Moe Nygaard".split()


def passages(n: int = 12) -> list[str]:
    """Paragraphs about one building each."""
    random = Random(7)

    def sentence(noun: str) -> str:
        by, of = random.sample(NAMES, 2)
        other = random.choice(NOUNS)
        what, year = random.choice(VERBS), random.randrange(1800, 1990)
        return f"The {noun} beside the {other} was {what} by Jonas {by} of {of} in {year} after long debate."

    return [" ".join(sentence(f"{NOUNS[i % 10]}{i}") for _ in range(4)) for i in range(n)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("off_topic", "Sugar is taxed."),
        ("swapped_number", "The bridge of Ida Holm was opened in 4200."),
        ("swapped_name", "The bridge of Jonas Berg was opened in 1931."),
        ("negation", "The bridge of Ida Holm was not opened in 1931."),
    ],
)
def test_an_error_is_planted_into_a_claim(kind: ErrorKind, expected: str) -> None:
    assert plant(kind, CLAIM, CONTEXT, "Sugar is taxed.", Random(0)) == expected


def test_an_absent_number_is_in_no_passage() -> None:
    planted = plant("absent_number", CLAIM, CONTEXT, "", Random(0))
    assert planted is not None
    assert planted.rstrip(".").split()[-1] not in CONTEXT.numbers


@pytest.mark.parametrize("kind", ["off_topic", "absent_number", "swapped_number", "swapped_name", "negation"])
def test_a_claim_without_a_place_for_an_error_has_none(kind: ErrorKind) -> None:
    assert plant(kind, "It rains here.", CONTEXT, "", Random(0)) is None


def test_off_topic_sentences_and_absent_numbers_are_seen_in_ones_own_passages() -> None:
    test = self_test(SCORER, passages(), seed=1)
    found = {row.kind: row for row in test.detections}
    assert found["off_topic"].is_detected
    assert (found["absent_number"].detected, found["absent_number"].is_detected) == (1.0, True)
    assert all(row.n > 10 for row in test.detections)
    assert test.n_claims == 48
    assert test.scorer == SCORER.id


def test_a_kind_that_is_not_told_apart_prints_as_not_detected() -> None:
    text = self_test_text(self_test(SCORER, passages(), seed=1))
    assert "absent_number: detected" in text
    assert "swapped_number: not detected by this tier" in text


def test_the_same_seed_plants_the_same_errors() -> None:
    assert self_test(SCORER, passages(), seed=3, n_claims=20) == self_test(SCORER, passages(), seed=3, n_claims=20)


def test_a_kind_without_a_place_is_left_out() -> None:
    plain = [f"the old {noun} near our {noun} gate stands very quietly beside some water" for noun in NOUNS * 2]
    test = self_test(SCORER, plain, seed=0)
    assert [row.n for row in test.detections if row.kind != "off_topic"] == [0] * 4
    assert "swapped_name: no claim has a place for it" in self_test_text(test)


@pytest.mark.parametrize(("given", "words"), [(["It rains."] * 5, "5 passages"), (["It rains."] * 9, "give 0 claims")])
def test_too_few_passages_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        self_test(SCORER, given, seed=0)
