"""Scripts in documents, and in whatever a hostile service may send, stay text in a real browser."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse, Response, StreamingResponse

from api.routes_ui import router
from rag.settings import AnswerSettings
from tests.api.conftest import fill
from tests.api.running import Running, eventually, running, settings_of
from tests.api.tab import browsing, tab_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTION = "how hot is the oven for a loaf"
HIT = "document.documentElement.dataset.hit=1"
PAYLOADS = (
    f"<script>{HIT}</script>",
    f"</script><script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    '<img src="https://evil.example/pixel.png">',
    f"<svg onload={HIT}>",
    f"<svg><script>{HIT}</script></svg>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    '<iframe src="https://evil.example/"></iframe>',
    f"<details open ontoggle={HIT}>",
    f"<input autofocus onfocus={HIT}>",
    f"<body onload={HIT}>",
    f'"><script>{HIT}</script>',
    f"' onmouseover='{HIT}",
    f'<a href="javascript:{HIT}">click</a>',
    f"[click](javascript:{HIT})",
    "![x](https://evil.example/pixel.png)",
    '<link rel="stylesheet" href="https://evil.example/x.css">',
    '<meta http-equiv="refresh" content="0;url=https://evil.example/">',
    "<style>@import 'https://evil.example/x.css';</style>",
    "${constructor.constructor('document.documentElement.dataset.hit=1')()}{{7*7}}<template><b>\u202e",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application of a test."""
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_payloads_in_documents_stay_text(browser: Browser, tmp_path: Path) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    for i, payload in enumerate(PAYLOADS):
        name = payload.replace("/", "")[:80]
        (folder / f"{i:02}{name}.txt").write_text(f"The zebra number{i:02} says {payload} to the moon")
    settings = settings_of(tmp_path / "data", answer=AnswerSettings(abstain_below=0.01))
    fill(settings, folder)
    with running(settings) as hostile, tab_of(browser, hostile.url) as tab:
        page = tab.open()
        page.select_option("#mode", "eco")
        for i, payload in enumerate(PAYLOADS):
            tab.ask(f"what does zebra number{i:02} say")
            page.wait_for_selector(".scores")
            page.locator(".scores button").first.click()
            assert payload.replace("\u202e", "") in tab.text("#passage blockquote").replace("\u202e", "")
            page.locator(".cite").first.click()
            page.wait_for_selector("#passage mark")
            page.hover("#passage blockquote")
            assert tags(page, "#answer") <= {"SPAN", "BUTTON"}
            assert tags(page, "#passage") <= {"P", "BDI", "BLOCKQUOTE", "MARK", "BUTTON"}
            tab.check()


def tags(page: Page, selector: str) -> set[str]:
    return set(page.locator(f"{selector} *").evaluate_all("nodes => nodes.map(one => one.tagName)"))


def poisoned(value: dict[str, Any], payload: str) -> dict[str, Any]:
    """The same value with the payload in every text."""

    def poison(one: object) -> object:
        match one:
            case str():
                return payload
            case list():
                return [poison(part) for part in one]
            case dict():
                return {name: poison(part) for name, part in one.items()}
            case _:
                return one

    return {name: poison(part) for name, part in value.items()}


@dataclass
class Hostile:
    """What a hostile service answers next, taken from true answers."""

    answer: dict[str, Any]
    found: dict[str, Any]
    payload: str = ""
    is_error: bool = False
    release: threading.Event = field(default_factory=threading.Event)

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(router)
        app.add_api_route("/v1/collections", self.collections)
        app.add_api_route("/v1/models", self.models)
        app.add_api_route("/v1/chat/completions", self.chat, methods=["POST"])
        app.add_api_route("/v1/search", self.search, methods=["POST"])
        return app

    def collections(self) -> Response:
        return JSONResponse({"data": [{"name": self.payload, "n_documents": 1, "n_chunks": 1, "version": self.payload}]})

    def models(self) -> Response:
        return JSONResponse({"data": [{"id": "ragwatt-standard"}, {"id": self.payload}]})

    def search(self) -> Response:
        return JSONResponse(poisoned(self.found, self.payload))

    async def chat(self) -> Response:
        if self.is_error:
            return JSONResponse({"error": {"message": self.payload, "request_id": self.payload}}, 429, {"retry-after": "7"})
        return StreamingResponse(self.events(), media_type="text/event-stream")

    async def events(self) -> AsyncIterator[str]:
        words = [self.payload, " and more"]
        result = poisoned(self.answer, self.payload) | {"answer": "".join(words), "abstained": True, "unverified": [self.payload]}
        yield event({"choices": [{"delta": {"content": words[0]}}]})
        await asyncio.to_thread(self.release.wait, 20)
        yield ": still writing\n\n"
        yield event({"choices": [{"delta": {"content": words[1]}}]})
        yield event({"choices": [{"delta": {}}], "rag": result})
        yield "data: [DONE]\n\n"


def event(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


@pytest.mark.parametrize(
    "payloads", [pytest.param(PAYLOADS[::4], id="every fourth"), pytest.param(PAYLOADS, id="all", marks=pytest.mark.slow)]
)
def test_payloads_in_every_field_of_a_service_stay_text(browser: Browser, service: Running, payloads: Sequence[str]) -> None:
    hostile = Hostile(service.good("/v1/answer", {"query": QUESTION}), service.good("/v1/search", {"query": QUESTION, "k": 2}))
    with serving(hostile.app()) as url, tab_of(browser, url) as tab:
        for payload in payloads:
            hostile.payload, hostile.is_error = payload, False
            hostile.release.clear()
            page = tab.open()
            page.fill("#question", QUESTION)
            page.press("#question", "Enter")
            page.wait_for_selector("#answer:not(:empty)")
            assert page.locator("#answer").text_content() == payload, "words are shown as they come"
            assert page.get_attribute("#answer", "aria-busy") == "true"
            hostile.release.set()
            page.wait_for_selector("#cost:not([hidden])")
            page.wait_for_selector(".scores")
            assert page.locator("#about").text_content().count(payload) >= 3  # type: ignore[union-attr]
            page.click(".cite")
            page.wait_for_selector("#passage mark")
            assert page.locator("#passage mark").text_content() == payload
            page.click("#figures summary")
            assert tags(page, "#figures") <= set(
                "H3 P STRONG DIV I B TABLE THEAD TBODY TR TH TD SPAN DETAILS SUMMARY DL DT DD".split()
            )
            hostile.is_error = True
            page.press("#question", "Enter")
            page.wait_for_selector("#fault:not([hidden])")
            assert page.locator("#fault-detail").text_content() == f"{payload} Try again in 7 s."
            assert tags(page, "#fault") == {"H2", "P"}
            tab.check()
