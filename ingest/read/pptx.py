"""PPTX: slides in the order of the show, each with its title as heading, then its speaker notes.

Read from its XML, not with kreuzberg, which does not tell hidden slides, loses half of the marks of lists, leaves notes out of its Markdown
and gives slide numbers by bytes of a text that it then changes (measured with kreuzberg 4.10.4, `bench/formats.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ingest.read.flow import Flow, Placed
from ingest.read.ooxml import Package
from ingest.read.xml_events import Attributes, parse

NOTES = "Speaker notes"
"""Last heading of the path of speaker notes: they are not on the slide."""

_TITLES = frozenset(("title", "ctrTitle"))
# Frames for lists; a frame without a type is one too.
_BODIES = frozenset(("", "body", "obj"))
# Date, footer and number of the slide are those of the whole file.
_MARGINS = frozenset(("dt", "ftr", "sldNum", "sldImg", "hdr"))
_SHAPES = frozenset(("sp", "graphicFrame", "cxnSp", "pic", "grpSp"))
_TABLE_PARTS = {"tbl": "table", "tr": "tr", "tc": "td"}
_OFF = ("0", "false")


def pptx_blocks(package: Package) -> list[Placed]:
    """Blocks of a presentation.

    Args:
        package: The file.

    Returns:
        In the order of the slides, with the number of the slide, from 1, as page; hidden slides, shapes and groups are flagged, notes
        stand below their slide with `NOTES` as last heading.

    Raises:
        InputError: With code ``unreadable``, ``too_deep``, ``too_large`` or ``encrypted``.
    """
    main = package.main_part("ppt")
    show = _Show()
    parse(package.part(main), show, main)
    relations = package.relations(main)
    blocks: list[Placed] = []
    for number, slide_id in enumerate(show.slide_ids, start=1):
        # Each slide once, however often the show claims it.
        if relation := relations.pop(slide_id, None):
            blocks += _slide(package, relation.target, number)
    return blocks


def _slide(package: Package, part: str, number: int) -> list[Placed]:
    reader = _Shapes(Flow(number))
    parse(package.part(part), reader, part)
    blocks = reader.flow.blocks()
    path = next((placed.block.headings for placed in blocks if placed.block.kind == "heading"), ())
    for target in package.targets(part, "notesSlide"):
        notes = _Shapes(Flow(number))
        parse(package.part(target), notes, target)
        blocks += [replace(note, block=replace(note.block, headings=(*path, NOTES))) for note in notes.flow.blocks()]
    return [replace(placed, flags=("hidden",)) for placed in blocks] if reader.is_hidden else blocks


class _Show:
    """Relation ids of the slides, in order."""

    def __init__(self) -> None:
        self.slide_ids: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sldId":
            self.slide_ids.append(attributes.get("r:id", ""))

    def end(self, name: str) -> None:
        """Nothing follows from it."""

    def text(self, data: str) -> None:
        """There is none."""


@dataclass(slots=True)
class _Shape:
    """What kind of frame text stands in."""

    frame: str | None = None
    is_hidden: bool = False


class _Shapes:
    """Events of one slide, or of its notes, to a flow; a title becomes a heading when it is complete, on one line."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.is_hidden = False
        self._is_notes = False
        self._shape = _Shape()
        # Of each group around, whether it is hidden.
        self._groups: list[bool] = []
        self._is_group = False
        self._n_skipped = 0
        self._is_text = False
        self._level = 0
        self._has_bullet = True
        self._is_open = False
        self._is_title_open = False

    def start(self, name: str, attributes: Attributes) -> None:
        if self._n_skipped or name == "Fallback":
            self._n_skipped += name == "Fallback"
        elif name in ("sld", "notes"):
            self._is_notes = name == "notes"
            self.is_hidden = attributes.get("show", "1") in _OFF
        elif name in _SHAPES:
            self._shape = _Shape()
            self._is_group = name == "grpSp"
            self._groups += [False] * self._is_group
        elif name == "cNvPr":
            self._hide(attributes.get("hidden", "0") not in _OFF)
        elif name == "ph":
            self._shape.frame = attributes.get("type", "")
        elif name in _TABLE_PARTS:
            self.flow.open_table_part(_TABLE_PARTS[name])
        else:
            self._start_text(name, attributes)

    def _hide(self, is_hidden: bool) -> None:
        """Take whether the shape or group that was begun last is hidden."""
        if self._is_group:
            self._groups[-1] = is_hidden
        else:
            self._shape.is_hidden = is_hidden

    def _start_text(self, name: str, attributes: Attributes) -> None:
        if name == "p":
            self._level, self._has_bullet, self._is_open = 0, True, False
        elif name == "pPr":
            level = attributes.get("lvl", "0")
            self._level = int(level[:1]) if level.isdecimal() else 0
        elif name == "buNone":
            self._has_bullet = False
        elif name in ("t", "br") and self._shape.frame not in _MARGINS:
            self._open()
            self._is_text = name == "t"
            if name == "br":
                self._line_break()

    def _line_break(self) -> None:
        if self._shape.frame in _TITLES:
            self.flow.text(" ")
        else:
            self.flow.line_break()

    def _open(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        frame = self._shape.frame
        if frame in _TITLES:
            if not self._is_title_open:
                self.flow.open_paragraph(heading=1)
            self._is_title_open = True
        else:
            level = self._level + 1 if frame in _BODIES and self._has_bullet and not self._is_notes else 0
            self.flow.open_paragraph(level=level)
        if self._shape.is_hidden or any(self._groups):
            self.flow.hide()

    def text(self, data: str) -> None:
        if self._is_text:
            self.flow.text(data)

    def end(self, name: str) -> None:
        if self._n_skipped:
            self._n_skipped -= name == "Fallback"
        elif name == "t":
            self._is_text = False
        elif name == "p" and self._is_open:
            self._is_open = False
            if self._is_title_open:
                self.flow.text(" ")
            else:
                self.flow.close_paragraph()
        elif name == "txBody" and self._is_title_open:
            self._is_title_open = False
            self.flow.close_paragraph()
        elif name == "grpSp":
            self._is_group = False
            self._groups.pop()
        elif name in _TABLE_PARTS:
            self.flow.close_table_part(_TABLE_PARTS[name])
