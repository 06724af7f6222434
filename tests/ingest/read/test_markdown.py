"""Markdown blocks as sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.read.front_matter import front_matter
from ingest.read.markdown import read_markdown
from ingest.read.origin import Origin
from rag.types import Document


def read(text: str) -> Document:
    return read_markdown(text.encode(), Origin(Path("guide.md"), "d", "u", None))


def blocks(text: str) -> list[tuple[str, str]]:
    document = read(text)
    return [(section.kind, document.text[section.start : section.end]) for section in document.sections]


def test_heading_path_includes_the_heading_itself() -> None:
    document = read("# A\n\none\n\n## B\n\ntwo\n\n# C\n")

    assert [section.headings for section in document.sections] == [("A",), ("A",), ("A", "B"), ("A", "B"), ("C",)]


def test_heading_section_is_the_title_without_its_marks() -> None:
    assert blocks("## Costs ##\ntext") == [("heading", "Costs"), ("prose", "text")]


@pytest.mark.parametrize(("underline", "path"), [("===", ("Costs of heat",)), ("---", ("Costs of heat",))])
def test_underlined_paragraph_is_a_heading(underline: str, path: tuple[str, ...]) -> None:
    document = read(f"Costs\nof heat\n{underline}\ntext")

    assert [(s.kind, s.headings) for s in document.sections] == [("heading", path), ("prose", path)]


def test_underline_of_dashes_is_of_the_second_level() -> None:
    document = read("A\n===\nB\n---\nC\n---\n")

    assert document.sections[-1].headings == ("A", "C")


def test_heading_is_read_without_markup() -> None:
    assert read("# The `rag` [tool](http://x) **now** {#tool}").sections[0].headings == ("The rag tool now",)


def test_hash_without_space_is_no_heading() -> None:
    assert blocks("#hashtag") == [("prose", "#hashtag")]


def test_fenced_code_is_code_and_its_comments_are_no_headings() -> None:
    assert blocks("```sh\n# no heading\n\nmake run\n```\nafter") == [("code", "# no heading\n\nmake run"), ("prose", "after")]


def test_fence_closes_only_with_its_own_kind_and_length() -> None:
    assert blocks("~~~~\n```\n~~~\n~~~~\nafter") == [("code", "```\n~~~"), ("prose", "after")]


def test_unclosed_fence_runs_to_the_end() -> None:
    assert blocks("```\n# code\n\nmore") == [("code", "# code\n\nmore")]


def test_indented_code_right_after_a_fence_is_read_once() -> None:
    assert blocks("```\na\n```\n    b\nc") == [("code", "a"), ("code", "    b"), ("prose", "c")]


def test_indented_code_keeps_blank_lines_and_indent() -> None:
    assert blocks("x\n\n    a\n\n      b\n\ny") == [("prose", "x"), ("code", "    a\n\n      b"), ("prose", "y")]


def test_indented_line_continues_a_paragraph() -> None:
    assert blocks("a\n    b") == [("prose", "a\n    b")]


def test_pipe_table_is_one_section() -> None:
    table = "| a | b |\n|:--|--:|\n| 1 | 2 |"

    assert blocks(f"before\n{table}\n\nafter") == [("prose", "before"), ("table", table), ("prose", "after")]


def test_pipe_without_rule_below_is_prose() -> None:
    assert blocks("a | b\nc | d") == [("prose", "a | b\nc | d")]


def test_list_is_one_section_with_its_loose_items_and_paragraphs() -> None:
    items = "- one\n\n  more\n- two\nlazy\n\n1. three"

    assert blocks(f"intro\n{items}\n\nafter") == [("prose", "intro"), ("prose", items), ("prose", "after")]


def test_heading_inside_the_fence_of_an_item_is_code() -> None:
    assert {kind for kind, _ in blocks("- a\n  ```\n# x\n\n# y\n  ```\n- b")} == {"prose"}


def test_heading_ends_a_list() -> None:
    assert blocks("- a\n# H") == [("prose", "- a"), ("heading", "H")]


def test_number_in_a_paragraph_begins_no_list() -> None:
    assert blocks("It was in\n1986. Then") == [("prose", "It was in\n1986. Then")]


def test_thematic_break_is_in_no_section() -> None:
    assert blocks("a\n\n***\n\n- - -\n\nb") == [("prose", "a"), ("prose", "b")]


def test_comment_over_blank_lines_is_left_out() -> None:
    assert blocks("a\n\n<!-- gone\n\n# gone\n--> b\n\nc") == [("prose", "a"), ("prose", "b"), ("prose", "c")]


def test_comment_inside_a_paragraph_cuts_it() -> None:
    assert blocks("one <!-- gone --> two") == [("prose", "one"), ("prose", "two")]


def test_comment_in_inline_code_is_text() -> None:
    assert blocks("write `<!-- more -->` there") == [("prose", "write `<!-- more -->` there")]


def test_unclosed_comment_is_text() -> None:
    assert blocks("<!-- never\n\nclosed") == [("prose", "<!-- never"), ("prose", "closed")]


def test_lines_count_the_front_matter() -> None:
    document = read("---\ntitle: T\n---\n# A\n\ntext")

    assert [section.line for section in document.sections] == [4, 6]


def test_front_matter_is_metadata_and_in_no_section() -> None:
    document = read("---\ntitle: T\nlang: en\n---\ntext")

    assert dict(document.metadata) == {"title": "T", "lang": "en"}
    assert document.text[document.sections[0].start :] == "text"


def test_title_is_that_of_the_front_matter_before_the_heading() -> None:
    assert read("---\nTitle: Front\n---\n# Heading").title == "Front"


def test_title_is_the_first_main_heading() -> None:
    assert read("## Sub\n\n# Main\n\n# Other").title == "Main"


def test_title_falls_back_to_the_file_name() -> None:
    assert read("text").title == "guide"


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("k: plain text", "plain text"),
        ('k: "quoted: # text" # comment', "quoted: # text"),
        ("k: C# guide # comment", "C# guide"),
        ("k: [a, 'b', c]", "a, b, c"),
        ("k:\n  - a\n  - b", "a, b"),
        ("k: 2024-05-01", "2024-05-01"),
    ],
)
def test_simple_front_matter_is_understood(line: str, value: str) -> None:
    assert front_matter(f"---\n{line}\n---\n").values == {"k": value}


@pytest.mark.parametrize("line", ["k: |\n  block", "k:\n  nested: 1", "k: {a: 1}", "no pair", "k: *alias"])
def test_other_front_matter_is_text(line: str) -> None:
    assert front_matter(f"---\n{line}\n---\n").n_lines == 0


def test_rule_at_the_top_without_a_second_is_no_front_matter() -> None:
    assert front_matter("---\nk: v\n").n_lines == 0
