"""Source code."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.read.code import read_code
from ingest.read.origin import Origin
from rag.types import Document


def read(text: str, name: str = "pkg/app.py") -> Document:
    return read_code(text.encode(), Origin(Path(name), "d", "u", None))


def test_top_level_blocks_are_sections_with_true_lines() -> None:
    document = read("import os\n\n\nclass A:\n    x = 1\n\n    def f(self):\n        pass\n\nX = 1\n")

    assert [(section.line, section.headings) for section in document.sections] == [(1, ()), (4, ("A",)), (10, ())]


def test_closing_bracket_after_a_blank_line_continues_the_block() -> None:
    assert len(read("int f() {\n\n  x;\n\n}\n", "a.c").sections) == 1


def test_section_keeps_indent_and_blank_lines() -> None:
    document = read("def f():\n    a\n\n    b\n\n\nx")

    assert document.text[document.sections[0].start : document.sections[0].end] == "def f():\n    a\n\n    b"


@pytest.mark.parametrize(
    ("name", "line", "heading"),
    [
        ("a.py", "async def run(x):", "run"),
        ("a.py", "@decorated\ndef run(x):", "run"),
        ("a.ts", "export default async function load() {", "load"),
        ("a.js", "export const add = (a, b) => a", "add"),
        ("a.go", "func (s *Server) Run() {", "Run"),
        ("a.go", "type Server struct {", "Server"),
        ("a.rs", "pub(crate) async fn go<T>() {", "go"),
        ("a.rs", "impl<T> Show for Thing<T> {", "impl<T> Show for Thing<T>"),
        ("A.java", "public final class Main {", "Main"),
        ("a.c", "static int *parse(const char *s)", "parse"),
        ("a.cpp", "void Server::run() {", "Server::run"),
        ("a.cpp", "namespace net {", "net"),
        ("a.sh", "build() {", "build"),
        ("a.yaml", "key: value", ""),
    ],
)
def test_definition_names_its_block(name: str, line: str, heading: str) -> None:
    assert read(line, name).sections[0].headings == ((heading,) if heading else ())


def test_title_is_the_file_name_and_the_language_is_metadata() -> None:
    document = read("x = 1")

    assert (document.title, dict(document.metadata)) == ("app.py", {"language": "python"})
