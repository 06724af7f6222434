"""Notebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.read.notebook import read_notebook
from ingest.read.origin import Origin
from rag.errors import InputError
from rag.types import Document

ORIGIN = Origin(Path("work/trial.ipynb"), "d", "u", None)


def notebook(cells: Sequence[object]) -> Document:
    content = {"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": cells}
    return read_notebook(json.dumps(content).encode(), ORIGIN)


def markdown(source: object) -> dict[str, object]:
    return {"cell_type": "markdown", "source": source}


def code(source: object, outputs: Sequence[object] = ()) -> dict[str, object]:
    return {"cell_type": "code", "source": source, "outputs": outputs}


def pieces(document: Document) -> list[tuple[str, tuple[str, ...], str]]:
    return [(s.kind, s.headings, document.text[s.start : s.end]) for s in document.sections]


def test_headings_reach_over_cells() -> None:
    document = notebook([markdown(["# Title\n", "\n", "Text."]), code("x = 1"), markdown("## Part\n\nMore.")])
    assert pieces(document) == [
        ("heading", ("Title",), "Title"),
        ("prose", ("Title",), "Text."),
        ("code", ("Title",), "x = 1"),
        ("heading", ("Title", "Part"), "Part"),
        ("prose", ("Title", "Part"), "More."),
    ]
    assert (document.title, document.kind, document.metadata["language"]) == ("Title", "notebook", "python")
    assert {section.line for section in document.sections} == {None}


def test_text_of_outputs_is_kept_and_pictures_are_dropped() -> None:
    outputs = [
        {"output_type": "stream", "text": ["one\n", "two\n"]},
        {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": "<Figure>"}},
        {"output_type": "execute_result", "data": {"text/plain": "42"}},
        {"output_type": "error", "ename": "ValueError", "evalue": "bad", "traceback": ["\x1b[31mlong"]},
    ]
    document = notebook([code("run()", outputs)])
    assert [text for _, _, text in pieces(document)] == ["run()", "one\ntwo", "<Figure>", "42", "ValueError: bad"]


def test_long_output_is_cut_and_says_so() -> None:
    document = notebook([code("run()", [{"output_type": "stream", "text": "x" * 10_000}])])
    assert pieces(document)[1][2].endswith("x\n[output cut: 6,000 of 10,000 characters left out]")


def test_code_that_looks_like_a_fence_or_a_heading_stays_code() -> None:
    source = "~~~~~~~~\n# no heading\n```\n"
    assert pieces(notebook([code(source), markdown("Text.")])) == [("code", (), source.rstrip()), ("prose", (), "Text.")]


def test_comment_that_is_not_closed_does_not_swallow_other_cells() -> None:
    assert [text for _, _, text in pieces(notebook([markdown("<!-- open"), markdown("Text.")]))] == ["Text."]


def test_version_3_is_read() -> None:
    cells = [
        {"cell_type": "heading", "level": 1, "source": "Old"},
        {"cell_type": "code", "input": "print 1", "outputs": [{"output_type": "stream", "text": "1"}]},
    ]
    document = read_notebook(json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}]}).encode(), ORIGIN)
    assert [text for _, _, text in pieces(document)] == ["Old", "print 1", "1"]


def test_file_name_is_the_title_of_a_notebook_without_headings() -> None:
    assert notebook([markdown("Text.")]).title == "trial"


@pytest.mark.parametrize("data", [b"{", b"[]", b"{}", b'{"cells": 3}', b"[" * 100_000])
def test_what_is_no_notebook_is_unreadable(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_notebook(data, ORIGIN)
    assert caught.value.code == "unreadable"


@pytest.mark.parametrize("cells", [[], [3, None], [markdown(None)], [code(7)], [{"cell_type": "raw", "source": "x"}]])
def test_notebook_without_text_is_empty(cells: Sequence[object]) -> None:
    with pytest.raises(InputError) as caught:
        notebook(cells)
    assert caught.value.code == "empty"
