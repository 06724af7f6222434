"""A site to files: the page that was given, what its sitemaps list and what it links to, below the same folder of the same host.

Breadth first, in the order of sitemaps and links, one page at a time, as robots.txt allows. What could not be fetched now stays as it
was kept; only what the site says is gone, or no longer names, is removed.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from ingest.fetch.client import Client, Fetch, Reply
from ingest.fetch.guard import Guard, is_public, normalised
from ingest.fetch.links import page_links, sitemap_links
from ingest.fetch.mirror import Mirror, Page
from ingest.read import Failure, Kind, kind_of
from ingest.walk import FoundFile
from rag.errors import InputError
from rag.settings import Settings, WebSettings

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_KINDS: dict[str, Kind] = {
    "text/html": "web",
    "application/xhtml+xml": "web",
    "text/plain": "text",
    "text/markdown": "markdown",
    "text/csv": "csv",
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    "application/rtf": "rtf",
}
# Content types that only say "some file"; then the name in the address decides.
_UNSAID = ("", "application/octet-stream", "binary/octet-stream")
_HTML = frozenset({"text/html", "application/xhtml+xml"})
# A site that wants a longer pause between pages is not crawled by something that people wait for.
_MAX_DELAY_S = 10.0
_MAX_SITEMAPS = 50


def is_address(text: str) -> bool:
    """Whether an argument names a page rather than a file.

    Args:
        text: As given on the command line.

    Returns:
        True for anything with a scheme, allowed or not.

    Example:
        >>> is_address("https://example.org/a"), is_address("docs/a.md")
        (True, False)
    """
    return _ADDRESS.match(text) is not None


def crawl(
    url: str, settings: Settings, prefix: str = "", *, client: Fetch | None = None
) -> tuple[Path, Iterator[FoundFile | Failure]]:
    """Fetch a page and what belongs to it.

    Args:
        url: The page, or a sitemap (a name that ends in ``.xml`` or ``.xml.gz``), with an absolute address.
        settings: Data directory, and what may be fetched.
        prefix: Put before every document id, with a slash between.
        client: What fetches; by default one that keeps to ``settings.web``.

    Returns:
        The folder that holds the pages, and an iterator that fetches as it goes and gives, in the order of the crawl, files of the
        mirror and failures with the codes of `Client.fetch` or ``robots`` (not allowed by robots.txt) or ``unsupported_type``. A
        document's id and uri are the address of its page.

    Raises:
        InputError: With code ``web_disabled`` unless ``web.enabled``; ``bad_address`` or ``refused_address``.
        MissingExtraError: Without the extra ``[web]``.
        SnapshotError: If the list of kept pages is damaged.
    """
    if not settings.web.enabled:
        raise InputError(
            f"{url} is an address, and fetching is off; set web.enabled in ragwatt.toml, or RAG_WEB_ENABLED=true",
            code="web_disabled",
        )
    start = normalised(url).geturl()
    web = settings.web
    folder = settings.data_dir / "web" / hashlib.sha256(start.encode()).hexdigest()[:16]
    if client is None:
        guard = Guard(web.allow_http, (lambda _ip: True) if web.allow_private else is_public)
        client = Client(web, guard).fetch
    front = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return folder, _Crawl(start, web, Mirror(folder), client, front).files()


@dataclass(slots=True)
class _Crawl:
    """One crawl of one site."""

    start: str
    web: WebSettings
    mirror: Mirror
    fetch: Fetch
    prefix: str
    sleep: Callable[[float], None] = time.sleep
    robots: RobotFileParser | None = None
    is_partial: bool = False
    todo: deque[tuple[str, int]] = field(default_factory=deque)
    seen: set[str] = field(default_factory=set)

    def files(self) -> Iterator[FoundFile | Failure]:
        """Files and failures in the order of the crawl; kept pages that it did not come to, while it is not known why, at the end."""
        n_pages = 0
        delay = 0.0
        given: set[str] = set()
        try:
            yield from self._begin()
            while self.todo:
                if n_pages == self.web.max_pages:
                    self.is_partial = True
                    break
                url, depth = self.todo.popleft()
                self.sleep(delay)
                delay = self._delay_s()
                n_pages += 1
                for item in self._page(url, depth):
                    if isinstance(item, FoundFile):
                        given.add(item.doc_id)
                    yield item
            for url, page in sorted(self.mirror.pages.items()):
                if self.prefix + url in given:
                    continue
                if self.is_partial:
                    yield self._found(page)
                else:
                    self.mirror.forget(url)
        finally:
            self.mirror.save()

    def _begin(self) -> Iterator[Failure]:
        """Ask robots.txt, then put the first pages on the list."""
        robots = RobotFileParser()
        try:
            reply = self.fetch(urljoin(self.start, "/robots.txt"))
        except InputError as error:
            # RFC 9309: a robots.txt that cannot be had forbids everything, one that is not there allows everything.
            self.is_partial = True
            yield Failure(self.start, error.code, str(error))
            return
        robots.parse(reply.body.decode("utf-8", "replace").splitlines())
        self.robots = robots
        if urlsplit(self.start).path.endswith((".xml", ".xml.gz")):
            yield from self._sitemaps([self.start], depth=0)
            return
        self._add(self.start, 0)
        if self.web.max_depth:
            yield from self._sitemaps(robots.site_maps() or [], depth=1)

    def _sitemaps(self, todo: list[str], depth: int) -> Iterator[Failure]:
        """Put what sitemaps list on the list; sitemaps of sitemaps are followed."""
        n_read = 0
        asked: set[str] = set()
        while todo and n_read < _MAX_SITEMAPS:
            url = todo.pop(0)
            if url in asked:
                continue
            asked.add(url)
            n_read += 1
            try:
                pages, children = sitemap_links(self.fetch(url).body)
            except InputError as error:
                self.is_partial = True
                yield Failure(url, error.code, str(error))
                continue
            todo.extend(children)
            for page in pages:
                self._add(page, depth)

    def _add(self, url: str, depth: int) -> None:
        """A page to be fetched, if it belongs to the site and was not yet named."""
        if url not in self.seen and depth <= self.web.max_depth and self._belongs(url):
            self.seen.add(url)
            self.todo.append((url, depth))

    def _belongs(self, url: str) -> bool:
        """Below the folder of the address that was given, on the same host and scheme."""
        here, there = urlsplit(self.start), urlsplit(url)
        folder = here.path.rpartition("/")[0] + "/"
        return (there.scheme, there.netloc) == (here.scheme, here.netloc) and there.path.startswith(folder)

    def _delay_s(self) -> float:
        stated = self.robots.crawl_delay(self.web.user_agent) if self.robots else None
        return min(float(stated or 0.0), _MAX_DELAY_S)

    def _page(self, url: str, depth: int) -> Iterator[FoundFile | Failure]:
        known = self.mirror.pages.get(url)
        if self.robots is not None and not self.robots.can_fetch(self.web.user_agent, url):
            self.mirror.forget(url)
            if depth == 0:
                yield Failure(
                    url, "robots", f"{url} is closed to {self.web.user_agent!r} by its robots.txt; ask the site for permission"
                )
            return
        try:
            reply = self.fetch(url, known.validators) if known else self.fetch(url)
        except InputError as error:
            self.is_partial = True
            yield Failure(url, error.code, str(error))
            return
        if reply.state == "gone":
            self.mirror.forget(url)
            yield Failure(url, "gone", f"{url} is not there; correct the address, or the link that names it")
            return
        if reply.state == "unchanged" and known:
            page: Page | None = known
            links = known.links
        elif _kind(reply.content_type, url) is None:
            self.mirror.forget(url)
            yield Failure(url, "unsupported_type", f"{url} is of type {reply.content_type!r}, which cannot be read; leave it out")
            return
        else:
            page, links = self._kept(url, reply)
        for link in links:
            self._add(link, depth + 1)
        if page is not None:
            yield self._found(page)

    def _kept(self, url: str, reply: Reply) -> tuple[Page | None, tuple[str, ...]]:
        """The page as a file, or None where it asks not to be indexed; and the links that may be followed."""
        links: tuple[str, ...] = ()
        wishes = reply.robots
        if reply.content_type in _HTML:
            links, stated = page_links(reply.body, reply.url)
            wishes += stated
        if "nofollow" in wishes or "none" in wishes:
            links = ()
        if "noindex" in wishes or "none" in wishes:
            self.mirror.forget(url)
            return None, links
        return self.mirror.keep(url, reply, links), links

    def _found(self, page: Page) -> FoundFile:
        path = self.mirror.path(page)
        return FoundFile(path, self.mirror.folder, self.prefix + page.url, page.url, _kind(page.content_type, page.url))


def _kind(content_type: str, url: str) -> Kind | None:
    """The format family of what a site sent; None for what cannot be read."""
    if content_type in _KINDS:
        return _KINDS[content_type]
    by_name = kind_of(Path(urlsplit(url).path.rpartition("/")[2] or "page"))
    if content_type in _UNSAID or content_type.startswith("application/vnd."):
        return None if by_name == "text" else by_name
    return None if not content_type.startswith("text/") else by_name
