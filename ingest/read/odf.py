"""ODT: headings, paragraphs, lists, code, table rows, notes, headers and footers of an OpenDocument text.

Read from its XML, not with kreuzberg, which keeps only the first paragraph of a cell, found a third of the table rows and does not tell
hidden text (measured with kreuzberg 4.10.4, `bench/formats.py`).

References:
    OASIS OpenDocument 1.3 part 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.read.flow import Flow, Placed
from ingest.read.ooxml import Package, Properties
from ingest.read.styles import heading_of, is_code_style
from ingest.read.xml_events import Attributes, parse
from rag.errors import InputError

# What was deleted, comments of reviewers, and the numbers of notes.
_SKIPPED = frozenset(("tracked-changes", "annotation", "note-citation", "ruby-text"))
_TABLE_PARTS = {"table": "table", "table-row": "tr", "table-cell": "td", "covered-table-cell": "td"}
_MAX_STYLE_CHAIN = 20
# A cell or space may claim to be there millions of times.
_MAX_REPEATED = 64


def open_odf(data: bytes, kinds: tuple[str, ...]) -> Package:
    """Open an OpenDocument file.

    Args:
        data: The whole file.
        kinds: What its declared type may begin with after ``application/vnd.oasis.opendocument.``.

    Returns:
        The package.

    Raises:
        InputError: With code ``encrypted``, ``zip_bomb`` or ``unreadable``.
    """
    package = Package(data)
    declared = package.part("mimetype").decode("ascii", "replace").strip() if package.has("mimetype") else ""
    if not declared.removeprefix("application/vnd.oasis.opendocument.").startswith(kinds):
        raise InputError(
            f"declares the type {declared[:60]!r}, expected is an OpenDocument {kinds[0]}; rename it by its format",
            code="unreadable",
        )
    if package.has("META-INF/manifest.xml") and b"encryption-data" in package.part("META-INF/manifest.xml"):
        raise InputError("is protected by a password; remove the password", code="encrypted")
    return package


def odf_properties(package: Package) -> dict[str, str]:
    """Metadata of an OpenDocument file: title, author, date (of the last change), subject, description, if given."""
    found = Properties()
    if package.has("meta.xml"):
        parse(package.part("meta.xml"), found, "meta.xml")
    return found.metadata()


def odt_blocks(package: Package) -> list[Placed]:
    """Blocks of a text document: headers and footers, then the body; notes follow the paragraph that they belong to.

    Args:
        package: From `open_odf`.

    Returns:
        In reading order, without pages; what hidden sections and hidden characters say is flagged, and so is white text.

    Raises:
        InputError: With code ``unreadable``, ``too_deep``, ``too_large`` or ``encrypted``.
    """
    styles: dict[str, _Style] = {}
    margins: dict[str, Placed] = {}
    if package.has("styles.xml"):
        reader = _Body(styles, margin=True)
        parse(package.part("styles.xml"), reader, "styles.xml")
        for placed in reader.flow.blocks():
            if any(char.isalpha() for char in placed.block.text):
                margins.setdefault(
                    placed.block.text, replace(placed, block=replace(placed.block, headings=(), kind="prose", group=0))
                )
    reader = _Body(styles)
    parse(package.part("content.xml"), reader, "content.xml")
    return [*margins.values(), *reader.flow.blocks()]


@dataclass(frozen=True, slots=True)
class _Style:
    """What a style says."""

    parent: str = ""
    is_hidden: bool = False
    color: str = ""
    is_shaded: bool = False


class _Body:
    """Events of one part to a flow; its styles come before its text.

    Args:
        styles: Known so far, by name; those of the part are added.
        margin: Whether to take the headers and footers of its page styles in the place of its text.
    """

    def __init__(self, styles: dict[str, _Style], *, margin: bool = False) -> None:
        self.flow = Flow()
        self._styles = styles
        self._places = ("header", "footer") if margin else ("body",)
        self._n_inside = 0
        self._style_name = ""
        self._n_skipped = 0
        self._n_open = 0
        self._n_lists = 0
        self._n_tables = 0
        self._hidden: list[bool] = []
        self._chains: list[list[str]] = []

    def start(self, name: str, attributes: Attributes) -> None:
        self._n_inside += name in self._places
        if not self._n_inside:
            self._start_style(name, attributes)
        elif self._n_skipped or name in _SKIPPED:
            self._n_skipped += name in _SKIPPED
        elif name in ("p", "h"):
            self._start_paragraph(name, attributes)
        elif name in _TABLE_PARTS:
            self._n_tables += name == "table"
            self.flow.open_table_part(_TABLE_PARTS[name])
        elif name == "list":
            self._n_lists += 1
        elif name in ("span", "section", "hidden-text", "hidden-paragraph"):
            self._start_range(name, attributes)
        elif self._n_open:
            self._start_mark(name, attributes)

    def _start_style(self, name: str, attributes: Attributes) -> None:
        if name == "style":
            self._style_name = attributes.get("name", "")
            self._styles[self._style_name] = _Style(attributes.get("parent-style-name", ""))
        elif name in ("text-properties", "paragraph-properties") and (style := self._styles.get(self._style_name)):
            is_shaded = attributes.get("background-color", "transparent").lower() not in ("transparent", "#ffffff")
            self._styles[self._style_name] = replace(
                style,
                is_hidden=style.is_hidden or attributes.get("display") == "none",
                color=attributes.get("color", style.color).lower(),
                is_shaded=style.is_shaded or is_shaded,
            )

    def _is_white(self) -> bool:
        """Whether the text that comes now is white; in tables and boxes that is how headings look."""
        if self._n_tables or self._n_open > 1:
            return False
        styles = [self._styles[name] for chain in reversed(self._chains) for name in chain if name in self._styles]
        color = next((style.color for style in styles if style.color), "")
        return color == "#ffffff" and not any(style.is_shaded for style in styles)

    def _start_paragraph(self, name: str, attributes: Attributes) -> None:
        chain = self._chain(attributes.get("style-name", ""))
        heading = max(heading_of(style) for style in chain)
        if name == "h":
            level = attributes.get("outline-level", "1")
            heading = max(int(level[:2]), 1) if level.isdecimal() else 1
        self.flow.open_paragraph(heading, self._n_lists, is_code=any(is_code_style(style.replace("_20_", " ")) for style in chain))
        self._n_open += 1
        self._chains.append(chain)
        self._hidden.append(any(self._styles[style].is_hidden for style in chain if style in self._styles))

    def _start_range(self, name: str, attributes: Attributes) -> None:
        if name == "span":
            chain = self._chain(attributes.get("style-name", ""))
            is_hidden = any(self._styles[style].is_hidden for style in chain if style in self._styles)
        else:
            chain = []
            is_hidden = name != "section" or attributes.get("display", "true") != "true"
        self._chains.append(chain)
        self._hidden.append(is_hidden)
        if name == "hidden-text":
            self.text(attributes.get("string-value", ""))

    def _start_mark(self, name: str, attributes: Attributes) -> None:
        if name == "s":
            count = attributes.get("c", "1")
            self.flow.text(" " * min(int(count[:3]) if count.isdecimal() else 1, _MAX_REPEATED))
        elif name == "tab":
            self.flow.text(" ")
        elif name == "line-break":
            self.flow.line_break()

    def _chain(self, name: str) -> list[str]:
        """A style and those that it inherits from."""
        chain = [name]
        while len(chain) < _MAX_STYLE_CHAIN and (style := self._styles.get(chain[-1])) and style.parent:
            chain.append(style.parent)
        return chain

    def text(self, data: str) -> None:
        if self._n_open and not self._n_skipped:
            # Line ends between words are white space in the format.
            self.flow.text(data.replace("\n", " "))
            if data.strip() and (any(self._hidden) or self._is_white()):
                self.flow.hide()

    def end(self, name: str) -> None:
        if not self._n_inside:
            self._style_name = "" if name == "style" else self._style_name
        elif self._n_skipped:
            self._n_skipped -= name in _SKIPPED
        elif name in ("p", "h"):
            self.flow.close_paragraph()
            self._n_open -= 1
            self._hidden.pop()
            self._chains.pop()
        elif name in _TABLE_PARTS:
            self._n_tables -= name == "table"
            self.flow.close_table_part(_TABLE_PARTS[name])
        elif name == "list":
            self._n_lists -= 1
        elif name in ("span", "section", "hidden-text", "hidden-paragraph"):
            self._hidden.pop()
            self._chains.pop()
        self._n_inside -= name in self._places
