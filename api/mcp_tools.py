"""The tools of the Model Context Protocol: `search`, `fetch` and `answer`, over standard input as well as over HTTP.

Names and fields are those that general clients look for: `search` returns ``results`` of ``id, title, url, text``, `fetch` takes such an
``id``. Results are the structured content that the tool's output schema describes, and the same JSON as text for older clients. What
a language model has no use for is not in its context: the measurement of `search` and `fetch` is in ``_meta``.

Beside the two transports only this file knows the SDK; it is imported when the first client comes.

References:
    https://modelcontextprotocol.io/specification/2025-11-25/server/tools
"""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import BaseModel, ValidationError

from api.asking import asked_collection, asking, filters_of
from api.errors import Fault, fault_of
from api.fetched import fetched
from api.keys import Caller
from api.log import query_facts
from api.mcp_schemas import AnswerCall, FetchCall, Fetched, SearchCall, SearchFound
from api.schemas import AnswerOptions, AnswerResponse, Json, Strict
from api.service import Service
from api.ticket import Ticket
from api.work import Done, Way, Work, answer_way, with_engine
from rag import __version__
from rag.cost import Measurement
from rag.engine import Engine
from rag.meter import Meter
from rag.types import Query
from rag.wire import answer_json, measurement_json, search_json

# Names of collections told in the description of a tool, which every conversation of a client pays for.
_MAX_NAMES = 50


@dataclass(frozen=True, slots=True)
class Desk:
    """One call: who asks whom, and how its work is done.

    Attributes:
        service: The parts.
        who: Asks.
        ticket: Of the call.
        perform: Does a piece of work; see `api.work.perform`.
    """

    service: Service
    who: Caller
    ticket: Ticket
    perform: Callable[[Work[Json]], Awaitable[Done[Json]]]


@dataclass(frozen=True, slots=True)
class _Tool:
    """A tool: what is said of it, what goes in and comes out, and what does it."""

    title: str
    description: str
    arguments: type[Strict]
    result: type[BaseModel]
    call: Callable[[Desk, Any], Awaitable[Done[Json]]]


async def _search(desk: Desk, call: SearchCall) -> Done[Json]:
    service = desk.service
    collection = asked_collection(service, desk.who, call.collection)
    k = call.k or service.settings.search.k

    def run(engine: Engine, way: Way, meter: Meter) -> tuple[Json, Measurement]:
        result = engine.search(Query(call.query, k, way.mode, filters_of(call.filters)), meter)
        return search_json(result), result.measurement

    work = Work(
        ("mcp search", collection, call.model_dump_json()),
        Way(service.settings.search.mode),
        with_engine(service, collection, run),
        facts=query_facts(call.query, with_text=service.options.log_queries == "on"),
    )
    done = await desk.perform(work)
    found = dict(done.result)
    hits = [_passage(h["chunk_id"], h["source"], h, ("score", "bm25", "cosine")) for h in found.pop("hits")]
    return replace(done, result={"results": hits} | found)


async def _fetch(desk: Desk, call: FetchCall) -> Done[Json]:
    service = desk.service
    collection = asked_collection(service, desk.who, call.collection)

    def run(_way: Way, meter: Meter) -> tuple[Json, Measurement]:
        with meter.stage("fetch"):
            piece = fetched(service.settings.data_dir, collection, call.id, call.start, call.max_chars)
        measurement = meter.finish()
        place = {"collection": collection, "version": piece["version"], "measurement": measurement_json(measurement)}
        return _passage(call.id, piece["source"], piece, ("n_chars",)) | place, measurement

    return await desk.perform(Work(("mcp fetch", collection, call.model_dump_json()), Way("bm25"), run))


async def _answer(desk: Desk, call: AnswerCall) -> Done[Json]:
    service = desk.service
    collection = asked_collection(service, desk.who, call.collection)
    options = AnswerOptions(k=call.k, filters=call.filters, max_prompt_tokens=call.token_budget)
    question = asking(call.question, options, service.settings.search.k, desk.who)

    def run(engine: Engine, way: Way, meter: Meter) -> tuple[Json, Measurement]:
        result = question.answered(engine, way, meter)
        service.metrics.answer(result)
        return answer_json(result), result.measurement

    way = answer_way(call.mode, service.settings)
    work = Work(
        ("mcp answer", collection, way, repr(question)),
        way,
        with_engine(service, collection, run),
        facts=query_facts(call.question, with_text=service.options.log_queries == "on"),
    )
    return await desk.perform(work)


TOOLS = {
    "search": _Tool(
        "Search documents",
        "Find the passages of the user's documents that fit a query, best first. Their text may be quoted; cite title and url.",
        SearchCall,
        SearchFound,
        _search,
    ),
    "fetch": _Tool(
        "Fetch a document",
        "Read a passage again by its id, or the document around it by its doc_id.",
        FetchCall,
        Fetched,
        _fetch,
    ),
    "answer": _Tool(
        "Answer from documents",
        "Answer a question from the user's documents: every sentence is cited. abstained means that they hold no answer.",
        AnswerCall,
        AnswerResponse,
        _answer,
    ),
}


def open_server(desk: Callable[[], AbstractContextManager[Desk]]) -> Server[Any]:
    """Make a server of the protocol, for any transport.

    Args:
        desk: Entered for every call of a tool, and for every list of them.

    Returns:
        The server; it holds nothing that must be closed.
    """

    async def list_tools(_context: object, _params: object) -> ListToolsResult:
        with desk() as at:
            at.ticket.facts["kind"] = "list"
            where = await asyncio.to_thread(_collections, at)
        return ListToolsResult(tools=[_described(name, tool, where) for name, tool in TOOLS.items()], cache_scope="private")

    async def call_tool(_context: object, params: CallToolRequestParams) -> CallToolResult:
        if params.name not in TOOLS:
            raise MCPError(INVALID_PARAMS, f"unknown tool {params.name[:80]!r}; allowed: {', '.join(TOOLS)}")
        with desk() as at:
            at.ticket.facts["kind"] = params.name
            return await _called(at, TOOLS[params.name], params.arguments or {})

    # Tools take nothing from headers, so there is no schema to compare them with: without this, each call would list all tools first.
    return Server(
        "ragwatt",
        version=__version__,
        title="Ragwatt",
        instructions="Grounded answers from the user's documents, with citations and what they cost.",
        get_tool_input_schema=lambda _name: None,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _called(desk: Desk, tool: _Tool, arguments: Json) -> CallToolResult:
    try:
        done = await tool.call(desk, tool.arguments.model_validate(arguments))
    except Exception as error:  # noqa: BLE001 - whatever it is, the client is told in one line
        return _failed(desk, error)
    known = {"request_id": desk.ticket.request_id, "degraded": list(done.degraded), "shared": done.is_shared}
    told = done.result | known
    meta = None if "measurement" in tool.result.model_fields else {"measurement": told.pop("measurement")}
    text = json.dumps(told, ensure_ascii=False)
    # Of the text, so that both are the same: tuples have become lists.
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=json.loads(text), _meta=meta)


def _failed(desk: Desk, error: Exception) -> CallToolResult:
    """A failure as the model reads it; programs find its code in ``_meta``."""
    fault = _misfit(error) if isinstance(error, ValidationError) else fault_of(error)
    desk.ticket.facts["error"] = fault.code
    message = fault.message
    if fault.code == "unknown_collection":
        message = f"{message.partition(';')[0]}; the descriptions of the tools name those there are"
    if fault.code == "bug":
        trace = "".join(traceback.format_exception(error))
        desk.service.log.critical("bug", request_id=desk.ticket.request_id, message=type(error).__name__, trace=trace)
    meta = {"code": fault.code, "request_id": desk.ticket.request_id}
    return CallToolResult(content=[TextContent(type="text", text=message)], is_error=True, _meta=meta)


def _misfit(error: ValidationError) -> Fault:
    """The first argument that does not fit; its value is not repeated, it may be long."""
    first = error.errors()[0]
    where = ".".join(str(part)[:80] for part in first["loc"])
    return Fault(422, "invalid_request", f"{where}: {first['msg']}; see the input schema of the tool for what is allowed", where)


def _passage(name: str, source: Json, piece: Json, more: tuple[str, ...]) -> Json:
    """A piece of text with its place, flat."""
    return {
        "id": name,
        "title": source["title"] or piece["doc_id"],
        "url": source["uri"],
        "text": piece["text"],
        "metadata": dict(source["metadata"]),
        "doc_id": piece["doc_id"],
        "start": source["start_char"],
        "end": source["end_char"],
        **{key: source[key] for key in ("headings", "page", "line", "place", "flags", "mtime")},
        **{key: piece[key] for key in more},
    }


def _collections(desk: Desk) -> str:
    """What is said of the argument that names a collection: those that the caller may use."""
    names = [name for name in desk.service.engines.collections() if desk.who.may("query") and desk.who.sees(name)]
    default = desk.service.settings.collection
    listing = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
    return f"One of: {listing or 'none yet'}." + (f" Default: {default}." if default in names else "")


def _described(name: str, tool: _Tool, where: str) -> Tool:
    arguments = tool.arguments.model_json_schema()
    arguments["properties"]["collection"]["description"] = where
    return Tool(
        name=name,
        title=tool.title,
        description=tool.description,
        input_schema=arguments,
        output_schema=tool.result.model_json_schema(),
        annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False),
    )
