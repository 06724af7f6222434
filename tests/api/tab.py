"""A tab of a real browser, for tests of the page."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page


@dataclass
class Tab:
    """A page of a fresh browser profile, and what happened in it."""

    page: Page
    url: str
    dialogs: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(self, *, n_collections: int = 1) -> Page:
        self.page.goto(f"{self.url}/")
        if n_collections:
            self.page.wait_for_selector("#collection option", state="attached")
        return self.page

    def ask(self, question: str) -> None:
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        self.page.wait_for_selector("#cost:not([hidden])")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def search_requests(self) -> list[str]:
        return [url for url in self.requests if url.endswith("/v1/search")]

    def check(self) -> None:
        """Nothing ran that is not ours, and nothing was asked of anybody else."""
        assert not self.dialogs
        assert not self.faults
        assert self.page.evaluate("document.documentElement.dataset.hit") is None
        assert not [url for url in self.requests if not url.startswith((f"{self.url}/", "data:,"))]
        assert self.page.url.startswith(self.url)


@contextmanager
def browsing() -> Iterator[Browser]:
    """Debian's Chromium without a window; skips where it or playwright is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; see requirements/dev.in")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the path; on Debian: apt-get install chromium")
    # Chromium's own sandbox does not work as root, which containers that run tests usually are.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield found
        found.close()


@contextmanager
def tab_of(browser: Browser, url: str, **options: object) -> Iterator[Tab]:
    """A tab that is checked when it is closed."""
    context: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
    page = context.new_page()
    tab = Tab(page, url)

    def dismiss(dialog: Dialog) -> None:
        tab.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    page.on("pageerror", lambda error: tab.faults.append(str(error)))
    page.on("console", lambda said: tab.faults.append(said.text) if "Content Security" in said.text else None)
    context.on("request", lambda request: tab.requests.append(request.url))
    yield tab
    tab.check()
    context.close()
