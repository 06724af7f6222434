"""A site becomes files, and stays in step with them."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.fetch import crawl
from ingest.read import Failure
from ingest.walk import FoundFile
from rag.errors import InputError
from rag.settings import Settings, WebSettings
from tests.ingest.fetch.site import Resource, Site, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, web=WebSettings(enabled=True, allow_http=True, allow_private=True, timeout_s=5.0))


def crawled(site: Site, settings: Settings, path: str = "/docs/") -> dict[str, str]:
    """What a crawl gives: code of a failure, or ``kind: body`` of a file, by path on the site."""
    _, items = crawl(site.address + path, settings)
    found: dict[str, str] = {}
    for item in items:
        if isinstance(item, Failure):
            found[item.path.removeprefix(site.address)] = item.code
        else:
            assert item.doc_id == item.uri
            found[item.uri.removeprefix(site.address)] = f"{item.kind}: {item.path.read_text()}"
    return found


def test_links_below_the_same_folder_of_the_same_host_are_followed(site: Site, settings: Settings) -> None:
    inside = "<a href=b.html#x>b</a><a href='/docs/c'>c</a>"
    site.page("/docs/", f"{inside}<a href=/shop>s</a><a href=https://other.example/docs/>o</a><a href=mailto:a@b.c>m</a>")
    site.page("/docs/b.html", "<a href=deep>deep</a>")
    site.page("/docs/c", "sea")
    site.page("/docs/deep", "too deep")
    assert list(crawled(site, settings)) == ["/docs/", "/docs/b.html", "/docs/c"]
    assert site.paths == ["/docs/", "/docs/b.html", "/docs/c"]


def test_depth_and_number_of_pages_are_limited(site: Site, settings: Settings) -> None:
    for n in range(6):
        site.page(f"/docs/{n}", f"<a href={n + 1}>next</a>")
    deep = replace(settings, web=replace(settings.web, max_depth=4))
    assert list(crawled(site, deep, "/docs/0")) == [f"/docs/{n}" for n in range(5)]
    few = replace(settings, web=replace(settings.web, max_depth=4, max_pages=2))
    assert [path for path in site.paths if path == "/docs/0"] == ["/docs/0"]
    site.asked.clear()
    crawled(site, few, "/docs/0")
    assert site.paths == ["/docs/0", "/docs/1"]
    site.asked.clear()
    crawled(site, replace(settings, web=replace(settings.web, max_depth=0)), "/docs/0")
    assert site.paths == ["/docs/0"]


def test_pages_of_the_sitemap_that_robots_txt_names_are_read(site: Site, settings: Settings) -> None:
    site.pages["/robots.txt"] = Resource(f"Sitemap: {site.address}/index.xml\n".encode())
    site.pages["/index.xml"] = Resource(
        f"<sitemapindex><sitemap><loc>{site.address}/map.xml.gz</loc></sitemap></sitemapindex>".encode()
    )
    listed = "".join(f"<url><loc>{site.address}{path}</loc></url>" for path in ("/docs/x?a=1&amp;b=2", "/elsewhere"))
    site.pages["/map.xml.gz"] = Resource(gzip.compress(f"<urlset>{listed}</urlset>".encode()))
    site.page("/docs/", "start")
    site.page("/docs/x?a=1&b=2", "listed")
    assert list(crawled(site, settings)) == ["/docs/", "/docs/x?a=1&b=2"]


def test_a_sitemap_can_be_what_is_given(site: Site, settings: Settings) -> None:
    site.pages["/sitemap.xml"] = Resource(f"<urlset><url><loc>{site.address}/a</loc></url></urlset>".encode())
    site.page("/a", "page")
    assert crawled(site, settings, "/sitemap.xml") == {"/a": "web: page"}


def test_robots_txt_is_kept_to(site: Site, settings: Settings) -> None:
    site.pages["/robots.txt"] = Resource(b"User-agent: ragwatt\nDisallow: /docs/private\n\nUser-agent: *\nDisallow: /\n")
    site.page("/docs/", "<a href=private>p</a><a href=open>o</a>")
    site.page("/docs/private", "secret")
    site.page("/docs/open", "open")
    assert list(crawled(site, settings)) == ["/docs/", "/docs/open"]
    assert "/docs/private" not in site.paths


def test_a_start_that_robots_txt_closes_is_a_failure(site: Site, settings: Settings) -> None:
    site.pages["/robots.txt"] = Resource(b"User-agent: *\nDisallow: /\n")
    site.page("/docs/", "closed")
    assert crawled(site, settings) == {"/docs/": "robots"}


def test_a_robots_txt_that_fails_closes_the_site(site: Site, settings: Settings) -> None:
    site.pages["/robots.txt"] = Resource(b"", 503)
    site.page("/docs/", "start")
    assert crawled(site, settings) == {"/docs/": "http_status"}
    assert site.paths == []


def test_pages_say_whether_they_may_be_indexed_and_followed(site: Site, settings: Settings) -> None:
    site.page("/docs/", "<meta name=robots content='noindex'><a href=a>a</a><a rel=nofollow href=b>b</a>")
    site.page("/docs/a", "indexed", **{"X-Robots-Tag": "nofollow"})
    site.page("/docs/b", "not followed")
    assert list(crawled(site, settings)) == ["/docs/a"]


def test_the_second_crawl_asks_only_whether_pages_changed(site: Site, settings: Settings) -> None:
    site.pages["/docs/"] = Resource(b"<a href=a>a</a>", etag='"1"')
    site.pages["/docs/a"] = Resource(b"old", headers={"Content-Type": "text/plain"}, etag='"2"')
    first = crawled(site, settings)
    site.asked.clear()
    assert crawled(site, settings) == first == {"/docs/": "web: <a href=a>a</a>", "/docs/a": "text: old"}
    assert [headers.get("if-none-match") for path, headers in site.asked if path != "/robots.txt"] == ['"1"', '"2"']
    site.pages["/docs/a"] = Resource(b"new", headers={"Content-Type": "text/plain"}, etag='"3"')
    assert crawled(site, settings)["/docs/a"] == "text: new"


def test_a_page_that_is_gone_or_no_longer_named_is_removed(site: Site, settings: Settings) -> None:
    site.page("/docs/", "<a href=a>a</a><a href=b>b</a>")
    site.page("/docs/a", "a")
    site.page("/docs/b", "b")
    crawled(site, settings)
    del site.pages["/docs/a"]
    site.page("/docs/", "<a href=a>a</a>")
    assert crawled(site, settings) == {"/docs/": "web: <a href=a>a</a>", "/docs/a": "gone"}
    kept = [path for path in (settings.data_dir / "web").glob("*/*") if path.suffix != ".json"]
    assert len(kept) == 1


def test_a_page_that_fails_now_stays_as_it_was(site: Site, settings: Settings) -> None:
    site.page("/docs/", "<a href=a>a</a>")
    site.page("/docs/a", "kept")
    crawled(site, settings)
    site.pages["/docs/a"] = Resource(b"", 500)
    _, items = crawl(f"{site.address}/docs/", settings)
    found = list(items)
    assert [item.code for item in found if isinstance(item, Failure)] == ["http_status"]
    assert sorted(item.path.read_text() for item in found if isinstance(item, FoundFile)) == ["<a href=a>a</a>", "kept"]


def test_what_cannot_be_read_is_a_failure_and_not_kept(site: Site, settings: Settings) -> None:
    site.pages["/docs/"] = Resource(b"\0\1", headers={"Content-Type": "video/mp4"})
    assert crawled(site, settings) == {"/docs/": "unsupported_type"}


@pytest.mark.parametrize(
    ("path", "content_type", "kind"),
    [
        ("/a.pdf", "application/octet-stream", "pdf"),
        ("/a", "application/pdf", "pdf"),
        ("/a.md", "text/plain", "text"),
        ("/a.docx", "application/vnd.x", "docx"),
    ],
)
def test_the_content_type_decides_the_family_and_the_name_where_it_says_nothing(
    site: Site, settings: Settings, path: str, content_type: str, kind: str
) -> None:
    site.pages[path] = Resource(b"x", headers={"Content-Type": content_type})
    assert crawled(site, settings, path) == {path: f"{kind}: x"}


def test_fetching_is_off_until_it_is_enabled(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RAG_WEB_ENABLED") as caught:
        crawl("https://example.org/", Settings(data_dir=tmp_path))
    assert caught.value.code == "web_disabled"


def test_a_damaged_list_of_pages_is_said(site: Site, settings: Settings) -> None:
    site.page("/docs/", "x")
    folder, items = crawl(f"{site.address}/docs/", settings)
    list(items)
    (folder / "pages.json").write_text("{")
    with pytest.raises(Exception, match=r"pages\.json"):
        crawl(f"{site.address}/docs/", settings)
