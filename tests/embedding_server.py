"""A real OpenAI-compatible embedding server on loopback, backed by the hash embedder, whose next answers a test can prescribe."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rag.settings import EmbedderSettings
from tests.fakes import HashEmbedder
from tests.loopback import JsonExchange, serving

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

    @contextmanager
    def holding(self, n: int) -> Iterator[threading.Event]:
        """The next answers come once the event is set, or the block has ended; the limits of who asks must be as long."""
        release = threading.Event()

        def wait(exchange: Exchange) -> None:
            release.wait(60)
            exchange.answer_well()

        self.next_answers.extend([wait] * n)
        try:
            yield release
        finally:
            release.set()


class Exchange(JsonExchange):
    state: EmbeddingServer
    texts: list[str]

    def receive(self, body: dict[str, Any]) -> None:
        self.texts = body["input"]
        self.state.requests.append(Request(self.path, self.headers["Authorization"], self.texts, body["model"]))
        answer = self.state.next_answers.popleft() if self.state.next_answers else Exchange.answer_well
        answer(self)

    def answer_well(self) -> None:
        vectors = self.state.embedder.embed(self.texts)
        data = [{"object": "embedding", "index": i, "embedding": [3 * float(x) for x in v]} for i, v in enumerate(vectors)]
        # Out of order and not of unit length, as the protocol allows.
        self.send_json({"object": "list", "data": data[::-1]})


@contextmanager
def running_server() -> Iterator[EmbeddingServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    state = EmbeddingServer()
    with serving(Exchange, state) as state.port:
        yield state
