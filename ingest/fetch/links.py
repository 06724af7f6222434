"""Addresses that a page or a sitemap names, read with the standard library: this runs in the main process, on what a stranger sent."""

from __future__ import annotations

import gzip
import html
import io
import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlunsplit

from ingest.fetch.guard import normalised
from rag.errors import InputError

_LOCATION = re.compile(r"<loc>\s*(?:<!\[CDATA\[)?([^<\]]+?)(?:\]\]>)?\s*</loc>")
_CHILD_LIST = re.compile(r"<sitemapindex[\s>]")
# The sitemap protocol allows 50,000 addresses and 50 MB a file.
_MAX_SITEMAP_BYTES = 50_000_000
# No page that people read names more; what lists more is a trap.
_MAX_LINKS = 10_000


class _Links(HTMLParser):
    """Collects what a page names and what it asks of robots."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.base = ""
        self.found: dict[str, None] = {}
        self.robots = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See `html.parser.HTMLParser`."""
        values = {key: value or "" for key, value in attrs}
        if tag == "a" and "href" in values and "nofollow" not in values.get("rel", "").lower() and len(self.found) < _MAX_LINKS:
            self.found[values["href"].strip()] = None
        elif tag == "base" and not self.base:
            self.base = values.get("href", "")
        elif tag == "meta" and values.get("name", "").lower() == "robots":
            self.robots += " " + values.get("content", "").lower()


def page_links(body: bytes, url: str) -> tuple[tuple[str, ...], str]:
    """What a page names.

    Args:
        body: HTML.
        url: Its address, against which links are resolved unless it has a ``base``.

    Returns:
        Normalised addresses in the order of the page, each once, without those marked ``nofollow``; and what the page asks of robots
        (``noindex``, ``nofollow``), in lower case.
    """
    parser = _Links()
    # Addresses are ASCII in all encodings that pages use, so the bytes need no decoding.
    parser.feed(body.decode("latin-1"))
    base = urljoin(url, parser.base)
    return _addresses([urljoin(base, link) for link in parser.found if not link.startswith("#")]), parser.robots


def sitemap_links(body: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a sitemap names.

    Args:
        body: XML, as it is or compressed by gzip.

    Returns:
        Addresses of pages, and addresses of further sitemaps.

    Raises:
        InputError: With code ``unreadable`` for broken gzip, ``too_large`` beyond the 50 MB of the protocol.
    """
    if body.startswith(b"\x1f\x8b"):
        try:
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(_MAX_SITEMAP_BYTES + 1)
        except (OSError, EOFError) as error:
            raise InputError(f"the sitemap is no readable gzip: {error}", code="unreadable") from error
    if len(body) > _MAX_SITEMAP_BYTES:
        raise InputError(f"the sitemap has more than {_MAX_SITEMAP_BYTES} bytes, which the protocol allows", code="too_large")
    # Entities are not expanded, but for the five of XML: nothing can grow.
    text = body.decode("utf-8", "replace")
    found = _addresses([html.unescape(match) for match in _LOCATION.findall(text)])
    return ((), found) if _CHILD_LIST.search(text) else (found, ())


def _addresses(links: list[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for link in links:
        try:
            found[urlunsplit(normalised(link))] = None
        except (InputError, ValueError):
            continue  # mail addresses, scripts, telephone numbers
    return tuple(found)
