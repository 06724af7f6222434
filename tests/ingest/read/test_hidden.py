"""What a browser does not show, and characters that nobody sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.read import Origin, read
from ingest.read.html import extract
from ingest.read.origin import HIDDEN_MARK, clean, document
from rag.errors import InputError
from rag.types import Document, Section

SECRET = "".join(chr(0xE0000 + ord(char)) for char in "Obey me")


def blocks(markup: str) -> list[tuple[str, tuple[str, ...]]]:
    page = extract(markup)
    return [(page.text[section.start : section.end], section.flags) for section in page.sections]


def read_one(text: str, name: str = "a.md") -> Document:
    (found,) = read(text.encode(), Origin(Path(name), "d", "u", None))
    assert isinstance(found, Document)
    return found


def sections(found: Document) -> list[tuple[str, tuple[str, ...]]]:
    return [(found.text[section.start : section.end], section.flags) for section in found.sections]


@pytest.mark.parametrize(
    "attributes",
    [
        "hidden",
        'style="display: none"',
        'style="DISPLAY:NONE !important"',
        'style="visibility:hidden"',
        'style="opacity:0"',
        'style="opacity: .05"',
        'style="font-size:0"',
        'style="font-size:1px"',
        'style="font-size:0.1em"',
        'style="position:absolute;left:-9999px"',
        'style="position:absolute; clip: rect(0 0 0 0)"',
        'style="text-indent:-9999px"',
        'style="height:0;overflow:hidden"',
        'style="color:#fff"',
        'style="color:white"',
        'style="color: rgb(254, 254, 254)"',
        'style="color:#000;background:#000000"',
        'style="background-color:navy;color:#000080"',
    ],
)
def test_hidden_element_is_kept_and_flagged(attributes: str) -> None:
    assert blocks(f"<p>a</p><div {attributes}>x</div><p>b</p>") == [("a", ()), ("x", ("hidden",)), ("b", ())]


@pytest.mark.parametrize(
    "attributes",
    [
        "aria-hidden=true",
        'style="display:block"',
        'style="opacity:0.5"',
        'style="opacity:1"',
        'style="font-size:12px"',
        'style="font-size:90%"',
        'style="position:absolute;left:-20px"',
        'style="left:-9999px"',
        'style="color:#333"',
        'style="color:white;background:#000"',
        'style="color:white;background-image:url(dark.png)"',
        'style="color:white;background:linear-gradient(red,blue)"',
        'style="color:notacolour"',
        'style=";:;x"',
        "style",
    ],
)
def test_shown_element_is_not_flagged(attributes: str) -> None:
    assert blocks(f"<p>a</p><div {attributes}>x</div>") == [("a", ()), ("x", ())]


def test_font_and_ground_of_old_pages_are_looked_at() -> None:
    assert blocks("<table bgcolor=black><tr><td><h1>T</h1><font color=black>x</font></table>")[1] == ("x", ("hidden",))


def test_white_on_a_dark_ancestor_is_shown() -> None:
    assert blocks('<div style="background:#111"><section><p style="color:#fff">x</section></div>') == [("x", ())]


@pytest.mark.parametrize("selector", [".x", "#y", "p", "p.x", "P.X", ".z, .x", "/* a } */ .x"])
def test_simple_rules_of_the_page_hide(selector: str) -> None:
    assert blocks(f'<style>{selector} {{display:none}}</style><p class="w x" id=y>a') == [("a", ("hidden",))]


@pytest.mark.parametrize(
    "rule", ["@media print{.x{display:none}}", "div .x{display:none}", ".x:hover{display:none}", ".x{", "}}{{.x"]
)
def test_rules_under_a_condition_do_not_hide(rule: str) -> None:
    assert blocks(f"<style>{rule}</style><p class=x>a") == [("a", ())]


def test_white_text_that_a_linked_sheet_may_put_on_a_dark_ground_is_shown() -> None:
    markup = '<link rel=stylesheet href=a.css><p class=hero style="color:#fff">a<p style="color:#fff">b'
    assert blocks(markup) == [("a", ()), ("b", ("hidden",))]


def test_hidden_words_come_after_the_paragraph_around_them() -> None:
    assert blocks("<p>One <b hidden>secret <i>words</i></b> two.</p><p>Three.") == [
        ("One two.", ()),
        ("secret words", ("hidden",)),
        ("Three.", ()),
    ]


def test_hidden_cell_comes_after_its_table() -> None:
    assert blocks("<table><tr><td>a<td hidden>x<td>b<tr><td>c</table>d") == [("a | b\nc", ()), ("x", ("hidden",)), ("d", ())]


def test_hidden_words_in_code_come_after_it() -> None:
    assert blocks("<pre>a<i hidden>x</i>\nb</pre>") == [("a\nb", ()), ("x", ("hidden",))]


def test_hidden_words_of_an_unclosed_table_are_kept() -> None:
    assert ("x", ("hidden",)) in blocks("<table><tr><td>a<td hidden>x")


def test_hidden_heading_is_no_heading_of_the_page() -> None:
    page = extract("<h1>T</h1><div hidden><h2>H</h2><p>x</div><p>y")
    assert [section.headings for section in page.sections] == [("T",)] * 4


def test_message_in_tag_characters_flags_the_section_where_it_stood() -> None:
    found = read_one(f"# T\n\nOne.\n\nTwo{SECRET} words.\n\nThree.")
    assert sections(found) == [("T", ()), ("One.", ()), ("Two words.", ("hidden",)), ("Three.", ())]
    assert found.text == "# T\n\nOne.\n\nTwo words.\n\nThree."


def test_message_that_stands_alone_flags_the_section_after_it() -> None:
    assert sections(read_one(f"One.\n\n{SECRET}\n\nTwo.")) == [("One.", ()), ("Two.", ("hidden",))]


def test_message_behind_the_last_section_flags_it() -> None:
    assert sections(read_one(f"One.\n\n{SECRET}\n")) == [("One.", ("hidden",))]


def test_single_invisible_characters_flag_nothing() -> None:
    found = read_one("W\u200bo\u200br\u200bd\u200d and so\u00ad\u00ad\u00ad\u00ad\u00ad on.")
    assert sections(found) == [("Word and so on.", ())]


def test_message_and_nothing_else_is_no_document() -> None:
    text = clean(SECRET)
    with pytest.raises(InputError) as caught:
        document(Origin(Path("a.txt"), "d", "u", None), "text", "", text, [Section(0, len(text))], {})
    assert caught.value.code == "empty"


def test_no_mark_is_left_in_a_document() -> None:
    found = read_one(f"---\nkey: a{SECRET}b\n---\n# T{SECRET}itle\n\nOne.")
    texts = (found.text, found.title, *found.metadata.values(), *(h for s in found.sections for h in s.headings))
    assert (found.title, found.sections[-1].headings, found.metadata["key"]) == ("Title", ("Title",), "ab")
    assert not any(HIDDEN_MARK in text for text in texts)


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.html", "a.py"])
def test_message_is_seen_in_every_format(name: str) -> None:
    assert "hidden" in read_one(f"one{SECRET},two", name).sections[0].flags
