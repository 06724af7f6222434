"""The description against the service: schemathesis makes requests of it, good and bad, and checks every answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.keys import KeyStore
from rag.settings import Settings
from tests.api.conftest import fill
from tests.api.running import Running, running, settings_of
from tests.corpus import write_documents

CONFIG = Path(__file__).with_name("schemathesis.toml")
QUICK = ("--phases", "examples,fuzzing", "--max-examples", "2", "--seed", "1")
LONG = ("--max-examples", "50", "--continue-on-failure")


def schemathesis_on(folder: Path, url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A run of schemathesis, which writes its own files into a folder."""
    pytest.importorskip("schemathesis")
    program = (sys.executable, "-P", "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json")
    command = (*program, "--no-color", *options)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a small collection, which may be changed."""
    settings = settings_of(tmp_path / "data")
    fill(settings, write_documents(tmp_path / "documents"))
    return settings


@pytest.fixture
def guarded(settings: Settings) -> Iterator[tuple[Running, str]]:
    """A service that needs a key, and one."""
    keys = KeyStore(settings.data_dir)
    _, secret = keys.create(["admin"])
    keys.close()
    with running(settings) as found:
        yield found, f"Authorization: Bearer {secret}"


def check(done: subprocess.CompletedProcess[str], service: Running, n_cases: int) -> None:
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    paths = service.client.get("/openapi.json").json()["paths"]
    n_operations = sum(len(described) for described in paths.values())
    assert f"Tested: {n_operations}\n" in done.stdout
    made = re.search(r"(\d+) generated", done.stdout)
    assert made
    assert int(made[1]) >= n_cases
    assert [line for line in service.lines() if line.get("error") == "bug"] == []


def test_answers_are_as_described(guarded: tuple[Running, str], tmp_path: Path) -> None:
    service, key = guarded
    check(schemathesis_on(tmp_path, service.url, "-H", key, *QUICK), service, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["2", "3"])
def test_answers_are_as_described_in_thousands_of_cases(guarded: tuple[Running, str], tmp_path: Path, seed: str) -> None:
    service, key = guarded
    check(schemathesis_on(tmp_path, service.url, "-H", key, *LONG, "--seed", seed), service, 1500)


@pytest.mark.slow
def test_answers_are_as_described_as_long_as_there_is_no_key(settings: Settings, tmp_path: Path) -> None:
    with running(settings) as service:
        check(schemathesis_on(tmp_path, service.url, *LONG, "--seed", "5"), service, 1500)


@pytest.mark.slow
def test_the_check_would_find_a_service_that_breaks_its_word(tmp_path: Path) -> None:
    class Liar(BaseHTTPRequestHandler):
        """It says that it answers with an object, and answers with a list, to anybody."""

        def do_GET(self) -> None:
            answer = {"description": "x", "content": {"application/json": {"schema": {"type": "object"}}}}
            paths = {"/x": {"get": {"responses": {"200": answer}}}}
            described = {"openapi": "3.1.0", "info": {"title": "x", "version": "1"}, "paths": paths}
            self._send(json.dumps(described if self.path == "/openapi.json" else []).encode())

        def _send(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever).start()
        done = schemathesis_on(tmp_path, f"http://127.0.0.1:{server.server_address[1]}", *QUICK)
        server.shutdown()
    assert done.returncode == 1
    assert "Response violates schema" in done.stdout
