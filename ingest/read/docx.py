"""DOCX: paragraphs, headings, lists, code, table rows, text boxes, notes, headers and footers of a Word document.

Read from its XML, not with kreuzberg, which loses every ``&``, ``<`` and ``>``, tabs between words and the marks of lists, and does
not tell hidden text (measured with kreuzberg 4.10.4, `bench/formats.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.read.flow import Flow, Placed
from ingest.read.ooxml import Package
from ingest.read.styles import heading_of, is_code_style, list_level_of
from ingest.read.xml_events import Attributes, parse

# Old versions of what stands beside them, text that was deleted or moved away, and the instructions of fields.
_SKIPPED = frozenset(("Fallback", "del", "moveFrom", "instrText", "delText"))
_MAX_STYLE_CHAIN = 20
_OFF = ("0", "false", "off", "none")
# Word's own limit is 1 point; sizes are in half points.
_UNREADABLE_HALF_POINTS = 2


@dataclass(frozen=True, slots=True)
class _Style:
    """What a paragraph or run style says; 0 and False where it says nothing."""

    heading: int = 0
    level: int = 0
    is_code: bool = False
    parent: str = ""
    is_hidden: bool = False


def docx_blocks(package: Package) -> list[Placed]:
    """Blocks of a Word document: headers and footers, then the body; notes follow the paragraph that names them.

    Args:
        package: The file.

    Returns:
        In reading order, without pages; paragraphs and rows with text that Word hides, white text and text below 1 point are flagged.

    Raises:
        InputError: With code ``unreadable``, ``too_deep``, ``too_large`` or ``encrypted``.
    """
    main = package.main_part("word")
    styles = _Styles()
    for target in package.targets(main, "styles"):
        parse(package.part(target), styles, target)
    notes: dict[str, str] = {}
    for kind in ("footnote", "endnote"):
        for target in package.targets(main, kind + "s"):
            reader = _Notes(kind)
            parse(package.part(target), reader, target)
            notes |= reader.notes
    margins: dict[str, Placed] = {}
    for kind in ("header", "footer"):
        for target in package.targets(main, kind):
            for placed in _story(package, target, styles.resolved(), {}):
                text = placed.block.text
                if any(char.isalpha() for char in text):
                    margins.setdefault(text, replace(placed, block=replace(placed.block, headings=(), kind="prose", group=0)))
    return [*margins.values(), *_story(package, main, styles.resolved(), notes)]


def _story(package: Package, part: str, styles: dict[str, _Style], notes: dict[str, str]) -> list[Placed]:
    reader = _Body(styles, notes)
    parse(package.part(part), reader, part)
    return reader.flow.blocks()


def _is_on(attributes: Attributes) -> bool:
    return attributes.get("val", "1").lower() not in _OFF


class _Styles:
    """Styles by id, as they are written."""

    def __init__(self) -> None:
        self._styles: dict[str, _Style] = {}
        self._id = ""

    def start(self, name: str, attributes: Attributes) -> None:
        value = attributes.get("val", "")
        if name == "style":
            self._id = attributes.get("styleId", "")
            self._styles[self._id] = _Style()
        elif self._id:
            style = self._styles[self._id]
            if name == "name":
                style = _Style(heading_of(value), list_level_of(value), is_code_style(value))
            elif name == "basedOn":
                style = replace(style, parent=value)
            elif name == "outlineLvl" and value.isdecimal() and int(value) < 9:
                style = replace(style, heading=style.heading or int(value) + 1)
            elif name == "vanish" and _is_on(attributes):
                style = replace(style, is_hidden=True)
            elif name == "numPr":
                style = replace(style, level=style.level or 1)
            self._styles[self._id] = style

    def end(self, name: str) -> None:
        if name == "style":
            self._id = ""

    def text(self, data: str) -> None:
        """There is none."""

    def resolved(self) -> dict[str, _Style]:
        """Styles by id with what they inherit."""
        return {key: self._inherited(style) for key, style in self._styles.items()}

    def _inherited(self, style: _Style) -> _Style:
        parent, n_steps = style.parent, 0
        while parent in self._styles and n_steps < _MAX_STYLE_CHAIN:
            above = self._styles[parent]
            style = replace(
                style,
                heading=style.heading or above.heading,
                level=style.level or above.level,
                is_code=style.is_code or above.is_code,
                is_hidden=style.is_hidden or above.is_hidden,
            )
            parent, n_steps = above.parent, n_steps + 1
        return style


@dataclass(slots=True)
class _Run:
    """Whether the text that comes now would be seen."""

    is_hidden: bool = False
    is_white: bool = False
    is_shaded: bool = False


class _Body:
    """Events of one story to its flow. A paragraph is opened with its first content, when its properties are known."""

    def __init__(self, styles: dict[str, _Style], notes: dict[str, str]) -> None:
        self.flow = Flow()
        self._styles = styles
        self._notes = notes
        self._n_skipped = 0
        self._is_text = False
        self._n_tables = 0
        self._style = _Style()
        self._is_open: list[bool] = []
        self._is_shaded = False
        self._run = _Run()
        self._due: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if self._n_skipped or name in _SKIPPED:
            self._n_skipped += name in _SKIPPED
        elif name == "t":
            self._open()
            self._is_text = True
        elif name == "p":
            self._open()
            self._is_open.append(False)
            self._style = _Style()
            self._is_shaded = False
        elif name in ("tbl", "tr", "tc"):
            self._n_tables += name == "tbl"
            self.flow.open_table_part(_TABLE_PARTS[name])
        elif name in ("tab", "br", "cr", "noBreakHyphen", "footnoteReference", "endnoteReference"):
            self._start_mark(name, attributes)
        else:
            self._start_property(name, attributes)

    def _start_mark(self, name: str, attributes: Attributes) -> None:
        if not self._is_open or "pos" in attributes:
            return
        if name == "tab":
            self.flow.text(" ")
        elif name == "noBreakHyphen":
            self.flow.text("-")
        elif name in ("br", "cr"):
            self._open()
            self.flow.line_break()
        else:
            # Each note once, however many places claim it.
            note = self._notes.pop(f"{name.removesuffix('Reference')} {attributes.get('id', '')}", "")
            self._due += [note] if note else []

    def _start_property(self, name: str, attributes: Attributes) -> None:
        value = attributes.get("val", "")
        if name == "r":
            self._run = _Run()
        elif name == "pStyle":
            self._style = self._styles.get(value, _Style())
        elif name == "outlineLvl" and value.isdecimal() and int(value) < 9:
            self._style = replace(self._style, heading=int(value) + 1)
        elif name == "ilvl" and value.isdecimal():
            self._style = replace(self._style, level=int(value[:2]) + 1)
        elif name == "numId":
            self._style = replace(self._style, level=0 if value == "0" else self._style.level or 1)
        else:
            self._start_look(name, value, attributes)

    def _start_look(self, name: str, value: str, attributes: Attributes) -> None:
        if name == "rStyle":
            self._run.is_hidden |= self._styles.get(value, _Style()).is_hidden
        elif name == "vanish":
            self._run.is_hidden = _is_on(attributes)
        elif name == "sz" and value.isdecimal():
            self._run.is_hidden |= int(value[:4]) < _UNREADABLE_HALF_POINTS
        elif name == "color":
            self._run.is_white = value.upper() == "FFFFFF"
        elif name in ("shd", "highlight"):
            self._run.is_shaded = self._is_shaded = True

    def text(self, data: str) -> None:
        if not self._is_text:
            return
        self.flow.text(data)
        run = self._run
        # White text on a table's or a box's own colour is how their headings look.
        is_white = run.is_white and not (run.is_shaded or self._is_shaded or self._n_tables or len(self._is_open) > 1)
        if (run.is_hidden or is_white or self._style.is_hidden) and data.strip():
            self.flow.hide()

    def end(self, name: str) -> None:
        if self._n_skipped:
            self._n_skipped -= name in _SKIPPED
        elif name == "t":
            self._is_text = False
        elif name == "p" and self._is_open:
            if self._is_open.pop():
                self.flow.close_paragraph()
            if not self._is_open:
                due, self._due = self._due, []
                for note in due:
                    self.flow.paragraph(note)
        elif name in ("tbl", "tr", "tc"):
            self._n_tables -= name == "tbl"
            self.flow.close_table_part(_TABLE_PARTS[name])

    def _open(self) -> None:
        """Open the innermost paragraph in the flow, if there is one that is not yet."""
        if self._is_open and not self._is_open[-1]:
            self._is_open[-1] = True
            style = self._style
            self.flow.open_paragraph(style.heading, style.level, is_code=style.is_code)


_TABLE_PARTS = {"tbl": "table", "tr": "tr", "tc": "td"}


class _Notes:
    """Text of footnotes or endnotes by kind and id."""

    def __init__(self, kind: str) -> None:
        self.notes: dict[str, str] = {}
        self._kind = kind
        self._id = ""
        self._pieces: list[str] = []
        self._is_text = False

    def start(self, name: str, attributes: Attributes) -> None:
        if name == self._kind:
            # Separators have a type; they are lines, not notes.
            self._id = "" if attributes.get("type", "normal") != "normal" else attributes.get("id", "")
            self._pieces.clear()
        elif name == "t":
            self._is_text = True
        elif name in ("p", "tab", "br"):
            self._pieces.append(" ")

    def text(self, data: str) -> None:
        if self._is_text:
            self._pieces.append(data)

    def end(self, name: str) -> None:
        if name == "t":
            self._is_text = False
        elif name == self._kind and self._id:
            self.notes[f"{self._kind} {self._id}"] = "".join(self._pieces).strip()
