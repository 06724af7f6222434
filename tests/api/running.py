"""The real service behind a real uvicorn on a free port of loopback, for a test."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn

from api.app import create_app
from api.log import open_log
from api.service import Service
from rag.settings import ServiceSettings, Settings

# No job or reload of a test takes this long, unless it never ends.
PATIENCE_S = 60.0
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Running:
    """A service that runs, its parts, its log, and a client."""

    url: str
    service: Service
    log: io.StringIO
    client: httpx.Client

    def post(self, path: str, body: object, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def good(self, path: str, body: object) -> dict[str, Any]:
        """The JSON of a request that must succeed."""
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        found = response.json()
        assert isinstance(found, dict)
        return found

    def refused(self, path: str, body: object) -> tuple[int, str]:
        """Status and code of a request that must not succeed; everything else that a problem has is checked."""
        return problem(self.post(path, body))

    def job(self, location: str) -> dict[str, Any]:
        """A job once it is over."""

        def over() -> dict[str, Any] | None:
            found: dict[str, Any] = self.client.get(location).json()
            return None if found["state"] in ("queued", "running") else found

        return eventually(over)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an RFC 9457 body."""
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    assert found["detail"]
    assert "\n" not in found["detail"]
    assert found["request_id"] == response.headers["x-request-id"]
    return response.status_code, found["code"]


def eventually(look: Callable[[], _Found | None]) -> _Found:
    """What a look finds, once it finds something."""
    until = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)
    return found


@contextmanager
def running(settings: Settings, options: ServiceSettings | None = None) -> Iterator[Running]:
    """Serve until the block ends."""
    log = io.StringIO()
    chosen = replace(options or ServiceSettings(), poll_s=0.05)
    app = create_app(settings, chosen, open_log(log))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
    # With the protocol named, asyncio turns off Nagle's algorithm, as it does for a server of its own: without, answers take 40 ms.
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


def settings_of(data_dir: Path, **changed: Any) -> Settings:  # noqa: ANN401 - sections of the settings, by name
    """Settings of a data directory, which does not look for energy counters."""
    settings = Settings(data_dir=data_dir, collection="library")
    return replace(settings, energy=replace(settings.energy, powercap_root=data_dir / "no-powercap"), **changed)
