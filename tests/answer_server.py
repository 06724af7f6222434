"""A real service on loopback that answers as the native paths of the HTTP service do, from an engine; nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rag.engine import Engine
from rag.errors import RagError
from rag.tokens import SHIPPED_NAME, open_counter
from rag.types import Query
from rag.wire import answer_json, context_json, search_json
from tests.loopback import JsonExchange, serving

_MODES = {"eco": "bm25"}


@dataclass
class AnswerServer:
    """What the service was asked; it fails where a query is in ``broken``, and is gone (503) where it is in ``gone``."""

    engine: Engine
    port: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    broken: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Exchange(JsonExchange):
    state: AnswerServer

    def receive(self, body: dict[str, Any]) -> None:
        self.state.requests.append(body | {"path": self.path})
        if body["query"] in self.state.broken:
            self.send_json({"detail": "broken on purpose"}, status=400)
            return
        if body["query"] in self.state.gone:
            self.send_json({"detail": "gone on purpose"}, status=503)
            return
        mode = _MODES.get(body.get("mode", ""), "hybrid")
        query = Query(body["query"], body["k"], "dense" if body.get("mode") == "dense" else "bm25" if mode == "bm25" else "hybrid")
        engine = self.state.engine
        try:
            match self.path:
                case "/v1/answer":
                    self.send_json(answer_json(engine.ask(query)))
                case "/v1/search":
                    self.send_json(search_json(engine.search(query)))
                case "/v1/context":
                    counter = open_counter(SHIPPED_NAME)
                    self.send_json(context_json(engine.context(query, body["max_tokens"], body["style"], counter)))
                case _:
                    self.send_json({"detail": "not found"}, status=404)
        except RagError as error:
            self.send_json({"detail": str(error)}, status=400)


@contextmanager
def running_answer_server(
    engine: Engine, broken: frozenset[str] = frozenset(), gone: frozenset[str] = frozenset()
) -> Iterator[AnswerServer]:
    """Serve an engine on a free port of 127.0.0.1 until the block ends."""
    state = AnswerServer(engine, broken=broken, gone=gone)
    with serving(_Exchange, state) as state.port:
        yield state
