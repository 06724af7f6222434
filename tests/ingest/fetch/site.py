"""A small real web site on loopback, which tells what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer


@dataclass(slots=True)
class Resource:
    """One answer of the site; a body of several pieces is sent piece by piece."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    etag: str = ""


@dataclass(slots=True)
class Site:
    """Its pages by path, and every request: path and headers in lower case."""

    address: str
    pages: dict[str, Resource] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.asked if path != "/robots.txt"]

    def page(self, path: str, body: str, **headers: str) -> None:
        self.pages[path] = Resource(body.encode(), headers={"Content-Type": "text/html"} | headers)


class _Server(ThreadingHTTPServer):
    def server_bind(self) -> None:
        """As that of the library, which also asks the name server for the name of 127.0.0.2, and waits."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "site.example", int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has seen enough hangs up."""


@contextmanager
def serving(ip: str = "127.0.0.1") -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
            page = site.pages.get(self.path, Resource(b"not there", 404))
            if page.etag and self.headers.get("If-None-Match") == page.etag:
                page = Resource(b"", 304, {})
            self.send_response(page.status)
            for key, value in page.headers.items():
                self.send_header(key, value)
            if page.etag:
                self.send_header("ETag", page.etag)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server gives it
            """Tests need no access log."""

    server = _Server((ip, 0), Handler)
    site = Site(f"http://{ip}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
