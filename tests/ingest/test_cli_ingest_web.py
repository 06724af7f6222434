"""`rag ingest` of a real site, from its pages to hits that name their addresses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.check import check_request
from ingest.cli import main
from ingest.pipeline import IngestRequest
from rag.cli import search
from rag.errors import InputError
from rag.settings import IngestSettings, Settings, WebSettings
from tests.command import Command
from tests.fakes import HashEmbedder
from tests.ingest.fetch.site import Resource, Site, serving

pytest.importorskip("trafilatura", reason="the extra [web] is not installed")


def page(title: str, text: str, links: str = "") -> str:
    return f"<html><head><title>{title}</title></head><body><main><h1>{title}</h1><p>{text}</p>{links}</main></body></html>"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        running.page("/docs/", page("Pumps", "The pump starts at a pressure of 5 bar.", "<a href=valves>valves</a>"))
        running.page("/docs/valves", page("Valves", "The valve of the boiler opens at 95 degrees."))
        yield running


class Local:
    """Commands with settings that allow to fetch from loopback, and the one JSON object that each prints."""

    def __init__(self, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
        web = WebSettings(enabled=True, allow_http=True, allow_private=True, timeout_s=5.0)
        self.settings = Settings(data_dir=base / "data", web=web, ingest=IngestSettings(workers=1))
        self.status = 0
        self._capsys = capsys

    def ingest(self, *arguments: str | Path) -> dict[str, Any]:
        self.status = main([*map(str, arguments)], self.settings, True)
        return self._printed()

    def sources(self, question: str) -> list[str]:
        search([question, "--mode", "bm25"], self.settings, True)
        return [hit["source"]["uri"] for hit in self._printed()["hits"]]

    def _printed(self) -> dict[str, Any]:
        found = json.loads(self._capsys.readouterr().out)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def local(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Local:
    return Local(tmp_path, capsys)


def test_site_is_ingested_and_kept_in_step(local: Local, site: Site) -> None:
    start = site.address + "/docs/"
    first = local.ingest(start)
    assert (first["n_added"], first["failed"], local.status) == (2, [], 0)
    assert "fetch" in [stage["name"] for stage in first["measurement"]["stages"]]
    assert local.sources("boiler") == [start + "valves"]

    second = local.ingest(start)
    assert (second["n_unchanged"], second["n_parsed"], second["n_embedded"], second["published"]) == (2, 0, 0, False)

    site.page("/docs/", page("Pumps", "The pump starts at a pressure of 5 bar."))
    del site.pages["/docs/valves"]
    third = local.ingest(start)
    assert (third["n_updated"] + third["n_unchanged"], third["n_removed"]) == (1, 1)
    assert local.sources("boiler") == []


def test_page_that_cannot_be_fetched_now_is_kept(local: Local, site: Site) -> None:
    start = site.address + "/docs/"
    local.ingest(start)
    site.pages["/docs/valves"] = Resource(b"broken", 500)
    found = local.ingest(start)
    assert local.status == 3
    assert (found["n_unchanged"], found["n_removed"]) == (2, 0)
    assert [failure["path"] for failure in found["failed"]] == [start + "valves"]
    assert local.sources("boiler") == [start + "valves"]


def test_site_that_cannot_be_reached_now_is_kept(local: Local, site: Site) -> None:
    start = site.address + "/docs/"
    local.ingest(start)
    site.pages["/robots.txt"] = Resource(b"broken", 500)
    found = local.ingest(start)
    assert (found["n_unchanged"], found["n_removed"], local.status) == (2, 0, 3)


def test_paths_and_addresses_may_be_mixed(local: Local, site: Site, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Hoses\n\nA hose bursts at 20 bar.\n", encoding="ascii")
    found = local.ingest(tmp_path / "docs", site.address + "/docs/", "--prefix", "p")
    assert (found["n_added"], found["failed"]) == (3, [])
    alone = local.ingest(tmp_path / "docs", "--prefix", "p")
    assert (alone["n_unchanged"], alone["n_removed"]) == (1, 0)


def test_folder_around_the_data_directory_does_not_remove_pages(local: Local, site: Site, tmp_path: Path) -> None:
    local.ingest(site.address + "/docs/")
    (tmp_path / "a.md").write_text("# Hoses\n\nA hose bursts at 20 bar.\n", encoding="ascii")
    found = local.ingest(tmp_path)
    assert (found["n_added"], found["n_removed"]) == (1, 0)


def test_site_without_a_page_is_nothing_to_ingest(local: Local, site: Site) -> None:
    site.pages.clear()
    with pytest.raises(
        InputError, match=f"nothing to ingest in {site.address}/docs/: no page could be read; first reason: "
    ) as caught:
        local.ingest(site.address + "/docs/")
    assert caught.value.code == "nothing_to_ingest"


def test_address_of_another_kind_is_refused_before_anything_is_made(local: Local) -> None:
    with pytest.raises(InputError) as caught:
        local.ingest("ftp://example.com/docs/")
    assert caught.value.code == "refused_address"
    assert not local.settings.data_dir.exists()


@pytest.mark.parametrize("address", ["https://example.com/docs/", "ftp://example.com/docs/"])
def test_address_is_refused_before_anything_is_made_while_fetching_is_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], address: str
) -> None:
    rag = Command(tmp_path / "data", capsys)
    assert rag.refused("ingest", address)[:2] == (2, "web_disabled")
    assert not rag.data_dir.exists()


def test_address_is_refused_before_a_wait_while_fetching_is_off(tmp_path: Path, hash_embedder: HashEmbedder) -> None:
    request = IngestRequest((), "c", urls=("https://example.com/",))
    with pytest.raises(InputError) as caught:
        check_request(request, Settings(data_dir=tmp_path / "data"), hash_embedder)
    assert caught.value.code == "web_disabled"


def test_globs_do_not_concern_pages(local: Local, site: Site) -> None:
    assert local.ingest(site.address + "/docs/", "--exclude", "*")["n_added"] == 2


def test_variables_switch_fetching_on_for_the_command(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENABLED", "ALLOW_HTTP", "ALLOW_PRIVATE"):
        monkeypatch.setenv(f"RAG_WEB_{name}", "true")
    rag = Command(tmp_path / "data", capsys)
    assert rag("ingest", f"{site.address}/docs/", "--json").value["n_added"] == 2
    hits = rag("search", "when does the valve of the boiler open?", "--json").value["hits"]
    assert hits[0]["source"]["uri"] == f"{site.address}/docs/valves"
