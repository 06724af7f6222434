"""The page in a real browser, against the real service."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from api.keys import KeyStore
from rag.settings import AnswerSettings, Settings
from rag.store.schema import FILE_NAME
from tests.api.conftest import fill
from tests.api.running import Running, eventually, running, settings_of
from tests.api.tab import Tab, browsing, tab_of
from tests.chat_server import Exchange, running_server
from tests.corpus import write_documents

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTION = "how hot is the oven for a loaf"
SENTENCE = "Bake the loaf at 230 degrees under a lid."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def tab(browser: Browser, service: Running) -> Iterator[Tab]:
    with tab_of(browser, service.url) as found:
        found.open()
        yield found


def test_question_is_answered_with_its_request_id(tab: Tab, service: Running) -> None:
    tab.ask(QUESTION)
    assert tab.text("#answer") == f"{SENTENCE} [1]"
    assert tab.text("#status").startswith("Answered from 1 source in ")
    request_id = tab.text("#request-id")
    eventually(lambda: [line for line in service.lines() if line["request_id"] == request_id and line["status"] == 200])


def test_citation_shows_the_exact_span_in_its_passage(tab: Tab, service: Running) -> None:
    tab.ask(QUESTION)
    tab.page.click(".cite")
    tab.page.wait_for_selector("#passage mark")
    assert tab.text("#source-title") == "Source [1]"
    assert tab.page.locator("#passage mark").all_inner_texts() == [SENTENCE]
    chunk = service.good("/v1/search", {"query": QUESTION, "mode": "hybrid"})["hits"][0]
    assert tab.page.locator("#passage blockquote").text_content() == chunk["text"]
    assert "characters 108–149" in tab.text("#passage")
    assert tab.text(".claim.selected") == SENTENCE


def test_offsets_count_code_points_beyond_the_basic_plane(browser: Browser, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data", answer=AnswerSettings(abstain_below=0.1))
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "moon.txt").write_text("🌕🌕 The year is short. 🌕 The zebra of the moon has 🦓 nine stripes. It sleeps at noon.")
    fill(settings, folder)
    with running(settings) as fresh, tab_of(browser, fresh.url) as tab:
        tab.open()
        tab.ask("how many stripes has the zebra of the moon")
        quote = fresh.good("/v1/answer", {"query": "how many stripes has the zebra of the moon"})["citations"][0]["quote"]
        tab.page.click(".cite")
        tab.page.wait_for_selector("#passage mark")
        assert "🦓" in quote
        assert tab.page.locator("#passage mark").first.text_content() == quote


def test_place_and_warnings_of_a_source_are_shown(browser: Browser, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data", answer=AnswerSettings(abstain_below=0.1))
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    with closing(sqlite3.connect(settings.data_dir / FILE_NAME)) as db, db:
        db.execute("UPDATE chunk SET place = ?, flags = 'hidden,instructions'", ("slide <b>3</b>",))
    with running(settings) as fresh, tab_of(browser, fresh.url) as tab:
        tab.open()
        tab.ask(QUESTION)
        tab.page.click(".cite")
        tab.page.wait_for_selector("#passage .note")
        shown = tab.text("#passage")
        assert "slide <b>3</b>" in shown
        assert "hidden text" in shown
        assert "speaks to a language model" in shown
        assert "trust it less" in tab.text(".scores")


def test_passages_are_shown_with_the_parts_of_their_scores(tab: Tab, service: Running) -> None:
    tab.ask(QUESTION)
    tab.page.wait_for_selector(".scores")
    hits = service.good("/v1/search", {"query": QUESTION, "mode": "hybrid"})["hits"]
    rows = tab.page.locator(".scores tbody tr")
    assert rows.count() == len(hits)
    assert rows.first.locator("td").all_inner_texts() == [
        "Bread Oven cited [1]",
        *(f"{hits[0][part]:.3f}" for part in ("score", "bm25", "cosine")),
    ]
    rows.nth(1).locator("button").click()
    assert tab.page.locator("#passage blockquote").text_content() == hits[1]["text"]


def test_closed_list_of_passages_takes_no_search(tab: Tab) -> None:
    tab.ask(QUESTION)
    tab.page.wait_for_selector(".scores")
    tab.page.click("#found summary")
    n_before = len(tab.search_requests())
    tab.ask("when do bees swarm")
    tab.page.wait_for_timeout(100)
    assert len(tab.search_requests()) == n_before == 1
    tab.page.click(".cite")
    tab.page.wait_for_selector("#passage mark")
    assert len(tab.search_requests()) == 2


def test_cost_is_told_with_range_and_method_in_words(tab: Tab, service: Running) -> None:
    tab.ask(QUESTION)
    measurement = service.good("/v1/answer", {"query": QUESTION})["measurement"]
    shown = tab.text("#figures")
    assert "J between" in shown
    assert "CO₂e between" in shown
    assert "modelled: CPU seconds times a price per second, not read from a meter" in shown
    counts = {name: tab.text(f"#figures tr.{name} .number") for name in ("context", "prompt", "completion", "saved")}
    assert counts == {name: str(n) for name, n in measurement["tokens"].items()}
    stages = tab.page.locator(".waterfall tbody th").all_inner_texts()
    assert stages == [*(stage["name"] for stage in measurement["stages"]), "between stages"]


def test_mode_is_a_choice_of_those_the_service_has(tab: Tab) -> None:
    assert tab.page.locator("#mode option").evaluate_all("options => options.map(one => one.value)") == ["standard", "eco", "auto"]
    tab.page.select_option("#mode", "eco")
    tab.ask(QUESTION)
    assert "embed" not in tab.page.locator(".waterfall tbody th").all_inner_texts()
    tab.page.wait_for_selector(".scores")
    assert "not asked" in tab.text(".scores tbody tr:first-child")


def test_question_without_evidence_is_not_answered_and_says_why(tab: Tab) -> None:
    tab.ask("who was king of zanzibar")
    assert "No answer. Reason: " in tab.text("#about")
    assert tab.text("#status").startswith("No answer in ")
    assert tab.page.locator(".cite").count() == 0


def test_refused_question_shows_reason_and_request_id(tab: Tab) -> None:
    tab.page.fill("#question", "x" * 10_001)
    tab.page.click("#ask")
    tab.page.wait_for_selector("#fault:not([hidden])")
    assert tab.text("#fault-title") == "The question was not taken"
    assert "10000" in tab.text("#fault-detail").replace(",", "")
    assert tab.text("#fault-id") == f"Request {tab.text('#request-id')}"
    tab.ask(QUESTION)
    assert not tab.page.is_visible("#fault")


def test_service_that_is_gone_is_told(browser: Browser, library: Settings) -> None:
    with running(library) as fresh, tab_of(browser, fresh.url) as tab:
        tab.open()
        tab.page.context.set_offline(True)
        tab.page.fill("#question", QUESTION)
        tab.page.click("#ask")
        tab.page.wait_for_selector("#fault:not([hidden])")
        assert tab.text("#fault-title") == "The service cannot be reached"


def test_service_without_a_collection_says_what_to_run(browser: Browser, tmp_path: Path) -> None:
    with running(settings_of(tmp_path / "nothing")) as empty, tab_of(browser, empty.url) as tab:
        tab.open(n_collections=0)
        tab.page.wait_for_selector("#empty:not([hidden])")
        assert "rag ingest" in tab.text("#empty")


def test_key_is_asked_for_and_kept_in_this_tab_only(browser: Browser, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data", answer=AnswerSettings(abstain_below=0.3))
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    keys = KeyStore(settings.data_dir)
    _, secret = keys.create(["query"])
    with running(settings) as guarded, tab_of(browser, guarded.url) as tab:
        tab.open(n_collections=0)
        tab.page.wait_for_selector("#key-form:not([hidden])")
        assert tab.text("#fault-title") == "A key is needed"
        tab.page.fill("#key", "rag_wrong")
        tab.page.press("#key", "Enter")
        tab.page.wait_for_selector("#fault:not([hidden])")
        tab.page.fill("#key", secret)
        tab.page.press("#key", "Enter")
        tab.page.wait_for_selector("#collection option", state="attached")
        tab.ask(QUESTION)
        assert SENTENCE in tab.text("#answer")
        assert tab.page.evaluate("[localStorage.length, document.cookie, sessionStorage.getItem('ragwatt-key')]") == [0, "", secret]
        assert secret not in tab.page.content()
        tab.page.click("#forget")
        tab.page.wait_for_selector("#fault:not([hidden])")
        assert tab.page.evaluate("sessionStorage.getItem('ragwatt-key')") == ""
    keys.close()


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_ends_the_work_of_the_service(browser: Browser, library: Settings, way: str) -> None:
    release = threading.Event()

    def hang(exchange: Exchange) -> None:
        release.wait(20)
        exchange.answer_well()

    with running_server() as model:
        model.next_answers.append(hang)
        with running(replace(library, language_model=model.settings())) as slow, tab_of(browser, slow.url) as tab:
            page = tab.open()
            page.select_option("#mode", "generative")
            page.fill("#question", QUESTION)
            page.press("#question", "Enter")
            eventually(lambda: model.requests)
            if way == "button":
                page.click("#stop")
            else:
                page.keyboard.press("Escape")
            page.wait_for_selector("#stop", state="hidden")
            assert tab.text("#status").startswith("Stopped.")
            eventually(lambda: "rag_cancelled_total 1.0" in slow.client.get("/metrics").text)
            page.select_option("#mode", "standard")
            tab.ask(QUESTION)
            assert SENTENCE in tab.text("#answer")
            release.set()


def test_everything_can_be_done_with_the_keyboard(tab: Tab) -> None:
    def focused() -> str:
        found = tab.page.evaluate("document.activeElement.id || document.activeElement.className")
        assert isinstance(found, str)
        return found

    order = []
    for _ in range(5):
        tab.page.keyboard.press("Tab")
        order.append(focused())
    assert order == ["skip", "question", "collection", "mode", "ask"]
    tab.page.focus("#question")
    tab.page.keyboard.type(QUESTION)
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector(".cite")
    assert focused() == "question"
    for _ in range(4):
        tab.page.keyboard.press("Tab")
    assert focused() == "cite"
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("#passage mark")
    assert focused() == "source-title"
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    assert focused() == "cite"


def test_shift_enter_begins_a_line_and_asks_nothing(tab: Tab) -> None:
    tab.page.focus("#question")
    tab.page.keyboard.type("one")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("two")
    assert tab.page.input_value("#question") == "one\ntwo"
    assert not [url for url in tab.requests if "chat" in url]


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_its_width(browser: Browser, service: Running, tmp_path: Path, width: int, scheme: str) -> None:
    with tab_of(browser, service.url, viewport={"width": width, "height": 800}, color_scheme=scheme) as tab:
        tab.open()
        tab.ask(QUESTION)
        tab.page.click(".cite")
        tab.page.wait_for_selector(".scores")
        path = tmp_path / f"page-{width}-{scheme}.png"
        tab.page.screenshot(path=path, full_page=True)
        assert path.stat().st_size > 10_000
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, service: Running, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()

    def serious(page: Page) -> list[str]:
        found = axe.run(page).response
        assert found["passes"]
        return [
            f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"] if one["impact"] in ("serious", "critical")
        ]

    with tab_of(browser, service.url, color_scheme=scheme) as tab:
        tab.open()
        assert serious(tab.page) == []
        tab.ask(QUESTION)
        tab.page.click(".cite")
        tab.page.wait_for_selector("#passage mark")
        tab.page.wait_for_selector(".scores")
        tab.page.click("#figures summary")
        assert serious(tab.page) == []
        tab.ask("who was king of zanzibar")
        tab.page.fill("#question", "x" * 10_001)
        tab.page.click("#ask")
        tab.page.wait_for_selector("#fault:not([hidden])")
        assert serious(tab.page) == []
        tab.page.evaluate("document.querySelector('#question').labels[0].remove()")
        assert serious(tab.page) != [], "a fault that is there is found"
