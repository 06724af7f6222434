from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bench.load import Target, closed_loop, open_loop

N = 12


class Answers(BaseHTTPRequestHandler):
    """What a service may answer, by path."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/leave":
            self.close_connection = True
        elif self.path == "/full":
            self.send_response(503)
            self.send_header("Retry-After", "2")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"2\r\nab\r\n")
            self.wfile.write(b"1\r\nc\r\n0\r\n\r\n")
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("n_connections", [1, 5])
def test_every_request_of_a_closed_loop_has_its_reply(address: str, n_connections: int) -> None:
    requests = [Target(address, "/echo").post({"n": n}) for n in range(N)]
    replies = asyncio.run(closed_loop(address, requests, n_connections))
    assert sorted(json.loads(reply.body)["n"] for reply in replies) == list(range(N))
    assert all(reply.status == 200 and reply.due_s <= reply.first_s <= reply.done_s for reply in replies)


def test_open_loop_sends_at_the_rate_and_in_order(address: str) -> None:
    bodies = (Target(address, "/echo").post(n) for n in itertools.count())
    replies = asyncio.run(open_loop(address, bodies, 200.0, 0.5, seed=1))
    assert [json.loads(reply.body) for reply in replies] == list(range(len(replies)))
    assert 60 <= len(replies) <= 140  # a Poisson count of mean 100, four deviations
    assert replies[-1].due_s - replies[0].due_s <= 0.5


def test_refusal_is_told_with_its_retry_after(address: str) -> None:
    full, good = asyncio.run(closed_loop(address, [Target(address, path).post({}) for path in ("/full", "/echo")], 1))
    assert (full.status, full.has_retry_after) == (503, True)
    assert (good.status, good.has_retry_after) == (200, False)


def test_stream_is_read_to_its_end(address: str) -> None:
    (reply,) = asyncio.run(closed_loop(address, [Target(address, "/stream").post({})], 1))
    assert reply.status == 200
    assert reply.body.endswith(b"c\r\n0\r\n\r\n")


def test_connection_that_breaks_is_status_0_and_the_next_request_has_a_new_one(address: str) -> None:
    broken, good = asyncio.run(closed_loop(address, [Target(address, path).post({}) for path in ("/leave", "/echo")], 1))
    assert (broken.status, good.status) == (0, 200)


def test_nobody_who_listens_is_status_0() -> None:
    (reply,) = asyncio.run(closed_loop("http://127.0.0.1:1", [Target("", "/").get()], 1))
    assert reply.status == 0
