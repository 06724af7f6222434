"""HTML: the text that a browser shows, in blocks, with headings, lists, code and table rows kept apart.

The tree is walked with an explicit stack, so nesting cannot exhaust the interpreter's. Nothing is dropped as boilerplate: such
filters lost whole headings when we measured them (`facts/service.md`, section 4).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from ingest.read.blocks import BlockWriter, laid_out
from ingest.read.decode import decode, decode_as, refuse_binary
from ingest.read.origin import Origin, clean, document, one_line
from rag.errors import InputError
from rag.types import Document, Section

_DROPPED = frozenset("head script style template noscript iframe noembed noframes svg object".split())
_HIDDEN_STYLE = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_CHARSET = re.compile(rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
# The standard lets browsers look at 1,024 bytes; pages with long heads declare it later.
_MAX_SNIFFED_BYTES = 4096
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_META_NAMES = frozenset(("author", "description", "keywords", "date"))

_TAG = re.compile(r"<(/?)([a-zA-Z][\w:-]{0,30})")
# End tags of these may be left out, or they have none, or the next one closes them: an open one says nothing about depth.
_UNCLOSED = frozenset(
    """area base br col embed hr img input link meta param source track wbr
    a nobr button p li dt dd option optgroup thead tbody tfoot tr td th rt rp html head body""".split()
)
# The parser's work grows with tags times depth: 100,000 nested <div> took it 46 CPU-s, 20,000 took 1.3, and 3,000 <font> with
# differing attributes took 2.9. Browsers stop at 512.
_MAX_DEPTH = 3_000


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says.

    Attributes:
        title: Its title, else its first heading of level 1, else empty.
        text: Clean text, blocks separated by blank lines.
        sections: Without line numbers: lines of text and source do not agree.
        metadata: Language, author, description, keywords, date.
    """

    title: str
    text: str
    sections: tuple[Section, ...]
    metadata: dict[str, str] = field(default_factory=dict)


def read_html(data: bytes, origin: Origin) -> Document:
    """Read a web page; raises `InputError` with code ``binary encoding too_deep unreadable`` or ``empty``.

    Args:
        data: Content of the file.
        origin: Where it comes from.

    Returns:
        One document of the text that the page shows.
    """
    page = extract(_decoded(data))
    return document(origin, "html", page.title or origin.path.stem, page.text, page.sections, page.metadata)


def extract(markup: str) -> Page:
    """Extract the text of a page.

    Args:
        markup: HTML; need not be valid.

    Returns:
        Title, text, sections and metadata; the text is empty if the page shows none.

    Raises:
        InputError: With code ``too_deep`` for nesting that the parser cannot handle in reasonable time, ``unreadable`` if it fails.
    """
    markup = clean(markup)
    if markup.count("<") > _MAX_DEPTH and _depth(markup) > _MAX_DEPTH:
        raise InputError(f"nests more than {_MAX_DEPTH:,} elements, allowed are fewer; split or repair the page", code="too_deep")
    try:
        tree = LexborHTMLParser(markup)
    except SelectolaxError as error:
        raise InputError(f"cannot be parsed as HTML: {one_line(str(error))}; repair the page", code="unreadable") from error
    writer = BlockWriter()
    if tree.root is not None:
        _walk(tree.root, writer)
    text, sections = laid_out(writer.blocks)
    return Page(_title(tree) or writer.first_h1, text, sections, _metadata(tree))


def _decoded(data: bytes) -> str:
    """By byte order mark, else as the page declares, else as any text."""
    if not data.startswith(_BYTE_ORDER_MARKS):
        refuse_binary(data)
        declared = _CHARSET.search(data[:_MAX_SNIFFED_BYTES])
        label = declared[1].decode("ascii", "replace") if declared else ""
        # A declaration that can be read as ASCII is not in UTF-16, whatever it says.
        if label and not label.lower().startswith("utf-16") and (text := decode_as(data, label)) is not None:
            return text
    return decode(data)


def _depth(markup: str) -> int:
    """Estimate how deep elements nest, from above for well-formed pages, without parsing."""
    opened: Counter[str] = Counter()
    depth = deepest = 0
    for slash, name in _TAG.findall(markup):
        tag = name.lower()
        if tag in _UNCLOSED:
            continue
        if not slash:
            opened[tag] += 1
            depth += 1
            deepest = max(deepest, depth)
        elif opened[tag]:
            opened[tag] -= 1
            depth -= 1
    return deepest


def _walk(root: LexborNode, writer: BlockWriter) -> None:
    """Send every shown element and text to the writer, in document order; a name on the stack closes its element."""
    todo: list[LexborNode | str] = [root]
    while todo:
        node = todo.pop()
        if isinstance(node, str):
            writer.close(node)
        elif node.is_text_node:
            writer.text(node.text_content or "")
        elif node.is_element_node and not _is_dropped(node):
            tag = node.tag or ""
            writer.open(tag)
            todo.append(tag)
            children = []
            child = node.first_child
            while child is not None:
                children.append(child)
                child = child.next
            todo.extend(reversed(children))


def _is_dropped(node: LexborNode) -> bool:
    if node.tag in _DROPPED:
        return True
    attributes = node.attributes
    return bool(attributes) and ("hidden" in attributes or bool(_HIDDEN_STYLE.search(attributes.get("style") or "")))


def _title(tree: LexborHTMLParser) -> str:
    node = tree.head.css_first("title") if tree.head is not None else None
    return one_line(node.text()) if node is not None else ""


def _metadata(tree: LexborHTMLParser) -> dict[str, str]:
    found: dict[str, str] = {}
    root = tree.css_first("html")
    if root is not None and (lang := root.attributes.get("lang")):
        found["lang"] = one_line(lang)
    for node in tree.css("meta"):
        name = (node.attributes.get("name") or "").strip().lower()
        if name in _META_NAMES:
            found.setdefault(name, one_line(node.attributes.get("content") or ""))
    return found
