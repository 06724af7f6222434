"""Lines of the pages of a document to blocks: headings, paragraphs, lists and tables, in reading order.

A page says nothing about its parts but where text lies and how large and bold it is. What holds for printed pages in general is used:
headings are larger or bolder than most text, paragraphs part at wide gaps, indents and lines that end early, rows of a table line up,
and what stands at the same edge of many pages belongs to none of them. Figures in comments come from files of `tests.made.pdf`.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from statistics import median

from ingest.read.blocks import Block
from ingest.read.grid import goes_on as table_goes_on
from ingest.read.grid import rows_of
from ingest.read.hyphens import joined, words_of
from ingest.read.lines import Cell, Line, line_of
from ingest.read.origin import clean, one_line
from ingest.read.outline import Outline
from rag.text import sentence_spans
from rag.types import SectionKind

# Lines at each edge of a page that may be a running head or foot.
_N_EDGE_LINES = 2
# Heads and feet stand at the same height, within this, on at least this share of the pages (left and right pages have their own).
_SAME_HEIGHT_PT = 3.0
_MIN_RUNNING_SHARE = 0.3
_MIN_RUNNING_PAGES = 2
_DIGITS = re.compile(r"\d+|\b[ivxlc]+\b")
# LaTeX sets the lowest headings in the size of the text, the next one 1.2 times as large; Word's smallest is 1.0 and bold.
_MIN_HEADING_SCALE = 1.07
_MAX_HEADING_CHARS = 200
_MAX_HEADING_LINES = 4
_HEADING_GAP = 1.6
# A gap between lines beyond this share of the usual one parts paragraphs; LibreOffice gives 1.5, and 1.1 within lines with indices.
_PARAGRAPH_GAP = 1.25
_INDENT = 0.7
# Lines that the first cell of a row may take.
_MAX_CELL_LINES = 8
_BULLETS = "•‣◦▪▫●○■□∙·–—*-\x0f\x88\uf0b7\uf0a7\uf02d➢✓"
_BULLET = re.compile(rf"[{re.escape(_BULLETS)}](?= |$) ?")
_MARKER = re.compile(
    rf"(?:[{re.escape(_BULLETS)}]|(?:\d{{1,3}}|[a-z]|[ivx]{{1,5}})[.)]|\((?:\d{{1,3}}|[a-z]|[ivx]{{1,5}})\))(?= |$)",
)
_ENUMERATOR = re.compile(r"(?:\d+\.?)+|[A-Z]\.|[IVX]+\.?")
_ENDS = (".", "!", "?", ":", ".)", '."', ".”")
# Two columns drawn line by line look like a table of two columns of sentences: at least this many words a cell, on this share of lines.
_MIN_COLUMN_WORDS = 4
_MIN_COLUMN_SHARE = 0.3
_MIN_COLUMN_LINES = 4
# A paragraph of fewer characters is one chunk of 256 tokens, or nearly, which names the page on which it begins.
_MAX_PASSING_CHARS = 1_000


@dataclass(frozen=True, slots=True)
class Laid:
    """What the pages hold.

    Attributes:
        blocks: In reading order; a list or a table is one block of several lines.
        pages: Page of the begin of each block, from 1. What is longer than a chunk is a block a page, cut behind the sentence, row or
            item that goes over the end of the page.
        title: Largest text of the first page with text; may be empty.
        n_running: Lines left out because they repeat at the edge of pages.
    """

    blocks: tuple[Block, ...]
    pages: tuple[int, ...]
    title: str
    n_running: int


@dataclass(slots=True)
class _Group:
    """Lines of one part; ``column`` is that of its last line, ``offset`` how far its first line is from the left of its own."""

    kind: SectionKind
    lines: list[Line]
    column: _Column
    offset: float
    is_item: bool


@dataclass(frozen=True, slots=True)
class _Column:
    """Where the text of a column begins and ends, points."""

    left: float
    right: float


@dataclass(frozen=True, slots=True)
class _Style:
    """How most of the text is set; ``leading`` is the distance of lines, in font sizes."""

    size: float
    is_bold: bool
    leading: float


def lay_out(pages: Sequence[Sequence[Line]], *, has_running: bool = True) -> Laid:
    """Find the parts of a document.

    Args:
        pages: Lines of each page, in the order in which they were drawn.
        has_running: Whether lines that repeat at the edge of pages are left out.

    Returns:
        The parts, without running heads and feet.
    """
    running = _running(pages) if has_running else set()
    ordered = [line for page in pages for line in _by_column([line for line in page if id(line) not in running])]
    if not ordered:
        # Only what repeats: then it is the text.
        running = set()
        ordered = [line for page in pages for line in _by_column(page)]
    if not ordered:
        return Laid((), (), "", 0)
    style = _style(ordered)
    groups = _groups(ordered, style)
    return _written(groups, style, words_of(line.text for line in ordered), len(running))


def _running(pages: Sequence[Sequence[Line]]) -> set[int]:
    """Identities of the lines that repeat, but for numbers, at one height at the edge of pages."""
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for page in pages:
        by_height = sorted(page, key=lambda line: line.baseline)
        edge = by_height if len(page) <= 2 * _N_EDGE_LINES else (*by_height[:_N_EDGE_LINES], *by_height[-_N_EDGE_LINES:])
        for line in edge:
            found[_DIGITS.sub("#", line.text.lower())].append(line)
    enough = max(_MIN_RUNNING_PAGES, _MIN_RUNNING_SHARE * len(pages))
    running: set[int] = set()
    for lines in found.values():
        if len(lines) >= enough:
            heights = sorted(line.baseline for line in lines)
            for line in lines:
                low, high = line.baseline - _SAME_HEIGHT_PT, line.baseline + _SAME_HEIGHT_PT
                if bisect_right(heights, high) - bisect_left(heights, low) >= enough:
                    running.add(id(line))
    return running


def _by_column(lines: Sequence[Line]) -> list[Line]:
    """Undo columns that were drawn line by line; other pages stay as they are."""
    pairs = [
        line.cells for line in lines if len(line.cells) == 2 and all(_n_words(cell) >= _MIN_COLUMN_WORDS for cell in line.cells)
    ]
    if len(pairs) < max(_MIN_COLUMN_LINES, _MIN_COLUMN_SHARE * len(lines)):
        return list(lines)
    begin, end = max(left.right for left, _ in pairs), min(right.left for _, right in pairs)
    if begin >= end:
        return list(lines)
    ordered: list[Line] = []
    right_column: list[Line] = []
    for line in lines:
        left = tuple(cell for cell in line.cells if cell.right <= end)
        right = tuple(cell for cell in line.cells if cell.left >= begin and cell not in left)
        if len(left) + len(right) < len(line.cells):  # spans both
            ordered += (*right_column, line)
            right_column = []
            continue
        ordered += [_part(line, left)] if left else []
        right_column += [_part(line, right)] if right else []
    return ordered + right_column


def _n_words(cell: Cell) -> int:
    return cell.text.count(" ") + 1


def _part(line: Line, cells: tuple[Cell, ...]) -> Line:
    return line_of(cells, line.page, line.baseline, line.size, line.is_bold)


def _style(lines: Sequence[Line]) -> _Style:
    weights: Counter[tuple[float, bool]] = Counter()
    for line in lines:
        weights[line.size, line.is_bold] += len(line.text)
    size, is_bold = max(weights, key=lambda key: (weights[key], key))
    gaps = [
        before.baseline - line.baseline
        for before, line in zip(lines, lines[1:], strict=False)
        if before.size == line.size == size and not _is_jump(before, line) and len(line.cells) == len(before.cells) == 1
    ]
    return _Style(size, is_bold, median(gaps) / size if gaps else 1.2)


def _is_jump(before: Line, line: Line) -> bool:
    """Whether a new page or column begins, or something else stands higher than what was drawn before."""
    return line.page != before.page or line.baseline > before.baseline + line.size


def _marker(line: Line) -> str:
    """Bullet or number of a list item; empty for other lines."""
    found = _MARKER.match(line.text)
    return found[0] if found else ""


def _is_row(line: Line) -> bool:
    n = len(line.cells)
    return n > 2 or (n == 2 and not _marker(line) and not _ENUMERATOR.fullmatch(line.cells[0].text))


def _is_aligned(one: Line, other: Line) -> bool:
    """Whether cells after the first share an edge or centre."""
    near = 0.6 * max(one.size, other.size)
    return any(
        min(abs(a.left - b.left), abs(a.right - b.right), abs(a.left + a.right - b.left - b.right) / 2) < near
        for a in one.cells[1:]
        for b in other.cells[1:]
    )


def _groups(lines: Sequence[Line], style: _Style) -> list[_Group]:
    """Assign every line to a part."""
    groups: list[_Group] = []
    for no, (line, column) in enumerate(zip(lines, _columns(lines), strict=True)):
        group = groups[-1] if groups else None
        before = lines[no - 1] if no else None
        after = lines[no + 1] if no + 1 < len(lines) else None
        kind: SectionKind = "prose"
        if _is_row(line) and any(near and _is_row(near) and _is_aligned(line, near) for near in (before, after)):
            kind = "table"
            goes_on = group is not None and not _is_new_table(group.lines, line)
        elif group is not None and group.kind == "table" and table_goes_on(group.lines, lines[no : no + _MAX_CELL_LINES]):
            kind, goes_on = "table", True
        elif _is_heading(line, before, style):
            kind = "heading"
            goes_on = group is not None and _continues_heading(group.lines, line, style)
        else:
            goes_on = group is not None and not _marks_item(line, group) and not _is_parted(group, line, column, style)
        if group is not None and goes_on and group.kind == kind:
            group.lines.append(line)
            group.column = column
        else:
            groups.append(_Group(kind, [line], column, line.left - column.left, kind == "prose" and bool(_marker(line))))
    return groups


def _marks_item(line: Line, group: _Group) -> bool:
    """Whether a line begins with a mark that means an item; a dash or number in the middle of a sentence does not."""
    mark = _marker(line)
    if not mark:
        return False
    is_certain = mark.strip() in _BULLETS.strip("–—*-")
    return is_certain or group.is_item or group.lines[-1].text.endswith(_ENDS)


def _columns(lines: Sequence[Line]) -> list[_Column]:
    """For each line, its column: the leftmost begin in its run down the page, and the rightmost end in all runs that begin there."""
    runs: list[list[Line]] = []
    for line in lines:
        if not runs or _is_jump(runs[-1][-1], line):
            runs.append([])
        runs[-1].append(line)
    # A run of few lines says little of the width; columns of the same left edge, to a centimetre or so, have the same.
    lefts = [min(line.left for line in run) for run in runs]
    rights: dict[int, float] = {}
    for left, run in zip(lefts, runs, strict=True):
        rights[int(left / 20)] = max(rights.get(int(left / 20), 0.0), *(line.right for line in run))
    return [_Column(left, rights[int(left / 20)]) for left, run in zip(lefts, runs, strict=True) for _ in run]


def _is_new_table(rows: Sequence[Line], line: Line) -> bool:
    if _is_jump(rows[-1], line):
        return False
    gap = rows[-1].baseline - line.baseline
    usual = rows[0].baseline - rows[1].baseline if len(rows) > 1 and not _is_jump(rows[0], rows[1]) else 3 * line.size
    return gap > 1.6 * max(usual, line.size)


def _is_heading(line: Line, before: Line | None, style: _Style) -> bool:
    if len(line.text) > _MAX_HEADING_CHARS or not any(map(str.isalpha, line.text)):
        return False
    if line.size >= _MIN_HEADING_SCALE * style.size:
        return True
    if not line.is_bold or style.is_bold or line.size < 0.9 * style.size or line.text.endswith((".", ",", ";", ":")):
        return False
    if before is None or _is_jump(before, line) or before.is_bold or before.size > line.size:
        return True
    return before.baseline - line.baseline > _PARAGRAPH_GAP * style.leading * line.size


def _continues_heading(lines: Sequence[Line], line: Line, style: _Style) -> bool:
    before = lines[-1]
    if _is_jump(before, line):
        return False
    is_same = abs(before.size - line.size) < 0.05 * line.size and before.is_bold == line.is_bold
    return (
        is_same
        and before.baseline - line.baseline <= max(_HEADING_GAP, 1.1 * style.leading) * line.size
        and len(lines) < _MAX_HEADING_LINES
    )


def _is_parted(group: _Group, line: Line, column: _Column, style: _Style) -> bool:
    """Whether a line begins a new paragraph after a group of prose."""
    before = group.lines[-1]
    if abs(before.size - line.size) > 0.15 * max(before.size, line.size):
        return True
    indent = _INDENT * line.size
    offset = line.left - column.left
    is_over = before.text.endswith(_ENDS)
    is_jump = _is_jump(before, line)
    # A page between was scanned or a drawing.
    if line.page > before.page + 1:
        return True
    if (is_over or (is_jump and not line.text[0].islower())) and _is_early(before, line, group.column.right):
        return True
    if not is_jump and before.baseline - line.baseline > _PARAGRAPH_GAP * style.leading * line.size:
        return True
    if group.is_item:
        is_out = offset < group.offset - indent / 2
        is_level = offset < group.offset + indent / 2
        if is_jump:
            return is_over and is_level
        return is_out or (is_level and (is_over or _is_early(before, line, group.column.right)))
    return offset > indent and (is_over if is_jump else line.left > before.left + indent and before is not group.lines[0])


def _is_early(before: Line, line: Line, right: float) -> bool:
    """Whether a line ends though the first word of the next one had room in it."""
    word = line.text.split(" ", 1)[0]
    advance = (line.right - line.left) / max(len(line.text), 1)
    return before.right + (len(word) + 1.5) * advance < right


def _written(groups: Sequence[_Group], style: _Style, vocabulary: frozenset[str], n_running: int) -> Laid:
    """Groups as blocks under their headings; neighbouring items become lines of one block."""
    sizes = sorted({_rank(group.lines[0]) for group in groups if group.kind == "heading"}, reverse=True)
    outline = Outline()
    blocks: list[Block] = []
    pages: list[int] = []
    title, title_size = "", style.size
    is_item = False
    for group in groups:
        first = group.lines[0]
        text = _text(group, vocabulary)
        if not text:
            continue
        if group.kind == "heading":
            outline.enter(sizes.index(_rank(first)) + 1, one_line(text))
            if first.size > title_size and first.page == groups[0].lines[0].page:
                title, title_size = text, first.size
        if group.is_item and is_item and first.page == pages[-1]:
            blocks[-1] = Block(f"{blocks[-1].text}\n{text}", "prose", outline.path)
        else:
            for piece, page in _by_page(group, text, vocabulary):
                blocks.append(Block(piece, group.kind, outline.path))
                pages.append(page)
        is_item = group.is_item
    return Laid(tuple(blocks), tuple(pages), title, n_running)


def _by_page(group: _Group, text: str, vocabulary: frozenset[str]) -> list[tuple[str, int]]:
    """The text of a group with the page on which it begins, in pieces where one would have its chunks name the wrong page."""
    page = group.lines[0].page
    if group.lines[-1].page == page or (group.kind != "table" and len(text) < _MAX_PASSING_CHARS):
        return [(text, page)]
    if group.kind == "table":
        starts = [match.end() for match in re.finditer("\n", text)]
    else:
        starts = [start for start, _ in sentence_spans(text, 0, len(text))]
    pieces: list[tuple[str, int]] = []
    begin = reached = 0
    for at, lines in groupby(group.lines, key=attrgetter("page")):
        if reached and (no := bisect_left(starts, reached)) < len(starts) and starts[no] > begin:
            pieces.append((text[begin : starts[no]].rstrip(), page))
            begin, page = starts[no], at
        # Short by at most a character a page, by which no sentence or row comes to be on the page before.
        reached += len(_text(replace(group, lines=list(lines)), vocabulary))
    return [*pieces, (text[begin:], page)]


def _rank(line: Line) -> tuple[float, bool]:
    return round(2 * line.size) / 2, line.is_bold


def _text(group: _Group, vocabulary: frozenset[str]) -> str:
    if group.kind == "table":
        return "\n".join(clean(row).replace("\ufeff", "").replace("\n", " ").rstrip() for row in rows_of(group.lines))
    text = "".join(joined([line.text for line in group.lines], vocabulary))
    if group.is_item and (bullet := _BULLET.match(text)):
        text = f"- {text[bullet.end() :].lstrip()}"
    return " ".join(clean(text).replace("\ufeff", "").split())
