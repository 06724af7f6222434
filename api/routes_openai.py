"""Paths that clients of OpenAI and Cohere use unchanged: chat, models, embeddings, rerank.

A model is a way of answering, ``ragwatt-standard``, or such a way with a collection, ``ragwatt-standard/handbook``, for clients that can
choose nothing but a model.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from api.asking import asked_collection, asking
from api.auth import AnyCaller, require
from api.errors import RefusedError, openai_responses
from api.keys import Caller
from api.log import query_facts
from api.reply import json_response, performed, tell_version
from api.schemas import (
    AnswerMode,
    AnswerOptions,
    ChatRequest,
    ChatResponse,
    EmbeddingRequest,
    EmbeddingResponse,
    Json,
    ModelList,
    ModelView,
    RerankRequest,
    RerankResponse,
)
from api.service import Service, service_of
from api.stream import Chat, events, url_citations, usage
from api.ticket import ticket_of
from api.work import Done, Way, Work, answer_way, with_engine
from rag.conversation import Turn
from rag.cost import Measurement, TokenCounts
from rag.embed import Embedder
from rag.engine import Engine
from rag.errors import InputError
from rag.meter import Meter
from rag.types import Answer, TextRole, Vectors
from rag.wire import answer_json, measurement_json

router = APIRouter(prefix="/v1", responses=openai_responses(501), tags=["OpenAI-compatible"])
_PREFIX = "ragwatt-"
_MODES: tuple[AnswerMode, ...] = get_args(AnswerMode)


@router.get("/models", response_model=ModelList)
def models(who: AnyCaller, request: Request) -> Response:
    """List the ways of answering, and the embedder."""
    service = service_of(request)
    require(who, "query")
    return json_response({"object": "list", "data": [_model(name) for name in _model_names(service, who)]})


@router.get("/models/{name:path}", response_model=ModelView)
def model(name: str, who: AnyCaller, request: Request) -> Response:
    """Show one of them."""
    service = service_of(request)
    require(who, "query")
    if name not in _model_names(service, who):
        raise _no_model(name)
    return json_response(_model(name))


@router.post("/chat/completions", response_model=ChatResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def chat(body: ChatRequest, who: AnyCaller, request: Request) -> Response:
    """Answer the last message of the user; the messages before it are the conversation."""
    service, ticket = service_of(request), ticket_of(request)
    mode, named = _way_of_model(body.model)
    if named and body.rag.collection not in (None, named):
        raise InputError(
            f"model {body.model[:80]!r} names one collection and rag.collection another; name one of them", code="collection"
        )
    collection = asked_collection(service, who, body.rag.collection or named)
    question = asking(*_question(body, body.rag.mode or mode), service.settings.search.k, who, _history(body))
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call(engine: Engine, way: Way, meter: Meter) -> tuple[Answer, Measurement]:
        result = question.answered(engine, way, meter)
        service.metrics.answer(result)
        return result, result.measurement

    way = answer_way(body.rag.mode or mode, service.settings)
    work = Work(
        ("chat", collection, way, repr(question)),
        way,
        with_engine(service, collection, call),
        on_stage=_opener(opened) if body.stream else None,
        facts=query_facts(question.text, with_text=service.options.log_queries == "on") | {"model": body.model[:80]},
    )
    shape = Chat(ticket.request_id, body.model, int(time.time()), bool(body.stream_options and body.stream_options.include_usage))
    if not body.stream:
        return _chat_response(request, shape, await performed(request, who, work))
    answering = asyncio.ensure_future(performed(request, who, work))
    answering.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, also when the client has left
    either: set[asyncio.Future[Any]] = {answering, opened}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if answering.done():
        tell_version(request, collection, answering.result().result.version)  # an error up to here has a status of its own

    def on_words() -> None:
        ticket.first_s = time.monotonic() - ticket.began
        service.metrics.first_token(ticket.first_s)

    stream = events(shape, answering, lambda done: _extension(ticket.request_id, done), on_words)
    return StreamingResponse(
        stream, media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
    )


@router.post("/embeddings", response_model=EmbeddingResponse)
async def embeddings(body: EmbeddingRequest, who: AnyCaller, request: Request) -> Response:
    """Embed texts."""
    service = service_of(request)
    require(who, "query")
    texts = [body.input] if isinstance(body.input, str) else body.input
    _check_texts(service, texts)
    if body.model != service.settings.embedder.model:
        raise _no_model(body.model)
    done = await performed(request, who, _embedding(service, texts, body.input_type))
    vectors = done.result
    if body.dimensions not in (None, vectors.shape[1]):
        raise InputError(f"dimensions is {body.dimensions}; allowed: {vectors.shape[1]}", code="dimensions")
    n_tokens = done.measurement.tokens.prompt
    encode = _base64 if body.encoding_format == "base64" else _floats
    return json_response(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": encode(row)} for i, row in enumerate(vectors)],
            "model": body.model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
            "rag": _measured(request, done),
        }
    )


@router.post("/rerank", response_model=RerankResponse)
async def rerank(body: RerankRequest, who: AnyCaller, request: Request) -> Response:
    """Order documents by the cosine of their vectors to the query's, as 0 to 1; equal scores in the order given."""
    service = service_of(request)
    require(who, "query")
    texts = [item if isinstance(item, str) else item.text for item in body.documents]
    _check_texts(service, texts)
    if body.model not in (None, service.settings.embedder.model):
        raise _no_model(body.model or "")
    done = await performed(request, who, _embedding(service, texts, "document", body.query))
    scores = (1.0 + done.result[1:] @ done.result[0]) / 2.0
    order = np.argsort(-scores, kind="stable")[: body.top_n].tolist()
    return json_response(
        {
            "id": ticket_of(request).request_id,
            "model": service.settings.embedder.model,
            "results": [
                {"index": i, "relevance_score": float(np.clip(scores[i], 0.0, 1.0))}
                | ({"document": {"text": texts[i]}} if body.return_documents else {})
                for i in order
            ],
            "rag": _measured(request, done),
        }
    )


def _embedding(service: Service, texts: Sequence[str], role: TextRole, query: str = "") -> Work[Vectors]:
    """Vectors of texts, behind that of a query if there is one."""

    def embed(embedder: Embedder, meter: Meter) -> tuple[Vectors, Measurement]:
        rows = []
        for text in texts:  # one by one, so that the work can end between two
            with meter.stage("embed", lane=embedder.lane):
                rows.append(embedder.embed([text], role)[0])
        if query:
            with meter.stage("embed", lane=embedder.lane):
                rows.insert(0, embedder.embed([query], "query")[0])
        if embedder.is_remote:
            meter.remote(None)
        n_tokens = sum(embedder.count_tokens(text) for text in (*texts, query) if text)
        return np.stack(rows), meter.finish(TokenCounts(prompt=n_tokens))

    def run(_way: Way, meter: Meter) -> tuple[Vectors, Measurement]:
        with service.engines.embedder() as embedder:
            return embed(embedder, meter)

    return Work(("embed", tuple(texts), role, query), Way("dense"), run, facts={"model": service.settings.embedder.model})


def _question(body: ChatRequest, mode: AnswerMode) -> tuple[str, AnswerOptions]:
    """The last message of the user, and the options that the chat gives."""
    spoken = [message.words() for message in body.messages if message.role == "user"]
    if not spoken or not spoken[-1].strip():
        raise InputError("the chat has no message of the role 'user' with text; its last one is the question", code="no_question")
    options = AnswerOptions(
        k=body.rag.top_k,
        mode=mode,
        filters=body.rag.filters,
        max_prompt_tokens=body.rag.token_budget,
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        max_energy_j=body.rag.max_energy_j,
    )
    return spoken[-1], options


def _history(body: ChatRequest) -> tuple[Turn, ...]:
    """What was said before the last message of the user."""
    last = max(i for i, message in enumerate(body.messages) if message.role == "user")
    turns: list[Turn] = []
    for message in body.messages[:last]:
        if message.role == "user" or message.role == "assistant":
            turns.append(Turn("user" if message.role == "user" else "assistant", message.words()))
    return tuple(turns)


def _opener(opened: asyncio.Future[None]) -> Callable[[str], None]:
    """Tells the loop that the evidence is found: the headers of the stream can go."""
    loop = opened.get_loop()

    def on_stage(stage: str) -> None:
        if stage == "generate":
            loop.call_soon_threadsafe(lambda: None if opened.done() else opened.set_result(None))

    return on_stage


def _chat_response(request: Request, shape: Chat, done: Done[Answer]) -> Response:
    answer = done.result
    tell_version(request, answer.collection, answer.version)
    message = {"role": "assistant", "content": answer.text, "refusal": None, "annotations": url_citations(answer)}
    return json_response(
        {
            "id": f"chatcmpl-{shape.request_id}",
            "object": "chat.completion",
            "created": shape.created,
            "model": shape.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage(answer),
            "rag": _extension(shape.request_id, done),
        }
    )


def _extension(request_id: str, done: Done[Answer]) -> Json:
    return answer_json(done.result) | {"request_id": request_id, "degraded": list(done.degraded), "shared": done.is_shared}


def _measured(request: Request, done: Done[Vectors]) -> Json:
    return {
        "request_id": ticket_of(request).request_id,
        "measurement": measurement_json(done.measurement),
        "shared": done.is_shared,
    }


def _way_of_model(name: str) -> tuple[AnswerMode, str | None]:
    """Mode and collection of a model's name."""
    mode, _, collection = name.removeprefix(_PREFIX).partition("/")
    for known in _MODES:
        if name.startswith(_PREFIX) and mode == known:
            return known, collection or None
    raise _no_model(name)


def _model_names(service: Service, who: Caller) -> list[str]:
    settings = service.settings
    has_model = settings.language_model.kind != "none"
    modes = [mode for mode in _MODES if has_model or mode != "generative"]
    known = service.engines.collections()
    collections = [name for name in known if who.sees(name)]
    names = [_PREFIX + mode for mode in modes]
    names += [f"{_PREFIX}{mode}/{collection}" for collection in collections for mode in modes]
    return [*names, settings.embedder.model]


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": 0, "owned_by": "ragwatt"}


def _no_model(name: str) -> RefusedError:
    return RefusedError(f"no model {name[:80]!r}; GET /v1/models lists those there are", code="model_not_found")


def _check_texts(service: Service, texts: Sequence[str]) -> None:
    limit = service.options.max_texts
    if len(texts) > limit:
        raise RefusedError(f"{len(texts)} texts; allowed: {limit} in one call (api.max_texts); send several", code="too_many")
    if not texts or not all(texts):
        raise InputError("there is no text, or an empty one; send one or more texts with words", code="no_text")


def _floats(row: Vectors) -> list[float]:
    return [float(value) for value in row]


def _base64(row: Vectors) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode()
