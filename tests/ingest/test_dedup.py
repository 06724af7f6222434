from __future__ import annotations

import random

import pytest

from ingest.dedup import find_duplicates
from rag.store.rows import DuplicateRow, LiveChunk
from rag.store.vectors import text_digest

PROSE = (
    "The supplier delivers the goods within 30 days of the order. The buyer pays the invoice within 14 days of its receipt, "
    "and may return what is damaged. Each party keeps the terms of this contract secret, unless a court orders otherwise, "
    "and tells the other in writing when its address changes."
)
VOCABULARY = [f"{a}{b}{c}" for a in "bdfgk" for b in ("a", "ei", "o", "u") for c in ("nter", "lomi", "sk", "vand", "rel", "tup")]


def chunk(chunk_no: int, text: str, *tags: str) -> LiveChunk:
    return LiveChunk(chunk_no, f"d{chunk_no}", "", (), text, text_digest(text), tags)


def collapsed(*texts: str, threshold: float = 0.9) -> list[tuple[int, int]]:
    rows = find_duplicates([chunk(n, text) for n, text in enumerate(texts)], threshold)
    return [(row.chunk_no, row.of_chunk_no) for row in rows]


def test_no_chunks_have_no_duplicates() -> None:
    assert find_duplicates([], 0.9) == []


def test_exact_copy_is_collapsed_into_the_first() -> None:
    assert find_duplicates([chunk(7, "Short."), chunk(3, "Other."), chunk(5, "Short.")], 0.9) == [DuplicateRow(5, 7, 1.0)]


def test_case_and_white_space_do_not_tell_copies_apart() -> None:
    assert collapsed("Read  the\nmanual.", "read the manual.") == [(1, 0)]


def test_near_copy_is_collapsed_with_its_similarity() -> None:
    (row,) = find_duplicates([chunk(0, PROSE), chunk(1, PROSE.replace("damaged", "broken"))], 0.8)
    assert (row.chunk_no, row.of_chunk_no) == (1, 0)
    assert 0.8 <= row.similarity < 1.0


def test_unlike_texts_stay_apart() -> None:
    assert collapsed(PROSE, PROSE[::-1], "Something else, " + " ".join(VOCABULARY)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("30 days", "31 days"),
        ("may return", "may not return"),
        ("unless a court", "t unless a court"),
        ("within 14", "within -14"),
        ("within 14", "within 1.4"),
        ("30 days", "30 % days"),
        ("in writing", "never in writing"),
    ],
)
def test_other_numbers_signs_and_negations_keep_near_copies_apart(old: str, new: str) -> None:
    assert collapsed(PROSE, PROSE.replace(old, new), threshold=0.5) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It costs $100.", "It costs €100."),
        ("total = a + b", "total = a - b"),
        ("Written in C++.", "Written in C#."),
        ("x < y", "x > y"),
    ],
)
def test_signs_keep_short_texts_apart(one: str, other: str) -> None:
    assert collapsed(one, other) == []


def test_currency_keeps_near_copies_apart() -> None:
    assert collapsed(f"{PROSE} The price is $100.", f"{PROSE} The price is €100.") == []


def test_punctuation_of_prose_does_not_keep_near_copies_apart() -> None:
    assert collapsed(PROSE, PROSE.replace(", and", " - and").replace(".", ";")) == [(1, 0)]


def test_short_texts_collapse_only_when_exact() -> None:
    assert collapsed("Open the left valve slowly.", "Open the left valve very slowly.", threshold=0.5) == []


def test_texts_of_no_word_are_compared_as_they_stand() -> None:
    assert collapsed("* * *", "- - -", "* * *") == [(2, 0)]


def test_other_tags_keep_copies_apart() -> None:
    chunks = [chunk(0, PROSE, "language=en"), chunk(1, PROSE, "language=de"), chunk(2, PROSE, "language=en")]
    assert find_duplicates(chunks, 0.9) == [DuplicateRow(2, 0, 1.0)]


def test_tags_keep_near_copies_apart() -> None:
    assert find_duplicates([chunk(0, PROSE, "team=a"), chunk(1, PROSE.replace("goods", "parts"), "team=b")], 0.5) == []


def test_first_in_order_stands_for_all_the_others() -> None:
    near = PROSE.replace("damaged", "broken")
    assert collapsed(near, PROSE, near, PROSE, threshold=0.8) == [(1, 0), (2, 0), (3, 0)]


def test_what_stands_for_others_is_never_collapsed_itself() -> None:
    texts = [PROSE]
    for word in ("goods", "invoice", "damaged", "party", "secret", "court", "address"):
        texts.append(texts[-1].replace(word, word.upper() + "x"))
    rows = collapsed(*texts, threshold=0.8)
    assert rows
    assert not {of for _, of in rows} & {number for number, _ in rows}


def test_threshold_of_one_finds_exact_copies_only() -> None:
    assert collapsed(PROSE, PROSE.replace("damaged", "broken"), PROSE, threshold=1.0) == [(2, 0)]


def test_same_chunks_give_the_same_rows() -> None:
    chunks = [chunk(n, PROSE.replace("goods", f"goods {'x' * (n % 5)}")) for n in range(30)]
    assert find_duplicates(chunks, 0.8) == find_duplicates(chunks, 0.8)


def test_copies_with_two_percent_of_their_words_edited_are_found() -> None:
    draw = random.Random(7)
    originals = [" ".join(draw.choices(VOCABULARY, k=150)) for _ in range(100)]
    copies = []
    for text in originals:
        words = text.split()
        for place in draw.sample(range(150), 3):
            words[place] = draw.choice(VOCABULARY)
        copies.append(" ".join(words))
    rows = find_duplicates([chunk(n, text) for n, text in enumerate(originals + copies)], 0.8)
    assert sum(row.of_chunk_no == row.chunk_no - 100 for row in rows) >= 97
    assert all(row.chunk_no >= 100 for row in rows)
