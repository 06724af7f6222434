from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.boilerplate import find_boilerplate
from rag.store.catalog import Catalog
from rag.store.vectors import text_digest
from rag.store.view import View
from rag.text import indexed_text
from rag.types import Document, Span

C = "c"
NAMES = [f"p{i:02}" for i in range(12)]
FRUIT = dict(zip(NAMES, "apple pear plum cherry quince fig grape lemon lime mango melon peach".split(), strict=True))


def count_words(text: str) -> int:
    return len(text.split())


class Pages:
    """Documents of a catalog, each one chunk unless said otherwise, and what is left of them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def put(self, doc_id: str, *chunks: str, kind: str = "text", headings: tuple[str, ...] = ()) -> None:
        spans, text = [], ""
        for chunk in chunks:
            text += "\n\n" if text else ""
            spans.append(Span(len(text), len(text) + len(chunk), headings, None, 1 + text.count("\n"), 9))
            text += chunk
        document = Document(doc_id, doc_id, "", text, (), kind=kind)
        self._catalog.put_document(C, 1, f"/{doc_id}", document, spans, text)

    @property
    def view(self) -> View:
        return self._catalog.view(C, 1)

    def left(self, share: float = 0.3) -> dict[str, list[str]]:
        """Texts of the chunks by document, after boilerplate was left out."""
        self._catalog.put_trims(C, 1, find_boilerplate(self.view, share, count_words))
        found: dict[str, list[str]] = {name: [] for name in NAMES}
        for chunk in self.view.live_chunks():
            found.setdefault(chunk.doc_id, []).append(chunk.text)
        return found


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    catalog = Catalog(tmp_path, create=True)
    catalog.begin(C, "e", 4)
    yield Pages(catalog)
    catalog.close()


def test_header_and_footer_are_left_out_of_all_documents_but_the_first(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"Home | Shop | About\nThe {fruit} is ripe.\n\nImprint and privacy")
    left = pages.left()
    assert left.pop("p00") == ["Home | Shop | About\nThe apple is ripe.\n\nImprint and privacy"]
    assert left == {name: [f"The {FRUIT[name]} is ripe."] for name in NAMES[1:]}
    assert pages.view.counts().n_boilerplate == 2 * 11


def test_trimmed_chunk_is_counted_and_keyed_anew(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"Home  Shop\n\nThe {fruit} is ripe.")
    (row,) = [row for row in find_boilerplate(pages.view, 0.3, count_words) if row.chunk_no == 2]
    left = "The pear is ripe."
    assert (row.start, row.end, row.n_lines, row.n_blocks, row.n_tokens) == (12, 12 + len(left), 2, 1, 4)
    assert row.digest == text_digest(indexed_text("", (), left))


def test_chunk_of_boilerplate_alone_is_left_out(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"The {fruit} is ripe.", "Imprint\nPrivacy")
    assert {name: len(texts) for name, texts in pages.left().items()} == {name: 2 if name == "p00" else 1 for name in NAMES}


def test_text_of_documents_stays_whole(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"The {fruit} is ripe.\nImprint")
    pages.left()
    assert pages.view.document_text("p05") == "The fig is ripe.\nImprint"


def test_what_few_documents_share_is_kept(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"The {fruit} is ripe." + ("\nImprint" if name < "p09" else ""))
    assert pages.left()["p05"] == ["The fig is ripe.\nImprint"]


def test_what_a_small_share_of_the_documents_has_is_kept(pages: Pages) -> None:
    for name in (f"q{i:02}" for i in range(40)):
        pages.put(name, f"Number {name}." + ("\nImprint" if name < "q11" else ""))
    assert pages.left(0.3)["q05"] == ["Number q05.\nImprint"]
    assert pages.left(0.25)["q05"] == ["Number q05."]


def test_share_of_one_leaves_nothing_out(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"The {fruit} is ripe.\nImprint")
    assert find_boilerplate(pages.view, 1.0, count_words) == []


def test_clause_in_the_middle_is_kept(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"We sell {fruit}s.\nThe notice period is 30 days.", f"Signed by the {fruit} farmer.")
    assert pages.left()["p05"] == ["We sell figs.\nThe notice period is 30 days.", "Signed by the fig farmer."]


def test_header_of_every_page_is_left_out_in_the_middle_too(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"Annual report\nWe sell {fruit}s.", f"Annual report\nWe buy {fruit}s.", f"Annual report\nWe eat {fruit}s.")
    assert pages.left()["p05"] == ["We sell figs.", "We buy figs.", "We eat figs."]


def test_what_stands_inside_a_chunk_stays(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"We sell {fruit}s.\nMenu\nWe buy {fruit}s.\nMenu\nWe eat {fruit}s.")
    assert pages.left()["p05"] == ["We sell figs.\nMenu\nWe buy figs.\nMenu\nWe eat figs."]


def test_heading_is_kept(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"Introduction\n\nThe {fruit} is ripe.", headings=("Introduction",))
    assert pages.left()["p05"] == ["Introduction\n\nThe fig is ripe."]


def test_long_line_is_text_and_no_boilerplate(pages: Pages) -> None:
    terms = "word " * 25 + "end."
    for name, fruit in FRUIT.items():
        pages.put(name, f"The {fruit} is ripe.\n{terms}")
    assert pages.left()["p05"] == [f"The fig is ripe.\n{terms}"]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "code"])
def test_rows_and_program_lines_are_kept(pages: Pages, kind: str) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"import os\nprint('{fruit}')", kind=kind)
    assert pages.left()["p05"] == ["import os\nprint('fig')"]


def test_row_of_a_table_is_kept(pages: Pages) -> None:
    for name, fruit in FRUIT.items():
        pages.put(name, f"| fruit | price |\n| {fruit} | 3 |")
    assert pages.left()["p05"] == ["| fruit | price |\n| fig | 3 |"]


def test_document_of_nothing_else_is_kept(pages: Pages) -> None:
    for name in NAMES:
        pages.put(name, "All pages say this.")
    assert pages.left() == {name: ["All pages say this."] for name in NAMES}


def test_white_space_does_not_tell_blocks_apart(pages: Pages) -> None:
    for i, (name, fruit) in enumerate(FRUIT.items()):
        pages.put(name, f"The {fruit} is ripe.\n{' ' * i}All  rights{' ' * (i + 1)}reserved")
    assert pages.left()["p05"] == ["The fig is ripe."]
