from __future__ import annotations

import math
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rag.errors import SnapshotError
from rag.index.lexical import STOPWORDS, LexicalEntry, LexicalIndex, analyse, build_lexical


def index_of(folder: Path, *texts: str, tags: Sequence[tuple[str, ...]] = ()) -> LexicalIndex:
    folder.mkdir(exist_ok=True)
    build_lexical(folder, [LexicalEntry(text, tags[i] if tags else ()) for i, text in enumerate(texts)])
    return LexicalIndex(folder)


def rows(index: LexicalIndex, text: str, k: int = 10, **filters: str) -> list[int]:
    found: list[int] = index.search(text, k, {key: frozenset([value]) for key, value in filters.items()}).rows.tolist()
    return found


def test_words_are_lower_case_stems_in_order_with_repeats() -> None:
    assert analyse("Running dogs ran; the DOG runs") == ["run", "dog", "ran", "dog", "run"]


def test_stopwords_are_no_terms() -> None:
    assert analyse(" ".join(STOPWORDS)) == []
    assert analyse("The Of AND") == []


def test_letters_of_other_scripts_are_words() -> None:
    assert analyse("Ærø Straße 東京 привет") == ["ærø", "straße", "東京", "привет"]


@pytest.mark.parametrize(("n_bytes", "n_terms"), [(79, 1), (80, 0), (200, 0)])
def test_words_of_eighty_bytes_and_more_are_no_terms(n_bytes: int, n_terms: int) -> None:
    assert len(analyse("x" * n_bytes)) == n_terms


def test_long_word_is_measured_in_bytes_not_characters() -> None:
    assert analyse("ж" * 39) != []
    assert analyse("ж" * 41) == []


def test_long_word_does_not_hide_its_neighbours(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", f"needle {'x' * 500} thread")
    assert rows(index, "thread") == [0]
    assert rows(index, "x" * 500) == []
    assert rows(index, f"needle {'x' * 500}") == [0]


@pytest.mark.parametrize("text", ["", " ", "the of and", "... !? ()", "x" * 300])
def test_query_without_terms_finds_nothing(tmp_path: Path, text: str) -> None:
    index = index_of(tmp_path / "i", "the cat", "of mice and men")
    assert rows(index, text) == []
    assert index.score(text, np.array([0, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "text",
    [
        'cat AND ( : " ^ ~ *',
        "cat OR NOT -mouse +dog",
        "body:cat",
        "tag:a=b cat",
        '"cat',
        "cat~2^5",
        "[cat TO dog]",
        "cat\\",
        "/cat.*/",
        "cat IN [1 2]",
        "{cat}\x00",
        "row:1 cat",
    ],
)
def test_query_syntax_is_plain_words(tmp_path: Path, text: str) -> None:
    index = index_of(tmp_path / "i", "a cat sleeps", "nothing here", tags=[("a=c",), ("a=b",)])
    assert rows(index, text) == [0]


def test_query_finds_other_forms_of_its_words(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "She connects the connection", "unrelated")
    assert rows(index, "CONNECTED") == [0]


def test_rarer_word_weighs_more(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "common pear", "common plum", "common plum")
    assert rows(index, "common pear")[0] == 0
    assert index.score("pear", np.array([0]))[0] > index.score("common", np.array([0]))[0]


def test_score_is_lucenes_formula(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "cat dog dog", "cat cat fish bird")
    idf = math.log(1 + 0.5 / 2.5)
    expected = [2.2 * idf * n / (n + 1.2 * (0.25 + 0.75 * length / 3.5)) for n, length in ((1, 3), (2, 4))]
    assert index.score("cat", np.array([0, 1])) == pytest.approx(expected, rel=1e-6)


def test_equal_scores_are_in_order_of_rows(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", *["same words"] * 300)
    assert rows(index, "words", k=300) == list(range(300))
    assert rows(index, "words", k=7) == list(range(7))


def test_scores_come_in_the_order_of_the_rows_given(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "cat", "dog", "cat dog dog")
    forward, backward = index.score("dog", np.array([0, 1, 2])), index.score("dog", np.array([2, 1, 0]))
    assert forward[0] == 0.0
    assert backward.tolist() == forward.tolist()[::-1]


def test_filter_needs_one_of_the_values_of_every_key(tmp_path: Path) -> None:
    tags = [("lang=en", "team=a"), ("lang=de", "team=a"), ("lang=en", "team=b"), ()]
    index = index_of(tmp_path / "i", *["cat"] * 4, tags=tags)
    found = index.search("cat", 10, {"lang": frozenset(["en", "de"]), "team": frozenset(["a"])})
    assert found.rows.tolist() == [0, 1]


def test_filter_value_is_taken_whole_and_as_it_is(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "cat", "cat", tags=[("team=Red Team",), ("team=red",)])
    assert rows(index, "cat", team="Red Team") == [0]
    assert rows(index, "cat", team="Red") == []


def test_filter_value_of_many_characters_matches(tmp_path: Path) -> None:
    value = "ж" * 600
    index = index_of(tmp_path / "i", "cat", "cat", tags=[(), (f"doc_id={value}",)])
    assert rows(index, "cat", doc_id=value) == [1]


def test_filter_does_not_change_scores(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "cat dog", "cat", "bird", tags=[("a=1",), ("a=2",), ("a=1",)])
    free, filtered = index.search("cat", 10, {}), index.search("cat", 10, {"a": frozenset(["1"])})
    assert filtered.scores.tolist() == [score for row, score in zip(free.rows, free.scores.tolist(), strict=True) if row == 0]


def test_document_frequency_counts_rows_not_words(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "cat cat", "cat dog", "bird")
    assert index.document_frequency(["cat", "bird", "zebra"]) == [2, 1, 0]


def test_index_of_nothing_finds_nothing(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i")
    assert (index.n_rows, rows(index, "cat"), index.document_frequency(["cat"])) == (0, [], [0])


def test_row_without_terms_is_never_found(tmp_path: Path) -> None:
    index = index_of(tmp_path / "i", "the", "", "cat")
    assert (index.n_rows, rows(index, "the cat")) == (3, [2])


def test_index_of_another_analyser_is_refused(tmp_path: Path) -> None:
    index_of(tmp_path / "i", "cat")
    with pytest.raises(SnapshotError, match="rag repair --force") as caught:
        LexicalIndex(tmp_path / "i", "another.v1")
    assert caught.value.code == "analyser"


def test_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="rag repair") as caught:
        LexicalIndex(tmp_path)
    assert caught.value.code == "lexical"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_index_on_a_read_only_volume_is_searched(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    index_of(folder, "cat")
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert rows(LexicalIndex(folder), "cat") == [0]
    finally:
        folder.chmod(stat.S_IRWXU)


def test_same_entries_make_the_same_scores_and_order(tmp_path: Path) -> None:
    texts = [f"word{i % 7} word{i % 3} common" for i in range(200)]
    one, other = index_of(tmp_path / "a", *texts), index_of(tmp_path / "b", *texts)
    for text in ("common", "word1 word2", "word6"):
        first, second = one.search(text, 50, {}), other.search(text, 50, {})
        assert (first.rows.tolist(), first.scores.tolist()) == (second.rows.tolist(), second.scores.tolist())
