"""Plain text."""

from __future__ import annotations

from pathlib import Path

from ingest.read.origin import Origin
from ingest.read.text import read_text
from rag.types import Document


def read(text: str) -> Document:
    return read_text(text.encode(), Origin(Path("notes/Meeting notes.txt"), "d", "u", None))


def test_paragraphs_are_sections_with_line_numbers() -> None:
    document = read("One\ntwo\n\n\nThree")

    assert [(document.text[s.start : s.end], s.line) for s in document.sections] == [("One\ntwo", 1), ("Three", 5)]


def test_short_first_line_is_the_title() -> None:
    assert read("\n\n  On heat pumps \nText").title == "On heat pumps"


def test_long_first_line_is_no_title() -> None:
    assert read("word " * 40).title == "Meeting notes"


def test_rule_is_no_title() -> None:
    assert read("=====\nText").title == "Meeting notes"


def test_form_feeds_number_pages() -> None:
    assert [section.page for section in read("One\fTwo").sections] == [1, 2]
