from __future__ import annotations

from rag.groundedness.context import Context, numbers_with_one, storable

PASSAGES = ["The bridge is old. It was opened in 1931.", "Ferries are slow. The old ferry sank."]


def test_sentences_have_their_places() -> None:
    context = Context(PASSAGES)
    assert [(s.passage, PASSAGES[s.passage][s.start : s.end]) for s in context.sentences] == [
        (0, "The bridge is old."),
        (0, "It was opened in 1931."),
        (1, "Ferries are slow."),
        (1, "The old ferry sank."),
    ]


def test_evidence_shares_the_rarest_terms_first() -> None:
    context = Context(PASSAGES)
    assert context.evidence(("slow", "old", "ferri")) == [2, 3, 0]
    assert context.evidence(("tower",)) == []


def test_equal_evidence_is_in_the_order_of_the_passages() -> None:
    assert Context(["It rains.", "It rains.", "It rains."]).evidence(("rain",)) == [0, 1, 2]


def test_at_most_eight_sentences_are_evidence() -> None:
    assert Context(["It rains."] * 20).evidence(("rain",)) == list(range(8))


def test_a_text_without_full_stops_is_cut_into_pieces() -> None:
    text = "word " * 150
    sentences = Context([text]).sentences
    assert [len(s.terms) for s in sentences] == [50, 50, 50]
    assert [text[s.start : s.end] for s in sentences] == [s.text for s in sentences]


def test_a_term_that_few_sentences_hold_is_rarer() -> None:
    context = Context(PASSAGES)
    assert context.rarity("tower") > context.rarity("sank") > context.rarity("old") > 0


def test_what_all_passages_hold_is_kept_together() -> None:
    context = Context([*PASSAGES, "Only one."])
    assert context.numbers == {"1931", "1"}
    assert ("old", "ferri") in context.pairs
    assert ("old", "open") not in context.pairs
    assert ("old", "ferri", "sank") in context.triples
    assert "one" in context.known


def test_one_is_a_number_of_evidence() -> None:
    assert numbers_with_one("One of two") == {"1", "2"}
    assert numbers_with_one("Someone of two") == {"2"}


def test_a_text_is_made_storable_without_moving_anything() -> None:
    assert storable("a\r\nb\rc\ud800d") == "a \nb\nc\ufffdd"


def test_no_passages_are_an_empty_context() -> None:
    assert Context(["", " "]).sentences == ()
