"""What a page shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.read.html import extract, read_html
from ingest.read.origin import Origin
from rag.errors import InputError

ORIGIN = Origin(Path("site/page.html"), "d", "u", None)


def blocks(markup: str) -> list[tuple[str, str]]:
    page = extract(markup)
    return [(section.kind, page.text[section.start : section.end]) for section in page.sections]


def test_block_elements_are_paragraphs_between_blank_lines() -> None:
    assert extract("<div>one<p>two</div>three").text == "one\n\ntwo\n\nthree"


def test_inline_elements_and_white_space_do_not_break_words() -> None:
    assert extract("<p>\n a <b>b</b>c&nbsp;\n <i>d</i>\n</p>").text == "a bc d"


def test_line_break_is_kept() -> None:
    assert extract("<p>one<br>two</p>").text == "one\ntwo"


def test_headings_make_the_path() -> None:
    page = extract("<h1>A</h1><p>x</p><h2>B</h2><p>y</p><h1>C</h1>")

    assert [section.headings for section in page.sections] == [("A",), ("A",), ("A", "B"), ("A", "B"), ("C",)]


def test_row_is_one_line_of_cells_and_a_table_one_section() -> None:
    assert blocks("<table><tr><th>H<th>G<tr><td><p>1</p><p>2</p><td>3</table>") == [("table", "H | G\n1 2 | 3")]


def test_two_tables_are_two_sections() -> None:
    assert blocks("<table><tr><td>a</table><table><tr><td>b</table>") == [("table", "a"), ("table", "b")]


def test_caption_stands_before_its_table() -> None:
    assert blocks("<table><caption>Costs</caption><tr><td>a</table>") == [("prose", "Costs"), ("table", "a")]


def test_table_that_lays_out_a_page_is_read_as_blocks() -> None:
    markup = "<table><tr><td>nav</td><td><h1>T</h1><p>text</p></td></tr></table>"

    assert blocks(markup) == [("table", "nav"), ("heading", "T"), ("prose", "text")]


def test_code_keeps_its_white_space() -> None:
    assert blocks("<pre>\ndef f():\n    <b>return</b> 1\n\n</pre>") == [("code", "def f():\n    return 1")]


def test_code_in_one_element_a_line_keeps_its_lines() -> None:
    assert blocks("<pre><div>a</div><div>b</div></pre>") == [("code", "a\nb")]


def test_list_is_one_section_of_items() -> None:
    assert blocks("<ul><li>a<ol><li>b</ol><li><p>c</p><p>d</p></ul><p>e") == [("prose", "- a\n  - b\n- c\n  d"), ("prose", "e")]


@pytest.mark.parametrize(
    "markup",
    [
        "<script>x</script>",
        "<style>x</style>",
        "<template><p>x</p></template>",
        "<noscript>x</noscript>",
        "<!-- x -->",
        "<svg><title>x</title></svg>",
    ],
)
def test_what_is_no_text_of_the_page_is_left_out(markup: str) -> None:
    assert extract(f"<p>a</p>{markup}<p>b</p>").text == "a\n\nb"


def test_title_element_is_the_title() -> None:
    assert extract("<title>A &amp;\n B</title><h1>C</h1>").title == "A & B"


def test_first_main_heading_is_the_title_of_a_page_without() -> None:
    assert extract("<h2>x</h2><h1>C</h1><h1>D</h1>").title == "C"


def test_file_name_is_the_title_of_a_page_without_headings() -> None:
    assert read_html(b"<p>x", ORIGIN).title == "page"


def test_language_and_description_are_metadata() -> None:
    page = extract('<html lang="de"><meta name="Description" content="What it is"><meta name=viewport content=x><p>a')

    assert page.metadata == {"lang": "de", "description": "What it is"}


def test_declared_encoding_is_used() -> None:
    assert read_html(b'<meta charset="windows-1251"><p>' + "Привет".encode("cp1251"), ORIGIN).text == "Привет"


def test_declaration_that_does_not_fit_is_passed_over() -> None:
    assert read_html('<meta charset="shift_jis"><p>é — x'.encode(), ORIGIN).text == "é — x"


def test_byte_order_mark_wins_over_the_declaration() -> None:
    assert read_html('<meta charset="koi8-r"><p>é'.encode("utf-8-sig"), ORIGIN).text == "é"


def test_deep_nesting_is_read() -> None:
    assert extract("<div>" * 2900 + "deep").text == "deep"


def test_nesting_beyond_the_parser_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        extract("<div>" * 100_000 + "deep")

    assert caught.value.code == "too_deep"


def test_many_elements_side_by_side_are_not_deep() -> None:
    assert extract("<p><a name=x>a<br>" * 4000).text.startswith("a\n\na")
