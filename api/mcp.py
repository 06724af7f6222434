"""`/mcp`: the tools of `api.mcp_tools` over streamable HTTP, without sessions: every request stands for itself, every answer is JSON.

A request comes through the gate like any other, and its key, limits, place in the queue and measurement are those of the native routes.
The SDK is imported by the first request: a service that nobody asks this way is as small as without it.

References:
    https://modelcontextprotocol.io/specification/2025-11-25/basic/transports
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from types import ModuleType

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth import AnyCaller
from api.errors import RefusedError
from api.keys import Caller
from api.reply import performed, tell_version
from api.schemas import Json
from api.service import service_of
from api.ticket import ticket_of
from api.work import Done, Work
from rag.errors import MissingExtraError, OverloadedError

router = APIRouter()


@router.post("/mcp", include_in_schema=False)  # what goes in and out is described by the protocol
async def mcp(who: AnyCaller, request: Request) -> Response:
    """Answer one message of a client."""
    service = service_of(request)
    _check_origin(request, service.options.cors_origins)
    try:
        service.admission.check()
    except OverloadedError as error:
        service.metrics.rejected(error.code)
        raise
    return _Exchange(await asyncio.to_thread(_tools), request, who)


class _Exchange(Response):
    """A response that the SDK writes."""

    def __init__(self, tools: ModuleType, request: Request, who: Caller) -> None:
        super().__init__()
        self._tools = tools
        self._request = request
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        service = service_of(self._request)
        desk = self._tools.Desk(service, self._who, ticket_of(self._request), self._perform)
        manager = StreamableHTTPSessionManager(
            self._tools.open_server(lambda: nullcontext(desk)),
            json_response=True,
            stateless=True,
            max_request_body_size=service.options.max_query_bytes,
        )
        async with manager.run():  # one for each request: it holds nothing between them, and ends what a request began
            await manager.handle_request(scope, receive, send)

    async def _perform(self, work: Work[Json]) -> Done[Json]:
        done = await performed(self._request, self._who, work)
        tell_version(self._request, done.result["collection"], done.result["version"])
        return done


def _tools() -> ModuleType:
    """Import the SDK; the first time takes a second, which belongs into a thread."""
    try:
        from api import mcp_tools
    except ImportError as error:
        raise MissingExtraError("/mcp", "mcp") from error
    return mcp_tools


def _check_origin(request: Request, cors_origins: str) -> None:
    """A page in a browser may come from this service or from where the settings allow; the protocol wants that with a key too."""
    origin = request.headers.get("origin")
    allowed = {name.strip() for name in cors_origins.split(",")}
    if origin and origin.partition("://")[2] != request.headers.get("host") and not allowed & {origin, "*"}:
        raise RefusedError(
            f"requests from pages of {origin[:80]} are not taken; add it to api.cors_origins if you trust it", code="origin"
        )
