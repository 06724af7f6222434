"""The files of the page, without a browser: what they may hold, and the headers they go out with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.routes_ui import FOLDER, router

MAX_BYTES = 40_000
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir())}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
# Whatever makes markup or code of a string, or writes an attribute whose value could be an address.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|setHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\b|\bFunction\s*\("
    r"|set(?:Timeout|Interval)\s*\(|import\s*\(|setAttribute|\.(?:src|href|action|style)\s*=|\.cssText|javascript:"
)
OFF_ORIGIN = re.compile(r"\b(?:https?|wss?|ftp):|(?<![:\w])//\w|@import|url\(", re.IGNORECASE)


class Page(HTMLParser):
    """What the page holds: elements with their attributes, in order, and the labels around each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.unlabelled: list[str] = []
        self.inline: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        labels = {attributes["for"] for tag, attributes in self.elements if tag == "label" and "for" in attributes}
        self.unlabelled = [name for name in self.unlabelled if name not in labels]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag in ("input", "select", "textarea") and "label" not in self._open:
            self.unlabelled.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style") and data.strip():
            self.inline.append(data)

    def values(self, name: str) -> set[str]:
        return {value for _, attributes in self.elements if (value := attributes.get(name))}


PAGE = Page(FILES["index.html"])


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    with TestClient(app) as found:
        yield found


def test_all_files_together_are_small() -> None:
    assert 10_000 < sum(len(text.encode()) for text in FILES.values()) < MAX_BYTES


@pytest.mark.parametrize("name", FILES)
def test_file_names_nothing_outside_the_service(name: str) -> None:
    assert not OFF_ORIGIN.findall(FILES[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_writes_text_nodes_only(name: str) -> None:
    assert not SINKS.findall(SCRIPTS[name])


@pytest.mark.parametrize("text", ["a.innerHTML = b", "setTimeout('x()', 5)", "a.href = b", "new Function('x')", "eval(x)"])
def test_the_look_for_sinks_would_find(text: str) -> None:
    assert SINKS.search(text)


@pytest.mark.parametrize("text", ["https://example.org/x", '"//cdn.example/x.js"', "@import 'x'", "url(x.png)"])
def test_the_look_for_other_origins_would_find(text: str) -> None:
    assert OFF_ORIGIN.search(text)


def test_page_has_no_inline_code_style_or_handler() -> None:
    names = {name for _, attributes in PAGE.elements for name in attributes}
    assert not {name for name in names if name.startswith("on") or name == "style"}
    assert not PAGE.inline
    assert all("src" in attributes for tag, attributes in PAGE.elements if tag == "script")


def test_every_part_that_scripts_look_for_is_on_the_page() -> None:
    text = "".join(SCRIPTS.values())
    looked_for = set(re.findall(r'part\("([\w-]+)"\)', text))
    for names in re.findall(r"for \(const id of \[([^\]]*)\]", text):
        looked_for |= set(re.findall(r'"([\w-]+)"', names))
    assert len(looked_for) > 20
    assert looked_for <= PAGE.values("id")


def test_every_id_is_there_once_and_every_reference_leads_to_one() -> None:
    ids = [attributes["id"] for _, attributes in PAGE.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = PAGE.values("for") | PAGE.values("aria-labelledby") | PAGE.values("aria-describedby")
    referred |= {value[1:] for value in PAGE.values("href") if value.startswith("#")}
    assert referred <= set(ids)


def test_every_control_has_a_label() -> None:
    assert not PAGE.unlabelled
    assert Page('<input id="lost">').unlabelled == ["lost"]


def test_every_file_is_used_and_every_file_used_is_there() -> None:
    linked = {value.removeprefix("ui/") for value in PAGE.values("src") | PAGE.values("href") if value.startswith("ui/")}
    imported = {name for text in SCRIPTS.values() for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert linked | imported | {"index.html"} == set(FILES)
    assert imported <= linked, "modules are fetched at once, not one after the other"


@pytest.mark.parametrize("path", ["/", *(f"/ui/{name}" for name in FILES)])
def test_file_goes_out_with_strict_headers(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.text == FILES[path.removeprefix("/ui/") if path != "/" else "index.html"]
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-cache"
    kinds = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
    suffix = path.rpartition(".")[2] if path != "/" else "html"
    assert response.headers["content-type"] == f"{kinds[suffix]}; charset=utf-8"


def test_unchanged_file_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/ui/app.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get("/ui/app.js", headers={"if-none-match": known})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", tag)
    assert client.get("/ui/app.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get("/", headers={"if-none-match": tag}).status_code == 200


def test_head_has_the_headers_alone(client: TestClient) -> None:
    response = client.head("/")
    assert (response.status_code, response.content) == (200, b"")
    assert "content-security-policy" in response.headers


@pytest.mark.parametrize("name", ["nothing.js", "..%2froutes_ui.py", "%2e%2e/routes_ui.py", "", "app.js%00", "APP.JS"])
def test_no_other_file_can_be_had(client: TestClient, name: str) -> None:
    assert client.get(f"/ui/{name}").status_code == 404
