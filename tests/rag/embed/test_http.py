from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from rag.embed.http import HttpEmbedder
from rag.errors import ConfigError, ModelError
from rag.settings import EmbedderSettings
from tests.embedding_server import EmbeddingServer, Exchange, Handler, running_server

KEY = "sk-very-secret-key"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with running_server() as running:
        yield running


class Pauses(list[float]):
    """Takes the place of `time.sleep` and notes the pauses instead of making them."""

    def __call__(self, pause_s: float) -> None:
        self.append(pause_s)


def refuse(status: int, said: object = "no", **headers: str) -> Handler:
    return lambda exchange: exchange.send_json(said, status, **headers)


def vectors(*rows: object) -> Handler:
    return lambda exchange: exchange.send_json({"data": [{"embedding": row} for row in rows]})


def raw(body: bytes) -> Handler:
    return lambda exchange: exchange.send_body(body)


def hang_up(exchange: Exchange) -> None:
    exchange.connection.shutdown(socket.SHUT_RDWR)


def opened(settings: EmbedderSettings, sleep: Callable[[float], None] = time.sleep) -> HttpEmbedder:
    """An embedder that has asked the server once: for the length of its vectors."""
    embedder = HttpEmbedder(settings, sleep)
    assert embedder.dim > 0
    return embedder


def test_request_carries_model_texts_and_key(server: EmbeddingServer) -> None:
    embedder = opened(server.settings(api_key=KEY))
    embedder.embed(["one", "two"])
    asked = server.requests[-1]
    assert (asked.path, asked.model, asked.texts) == ("/v1/embeddings", "hash", ["one", "two"])
    assert asked.authorization == f"Bearer {KEY}"
    assert embedder.id == "http:hash"


def test_without_a_key_no_authorization_is_sent(server: EmbeddingServer) -> None:
    opened(server.settings())
    assert server.requests[-1].authorization is None


def test_opening_learns_the_dimension(server: EmbeddingServer) -> None:
    assert opened(server.settings()).dim == server.embedder.dim
    assert len(server.requests) == 1


def test_at_most_32_texts_go_into_a_request(server: EmbeddingServer) -> None:
    embedder = opened(server.settings())
    texts = [f"text {i}" for i in range(70)]
    np.testing.assert_allclose(embedder.embed(texts), server.embedder.embed(texts), atol=1e-6)
    assert [len(request.texts) for request in server.requests[1:]] == [32, 32, 6]


def test_empty_and_long_texts_are_sent_as_something_a_server_takes(server: EmbeddingServer) -> None:
    embedder = opened(server.settings(max_tokens=16))
    embedder.embed(["", "word " * 100, "lone \ud800"])
    empty, long, odd = server.requests[-1].texts
    assert empty.strip()
    assert embedder.count_tokens(long) <= 16
    assert odd == "lone ?"


def test_words_of_an_unknown_script_count_by_the_character(server: EmbeddingServer) -> None:
    embedder = opened(server.settings())
    assert embedder.count_tokens("\u0ba4\u0bae\u0bbf\u0bb4\u0bcd") >= 5


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_failure_is_tried_again(server: EmbeddingServer, status: int) -> None:
    server.next_answers.extend([refuse(status), refuse(status)])
    pauses = Pauses()
    assert opened(server.settings(), pauses).dim == 64
    assert pauses == [0.5, 1.0]


def test_hanging_up_is_tried_again(server: EmbeddingServer) -> None:
    server.next_answers.append(hang_up)
    pauses = Pauses()
    assert opened(server.settings(), pauses).dim == 64
    assert pauses == [0.5]


@pytest.mark.parametrize(
    ("asked", "paused"),
    [
        ("3", 3.0),
        ("3600", 10.0),
        ("nonsense", 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Fri, 31 Dec 2199 23:59:59 GMT", 10.0),
    ],
)
def test_retry_after_is_honoured_up_to_ten_seconds(server: EmbeddingServer, asked: str, paused: float) -> None:
    server.next_answers.append(refuse(429, Retry_After=asked))
    pauses = Pauses()
    opened(server.settings(), pauses)
    assert pauses == [paused]


def test_third_failure_is_the_last(server: EmbeddingServer) -> None:
    server.next_answers.extend([refuse(503, "busy")] * 3)
    with pytest.raises(ModelError, match="answered 503.*busy.*tried 3 times") as raised:
        opened(server.settings(), Pauses())
    assert raised.value.code == "embedder_unavailable"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("status", "way_out"),
    [(401, "embedder.api_key"), (403, "embedder.api_key"), (404, "embedder.model"), (400, "embedder.max_tokens"), (418, "log")],
)
def test_final_refusal_says_what_to_check(server: EmbeddingServer, status: int, way_out: str) -> None:
    server.next_answers.append(refuse(status, {"error": f"bad key {KEY}"}))
    with pytest.raises(ModelError, match=f"answered {status}.*{way_out}") as raised:
        opened(server.settings(api_key=KEY), Pauses())
    assert len(server.requests) == 1
    assert KEY not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_redirect_is_not_followed(server: EmbeddingServer) -> None:
    server.next_answers.append(refuse(307, Location="http://127.0.0.1:9/elsewhere"))
    with pytest.raises(ModelError, match="redirects are not followed"):
        opened(server.settings(api_key=KEY), Pauses())


def test_silence_is_a_timeout_and_not_tried_again(server: EmbeddingServer) -> None:
    server.next_answers.append(lambda _exchange: time.sleep(20.0))
    with pytest.raises(ModelError, match="did not answer within 1 s"):
        opened(server.settings(timeout_s=1.0), Pauses())
    assert len(server.requests) == 1


def test_trickle_is_a_timeout_too(server: EmbeddingServer) -> None:
    def trickle(exchange: Exchange) -> None:
        exchange.send_response(200)
        exchange.send_header("Content-Length", "1000")
        exchange.end_headers()
        for _ in range(12):
            exchange.wfile.write(b" ")
            time.sleep(0.05)

    server.next_answers.append(trickle)
    with pytest.raises(ModelError, match=r"did not answer within 0\.2 s"):
        opened(server.settings(timeout_s=0.2), Pauses())


def test_nobody_listening_is_a_model_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ModelError, match="not reachable.*tried 3 times"):
        opened(EmbedderSettings("http", "m", f"http://127.0.0.1:{port}/v1"), Pauses())


def test_body_cut_short_is_tried_again(server: EmbeddingServer) -> None:
    def cut_short(exchange: Exchange) -> None:
        exchange.send_body(b'{"data": [', Content_Length="1000")
        exchange.close_connection = True

    server.next_answers.append(cut_short)
    pauses = Pauses()
    opened(server.settings(), pauses)
    assert pauses == [0.5]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (raw(b'{"data": [{"embedd'), "JSONDecodeError"),
        (raw(b'{"data": "\xff"}'), "UnicodeDecodeError"),
        (raw(b"[" * 100_000), "RecursionError|JSONDecodeError"),
        (raw(b"[]"), "no list called data"),
        (raw(b'{"error": "loading"}'), "no list called data"),
        (raw(b'{"data": [{}]}'), "KeyError"),
        (raw(b'{"data": [7]}'), "indexes"),
        (raw(b'{"data": [{"index": [], "embedding": [1.0]}]}'), "unhashable"),
        (raw(b'{"data": [{"embedding": [NaN, 1.0]}]}'), "NaN or infinity"),
        (raw(b'{"data": [{"embedding": [1e999, 1.0]}]}'), "NaN or infinity"),
        (raw(b'{"data": [{"embedding": [1' + b"0" * 400 + b"]}]}"), "OverflowError"),
        (vectors(["base64", "x"]), "could not convert"),
        (vectors([]), r"shape \(1, 0\)"),
        (vectors([[1.0, 2.0]]), r"shape \(1, 1, 2\)"),
        (vectors([0.0, 0.0]), "zeros"),
        (vectors([1.0], [1.0]), "2 vectors for 1 texts"),
    ],
)
def test_unusable_answer_is_a_model_error_that_says_what_came(server: EmbeddingServer, answer: Handler, found: str) -> None:
    server.next_answers.append(answer)
    with pytest.raises(ModelError, match=f"no usable vectors.*({found})") as raised:
        opened(server.settings(), Pauses())
    assert raised.value.code == "embedder_answer"


def test_other_dimension_than_at_first_is_refused(server: EmbeddingServer) -> None:
    embedder = opened(server.settings())
    server.next_answers.append(vectors([1.0] * 63))
    with pytest.raises(ModelError, match=r"shape \(1, 63\), expected \(1, 64\)"):
        embedder.embed(["text"])


def test_ragged_vectors_are_refused(server: EmbeddingServer) -> None:
    embedder = opened(server.settings())
    server.next_answers.append(vectors([1.0] * 64, [1.0] * 63))
    with pytest.raises(ModelError, match="no usable vectors"):
        embedder.embed(["one", "two"])


def test_repeated_index_is_refused(server: EmbeddingServer) -> None:
    embedder = opened(server.settings())
    server.next_answers.append(lambda exchange: exchange.send_json({"data": [{"index": 0, "embedding": [1.0] * 64}] * 2}))
    with pytest.raises(ModelError, match="indexes"):
        embedder.embed(["one", "two"])


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_vectors_of_any_length_become_unit_vectors(server: EmbeddingServer, scale: float) -> None:
    server.next_answers.append(vectors([scale, -scale]))
    embedder = opened(server.settings())
    server.next_answers.append(vectors([3 * scale, -4 * scale]))
    np.testing.assert_allclose(embedder.embed(["text"]), [[0.6, -0.8]], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": ""}, "expected http://"),
        ({"url": "ftp://127.0.0.1/v1"}, "expected http://"),
        ({"url": "http://127.0.0.1:99999/v1"}, "malformed"),
        ({"url": "http://127.0.0.1/a b"}, "expected http://"),
        ({"url": "http://user:pass@127.0.0.1/v1"}, "api_key instead"),
        ({"model": ""}, "embedder.model is empty"),
        ({"api_key": KEY + "\n"}, "copy it again"),
    ],
)
def test_unusable_setting_is_a_config_error(change: dict[str, str], said: str) -> None:
    good = EmbedderSettings("http", "m", "http://127.0.0.1:9/v1")
    with pytest.raises(ConfigError, match=said) as raised:
        opened(replace(good, **change), Pauses())  # type: ignore[arg-type]  # fields by name
    assert KEY not in str(raised.value)
    assert "pass" not in str(raised.value).replace("password", "")
