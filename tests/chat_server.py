"""Real OpenAI-compatible language model servers on loopback: one whose next answers a test can prescribe, and llama.cpp's own.

Run as a script it is llama.cpp's server of the GGUF file given, until its standard input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rag.settings import LanguageModelSettings

API_KEY = "sk-very-secret-key"
LLAMA_WINDOW = 1024

Handler = Callable[["Exchange"], None]
"""Answers one request in its own way."""


@dataclass(frozen=True)
class Request:
    path: str
    authorization: str | None
    body: dict[str, Any]


@dataclass
class ChatServer:
    """What the server was asked, and how it shall answer next; without a prescription it streams "The answer is 42."."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    next_answers: deque[Handler] = field(default_factory=deque)

    def settings(self, *, api_key: str = "", timeout_s: float = 10.0, pid: int = 0) -> LanguageModelSettings:
        return LanguageModelSettings("http", "any", f"http://127.0.0.1:{self.port}/v1", api_key, timeout_s, pid=pid)


class Exchange(BaseHTTPRequestHandler):
    state: ChatServer
    # Connections stay open after an answer, as those of real servers do.
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.state.requests.append(Request(self.path, self.headers["Authorization"], body))
        answer = self.state.next_answers.popleft() if self.state.next_answers else Exchange.answer_well
        answer(self)

    def answer_well(self) -> None:
        is_chat = self.path.endswith("/chat/completions")
        self.begin_stream()
        for word in ("The", " answer", " is", " 42."):
            self.send_event({"choices": [{"delta": {"content": word}} if is_chat else {"text": word}]})
        self.send_event({"choices": [{"delta": {}, "finish_reason": "stop"} if is_chat else {"text": "", "finish_reason": "stop"}]})
        self.send_event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
        self.send_piece(b"data: [DONE]\n\n")
        self.send_piece(b"")

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_event(self, value: object) -> None:
        self.send_piece(b"data: " + json.dumps(value).encode() + b"\n\n")

    def send_piece(self, piece: bytes) -> None:
        """A chunk of the body; an empty one ends it."""
        self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    def send_json(self, value: object, status: int = 200, **headers: str) -> None:
        self.send_body(json.dumps(value).encode(), status, **headers)

    def send_body(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, text in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
        """Tests need no access log."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has hung up is what these tests are about."""


@contextmanager
def running_server() -> Iterator[ChatServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = ChatServer()
    server = _QuietServer(("127.0.0.1", 0), type("Bound", (Exchange,), {"state": state}))
    state.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running_llama(gguf: Path, *, with_pid: bool = False) -> Iterator[LanguageModelSettings]:
    """Serve a GGUF file by llama.cpp in a process of its own until the block ends, with the key `API_KEY`.

    Raises:
        RuntimeError: If it does not start.
    """
    command = [sys.executable, "-P", __file__, str(gguf)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout
        address = child.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"llama.cpp did not start; to see why, run: {' '.join(command)}")
        pid = child.pid if with_pid else 0
        # Leaving the block ends the child's standard input.
        yield LanguageModelSettings("http", gguf.stem, f"{address}/v1", API_KEY, timeout_s=120.0, window=LLAMA_WINDOW, pid=pid)


def _serve_llama(gguf: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = gguf
    params.n_ctx = LLAMA_WINDOW
    params.n_parallel = 1
    params.cache_ram_mib = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    params.api_keys = [API_KEY]
    params.endpoint_slots = params.ui = False
    params.cors_origins = ""
    server = xllamacpp.Server(params)
    # Setting no adapters is the loop's work. A server that goes before its loop has begun waits for it for ever.
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    with closing(HTTPConnection(urlsplit(server.listening_address).netloc, timeout=60.0)) as connection:
        connection.request("POST", "/lora-adapters", "[]", headers)
        assert connection.getresponse().status == 200
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    _serve_llama(sys.argv[1])
