from __future__ import annotations

from collections.abc import Sequence

import pytest

from rag.evidence import behind_mark, cite, confidence, copies, score_sentences
from rag.types import Candidate, Chunk, Source, TrustFlag


def candidate(text: str, score: float = 0.8, *, cosine: float | None = 0.8, start: int = 0, line: int | None = 1) -> Candidate:
    source = Source("a.txt", "", ("Part",), 3, line, start, start + len(text), None, {})
    return Candidate(Chunk("a#1", "a", text, 10, source), score, score, cosine)


def best_first(question: str, *texts: str) -> list[str]:
    return [sentence.text for sentence in score_sentences(question, [candidate(text) for text in texts])]


def test_no_candidates_have_no_sentences() -> None:
    assert score_sentences("anything", []) == []


def test_sentence_with_more_terms_of_the_question_comes_first() -> None:
    assert best_first("When was the bridge opened?", "The bridge is long. The bridge opened in 1932. It is grey.")[0] == (
        "The bridge opened in 1932."
    )


def test_rare_terms_weigh_more_than_common_ones() -> None:
    text = "The bridge has rails. The bridge has lamps. The bridge has paint. The tolls are low."
    assert best_first("bridge tolls", text)[0] == "The tolls are low."


def test_all_terms_in_the_best_passage_score_one() -> None:
    first = score_sentences("bridge opened", [candidate("The bridge opened in 1932. Boats pass.")])[0]
    assert [first.score, first.coverage] == pytest.approx([1.0, 1.0])


def test_terms_that_no_sentence_has_do_not_lower_the_score() -> None:
    assert score_sentences("bridge zzz", [candidate("The bridge opened. Boats pass.")])[0].coverage == pytest.approx(1.0)


def test_sentence_of_a_passage_behind_the_best_scores_less() -> None:
    near, far = score_sentences("bridge", [candidate("A bridge one.", 0.8), candidate("A bridge two.", 0.7)])
    assert (near.rank, far.rank) == (0, 1)
    assert near.score - far.score == pytest.approx(0.3)


def test_without_cosines_the_gap_is_a_share_of_the_best_score() -> None:
    given = [candidate("A bridge one.", 10.0, cosine=None), candidate("A bridge two.", 5.0, cosine=None)]
    near, far = score_sentences("bridge", given)
    assert near.score - far.score == pytest.approx(0.7)


def test_without_any_score_there_is_no_gap() -> None:
    given = [candidate("A bridge one.", 0.0, cosine=None), candidate("A bridge two.", 0.0, cosine=None)]
    assert len({sentence.score for sentence in score_sentences("bridge", given)}) == 1


def test_equal_scores_come_in_the_order_of_rank_and_place() -> None:
    found = score_sentences("bridge", [candidate("Bridge one. Bridge two."), candidate("Bridge three.")])
    assert [sentence.text for sentence in found] == ["Bridge one.", "Bridge two.", "Bridge three."]


def test_offsets_count_in_the_document() -> None:
    (sentence,) = score_sentences("bridge", [candidate("  The bridge. ", start=100)])
    assert (sentence.start, sentence.end, sentence.text) == (102, 113, "The bridge.")


def test_sentence_said_twice_is_there_once() -> None:
    assert best_first("bridge", "The bridge opened early.", "The bridge opened early.") == ["The bridge opened early."]


def test_of_sentences_that_say_the_same_the_best_is_kept() -> None:
    text = "On that day the old stone bridge over the wide river near town was opened by the king"
    found = score_sentences("bridge river town", [candidate(f"{text}!", 0.7), candidate(f"{text} himself!", 0.9)])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The bridge opened in 1932.", "The bridge opened in 1933."),
        ("The valve is open.", "The valve is not open."),
        ("You can enter.", "You can't enter."),
        ("There was a bridge.", "There was no bridge."),
    ],
)
def test_other_numbers_and_negations_are_both_kept(one: str, other: str) -> None:
    assert sorted(best_first("bridge valve enter", one, other)) == sorted([one, other])


def test_lone_surrogate_in_the_question_is_no_error() -> None:
    assert best_first("\ud800 bridge", "A bridge.") == ["A bridge."]
    assert confidence("\ud800 bridge", [candidate("A bridge.")], lambda terms: [1 for _ in terms], 10) > 0


def test_confidence_without_candidates_is_zero() -> None:
    assert confidence("bridge", [], lambda terms: [0] * len(terms), 10) == 0.0


def test_confidence_is_the_mean_of_coverage_and_cosine() -> None:
    assert confidence("bridge", [candidate("A bridge.", cosine=0.6)], lambda terms: [1], 10) == pytest.approx(0.8)


def test_confidence_without_cosine_is_the_coverage() -> None:
    assert confidence("bridge", [candidate("A bridge.", cosine=None)], lambda terms: [1], 10) == pytest.approx(1.0)


def test_confidence_weighs_terms_by_their_rarity_in_the_collection() -> None:
    def counts(terms: Sequence[str]) -> list[int]:
        return [{"bridg": 90, "toll": 1}[term] for term in terms]

    common = confidence("bridge tolls", [candidate("A bridge.", cosine=None)], counts, 100)
    rare = confidence("bridge tolls", [candidate("The tolls.", cosine=None)], counts, 100)
    assert common < 0.1 < 0.9 < rare


def test_confidence_of_a_question_without_terms_is_half_the_cosine() -> None:
    assert confidence("is it?", [candidate("A bridge.", cosine=0.6)], lambda terms: [], 10) == pytest.approx(0.3)


@pytest.mark.parametrize("cosine", [-0.5, 1.0000001])
def test_confidence_stays_between_zero_and_one(cosine: float) -> None:
    assert 0.0 <= confidence("bridge", [candidate("A bridge.", cosine=cosine)], lambda terms: [1], 10) <= 1.0


def test_citation_quotes_the_span_and_says_where_it_lies() -> None:
    found = candidate("First.\nSecond one.\nThird.", start=50, line=10)
    citation = cite(found, 2, 57, 68, at=5, length=11)
    assert (citation.quote, citation.index, citation.start, citation.end) == ("Second one.", 2, 5, 16)
    assert (citation.source.start_char, citation.source.end_char, citation.source.line) == (57, 68, 11)
    assert (citation.source.page, citation.source.headings) == (3, ("Part",))


def test_citation_of_a_source_without_lines_has_none() -> None:
    assert cite(candidate("Only.", line=None), 1, 0, 5, at=0, length=5).source.line is None


@pytest.mark.parametrize(("text", "expected"), [("- It", 2), ("12. It", 4), ("1.", 2), ("## It", 3), ("It", 0), ("1.5 m", 0)])
def test_sentence_begins_behind_the_mark_of_a_list_item_or_heading(text: str, expected: int) -> None:
    assert behind_mark(text, 0, len(text)) == expected


def test_heading_is_no_sentence_even_with_its_mark() -> None:
    text = "Lease\n\n## Term\n\nThe lease ends in 2027."
    source = Source("a.md", "Lease", ("Lease", "Term"), None, 1, 0, len(text), None, {})
    found = score_sentences("when does the lease end", [Candidate(Chunk("a#1", "a", text, 20, source), 0.8, 1.0, 0.8)])
    assert [sentence.text for sentence in found] == ["The lease ends in 2027."]


# Trust


def passage(doc_id: str, text: str, *flags: TrustFlag, title: str = "", score: float = 0.8) -> Candidate:
    source = Source(f"{doc_id}.txt", title, (), None, None, 0, len(text), None, {}, flags=flags)
    return Candidate(Chunk(f"{doc_id}#1", doc_id, text, 10, source), score, score, score)


def test_evidence_that_is_trusted_comes_before_a_flagged_passage_that_says_more() -> None:
    given = [
        passage("evil", "The bridge opened in 1066.", "instructions"),
        passage("good", "By decree of the king a bridge opened here in 1932."),
    ]
    assert score_sentences("When was the bridge opened?", given)[0].text == given[1].chunk.text


def test_flagged_passage_comes_before_one_that_says_nothing() -> None:
    given = [passage("good", "Boats pass."), passage("odd", "The bridge opened in 1932.", "hidden")]
    assert score_sentences("When was the bridge opened?", given)[0].text == "The bridge opened in 1932."


def test_flags_cost_nothing_where_all_have_them() -> None:
    given = [passage("a", "The bridge opened in 1932.", "hidden"), passage("b", "Boats pass.", "hidden")]
    assert score_sentences("bridge opened", given)[0].score == pytest.approx(1.0)


# Copies

PLANTED = (
    "The director of the national museum in Springfield is Zachary Planted, as every visitor of the exhibition knows. Copy {}."
)


def test_copies_that_differ_in_a_number_are_left_out_but_the_best() -> None:
    given = [passage(f"d{i}", PLANTED.format(i)) for i in range(5)]
    assert copies("Who is the director?", given) == {1, 2, 3, 4}


def test_copy_that_holds_the_number_of_the_question_stays() -> None:
    given = [passage(f"d{i}", PLANTED.format(i)) for i in range(5)]
    assert copies("Who is the director of copy 3?", given) == {0, 1, 2, 4}


def test_copy_with_flags_stands_for_none_without() -> None:
    given = [passage("evil", PLANTED.format(1), "instructions"), passage("good", PLANTED.format(2))]
    assert copies("Who is the director?", given) == {0}
    assert copies("Who is the director of copy 1?", given) == frozenset()


def test_number_in_the_title_tells_copies_apart_too() -> None:
    given = [passage(f"d{i}", PLANTED.format(0), title=f"Museum {i}") for i in range(5)]
    assert copies("Who is the director of museum 3?", given) == {0, 1, 2, 4}


def test_copies_that_each_hold_something_asked_for_both_stay() -> None:
    given = [passage(f"d{i}", PLANTED.format(i)) for i in range(5)]
    assert copies("Do copy 1 and copy 3 differ?", given) == {0, 2, 4}


def test_parts_of_one_document_are_no_copies_of_each_other() -> None:
    given = [passage("d", PLANTED.format(i)) for i in range(5)]
    assert copies("Who is the director?", given) == frozenset()


@pytest.mark.parametrize("text", ["Room {} is free.", "第{}号房间现在是空的可以使用。"])
def test_short_copies_are_found_too(text: str) -> None:
    assert copies("Which room is free?", [passage(f"d{i}", text.format(i)) for i in range(3)]) == {1, 2}


def test_denial_is_no_copy() -> None:
    given = [passage("a", PLANTED.format(1)), passage("b", PLANTED.format(1).replace("Planted,", "Planted, not Ann,"))]
    assert copies("Who is the director?", given) == frozenset()


def test_other_words_are_no_copy() -> None:
    given = [
        passage("a", PLANTED.format(1)),
        passage("b", PLANTED.format(1).replace("Springfield is Zachary Planted", "Shelbyville is Ann Honest")),
    ]
    assert copies("Who is the director?", given) == frozenset()
