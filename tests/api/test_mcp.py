"""The tools of the Model Context Protocol, with the SDK's own client: over HTTP to a real server, over pipes to a real process."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent, Tool

from api.keys import KeyStore
from api.limits import Limits
from ingest.pipeline import IngestRequest, ingest
from rag.meter import Meter
from rag.settings import ServiceSettings, Settings
from tests.api.conftest import fill
from tests.api.running import PATIENCE_S, Running, eventually, problem, running, settings_of
from tests.corpus import DOCUMENTS, write_documents
from tests.embedding_server import running_server
from tests.fakes import HashEmbedder, SilentProgress

QUESTION = "how hot is the oven for a loaf"
ROOT = Path(__file__).parents[2]
# Every call that the tests of results look at, made once over each transport.
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "search": ("search", {"query": QUESTION, "k": 2, "collection": "library"}),
    "filtered": ("search", {"query": "water", "k": 12, "filters": {"team": ["kitchen", "garden"], "lang": "en"}}),
    "document": ("fetch", {"id": "bread.md"}),
    "part": ("fetch", {"id": "bread.md", "start": 30, "max_chars": 7}),
    "answer": ("answer", {"question": QUESTION, "token_budget": 4000}),
    "eco": ("answer", {"question": QUESTION, "mode": "eco"}),
    "abstained": ("answer", {"question": "Who won the chariot race at Antioch?", "filters": {"doc_id": "bread.md"}}),
    "unknown_collection": ("search", {"query": "x", "collection": "nowhere"}),
    "unknown_document": ("fetch", {"id": "nothing.md"}),
    "start": ("fetch", {"id": "bread.md", "start": 10_000}),
    "query_empty": ("search", {"query": "   "}),
    "unknown_key": ("search", {"query": "x", "filters": {"colour": "red"}}),
    "no_model": ("answer", {"question": "x", "mode": "generative"}),
}
MISFITS: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing": ("search", {}, "query: Field required"),
    "type": ("search", {"query": "x", "k": "5"}, "k: "),
    "range": ("answer", {"question": "x", "k": 1001}, "k: "),
    "choice": ("answer", {"question": "x", "mode": "magic"}, "mode: "),
    "unknown": ("fetch", {"id": "x", "kay": 5}, "kay: "),
    "name": ("search", {"query": "x", "collection": "../etc"}, "collection: "),
}


@dataclass(frozen=True)
class Seen:
    """What a client saw over one transport."""

    tools: dict[str, Tool]
    results: dict[str, CallToolResult]
    refusal: MCPError

    def good(self, name: str) -> dict[str, Any]:
        """The structured content of a call that must succeed."""
        result = self.results[name]
        assert not result.is_error, result.content
        assert isinstance(result.structured_content, dict)
        assert json.loads(text_of(result)) == result.structured_content
        return result.structured_content

    def failed(self, name: str) -> str:
        """The message of a call that must not succeed."""
        result = self.results[name]
        assert result.is_error
        assert result.structured_content is None
        assert "\n" not in text_of(result)
        return text_of(result)


def text_of(result: CallToolResult) -> str:
    assert len(result.content) == 1
    assert isinstance(result.content[0], TextContent)
    return result.content[0].text


def look(connect: Callable[[], AbstractAsyncContextManager[Client]]) -> Seen:
    """Make every call; the client itself refuses results that do not match the schema of their tool."""

    async def run() -> Seen:
        async with connect() as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            results = {name: await client.call_tool(tool, arguments) for name, (tool, arguments) in CALLS.items()}
            results |= {name: await client.call_tool(tool, arguments) for name, (tool, arguments, _) in MISFITS.items()}
            found = results["search"].structured_content["results"][0]
            results["chunk"] = await client.call_tool("fetch", {"id": found["id"]})
            with pytest.raises(MCPError) as caught:
                await client.call_tool("delete", {})
            return Seen(tools, results, caught.value)

    return anyio.run(run)


def stdio_of(settings: Settings, *more: str) -> StdioServerParameters:
    arguments = ["-P", "-m", "rag", "mcp", "--data-dir", str(settings.data_dir), *more]
    return StdioServerParameters(command=sys.executable, args=arguments, cwd=str(ROOT))


@asynccontextmanager
async def over_http(url: str, mode: str = "auto", **headers: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=PATIENCE_S, trust_env=False) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


@pytest.fixture(scope="module", params=["http", "http-2025", "stdio"])
def seen(request: pytest.FixtureRequest, library: Settings) -> Seen:
    if request.param == "stdio":
        return look(lambda: Client(stdio_of(library, "--collection", "library")))
    with running(library) as service:
        return look(lambda: over_http(service.url, "auto" if request.param == "http" else "legacy"))


def test_tools_say_that_they_only_read_and_name_the_collections(seen: Seen) -> None:
    assert set(seen.tools) == {"search", "fetch", "answer"}
    for tool in seen.tools.values():
        hints = tool.annotations
        assert hints
        assert (hints.read_only_hint, hints.idempotent_hint, hints.open_world_hint) == (True, True, False)
        assert tool.output_schema
        assert tool.input_schema["properties"]["collection"]["description"] == "One of: library. Default: library."


def test_search_gives_results_that_fetch_finds_again(seen: Seen) -> None:
    found = seen.good("search")
    first = found["results"][0]
    assert (found["collection"], found["version"], found["degraded"]) == ("library", 1, [])
    assert len(found["results"]) == 2
    assert (first["doc_id"], first["title"], first["metadata"]["team"]) == ("bread.md", "Bread", "kitchen")
    assert first["url"].endswith("bread.md")
    assert "230 degrees" in first["text"]
    assert first["score"] >= found["results"][1]["score"]
    again = seen.good("chunk")
    assert {key: again[key] for key in first if key in again} == {k: v for k, v in first.items() if k in again}
    assert again["n_chars"] == len(seen.good("document")["text"])


def test_measurement_of_a_search_is_kept_out_of_the_context_of_the_model(seen: Seen) -> None:
    meta = seen.results["search"].meta
    assert meta
    assert meta["measurement"]["cpu_s"] > 0
    assert "measurement" not in seen.good("search")


def test_filters_leave_only_documents_with_an_allowed_value(seen: Seen) -> None:
    assert {hit["doc_id"] for hit in seen.good("filtered")["results"]} <= {"bread.md", "bees.md"}
    assert seen.good("filtered")["results"]


def test_document_is_fetched_whole_or_in_part(seen: Seen) -> None:
    whole, part = seen.good("document"), seen.good("part")
    assert whole["text"] == DOCUMENTS["bread.md"]
    assert (whole["start"], whole["end"]) == (0, whole["n_chars"])
    assert (part["text"], part["start"], part["end"]) == (whole["text"][30:37], 30, 37)
    assert part["n_chars"] == whole["n_chars"]


def test_answer_is_cited_and_measured(seen: Seen) -> None:
    found = seen.good("answer")
    assert "230 degrees" in found["answer"]
    assert not found["abstained"]
    for citation in found["citations"]:
        source = citation["source"]
        assert DOCUMENTS[citation["doc_id"]][source["start_char"] : source["end_char"]] == citation["quote"]
    assert found["citations"]
    assert found["measurement"]["cpu_s"] > 0


def test_mode_decides_how_an_answer_is_found(seen: Seen) -> None:
    assert "embed" not in {stage["name"] for stage in seen.good("eco")["measurement"]["stages"]}
    assert "embed" in {stage["name"] for stage in seen.good("answer")["measurement"]["stages"]}


def test_abstention_is_no_error(seen: Seen) -> None:
    found = seen.good("abstained")
    assert (found["abstained"], found["citations"]) == (True, [])
    assert found["reason"]


@pytest.mark.parametrize("code", ["unknown_collection", "unknown_document", "start", "query_empty", "unknown_key", "no_model"])
def test_failure_is_a_result_with_one_line_and_its_code(seen: Seen, code: str) -> None:
    assert len(seen.failed(code)) > 20
    meta = seen.results[code].meta
    assert meta
    assert meta["code"] == code


@pytest.mark.parametrize("name", MISFITS)
def test_argument_that_does_not_fit_is_named(seen: Seen, name: str) -> None:
    assert seen.failed(name).startswith(MISFITS[name][2])


def test_unknown_tool_is_an_error_of_the_protocol(seen: Seen) -> None:
    assert seen.refusal.error.code == -32602
    assert "allowed: search, fetch, answer" in seen.refusal.error.message


# What only HTTP has: keys, origins, limits, headers and metrics.


def rpc(service: Running, method: str, params: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    """One message as a client sends it that needs no handshake."""
    sent = {"accept": "application/json, text/event-stream"} | {k.replace("_", "-"): v for k, v in headers.items()}
    body = {"jsonrpc": "2.0", "id": 1, "method": method} | ({"params": params} if params else {})
    return service.client.post("/mcp", json=body, headers=sent)


def searched(service: Running, query: str, **headers: str) -> dict[str, Any]:
    response = rpc(service, "tools/call", {"name": "search", "arguments": {"query": query}}, **headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["result"]
    return found


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Running, KeyStore]]:
    """A service with keys and one document."""
    settings = settings_of(tmp_path / "data")
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    keys = KeyStore(settings.data_dir)
    keys.create(["admin"])
    with running(settings) as found:
        yield found, keys
    keys.close()


def test_client_with_a_key_is_answered(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"], ["library"])

    async def run() -> CallToolResult:
        async with over_http(service.url, authorization=f"Bearer {secret}") as client:
            return await client.call_tool("search", {"query": QUESTION})

    assert anyio.run(run).structured_content["results"][0]["doc_id"] == "bread.md"


@pytest.mark.parametrize(("headers", "code"), [({}, "no_api_key"), ({"authorization": "Bearer rag_wrong"}, "key_unknown")])
def test_request_without_a_good_key_is_refused(guarded: tuple[Running, KeyStore], headers: dict[str, str], code: str) -> None:
    response = rpc(guarded[0], "tools/list", None, **headers)
    assert problem(response) == (401, code)
    assert response.headers["www-authenticate"] == "Bearer"


def test_key_of_another_collection_finds_nothing_and_is_told_of_nothing(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"], ["games"])
    listed = rpc(service, "tools/list", authorization=f"Bearer {secret}").text
    assert "library" not in listed
    for name, arguments in (("search", {"query": "x"}), ("fetch", {"id": "bread.md"}), ("answer", {"question": "x"})):
        params = {"name": name, "arguments": {**arguments, "collection": "library"}}
        found = rpc(service, "tools/call", params, authorization=f"Bearer {secret}").json()["result"]
        assert (found["isError"], found["_meta"]["code"]) == (True, "unknown_collection")


def test_key_without_the_scope_is_refused(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["ingest"])
    found = searched(service, "x", authorization=f"Bearer {secret}")
    assert (found["isError"], found["_meta"]["code"]) == (True, "scope")


def test_rate_limit_of_a_key_holds_here_too(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"], limits=Limits(requests_per_minute=1))
    assert rpc(service, "tools/list", authorization=f"Bearer {secret}").headers["x-ratelimit-remaining-requests"] == "0"
    response = rpc(service, "tools/list", authorization=f"Bearer {secret}")
    assert problem(response) == (429, "rate_limit")
    assert int(response.headers["retry-after"]) >= 1


def test_page_of_another_site_is_refused_with_a_key_and_without(guarded: tuple[Running, KeyStore], service: Running) -> None:
    _, secret = guarded[1].create(["query"])
    assert problem(rpc(service, "tools/list", origin="https://evil.example")) == (403, "origin")
    assert problem(rpc(service, "tools/list", origin="null")) == (403, "origin")
    refused = rpc(guarded[0], "tools/list", origin="https://evil.example", authorization=f"Bearer {secret}")
    assert problem(refused) == (403, "origin")


def test_name_that_a_page_made_mean_this_machine_is_refused(service: Running) -> None:
    rebound = rpc(service, "tools/list", origin="http://evil.example", host="evil.example")
    assert problem(rebound) == (401, "no_api_key")


def test_own_page_and_allowed_origins_are_answered(guarded: tuple[Running, KeyStore], library: Settings) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"])
    assert rpc(service, "tools/list", origin=service.url, authorization=f"Bearer {secret}").status_code == 200
    keys.close()
    with running(service.service.settings, ServiceSettings(cors_origins="https://app.example")) as open_to_one:
        response = rpc(open_to_one, "tools/list", origin="https://app.example", authorization=f"Bearer {secret}")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"]


def test_cost_version_and_request_id_are_in_headers_and_the_log(service: Running) -> None:
    params = {"name": "search", "arguments": {"query": "tide of zebras"}}
    response = rpc(service, "tools/call", params, x_request_id="mcp-client-1")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-rag-version"] == "library@1"
    assert float(response.headers["x-rag-cpu-ms"]) > 0
    assert response.json()["result"]["structuredContent"]["request_id"] == response.headers["x-request-id"] == "mcp-client-1"
    line = eventually(lambda: [line for line in service.lines() if line["request_id"] == "mcp-client-1"])[0]
    assert (line["route"], line["kind"], line["collection"]) == ("/mcp", "search", "library")
    assert "zebras" not in service.log.getvalue()


def test_metrics_count_calls_like_those_of_other_routes(library: Settings) -> None:
    with running(library) as fresh:
        searched(fresh, QUESTION)
        rpc(fresh, "tools/call", {"name": "answer", "arguments": {"question": QUESTION}})
        counted = re.compile(r'^rag_requests_total\{[^}]*route="/mcp"[^}]*\} 2\.0$', re.MULTILINE)
        assert eventually(lambda: counted.search(fresh.client.get("/metrics").text))
        assert "rag_citations_total{" in fresh.client.get("/metrics").text


def test_only_posts_are_answered(service: Running) -> None:
    for response in (service.client.get("/mcp"), service.client.delete("/mcp")):
        assert problem(response) == (405, "method_not_allowed")


@pytest.mark.parametrize(("body", "code"), [(b"{", -32700), (b'{"jsonrpc": "2.0"}', -32600), (b"[]", -32600)])
def test_message_that_is_none_is_an_error_of_the_protocol(service: Running, body: bytes, code: int) -> None:
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    response = service.client.post("/mcp", content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] in (code, -32602)


def test_message_over_the_limit_is_refused(service: Running) -> None:
    assert problem(rpc(service, "tools/list", {"x": "y" * 1_000_001})) == (413, "too_large")


def called(service: Running, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The structured content of a call that must succeed."""
    found = rpc(service, "tools/call", {"name": name, "arguments": arguments}).json()["result"]
    assert not found["isError"], found
    content: dict[str, Any] = found["structuredContent"]
    return content


def test_documents_are_fetched_whatever_their_id_and_length(tmp_path: Path) -> None:
    lines = "".join(f"The number {n} follows the number {n - 1} in the long list of numbers.\n\n" for n in range(1, 1201))
    long_one = f"{lines}The zebra ends the list."
    documents = [{"id": "looks/like#0123456789ab", "text": "A chunk it is not."}, {"id": "long", "text": long_one}]
    with running_server() as embedding, running(settings_of(tmp_path / "data", embedder=embedding.settings())) as service:
        posted = service.post("/v1/collections/library/documents", {"documents": documents})
        assert service.job(posted.headers["location"])["state"] == "succeeded"
        assert called(service, "fetch", {"id": "looks/like#0123456789ab"})["text"] == "A chunk it is not."
        hit = called(service, "search", {"query": "zebra", "k": 1})["results"][0]
        passage = called(service, "fetch", {"id": hit["id"]})
        document = called(service, "fetch", {"id": "long", "start": hit["start"], "max_chars": hit["end"] - hit["start"]})
        assert passage["text"] == hit["text"] == document["text"]
        assert (passage["title"], passage["n_chars"]) == ("long", document["n_chars"])
        first = called(service, "fetch", {"id": "long"})
        assert len(first["text"]) == first["end"] == 50_000 < first["n_chars"]


class Served(HashEmbedder):
    """The embedder behind the server of the tests."""

    @property
    def id(self) -> str:
        return "http:hash"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Running, threading.Event]]:
    """A service with one place, whose first question is answered once the event is set."""
    with running_server() as embedding:
        settings = settings_of(tmp_path / "data", embedder=embedding.settings(timeout_s=60.0))
        folder = write_documents(tmp_path / "documents", ["bread.md"])
        ingest(IngestRequest((folder,), "library"), settings, Served(), SilentProgress(), Meter())
        options = ServiceSettings(workers=1, queue=0, embed_timeout_s=60.0)
        with running(settings, options) as service, embedding.holding(1) as release:
            yield service, release


def test_request_beyond_the_queue_is_refused(held: tuple[Running, threading.Event]) -> None:
    service, release = held
    with ThreadPoolExecutor(1) as clients:
        waiting = clients.submit(searched, service, QUESTION)
        try:
            eventually(lambda: service.service.admission.n_in == 1)
            response = rpc(service, "tools/call", {"name": "search", "arguments": {"query": "x"}})
            assert problem(response) == (503, "overloaded")
            assert int(response.headers["retry-after"]) >= 1
            assert 'rag_rejected_total{reason="overloaded"} 1.0' in service.client.get("/metrics").text
        finally:
            release.set()
        assert waiting.result()["structuredContent"]["results"]


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
def test_work_ends_and_its_place_is_free_when_the_client_leaves(held: tuple[Running, threading.Event], version: str) -> None:
    service, _ = held
    call = {"name": "search", "arguments": {"query": QUESTION}}
    prefix = "io.modelcontextprotocol/"
    meta: dict[str, object] = {f"{prefix}protocolVersion": version, f"{prefix}clientCapabilities": {}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call | {"_meta": meta}})
    host, port = service.url.removeprefix("http://").split(":")
    head = [
        "POST /mcp HTTP/1.1",
        f"host: {host}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        f"mcp-protocol-version: {version}",
        "mcp-method: tools/call",
        "mcp-name: search",
        f"content-length: {len(body)}",
    ]
    with socket.create_connection((host, int(port))) as client:
        client.sendall(("\r\n".join(head) + f"\r\n\r\n{body}").encode())
        eventually(lambda: service.service.admission.n_running == 1)
    eventually(lambda: service.service.admission.n_in == 0)
    assert eventually(lambda: "rag_cancelled_total 1.0" in service.client.get("/metrics").text)


# What only a process has: its standard output, its log, its end, and the packages that it finds.


@dataclass(frozen=True)
class Spoken:
    """What a process wrote, and how it ended."""

    stdout: list[str]
    stderr: str
    status: int


# Prints as soon as the protocol has standard output, as a careless library would.
STRAY = """
import os, threading, time
def stray():
    while os.fstat(1).st_ino != os.fstat(2).st_ino:
        time.sleep(0.01)
    print("stray words", flush=True)
threading.Thread(target=stray, daemon=True).start()
"""


def program_of(before: str, *arguments: str) -> list[str]:
    code = f"import sys\n{before}\nfrom rag.__main__ import main\nsys.exit(main({['mcp', *arguments]!r}))"
    return [sys.executable, "-P", "-c", code]


@pytest.fixture(scope="module")
def spoken(library: Settings) -> Spoken:
    """A conversation by hand."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "search", "arguments": {"query": "zebra tide", "collection": "library"}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "nonsense"},
        {"id": 3, "method": "tools/call", "params": call},
    ]
    command = program_of(STRAY, "--data-dir", str(library.data_dir))
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        for message in messages:
            process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message) + "\n")
        process.stdin.flush()
        lines: list[str] = []
        while not lines or '"id":3' not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended before it answered"
        rest, log = process.communicate(timeout=PATIENCE_S)
        return Spoken(lines + rest.splitlines(), log, process.returncode)


def test_standard_output_carries_the_protocol_and_nothing_else(spoken: Spoken) -> None:
    found = {message["id"]: message for message in map(json.loads, spoken.stdout)}
    assert set(found) == {1, 2, 3}
    assert found[2]["error"]["code"] == -32601
    assert found[3]["result"]["structuredContent"]["results"]
    assert "stray words" in spoken.stderr


def test_process_ends_well_when_its_client_closes_standard_input(spoken: Spoken) -> None:
    assert spoken.status == 0


def test_calls_are_logged_on_standard_error_without_their_words(spoken: Spoken) -> None:
    lines = [json.loads(line) for line in spoken.stderr.splitlines() if line.startswith("{")]
    assert [(line["route"], line["collection"], line["version"]) for line in lines if line.get("kind") == "search"] == [
        ("mcp", "library", 1)
    ]
    assert "zebra" not in spoken.stderr


def test_process_for_one_collection_knows_no_other(library: Settings) -> None:
    async def run() -> tuple[str, CallToolResult]:
        async with Client(stdio_of(library, "--collection", "games")) as client:
            return str(await client.list_tools()), await client.call_tool("search", {"query": "x", "collection": "library"})

    listed, found = anyio.run(run)
    assert "library" not in listed
    assert found.is_error


def test_command_without_the_extra_says_what_to_install(tmp_path: Path) -> None:
    command = program_of("sys.modules['mcp'] = None", "--data-dir", str(tmp_path))
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.strip().endswith("pip install 'ragwatt[mcp]'")


SERVICE_PROGRAM = """
import json, sys
from pathlib import Path
{before}
from tests.api.running import running, settings_of
with running(settings_of(Path({data_dir!r}))) as service:
    before = "mcp" in sys.modules or "mcp_types" in sys.modules
    native = service.post("/v1/search", {{"query": "tide", "mode": "bm25"}}).status_code
    is_loaded = sys.modules.get("mcp") is not None
    message = {{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}}
    found = service.post("/mcp", message, accept="application/json")
    print(json.dumps([native, is_loaded, found.status_code, found.json().get("code"), sys.modules.get("mcp") is not None]))
"""


def run_service(library: Settings, before: str) -> list[Any]:
    program = SERVICE_PROGRAM.format(before=before, data_dir=str(library.data_dir))
    command = [sys.executable, "-c", program]
    found: list[Any] = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    return found


def test_service_loads_the_sdk_with_the_first_client_only(library: Settings) -> None:
    assert run_service(library, "") == [200, False, 200, None, True]


def test_service_without_the_extra_runs_and_says_what_is_missing(library: Settings) -> None:
    assert run_service(library, "sys.modules['mcp'] = None") == [200, False, 501, "missing_extra", False]
