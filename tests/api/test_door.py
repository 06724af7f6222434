"""What is answered before it is parsed, and what is left to the parser."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from api.app import create_app
from api.door import Door, head_of
from api.log import open_log
from api.service import Service
from rag.settings import ServiceSettings, Settings
from tests.api.running import PATIENCE_S, Running, eventually, problem

BODY = b'{"query": "tide", "mode": "bm25"}'
HEAD = b"POST /v1/search HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)


@contextmanager
def guarded(settings: Settings, options: ServiceSettings) -> Iterator[Running]:
    """A service with its door, as `rag serve` has it."""
    log = io.StringIO()
    app = create_app(settings, options, open_log(log))
    server = uvicorn.Server(uvicorn.Config(app, http=Door, log_config=None, timeout_graceful_shutdown=5))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started)
            with httpx.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
                yield Running(url, app.state.service, log, client)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def service(library: Settings) -> Iterator[Running]:
    with guarded(library, ServiceSettings(workers=1, queue=0)) as found:
        yield found


@contextmanager
def full(service: Service) -> Iterator[None]:
    """No place is left, as if somebody else had it."""
    service.admission.n_in += 1
    try:
        yield
    finally:
        service.admission.n_in -= 1


def exchanged(service: Running, *parts: bytes, n_answers: int = 1) -> list[tuple[int, bytes]]:
    """Statuses and bodies of what comes back for bytes that are sent in parts."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = client.makefile("rb")
        for part in parts:
            client.sendall(part)
        found = []
        for _ in range(n_answers):
            status = int(stream.readline().split()[1])
            length = 0
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            found.append((status, stream.read(length)))
        return found


def test_request_without_a_place_is_refused_as_the_gate_would_and_probes_are_not(service: Running) -> None:
    with full(service.service):
        response = service.client.post("/v1/search", json={"query": "tide"}, headers={"x-request-id": "mine"})
        assert problem(response) == (503, "overloaded")
        assert response.headers["x-request-id"] == "mine"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert int(response.headers["retry-after"]) >= 1
        chat = service.client.post("/v1/chat/completions", json={"model": "ragwatt-standard", "messages": []})
        assert (chat.status_code, chat.json()["error"]["code"]) == (503, "overloaded")
        for probe in ("/livez", "/readyz", "/healthz", "/version", "/metrics"):
            assert service.client.get(probe).status_code == 200
        assert 'rag_requests_total{code="503",route="/v1/search"}' in service.client.get("/metrics").text
    assert service.good("/v1/search", {"query": "tide"})["hits"]


def test_same_connection_is_used_on_after_a_refusal(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        with full(service.service):
            client.sendall(HEAD + BODY)
            assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
        client.sendall(HEAD + BODY)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_body_that_follows_its_refusal_is_passed_over(service: Running) -> None:
    with full(service.service):
        found = exchanged(service, HEAD, BODY[:5], BODY[5:], HEAD + BODY, n_answers=2)
    assert [status for status, _ in found] == [503, 503]


@pytest.mark.parametrize(
    "parts",
    [
        (HEAD + BODY + HEAD + BODY,),
        (HEAD[:20], HEAD[20:] + BODY + HEAD + BODY),
        (HEAD, BODY + HEAD + BODY),
        (HEAD + BODY + HEAD[:30], HEAD[30:] + BODY),
    ],
)
def test_requests_that_run_into_each_other_are_all_refused(service: Running, parts: tuple[bytes, ...]) -> None:
    with full(service.service):
        found = exchanged(service, *parts, n_answers=2)
    assert [status for status, _ in found] == [503, 503]


def test_requests_that_run_into_each_other_are_all_answered(library: Settings) -> None:
    with guarded(library, ServiceSettings()) as service:
        found = exchanged(service, HEAD + BODY + HEAD + BODY, n_answers=2)
    assert [len(json.loads(body)["hits"]) > 0 for _, body in found] == [True, True]


def test_refusals_are_told_in_the_log_but_not_each(library: Settings) -> None:
    with guarded(library, ServiceSettings(workers=1, queue=0)) as service, full(service.service):
        for _ in range(5):
            service.post("/v1/search", {"query": "tide"})
        told = [line for line in service.lines() if line["event"] == "refused"]
    assert (told[0]["n"], told[0]["error"], told[0]["route"]) == (1, "overloaded", "/v1/search")
    assert len(told) < 5


def test_no_place_is_kept_for_what_the_parser_refuses(service: Running) -> None:
    (status, _), *_ = exchanged(service, b"POST /v1/search HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY)
    assert status == 400  # no host
    assert service.good("/v1/search", {"query": "tide"})["hits"]


@pytest.mark.parametrize(
    "head",
    [
        HEAD[:-2],
        HEAD.replace(b"POST /v1", b"POST  /v1"),
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"\r\n", b"\n"),
        HEAD.replace(b"content-type: application/json", b"transfer-encoding: chunked"),
        HEAD.replace(b"content-type: application/json", b"Content-Length: 3"),
        HEAD.replace(b"content-type: application/json", b"x: a\r\n b"),
        HEAD.replace(b"content-type: application/json", b"expect: 100-continue"),
        HEAD.replace(b"content-type: application/json", b"x: a\ntransfer-encoding: chunked"),
        HEAD.replace(b"length: ", b"length: +"),
        HEAD.replace(b"length: ", b"length: -"),
    ],
)
def test_head_that_is_not_plain_is_left_to_the_parser(head: bytes) -> None:
    assert head_of(head + BODY) is None


def test_plain_head_is_read() -> None:
    head = head_of(
        HEAD.replace(b"/search", b"/search?x=1").replace(b"host: 127.0.0.1", b"X-Request-Id:  mine \r\nConnection: close") + BODY
    )
    assert head
    assert (head.method, head.path, head.request_id, head.stays) == ("POST", "/v1/search", "mine", False)
    assert (head.n_body_bytes, head.n_bytes) == (
        len(BODY),
        len(HEAD) + len("?x=1") + len("X-Request-Id:  mine \r\nConnection: close") - len("host: 127.0.0.1") + len(BODY),
    )


@given(st.binary(max_size=60))
def test_no_bytes_break_the_door(data: bytes) -> None:
    assert head_of(data) is None
    head_of(b"POST /v1/search HTTP/1.1\r\nx: " + data + b"\r\n\r\n")
