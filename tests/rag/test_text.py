from __future__ import annotations

import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.text import MAX_CONTEXT_CHARS, context_line, indexed_text, normalise, paragraphs, sentence_spans

anything = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=80)
invisible = st.text(
    st.sampled_from(
        "a1 #\n\u200b\u200c\u200d\ufe0f\ufe00\ufeff\u00ad\u202e\u2069\u2764\U0001f469\U0001f3fd\U0001f3f4\U000e0067\U000e007f\U000e0100"
        "\u0915\u094d\u0645\u0e01\u845b\u061c\u180e\ufdd0\uf0b7\ue000"
    ),
    max_size=14,
)
punctuated = st.text(st.sampled_from("aB1 .!?…。！」\"')\n\f\t-#*|中\u0301\u200d\u3000"), max_size=60)


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\r\nb\rc", "a\nb\nc"),
        ("a\u2028b\u2029c\x85d", "a\nb\nc\nd"),
        ("\ufeffa\ufeff", "a"),
        ("a\x00b\x1b[0m\x7f", "a\ufffdb\ufffd[0m\ufffd"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        ("\ttab\f\n", "\ttab\f\n"),
        ("e\u0301 \xa0 \u200b", "e\u0301 \xa0 "),
        ("soft\u00adhy\u200bphen\u2060s", "softhyphens"),
        ("a\u202eb\u202cc\u2066d\u2069", "abcd"),
        ("hi\U000e0068\U000e0069!", "hi!"),
        ("\uf0b7 item \ue000", "• item \ufffd"),
        ("a\ufe0fb\U000e0101", "ab"),
    ],
)
def test_normalising_keeps_what_is_text(raw: str, expected: str) -> None:
    assert normalise(raw) == expected


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "\u2764\ufe0f 1\ufe0f\u20e3 \u00a9\ufe0e",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u0915\u094d\u200d\u0937",
        "\u0e01\u200b\u0e02",
        "\u845b\U000e0100",
        "ABC",
    ],
)
def test_invisible_characters_that_shape_what_is_seen_stay(text: str) -> None:
    assert normalise(text) == normalise(text, "\ufdd0") == text


def test_mark_stands_for_every_invisible_character_that_can_carry_a_message() -> None:
    assert normalise("a\u200b\U000e0041\u202e\u00ad\ufeff\u200eb", "\ufdd0") == "a\ufdd0\ufdd0\ufdd0b"


@given(invisible, invisible)
def test_joined_normalised_texts_are_normalised(left: str, right: str) -> None:
    for mark in ("", "\ufdd0"):
        for glue in ("", " ", "\n\n"):
            joined = normalise(left, mark) + glue + normalise(right, mark)
            assert normalise(joined, mark) == joined


@given(invisible)
def test_text_without_its_marks_is_the_text_normalised_without_marks(text: str) -> None:
    assert normalise(text, "\ufdd0").replace("\ufdd0", "") == normalise(text)


@given(anything | invisible)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(anything)
def test_normalised_text_can_be_stored(text: str) -> None:
    assert not any(c in "\x00\r" or unicodedata.category(c) == "Cs" for c in normalise(text))


@pytest.mark.parametrize(
    "text",
    [
        "Dr. Who met Mr. and Mrs. Smith.",
        "J. R. R. Tolkien wrote it.",
        "See fig. 3 and eq. 4, e.g. the one of Jan. 5.",
        "It weighs 3.14 kg, i.e. 1.5 more.",
        "The U.S. Army vs. The World.",
        "He asked “why?” and left.",
        "www.example.com is at version 2.0.1 now",
        "Really?! he said.",
    ],
)
def test_stops_inside_of_a_sentence_do_not_end_it(text: str) -> None:
    assert sentences(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four…", ["One.", "Two!", "Three?", "Four…"]),
        ("“Stop.” He left. (Really.) Yes.", ["“Stop.”", "He left.", "(Really.)", "Yes."]),
        ("It was him and I. We left.", ["It was him and I.", "We left."]),
        ("It has vitamin C. It helps.", ["It has vitamin C.", "It helps."]),
        ("Paid 3.50. Then left.", ["Paid 3.50.", "Then left."]),
        ("In 1932. 5 years later.", ["In 1932.", "5 years later."]),
        ("第一句。第二句！「第三句？」第四句", ["第一句。", "第二句！", "「第三句？」", "第四句"]),
        ("第一。\ufe00第二", ["第一。\ufe00", "第二"]),
        ("First\n\nSecond", ["First", "Second"]),
        ("wrapped\nline", ["wrapped\nline"]),
        ("Buy:\n- milk\n- eggs\n2) bread", ["Buy:", "- milk", "- eggs", "2) bread"]),
        ("page one\fpage two", ["page one", "page two"]),
        ("| a |\n| b |", ["| a |", "| b |"]),
        ("", []),
        (" \n\f ", []),
        ("...", ["..."]),
    ],
)
def test_sentences_end_where_readers_end_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


@given(punctuated | anything.map(normalise))
def test_sentences_ascend_trimmed_and_cover_all_but_white_space(text: str) -> None:
    spans = sentence_spans(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())


@given(punctuated, st.integers(0, 10), st.integers(0, 10))
def test_sentences_of_a_range_stay_inside_of_it(text: str, before: int, after: int) -> None:
    end = max(before, len(text) - after)
    spans = sentence_spans(text, before, end)
    assert all(before <= start < stop <= end for start, stop in spans)


def test_paragraphs_are_runs_of_lines_with_their_line_numbers() -> None:
    text = "\n\none\ntwo\n \t\n  three\n\n\nfour"
    assert [(text[s.start : s.end], s.line, s.page) for s in paragraphs(text)] == [
        ("one\ntwo", 3, None),
        ("  three", 6, None),
        ("four", 9, None),
    ]


def test_form_feeds_number_the_pages() -> None:
    text = "one\n\ftwo\n\nstill two\f\ffour"
    assert [(text[s.start : s.end], s.page, s.line) for s in paragraphs(text)] == [
        ("one", 1, 1),
        ("two", 2, 2),
        ("still two", 2, 4),
        ("four", 4, 4),
    ]


def test_blank_text_has_no_paragraphs() -> None:
    assert paragraphs(" \n\t\n\f ") == ()


@given(st.text(st.sampled_from("ab \t\n\f"), max_size=60))
def test_paragraphs_cover_all_but_white_space_and_know_their_place(text: str) -> None:
    found = paragraphs(text)
    assert "".join("".join(text[s.start : s.end].split()) for s in found) == "".join(text.split())
    assert all(s.line == text.count("\n", 0, s.start) + 1 for s in found)
    assert all(s.page == (text.count("\f", 0, s.start) + 1 if "\f" in text else None) for s in found)


@pytest.mark.parametrize("text", [" ", "\n \n", "a \t", ".", "A. ", "。", ".)", "\n" + " " * 60, "- ", "\f"])
def test_work_on_long_runs_does_not_explode(text: str) -> None:
    began = time.process_time()
    paragraphs(text * 40_000)
    sentence_spans(text * 40_000)
    assert time.process_time() - began < 10  # linear work takes a tenth of a second, quadratic work took minutes


@pytest.mark.parametrize(
    ("title", "headings", "expected"),
    [
        ("", (), ""),
        ("Guide", (), "Guide"),
        ("Guide", ("Guide", "Install"), "Guide > Install"),
        ("", ("Install",), "Install"),
        ("A\n B", ("C\tD", "", "C D"), "A B > C D > C D"),
    ],
)
def test_context_line_is_title_and_path(title: str, headings: tuple[str, ...], expected: str) -> None:
    assert context_line(title, headings) == expected


@given(anything, st.lists(anything, max_size=3).map(tuple))
@settings(max_examples=50)
def test_context_line_is_one_line_of_bounded_length(title: str, headings: tuple[str, ...]) -> None:
    line = context_line(title * 3, headings)
    assert len(unicodedata.normalize("NFD", line)) <= MAX_CONTEXT_CHARS
    assert "\n" not in line


def test_indexed_text_is_the_context_line_above_the_text() -> None:
    assert indexed_text("Guide", ("Use",), "Ask it.") == "Guide > Use\nAsk it."
    assert indexed_text("", (), "Ask it.") == "Ask it."
