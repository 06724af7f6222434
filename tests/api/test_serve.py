"""`rag serve` as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from api.keys import KeyStore
from api.serve import main, run
from rag.errors import ConfigError, InputError
from rag.settings import ServiceSettings, Settings
from tests.api.running import settings_of
from tests.embedding_server import Exchange, running_server

PROGRAM = """
import sys
from pathlib import Path
from api.serve import main
from rag.settings import load_settings
sys.exit(main(["--port", "0"], load_settings({{"data_dir": {data_dir!r}, "collection": "library", **{more!r}}}), False))
"""


@contextmanager
def serving(data_dir: Path, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    program = PROGRAM.format(data_dir=str(data_dir), more=more)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        assert "no API key exists" in line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def test_signal_lets_what_is_in_flight_finish_and_ends_well(library: Settings) -> None:
    with running_server() as embedding:

        def slowly(exchange: Exchange) -> None:
            time.sleep(1.0)
            exchange.answer_well()

        embedding.next_answers.append(slowly)
        more = {"embedder.kind": "http", "embedder.url": embedding.settings().url, "embedder.model": "hash"}
        with serving(library.data_dir, **more) as (process, url), ThreadPoolExecutor(1) as clients:
            body = {"model": "hash", "input": "the tide"}
            waiting = clients.submit(httpx.post, f"{url}/v1/embeddings", json=body, timeout=20, trust_env=False)
            while not embedding.requests:
                time.sleep(0.01)
            process.send_signal(signal.SIGTERM)
            assert waiting.result().status_code == 200
            assert process.wait(20) == 0
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{url}/livez", trust_env=False)


def test_every_line_of_the_log_is_json_whatever_is_sent(library: Settings) -> None:
    with serving(library.data_dir) as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
            client.sendall(b"GARBAGE\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    lines = [json.loads(line) for line in said.splitlines()]
    assert "library" in {line["event"] for line in lines}


def test_service_that_other_machines_can_reach_needs_a_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rag keys create") as caught:
        run(settings_of(tmp_path), ServiceSettings(host="0.0.0.0", port=0))
    assert caught.value.code == "no_keys"


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "-1"], ["--port", "x"], ["--colour", "red"]])
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(InputError):
        main(arguments, settings_of(tmp_path), False)


def test_port_that_is_taken_is_told(tmp_path: Path, library: Settings) -> None:
    with serving(library.data_dir) as (_, url), pytest.raises(InputError, match="--port") as caught:
        run(settings_of(tmp_path), ServiceSettings(port=int(url.rsplit(":", 1)[1])))
    assert caught.value.code == "port"


def test_key_opens_the_service_to_other_machines(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    keys.create(["query"])
    keys.close()
    with pytest.raises(InputError, match="port"):  # it goes on to listen, where nobody may
        run(settings_of(tmp_path), ServiceSettings(host="192.0.2.1", port=0))
