"""Every kind of bad input, on every path that it can come to: a status, a code and one line, never an internal error."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.keys import KeyStore
from rag.settings import Settings
from tests.api.conftest import fill
from tests.api.running import PATIENCE_S, Running, problem, running, settings_of
from tests.corpus import write_documents

EMBEDDER = "all-minilm-l6-v2-int8"
UPLOAD = "/v1/collections/library/documents"
CHAT: dict[str, Any] = {"model": "ragwatt-standard", "messages": [{"role": "user", "content": "TEXT"}]}
# A body that is good but for what is put in place of TEXT.
GOOD: dict[str, dict[str, Any]] = {
    "/v1/search": {"query": "TEXT"},
    "/v1/context": {"query": "TEXT"},
    "/v1/answer": {"query": "x", "history": [{"role": "user", "content": "TEXT"}]},
    "/v1/batches": {"questions": [{"id": "TEXT", "query": "x"}]},
    "/v1/collections": {"name": "TEXT"},
    "/v1/chat/completions": CHAT,
    "/v1/embeddings": {"model": EMBEDDER, "input": ["TEXT"]},
    "/v1/rerank": {"query": "x", "documents": [{"text": "TEXT"}]},
    UPLOAD: {"documents": [{"id": "x", "text": "TEXT"}]},
}
PATHS = pytest.mark.parametrize("path", GOOD)
JSON = {"content-type": "application/json"}


def refusal(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error in the shape of its path, whose message is one line without words of Python."""
    if response.headers["content-type"] == "application/problem+json":
        found, message = problem(response), response.json()["detail"]
    else:
        error = response.json()["error"]
        found, message = (response.status_code, error["code"]), error["message"]
        assert error["request_id"] == response.headers["x-request-id"]
    assert message
    assert "\n" not in message
    assert "constrained-str" not in message
    return found


def sent(service: Running, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    return refusal(service.client.post(path, content=body, headers=JSON | headers))


@PATHS
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"query": "x"} more',
        b"\xff\xfe\xfd",
        b'{"a": "\xff"}',
        b'{"a": "\0"}',
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
    ids=["cut off", "two values", "no text", "bad utf-8", "raw NUL", "deep lists", "deep objects", "long number"],
)
def test_body_that_cannot_be_read_is_malformed_json(service: Running, path: str, body: bytes) -> None:
    assert sent(service, path, body) == (400, "malformed_json")


@PATHS
@pytest.mark.parametrize("body", [b"[]", b"null", b'"words"', b"5", b"NaN", b"{}"])
def test_body_of_another_shape_is_refused(service: Running, path: str, body: bytes) -> None:
    assert sent(service, path, body) in ((422, "invalid_request"), (400, "malformed_json"))


@PATHS
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "\xff"])
def test_body_of_another_content_type_is_told_the_right_one(service: Running, path: str, kind: str) -> None:
    response = service.client.post(path, content=json.dumps(GOOD[path]), headers={b"content-type": kind.encode("latin-1")})
    assert refusal(response) == (415, "media_type")
    assert "application/json" in response.text


@PATHS
@pytest.mark.parametrize("half", [b"\\ud800", b"\\udfff", b"\xed\xa0\x80"])
def test_half_of_a_surrogate_pair_is_refused_wherever_text_is_taken(service: Running, path: str, half: bytes) -> None:
    body = json.dumps(GOOD[path]).encode().replace(b"TEXT", half)
    status, code = sent(service, path, body)
    assert (status, code) == ((400, "malformed_json") if path == UPLOAD else (422, "invalid_request"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", b'{"query": "x", "filters": {"\\ud800": "a"}}'),
        ("/v1/search", b'{"query": "x", "filters": {"team": "\\ud800"}}'),
        ("/v1/search", b'{"query": "x", "filters": {"team": ["\\ud800"]}}'),
        ("/v1/search", b'{"query": "x", "\\ud800": 1}'),
        ("/v1/search", b'{"query": "x", "mode": "\\ud800"}'),
        ("/v1/context", b'{"query": "x", "target_model": "\\ud800"}'),
        ("/v1/chat/completions", json.dumps(CHAT | {"model": "\ud800"}).encode()),
        ("/v1/chat/completions", json.dumps(CHAT | {"stream": True, "rag": {"filters": {"team": "\ud800"}}}).encode()),
        ("/v1/chat/completions", json.dumps(CHAT | {"messages": [{"role": "\ud800", "content": "x"}]}).encode()),
        ("/v1/embeddings", b'{"model": "\\ud800", "input": "x"}'),
        ("/v1/embeddings", b'{"model": "all-minilm-l6-v2-int8", "input": "\\ud800"}'),
        ("/v1/rerank", b'{"query": "x", "documents": ["\\ud800"]}'),
        ("/v1/rerank", b'{"query": "x", "documents": ["x"], "model": "\\ud800"}'),
    ],
)
def test_half_of_a_surrogate_pair_is_refused_in_every_field(service: Running, path: str, body: bytes) -> None:
    assert sent(service, path, body)[0] in (400, 404, 422)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/search", "k"), ("/v1/context", "max_tokens"), ("/v1/answer", "max_energy_j"), ("/v1/rerank", "top_n")],
)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1", "true", '"5"'])
def test_number_that_is_none_or_not_allowed_is_refused(service: Running, path: str, field: str, value: str) -> None:
    body = json.dumps(GOOD[path])[:-1] + f', "{field}": {value}}}'
    assert sent(service, path, body.encode()) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/search", "k"), ("/v1/context", "max_tokens"), ("/v1/answer", "max_prompt_tokens"), ("/v1/answer", "max_energy_j")],
)
def test_number_of_hundreds_of_digits_is_refused(service: Running, path: str, field: str) -> None:
    assert sent(service, path, json.dumps(GOOD[path] | {field: 10**400}).encode()) == (422, "invalid_request")


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("value", [1_000_001, 10**30])
def test_chat_with_more_tokens_than_are_allowed_is_refused(service: Running, field: str, value: int) -> None:
    assert sent(service, "/v1/chat/completions", json.dumps(CHAT | {field: value}).encode()) == (422, "invalid_request")


def test_number_beyond_the_documents_ranks_all_of_them(service: Running) -> None:
    found = service.good("/v1/rerank", {"query": "x", "documents": ["a", "b"], "top_n": 2**63})
    assert len(found["results"]) == 2


@pytest.mark.parametrize("path", ["/v1/search", "/v1/chat/completions"])
def test_nul_in_a_question_is_a_character_like_others(service: Running, path: str) -> None:
    body = json.dumps(GOOD[path]).replace("TEXT", "how hot is the \\u0000 oven")
    assert service.client.post(path, content=body, headers=JSON).status_code == 200


@pytest.mark.parametrize("name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "a%0d%0ax:%20y", "%ff", "%ed%a0%80", "~", "x" * 5000])
@pytest.mark.parametrize(
    ("method", "place"),
    [
        ("GET", "/v1/collections/{}"),
        ("DELETE", "/v1/collections/{}"),
        ("GET", "/v1/collections/{}/documents"),
        ("DELETE", "/v1/collections/library/documents/{}"),
        ("GET", "/v1/jobs/{}"),
        ("DELETE", "/v1/jobs/{}"),
        ("GET", "/v1/models/{}"),
        ("GET", "/v1/models/ragwatt-standard/{}"),
        ("GET", "/ui/{}"),
    ],
)
def test_id_that_leads_elsewhere_is_not_found(service: Running, method: str, place: str, name: str) -> None:
    assert refusal(service.client.request(method, place.format(name)))[0] == 404


@pytest.mark.parametrize("model", ["ragwatt-standard/../library", "ragwatt-standard/\0", "../ragwatt-standard", "\0", "x" * 70_000])
def test_model_that_leads_elsewhere_is_not_found(service: Running, model: str) -> None:
    assert sent(service, "/v1/chat/completions", json.dumps(CHAT | {"model": model}).encode())[0] == 404


@pytest.mark.parametrize("collection", ["../library", "library/", "\0", "library\n", ".", "x" * 65])
def test_collection_that_leads_elsewhere_is_refused(service: Running, collection: str) -> None:
    for path in ("/v1/search", "/v1/context", "/v1/answer", "/v1/batches"):
        assert service.refused(path, GOOD[path] | {"collection": collection}) == (422, "invalid_request")


def test_another_method_is_told_all_that_are_allowed(service: Running) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    assert len(paths) > 15
    for path, described in paths.items():
        response = service.client.request("PATCH", path.format(name="x", job_id="x", doc_id="x"))
        assert refusal(response) == (405, "method_not_allowed")
        assert set(response.headers["allow"].lower().split(", ")) - {"head"} == set(described)


@pytest.mark.parametrize("path", ["/v1/search/", "/v1/collections/", "/livez/", "//v1/search"])
def test_no_request_is_led_to_another_address(service: Running, path: str) -> None:
    assert refusal(service.client.post(path, json={"query": "x"}))[0] in (404, 405)


def spoken(service: Running, *headers: bytes) -> tuple[int, dict[str, Any]]:
    """Status and body of a search with headers as no client library sends them."""
    body = b'{"query": "oven", "mode": "bm25"}'
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        lines = [b"POST /v1/search HTTP/1.1", b"Connection: close", b"Content-Length: %d" % len(body), *headers]
        client.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
        head, _, answer = client.makefile("rb").read().partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(answer)


HOST, KIND = b"Host: 127.0.0.1", b"Content-Type: application/json"


def test_header_without_value_is_as_good_as_none(service: Running) -> None:
    empty = (b"X-Request-ID:", b"Authorization:", b"X-API-Key:", b"Origin:", b"traceparent:", b"Accept:")
    status, found = spoken(service, HOST, KIND, *empty)
    assert status == 200
    assert len(found["request_id"]) == 32
    assert spoken(service, HOST, b"Content-Type:")[0] == 415


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ((b"Host: [::1", KIND), 401, "no_api_key"),
        ((b"Host:", KIND), 401, "no_api_key"),
        ((HOST, KIND, b"Origin: http://[::1"), 403, "origin"),
        ((HOST, KIND, b"Origin: null"), 403, "origin"),
        ((HOST, KIND, b"Origin: \xff"), 403, "origin"),
    ],
)
def test_address_that_is_none_is_refused(service: Running, headers: tuple[bytes, ...], status: int, code: str) -> None:
    found, body = spoken(service, *headers)
    assert (found, body["code"]) == (status, code)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=B", b"junk"),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; filename="a.md"\r\n\r\nx\r\n--B--\r\n'),
        ("multipart/form-data; boundary=B", b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"x" * 2_000_000),
    ],
)
def test_form_that_cannot_be_read_is_refused(service: Running, kind: str, body: bytes) -> None:
    response = service.client.post(UPLOAD, content=body, headers={"content-type": kind})
    assert problem(response) == (400, "malformed_form")


def test_upload_beyond_32_megabytes_is_refused(service: Running) -> None:
    assert sent(service, UPLOAD, b" " * 32_000_001) == (413, "too_large")


@pytest.mark.parametrize("key", ["a b", "k" * 256, "\x7f", "ö"])
def test_idempotency_key_that_is_none_is_refused(service: Running, key: str) -> None:
    for path in ("/v1/batches", UPLOAD):
        response = service.client.post(path, json=GOOD[path], headers={b"idempotency-key": key.encode()})
        assert problem(response) == (422, "invalid_request")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    """A service with keys, and the secrets of some that are good no more."""
    base: Path = tmp_path_factory.mktemp("guarded")
    settings: Settings = settings_of(base / "data")
    fill(settings, write_documents(base / "documents", ["bread.md"]))
    keys = KeyStore(settings.data_dir, lambda: time.time() - 60)
    key, revoked = keys.create(["admin"])
    keys.revoke(key.caller.key_id)
    expired = keys.create(["admin"], expires=time.time() - 30)[1]
    secrets = {"good": keys.create(["admin"])[1], "revoked": revoked, "expired": expired}
    keys.close()
    with running(settings) as found:
        yield found, secrets


@pytest.mark.parametrize("path", ["/v1/collections", "/v1/models", "/v1/jobs/x", "/metrics"])
@pytest.mark.parametrize(
    ("secret", "code"),
    [
        ("revoked", "key_revoked"),
        ("expired", "key_expired"),
        ("rag_0123456789abcdef_x", "key_unknown"),
        ("x" * 10_000, "key_unknown"),
        ("", "no_api_key"),
    ],
)
def test_key_that_is_good_no_more_is_refused_in_both_headers(
    guarded: tuple[Running, dict[str, str]], path: str, secret: str, code: str
) -> None:
    service, secrets = guarded
    sent = secrets.get(secret, secret)
    for headers in ({"authorization": f"Bearer {sent}".strip()}, {"x-api-key": sent}):
        response = service.client.get(path, headers=headers)
        assert refusal(response) == (401, code)
        assert response.headers["www-authenticate"] == "Bearer"
        assert not sent or sent not in response.text


@pytest.mark.parametrize("value", [b"", b"Bearer", b"Bearer ", b"Basic eDp5", b"bearer \xff", b"Bearer a b", b"Bearer \t"])
def test_authorisation_of_another_form_is_refused(guarded: tuple[Running, dict[str, str]], value: bytes) -> None:
    service, _ = guarded
    status, body = spoken(service, HOST, KIND, b"Authorization: " + value)
    assert (status, body["code"]) in ((401, "no_api_key"), (401, "key_unknown"))


def test_every_path_of_the_description_needs_a_key_but_the_probes(guarded: tuple[Running, dict[str, str]]) -> None:
    service, secrets = guarded
    found = service.client.get("/openapi.json").json()
    assert {} not in found["security"]
    for path, described in found["paths"].items():
        for method, operation in described.items():
            asked = (method, path.format(name="library", job_id="x", doc_id="x"))
            status = service.client.request(*asked, json=GOOD.get(path) if method == "post" else None).status_code
            assert (status == 200) if operation.get("security") == [] else (status == 401), asked
    assert service.client.get("/v1/models", headers={"x-api-key": secrets["good"]}).status_code == 200
