"""The official Node client of OpenAI, unchanged, against the service."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api.keys import KeyStore
from api.limits import Limits
from tests.api.conftest import fill
from tests.api.running import running, settings_of
from tests.chat_server import running_server
from tests.corpus import write_documents

SOURCE = Path(__file__).parent / "node"
CACHE = Path(__file__).parents[2] / ".cache" / "node"
QUESTION = "how hot is the oven for a loaf"
Told = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def client() -> Path:
    """The script beside the installed client; skips where it cannot be installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node or npm on the path; on Debian: apt-get install nodejs npm")
    lock = (SOURCE / "package-lock.json").read_bytes()
    folder = CACHE / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    for path in SOURCE.iterdir():
        shutil.copy(path, folder)
    if not (folder / "node_modules" / ".package-lock.json").exists():  # npm writes it last
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1", "--fetch-timeout=30000"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        except subprocess.TimeoutExpired as error:
            pytest.skip(f"npm cannot install the client: it did not end within {error.timeout:g} s")
        if done.returncode:
            if "EINTEGRITY" in done.stderr or "EUSAGE" in done.stderr:
                pytest.fail(done.stderr)  # the lock is wrong, not the network
            pytest.skip(f"npm cannot install the client: {' '.join(done.stderr.split())[:200]}")
    return folder / "client.js"


@pytest.fixture(scope="module")
def told(client: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """What every call of the script came to."""
    base = tmp_path_factory.mktemp("node")
    settings = settings_of(base / "data")
    fill(settings, write_documents(base / "documents"))
    keys = KeyStore(settings.data_dir)
    secrets = {
        "good": keys.create(["query"])[1],
        "ingest": keys.create(["ingest"])[1],
        "limited": keys.create(["query"], limits=Limits(requests_per_minute=1))[1],
    }
    keys.close()
    with running_server() as model_server:
        model_server.next_answers.extend([lambda exchange: exchange.send_json({"error": {"message": "no"}}, 400)] * 2)
        with running(replace(settings, language_model=model_server.settings(timeout_s=5.0))) as service:
            asked = {"url": service.url, "keys": secrets, "question": QUESTION, "model": "ragwatt-standard"}
            asked["embedder"] = settings.embedder.model
            command = [shutil.which("node") or "node", str(client), json.dumps(asked)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: Told = json.loads(done.stdout)
    return found


def test_lock_names_no_place_to_fetch_from() -> None:
    assert "resolved" not in (SOURCE / "package-lock.json").read_text()


def test_models_are_listed_and_looked_up(told: Told) -> None:
    assert {"ragwatt-standard", "ragwatt-standard/library"} <= set(told["models"]["value"])
    assert told["model"]["value"]["id"] == "ragwatt-standard/library"


def test_chat_is_a_cited_answer(told: Told) -> None:
    message = told["chat"]["value"]["choices"][0]["message"]
    cited = message["annotations"][0]["url_citation"]
    assert message["content"][cited["start_index"] : cited["end_index"]] == "Bake the loaf at 230 degrees under a lid."
    assert told["chat"]["value"]["usage"]["completion_tokens"] > 0


def test_stream_says_what_the_answer_says_and_ends_with_usage(told: Told) -> None:
    *chunks, usage = told["stream"]["value"]
    words = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert words == told["chat"]["value"]["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert usage["choices"] == []
    assert usage["usage"] == told["chat"]["value"]["usage"]


def test_embeddings_are_the_same_in_every_encoding(told: Told) -> None:
    vectors = np.array(told["float"]["value"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-3)
    assert np.array(told["embeddings"]["value"]) == pytest.approx(vectors, abs=1e-6)
    packed = [np.frombuffer(base64.b64decode(text), "<f4") for text in told["base64"]["value"]]
    assert np.array(packed) == pytest.approx(vectors, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "kind", "status", "code"),
    [
        ("blank", "BadRequestError", 400, "no_question"),
        ("wrong_key", "AuthenticationError", 401, "key_unknown"),
        ("scope", "PermissionDeniedError", 403, "scope"),
        ("unknown_model", "NotFoundError", 404, "model_not_found"),
        ("stream_of_unknown_model", "NotFoundError", 404, "model_not_found"),
        ("large", "APIError", 413, "too_large"),
        ("two_answers", "UnprocessableEntityError", 422, "invalid_request"),
        ("limit", "RateLimitError", 429, "rate_limit"),
        ("failed_model", "InternalServerError", 502, "http_400"),
    ],
)
def test_every_status_is_the_right_error_of_the_client(told: Told, call: str, kind: str, status: int, code: str) -> None:
    error = told[call]["error"]
    assert (error["kind"], error["status"], error["code"]) == (kind, status, code)
    assert len(error["request_id"]) == 32


def test_failure_in_the_middle_of_a_stream_is_an_error(told: Told) -> None:
    assert (told["failed_in_stream"]["error"]["kind"], told["failed_in_stream"]["error"]["code"]) == ("APIError", "http_400")
