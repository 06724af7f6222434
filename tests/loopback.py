"""A real HTTP server on loopback for a test: what every one of them does, whichever protocol it speaks."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class JsonExchange(BaseHTTPRequestHandler):
    """One request of JSON; a subclass says in `receive` how it is answered."""

    # Connections stay open after an answer, as those of real servers do.
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.receive(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def receive(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

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
        """A client that has hung up is what some tests are about."""


@contextmanager
def serving(exchange: type[JsonExchange], state: object) -> Iterator[int]:
    """Serve on a free port of 127.0.0.1 until the block ends.

    Args:
        exchange: Answers requests; its attribute ``state`` is set.
        state: What the server was asked, and how it shall answer.

    Yields:
        The port.
    """
    server = _QuietServer(("127.0.0.1", 0), type("Bound", (exchange,), {"state": state}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
