"""A real OpenAI-compatible embedding server on loopback, backed by the hash embedder, whose next answers a test can prescribe."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rag.settings import EmbedderSettings
from tests.fakes import HashEmbedder

Handler = Callable[["Exchange"], None]
"""Answers one request in its own way."""


@dataclass(frozen=True)
class Request:
    path: str
    authorization: str | None
    texts: list[str]
    model: str


@dataclass
class EmbeddingServer:
    """What the server was asked, and how it shall answer next; without a prescription it answers well."""

    port: int = 0
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    requests: list[Request] = field(default_factory=list)
    next_answers: deque[Handler] = field(default_factory=deque)

    def settings(self, *, api_key: str = "", timeout_s: float = 10.0, max_tokens: int = 256) -> EmbedderSettings:
        url = f"http://127.0.0.1:{self.port}/v1"
        return EmbedderSettings("http", "hash", url, api_key, timeout_s, max_tokens)


class Exchange(BaseHTTPRequestHandler):
    state: EmbeddingServer
    # Connections stay open after an answer, as those of real servers do.
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append(Request(self.path, self.headers["Authorization"], body["input"], body["model"]))
        answer = self.state.next_answers.popleft() if self.state.next_answers else Exchange.answer_well
        answer(self)

    def answer_well(self) -> None:
        vectors = self.state.embedder.embed(self.state.requests[-1].texts)
        data = [{"object": "embedding", "index": i, "embedding": [3 * float(x) for x in v]} for i, v in enumerate(vectors)]
        # Out of order and not of unit length, as the protocol allows.
        self.send_json({"object": "list", "data": data[::-1]})

    def send_json(self, value: object, status: int = 200, **headers: str) -> None:
        self.send_body(json.dumps(value).encode(), status, **headers)

    def send_body(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Tests need no access log."""


@contextmanager
def running_server() -> Iterator[EmbeddingServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = EmbeddingServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Exchange,), {"state": state}))
    server.daemon_threads = True
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
