"""`/v1/search`, `/v1/context`, `/v1/answer`: the engine over HTTP, in the shapes of the command line's ``--json``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.asking import asked_collection, asking, filters_of, target_model
from api.auth import AnyCaller
from api.errors import problem_responses
from api.log import query_facts
from api.reply import performed, result_response
from api.schemas import AnswerRequest, AnswerResponse, ContextRequest, ContextResponse, Json, SearchRequest, SearchResponse
from api.service import Service, service_of
from api.work import Way, Work, answer_way, with_engine
from rag.conversation import Turn
from rag.cost import Measurement
from rag.engine import Engine
from rag.meter import Meter
from rag.tokens import open_counter
from rag.types import Query
from rag.wire import answer_json, context_json, search_json

router = APIRouter(prefix="/v1", responses=problem_responses(501), tags=["questions"])


@router.post("/search", response_model=SearchResponse)
async def search(body: SearchRequest, who: AnyCaller, request: Request) -> Response:
    """Find the passages that fit a question."""
    service = service_of(request)
    collection = asked_collection(service, who, body.collection)

    def call(engine: Engine, way: Way, meter: Meter) -> tuple[Json, Measurement]:
        result = engine.search(_query(service, body, way), meter)
        return search_json(result), result.measurement

    work = Work(
        ("search", collection, body.model_dump_json()),
        Way(body.mode or service.settings.search.mode),
        with_engine(service, collection, call),
        facts=query_facts(body.query, with_text=service.options.log_queries == "on"),
    )
    return result_response(request, await performed(request, who, work))


@router.post("/context", response_model=ContextResponse)
async def context(body: ContextRequest, who: AnyCaller, request: Request) -> Response:
    """Pack what answers a question into a token budget."""
    service = service_of(request)
    collection = asked_collection(service, who, body.collection)
    defaults = service.settings.context
    target = target_model(body.target_model, defaults.target_model)

    def call(engine: Engine, way: Way, meter: Meter) -> tuple[Json, Measurement]:
        counter = open_counter(target, defaults.tiktoken_cache_dir)
        query = _query(service, body, way)
        result = engine.context(query, body.max_tokens or defaults.max_tokens, body.style or defaults.style, counter, meter)
        return context_json(result), result.measurement

    work = Work(
        ("context", collection, body.model_dump_json()),
        Way(body.mode or service.settings.search.mode),
        with_engine(service, collection, call),
        facts=query_facts(body.query, with_text=service.options.log_queries == "on"),
    )
    return result_response(request, await performed(request, who, work))


@router.post("/answer", response_model=AnswerResponse)
async def answer(body: AnswerRequest, who: AnyCaller, request: Request) -> Response:
    """Answer a question with citations, or abstain."""
    service = service_of(request)
    collection = asked_collection(service, who, body.collection)
    history = tuple(Turn(turn.role, turn.content) for turn in body.history)
    question = asking(body.query, body, service.settings.search.k, who, history)

    def call(engine: Engine, way: Way, meter: Meter) -> tuple[Json, Measurement]:
        result = question.answered(engine, way, meter)
        service.metrics.answer(result)
        return answer_json(result), result.measurement

    way = answer_way(body.mode, service.settings)
    work = Work(
        ("answer", collection, way, repr(question)),
        way,
        with_engine(service, collection, call),
        facts=query_facts(body.query, with_text=service.options.log_queries == "on") | {"model": f"ragwatt-{body.mode}"},
    )
    return result_response(request, await performed(request, who, work))


def _query(service: Service, body: SearchRequest, way: Way) -> Query:
    return Query(body.query, body.k or service.settings.search.k, way.mode, filters_of(body.filters))
