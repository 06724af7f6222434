"""A real OpenAI-compatible language model server on loopback, whose next answers a test can prescribe."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rag.settings import LanguageModelSettings
from tests.loopback import JsonExchange, serving

API_KEY = "sk-very-secret-key"

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


class Exchange(JsonExchange):
    state: ChatServer

    def receive(self, body: dict[str, Any]) -> None:
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


@contextmanager
def running_server() -> Iterator[ChatServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = ChatServer()
    with serving(Exchange, state) as state.port:
        yield state
