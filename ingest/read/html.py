"""HTML: the text that a browser shows, in blocks, with headings, lists, code and table rows kept apart.

The tree is walked with an explicit stack, so nesting cannot exhaust the interpreter's. Nothing is dropped as boilerplate: such
filters lost whole headings when we measured them. What a browser does not show comes after the text around it, flagged as hidden.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode, SelectolaxError

from ingest.read.blocks import BlockWriter, laid_out
from ingest.read.decode import decode, decode_as, refuse_binary
from ingest.read.hidden import Ink, Styles
from ingest.read.origin import Origin, clean, document, one_line
from rag.errors import InputError
from rag.types import Document, Section

_DROPPED = frozenset("head script style template noscript iframe noembed noframes svg object".split())
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
        One document of the text of the page; what it does not show is flagged as hidden.
    """
    page = extract(decoded(data))
    return document(origin, "html", page.title or origin.path.stem, page.text, page.sections, page.metadata)


def extract(markup: str) -> Page:
    """Extract the text of a page.

    Args:
        markup: HTML; need not be valid.

    Returns:
        Title, text, sections and metadata; the text is empty if the page has none.

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
        _walk(tree.root, writer, Styles.of(tree))
        writer.finish()
    text, sections = laid_out(writer.blocks)
    return Page(_title(tree) or writer.first_h1, text, sections, _metadata(tree))


def decoded(data: bytes) -> str:
    """Decode a page: by byte order mark, else as the page declares, else as any text.

    Args:
        data: As the file or the site has it.

    Returns:
        The markup.

    Raises:
        InputError: With code ``binary`` or ``encoding``.
    """
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


def _walk(root: LexborNode, writer: BlockWriter, styles: Styles | None) -> None:
    """Send every element and text to the writer, in document order; a name on the stack closes its element.

    What a browser does not show is sent as such, all of it at once; inside of it (without styles) nothing is looked at again.
    """
    todo: list[tuple[LexborNode, Ink] | str] = [(root, Ink())]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            writer.close(item)
            continue
        node, ink = item
        if node.is_text_node:
            writer.text(node.text_content or "")
        elif node.is_element_node and node.tag not in _DROPPED:
            tag = node.tag or ""
            if styles is not None:
                inner = styles.ink(node, ink)
                if inner is None:
                    inside = BlockWriter()
                    _walk(node, inside, None)
                    inside.finish()
                    writer.hide(inside.blocks)
                    continue
                ink = inner
            writer.open(tag)
            todo.append(tag)
            children: list[tuple[LexborNode, Ink] | str] = []
            child = node.first_child
            while child is not None:
                children.append((child, ink))
                child = child.next
            todo.extend(reversed(children))


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
