"""Source code and configuration: text as it stands, one section a top-level block, named after what it defines.

A block begins at an unindented line after a blank one; indented lines and closing brackets continue the block before. Names are
recognised by one small pattern a language, on unindented lines only: cheap, and a miss costs no more than a heading.
"""

from __future__ import annotations

import re
from pathlib import Path

from ingest.read.decode import decode
from ingest.read.origin import Origin, clean, document
from rag.types import Document, Section

_LANGUAGES = {
    "python": ".py .pyi .pyx",
    "javascript": ".js .mjs .cjs .jsx .vue .svelte",
    "typescript": ".ts .tsx .mts .cts",
    "go": ".go",
    "rust": ".rs",
    "java": ".java",
    "kotlin": ".kt .kts",
    "scala": ".scala",
    "csharp": ".cs",
    "c": ".c .h",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx .cu .cuh",
    "ruby": ".rb",
    "php": ".php",
    "perl": ".pl .pm",
    "lua": ".lua",
    "r": ".r",
    "julia": ".jl",
    "swift": ".swift",
    "haskell": ".hs",
    "elixir": ".ex .exs",
    "shell": ".sh .bash .zsh .fish",
    "powershell": ".ps1",
    "sql": ".sql",
    "css": ".css .scss .less",
    "json": ".json",
    "yaml": ".yaml .yml",
    "toml": ".toml",
    "ini": ".ini .cfg .conf .properties",
    "xml": ".xml .xsd .xsl",
    "protobuf": ".proto",
    "graphql": ".graphql .gql",
    "terraform": ".tf",
    "cmake": ".cmake",
}
_BY_SUFFIX = {suffix: language for language, suffixes in _LANGUAGES.items() for suffix in suffixes.split()}
_BY_NAME = {"makefile": "make", "dockerfile": "dockerfile", "cmakelists.txt": "cmake", "jenkinsfile": "groovy", "rakefile": "ruby"}

_CLASSES = r"(?:[a-z]+\s+)*(?:class|interface|enum|record|object|struct|trait)\s+(\w+)"
_SCRIPT = (
    r"(?:export\s+)?(?:default\s+)?(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(?:function\s*\*?|class|interface|enum|type|namespace)\s+([\w$]+)"
    r"|(?:export\s+)?(?:const|let|var)\s+([\w$]+)\s*=\s*(?:async\s*)?(?:\(|function\b|[\w$]+\s*=>)"
)
_C = r"(?:typedef\s+)?(?:struct|class|enum|union|namespace)\s+(\w+)\s*[^;]*$|[A-Za-z_][\w\s*&:<>,]*?([\w:~]+)\s*\([^;]*$"
_DEFINITIONS = {
    "python": re.compile(r"(?:async\s+)?(?:def|class)\s+(\w+)"),
    "javascript": re.compile(_SCRIPT),
    "typescript": re.compile(_SCRIPT),
    "go": re.compile(r"func\s+(?:\([^)]*\)\s*)?(\w+)|type\s+(\w+)"),
    "rust": re.compile(
        r"(?:pub(?:\([^)]*\))?\s+)?(?:(?:async|unsafe|const)\s+)*(?:fn|struct|enum|trait|mod|union)\s+(\w+)|(impl\b[^{]*)"
    ),
    "java": re.compile(_CLASSES),
    "kotlin": re.compile(_CLASSES + r"|(?:[a-z]+\s+)*fun\s+(\w+)"),
    "scala": re.compile(_CLASSES + r"|def\s+(\w+)"),
    "csharp": re.compile(_CLASSES),
    "c": re.compile(_C),
    "cpp": re.compile(_C),
    "ruby": re.compile(r"(?:def|class|module)\s+([\w.:?!]+)"),
    "php": re.compile(r"(?:[a-z]+\s+)*(?:function|class|interface|trait)\s+(\w+)"),
    "shell": re.compile(r"(?:function\s+)?([\w-]+)\s*\(\)|function\s+([\w-]+)"),
}
# A definition shows its name early; the cut also bounds the work of the patterns on minified lines.
_MAX_SCANNED_CHARS = 200
_CLOSING = tuple(")]}")


def language_of(path: Path) -> str:
    """Tell the language of a source file by its name.

    Args:
        path: The file; it need not exist.

    Returns:
        A lower-case name, or an empty string for files that are no source code.
    """
    return _BY_SUFFIX.get(path.suffix.lower()) or _BY_NAME.get(path.name.lower(), "")


def read_code(data: bytes, origin: Origin) -> Document:
    """Read source code; raises `InputError` with code ``binary``, ``encoding`` or ``empty``.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document whose text is that of the file, with ``language`` in the metadata.
    """
    text = clean(decode(data))
    language = language_of(origin.path)
    return document(origin, "code", origin.path.name, text, _blocks(text, language), {"language": language})


def _blocks(text: str, language: str) -> list[Section]:
    sections: list[Section] = []
    begin = end = begin_line = at = 0
    after_blank = True
    for line_no, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            is_new = after_blank and not (line[0].isspace() or line.startswith(_CLOSING))
            if end and is_new:
                sections.append(_block(text, begin, end, begin_line, language))
            if is_new or not end:
                begin, begin_line = at, line_no
            end = at + len(line.rstrip())
        after_blank = not line.strip()
        at += len(line) + 1
    if end:
        sections.append(_block(text, begin, end, begin_line, language))
    return sections


def _block(text: str, begin: int, end: int, line_no: int, language: str) -> Section:
    pattern = _DEFINITIONS.get(language)
    name = ""
    if pattern:
        found = (pattern.match(line[:_MAX_SCANNED_CHARS]) for line in text[begin:end].split("\n") if line)
        name = next((next(filter(None, match.groups()), "").strip() for match in found if match), "")
    return Section(begin, end, "code", (name,) if name else (), line=line_no)
