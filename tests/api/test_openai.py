"""The official client of OpenAI, unchanged, against the service."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionStreamOptionsParam
from pydantic import BaseModel

from api.keys import KeyStore
from api.limits import Limits
from rag.settings import Settings
from tests.api.conftest import fill
from tests.api.running import Running, running, settings_of
from tests.chat_server import ChatServer, Exchange, Handler, running_server
from tests.corpus import write_documents

QUESTION = "how hot is the oven for a loaf"
MODEL = "ragwatt-standard"
EMBEDDER = "all-minilm-l6-v2-int8"


def client_of(service: Running, key: str = "unused") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[openai.OpenAI]:
    with client_of(service) as found:
        yield found


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def extension(value: BaseModel) -> dict[str, Any]:
    """What the service adds to OpenAI's fields."""
    found = (value.model_extra or {})["rag"]
    assert isinstance(found, dict)
    return found


def test_models_are_ways_of_answering_with_and_without_a_collection(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {MODEL, "ragwatt-eco", "ragwatt-auto", "ragwatt-standard/library", EMBEDDER} <= names
    assert "ragwatt-generative" not in names, "no language model is configured"
    assert client.models.retrieve("ragwatt-standard/library").id == "ragwatt-standard/library"


def test_chat_is_a_cited_answer(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model=MODEL, messages=user(QUESTION), temperature=0.7, user="somebody")
    message = found.choices[0].message
    assert message.content is not None
    assert "230 degrees" in message.content
    assert message.annotations
    cited = message.annotations[0].url_citation
    assert message.content[cited.start_index : cited.end_index] == "Bake the loaf at 230 degrees under a lid."
    assert cited.url.endswith("bread.md")
    assert found.choices[0].finish_reason == "stop"
    assert found.usage
    assert found.usage.total_tokens == found.usage.completion_tokens > 0
    assert extension(found)["version"] == 1
    assert extension(found)["measurement"]["cpu_s"] > 0


def test_chat_names_its_collection_by_model_or_by_extension(client: openai.OpenAI) -> None:
    for model, rag in ((f"{MODEL}/library", {}), (MODEL, {"collection": "library", "mode": "eco", "top_k": 3})):
        found = client.chat.completions.create(model=model, messages=user(QUESTION), extra_body={"rag": rag})
        assert extension(found)["collection"] == "library"


def test_question_is_the_last_message_of_the_user_in_its_conversation(client: openai.OpenAI) -> None:
    messages: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": [{"type": "text", "text": "Who pays the rent of the lease?"}]},
        {"role": "assistant", "content": "The tenant."},
        {"role": "user", "content": "And how much is it?"},
    ]
    found = client.chat.completions.create(model=MODEL, messages=messages)
    assert "900 euros" in (found.choices[0].message.content or "")


def streamed(client: openai.OpenAI, *, include_usage: bool = False) -> list[ChatCompletionChunk]:
    options: ChatCompletionStreamOptionsParam = {"include_usage": include_usage}
    return list(client.chat.completions.create(model=MODEL, messages=user(QUESTION), stream=True, stream_options=options))


def test_stream_says_what_the_answer_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=user(QUESTION)).choices[0].message.content
    chunks = streamed(client)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len({chunk.id for chunk in chunks}) == 1


def test_stream_has_citations_in_the_last_delta_and_usage_behind_it(client: openai.OpenAI) -> None:
    *_, last, stop, usage = streamed(client, include_usage=True)
    assert (last.choices[0].delta.model_extra or {})["annotations"][0]["type"] == "url_citation"
    assert extension(stop)["citations"][0]["doc_id"] == "bread.md"
    assert usage.choices == []
    assert usage.usage
    assert usage.usage.completion_tokens > 0


def test_abstention_is_an_answer_without_citations(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model=MODEL, messages=user("Xylophone quasar zeppelin?"))
    assert extension(found)["abstained"]
    assert found.choices[0].message.annotations == []


def test_embeddings_are_unit_vectors_in_both_encodings(service: Running, client: openai.OpenAI) -> None:
    texts = ["the moon pulls the water", "a diesel engine"]
    found = client.embeddings.create(model=EMBEDDER, input=texts)  # the client asks for base64
    vectors = np.array([one.embedding for one in found.data])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1], abs=1e-3)
    plain = service.good("/v1/embeddings", {"model": EMBEDDER, "input": texts[0], "encoding_format": "float"})
    assert plain["data"][0]["embedding"] == pytest.approx(vectors[0].tolist(), abs=1e-6)
    packed = service.good("/v1/embeddings", {"model": EMBEDDER, "input": texts[0], "encoding_format": "base64"})
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4") == pytest.approx(vectors[0], abs=1e-6)
    assert found.usage.total_tokens == found.usage.prompt_tokens > 0


def test_rerank_orders_documents_by_their_fit(service: Running) -> None:
    documents = ["The knight jumps over pieces.", {"text": "The moon pulls the ocean: tides."}, "A loaf of bread."]
    body = {"query": "why is there a tide", "documents": documents, "top_n": 2, "return_documents": True}
    found = service.good("/v1/rerank", body)
    assert [result["index"] for result in found["results"]][0] == 1
    assert len(found["results"]) == 2
    scores = [result["relevance_score"] for result in found["results"]]
    assert 1 >= scores[0] > scores[1] >= 0
    assert found["results"][0]["document"] == {"text": "The moon pulls the ocean: tides."}


def test_equal_documents_keep_their_order(service: Running) -> None:
    found = service.good("/v1/rerank", {"query": "tide", "documents": ["same", "same", "same"]})
    assert [result["index"] for result in found["results"]] == [0, 1, 2]


ERRORS: list[tuple[dict[str, Any], type[openai.APIStatusError], str]] = [
    ({"messages": user("   ")}, openai.BadRequestError, "no_question"),
    ({"messages": [{"role": "system", "content": "x"}]}, openai.BadRequestError, "no_question"),
    ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found"),
    ({"model": f"{MODEL}/nowhere"}, openai.NotFoundError, "unknown_collection"),
    ({"model": f"{MODEL}/library", "extra_body": {"rag": {"collection": "other"}}}, openai.BadRequestError, "collection"),
    ({"messages": []}, openai.UnprocessableEntityError, "invalid_request"),
    ({"n": 2}, openai.UnprocessableEntityError, "invalid_request"),
    ({"extra_body": {"rag": {"colour": "red"}}}, openai.UnprocessableEntityError, "unknown_field"),
    ({"model": "ragwatt-generative"}, openai.BadRequestError, "no_model"),
    ({"messages": user("x" * 1_000_000)}, openai.APIStatusError, "too_large"),
]


@pytest.mark.parametrize(("change", "kind", "code"), ERRORS, ids=[f"{code}-{i}" for i, (_, _, code) in enumerate(ERRORS)])
@pytest.mark.parametrize("stream", [False, True])
def test_bad_chat_raises_the_right_error_of_the_client(
    client: openai.OpenAI, change: dict[str, Any], kind: type[openai.APIStatusError], code: str, stream: bool
) -> None:
    asked: dict[str, Any] = {"model": MODEL, "messages": user(QUESTION), "stream": stream} | change
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**asked)
    assert caught.value.code == code
    assert caught.value.request_id
    body = caught.value.body
    assert isinstance(body, dict)
    assert body["message"]
    assert caught.value.status_code != 413 or code == "too_large"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "text-embedding-3-small", "input": "x"}, 404, "model_not_found"),
        ({"model": EMBEDDER, "input": []}, 400, "no_text"),
        ({"model": EMBEDDER, "input": ["x", ""]}, 400, "no_text"),
        ({"model": EMBEDDER, "input": [[1, 2]]}, 422, "invalid_request"),
        ({"model": EMBEDDER, "input": ["x"] * 257}, 413, "too_many"),
        ({"model": EMBEDDER, "input": "x", "dimensions": 12}, 400, "dimensions"),
    ],
)
def test_bad_embeddings_are_refused(service: Running, body: dict[str, Any], status: int, code: str) -> None:
    response = service.post("/v1/embeddings", body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Running, KeyStore]]:
    """A service with keys."""
    settings = settings_of(tmp_path / "data")
    fill(settings, write_documents(tmp_path / "documents", ["bread.md"]))
    keys = KeyStore(settings.data_dir)
    keys.create(["admin"])
    with running(settings) as found:
        yield found, keys
    keys.close()


def ask(service: Running, key: str) -> object:
    with client_of(service, key) as client:
        return client.chat.completions.create(model=MODEL, messages=user(QUESTION))


def test_unknown_key_raises_authentication_error(guarded: tuple[Running, KeyStore]) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        ask(guarded[0], "rag_wrong")
    assert caught.value.code == "key_unknown"


def test_key_without_the_scope_raises_permission_denied(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["ingest"])
    with pytest.raises(openai.PermissionDeniedError) as caught:
        ask(service, secret)
    assert caught.value.code == "scope"


def test_key_of_another_collection_finds_nothing(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"], ["games"])
    with pytest.raises(openai.NotFoundError) as caught:
        ask(service, secret)
    assert caught.value.code == "unknown_collection"


def test_key_with_a_limit_raises_rate_limit_error_that_says_when(guarded: tuple[Running, KeyStore]) -> None:
    service, keys = guarded
    _, secret = keys.create(["query"], limits=Limits(requests_per_minute=1))
    ask(service, secret)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(service, secret)
    headers = caught.value.response.headers
    assert int(headers["retry-after"]) >= 1
    assert headers["x-ratelimit-remaining-requests"] == "0"


def test_service_that_goes_down_raises_internal_server_error(service: Running, client: openai.OpenAI) -> None:
    service.service.admission.is_draining = True
    try:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=MODEL, messages=user(QUESTION))
        assert caught.value.status_code == 503
        assert service.client.get("/readyz").status_code == 503
        assert service.client.get("/livez").status_code == 200
    finally:
        service.service.admission.is_draining = False


WRITTEN = "Bake the loaf at 230 degrees under a lid. [1]"


@pytest.fixture
def model_server() -> Iterator[ChatServer]:
    with running_server() as found:
        yield found


@pytest.fixture
def writing(library: Settings, model_server: ChatServer) -> Iterator[Running]:
    """A service whose language model is a server."""
    with running(replace(library, language_model=model_server.settings(timeout_s=5.0))) as found:
        yield found


def says(text: str) -> Handler:
    answer = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    usage = {"usage": {"prompt_tokens": 120, "completion_tokens": 12}}
    return lambda exchange: Exchange.send_json(exchange, answer | usage)


def test_stream_of_a_language_model_is_its_verified_answer(writing: Running, model_server: ChatServer) -> None:
    model_server.next_answers.append(says(WRITTEN))
    with client_of(writing) as client:
        chunks = list(client.chat.completions.create(model="ragwatt-generative", messages=user(QUESTION), stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == WRITTEN
    assert extension(chunks[-1])["measurement"]["tokens"]["prompt"] == 120


def test_failure_in_the_middle_of_a_stream_is_one_error_event(writing: Running, model_server: ChatServer) -> None:
    model_server.next_answers.append(lambda exchange: exchange.send_json({"error": {"message": "no"}}, 400))
    body = {"model": "ragwatt-generative", "messages": user(QUESTION), "stream": True}
    response = writing.post("/v1/chat/completions", body)
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line.startswith("data: ")]
    assert response.status_code == 200
    assert "error" in events[-1]
    assert events[-1]["error"]["code"] == "http_400"
    assert "[DONE]" not in response.text


def test_failure_of_the_language_model_has_a_status_of_its_own(writing: Running, model_server: ChatServer) -> None:
    model_server.next_answers.append(lambda exchange: exchange.send_json({"error": {"message": "no"}}, 400))
    with client_of(writing) as client, pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="ragwatt-generative", messages=user(QUESTION))
    assert caught.value.status_code == 502
