"""EPUB: the pages of the book in reading order, each through the HTML reader.

References:
    W3C EPUB 3.3; OPF 2.0.1 for older books.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from ingest.read.html import decoded, extract
from ingest.read.ooxml import Package, Properties
from ingest.read.xml_events import Attributes, parse
from rag.errors import InputError
from rag.types import Section

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGE_TYPES = ("application/xhtml+xml", "text/html")
# In XML any element may be closed at once; an HTML parser would take the rest of the page for the text of such a title or script.
_CLOSED_AT_ONCE = re.compile(r"<([a-zA-Z][\w:-]{0,30})((?:\s[^<>]{0,2000})?)/>")
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())


@dataclass(frozen=True, slots=True)
class Book:
    """What a book says; text and sections as a page of HTML has them, metadata with its title where it has one."""

    text: str
    sections: tuple[Section, ...]
    metadata: dict[str, str]


def epub_book(package: Package) -> Book:
    """Read a book.

    Args:
        package: The file.

    Returns:
        Its pages in the order of the spine, without page numbers: they depend on the screen.

    Raises:
        InputError: With code ``unreadable``, ``encrypted``, ``too_deep``, ``too_large``, ``binary`` or ``encoding``.
    """
    if not package.has(_CONTAINER):
        raise InputError(f"holds no {_CONTAINER}, so it is no EPUB; rename it by its format", code="unreadable")
    container = _Container()
    parse(package.part(_CONTAINER), container, _CONTAINER)
    root = container.root
    contents = _Contents(posixpath.dirname(root))
    parse(package.part(root), contents, root)
    protected = unquote(package.part(_ENCRYPTION).decode("utf-8", "replace")) if package.has(_ENCRYPTION) else ""
    pieces: list[str] = []
    sections: list[Section] = []
    length = 0
    for name in contents.pages():
        if not package.has(name):
            raise InputError(f"names the page {name!r}, which is not in it; make it again", code="unreadable")
        if f'"{name}"' in protected:
            raise InputError("is protected against copying; get it without protection", code="encrypted")
        page = extract(_CLOSED_AT_ONCE.sub(_opened, decoded(package.part(name))))
        if page.text:
            length += 2 if pieces else 0
            pieces.append(page.text)
            sections += [replace(at, start=at.start + length, end=at.end + length) for at in page.sections]
            length += len(page.text)
    return Book("\n\n".join(pieces), tuple(sections), contents.properties.metadata())


def _opened(found: re.Match[str]) -> str:
    return found[0] if found[1].lower() in _VOID else f"<{found[1]}{found[2]}></{found[1]}>"


class _Container:
    """Name of the package document."""

    def __init__(self) -> None:
        self.root = ""

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "rootfile":
            self.root = self.root or attributes.get("full-path", "")

    def end(self, name: str) -> None:
        """Nothing follows from it."""

    def text(self, data: str) -> None:
        """There is none."""


class _Contents:
    """Metadata, and which pages there are in which order."""

    def __init__(self, folder: str) -> None:
        self.properties = Properties()
        self._folder = folder
        self._pages: dict[str, str] = {}
        self._spine: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        self.properties.start(name, attributes)
        if name == "item" and attributes.get("media-type") in _PAGE_TYPES:
            target = posixpath.normpath(posixpath.join("/", self._folder, unquote(attributes.get("href", "")))).lstrip("/")
            self._pages[attributes.get("id", "")] = target
        elif name == "itemref":
            self._spine.append(attributes.get("idref", ""))

    def end(self, name: str) -> None:
        self.properties.end(name)

    def text(self, data: str) -> None:
        self.properties.text(data)

    def pages(self) -> list[str]:
        """Names of the pages in reading order; each once, however often the spine names it."""
        return list(dict.fromkeys(self._pages[key] for key in self._spine if key in self._pages))
