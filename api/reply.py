"""Results on their way out: JSON with the request id, the cost in headers, the tokens charged to the key."""

from __future__ import annotations

import json
from typing import TypeVar

from fastapi import Request
from starlette.responses import Response

from api.keys import Caller
from api.schemas import Json
from api.service import service_of
from api.ticket import ticket_of
from api.work import Done, Work, perform

_T = TypeVar("_T")


async def performed(request: Request, who: Caller, work: Work[_T]) -> Done[_T]:
    """Do a piece of work for a caller.

    Args:
        request: Of the caller.
        who: Whose limits are charged with the tokens.
        work: What is to be done.

    Returns:
        The result; what `api.work.perform` raises is raised here too.
    """
    service, ticket = service_of(request), ticket_of(request)
    done = await perform(service, ticket, work)
    tokens = done.measurement.tokens
    standing = service.limiter.charge(who.key_id, who.limits, 0 if done.is_shared else tokens.prompt + tokens.completion)
    ticket.headers.update(standing.headers())
    return done


def result_response(request: Request, done: Done[Json]) -> Response:
    """A result of the engine as JSON, with what the service knows of it.

    Args:
        request: That asked for it.
        done: With the JSON of `rag.wire`.

    Returns:
        The response; its version is in a header too.
    """
    ticket = ticket_of(request)
    body = done.result | {"request_id": ticket.request_id, "degraded": list(done.degraded), "shared": done.is_shared}
    tell_version(request, body["collection"], body["version"])
    return json_response(body)


def tell_version(request: Request, collection: str, version: int) -> None:
    """Put the version that answered into a header and the log."""
    ticket = ticket_of(request)
    ticket.headers["x-rag-version"] = f"{collection}@{version}"
    ticket.facts |= {"collection": collection, "version": version}


def json_response(body: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON as bytes; half of a surrogate pair is written as its escape."""
    return Response(json.dumps(body, ensure_ascii=False).encode("utf-8", "backslashreplace"), status, headers, "application/json")


def plain_response(request: Request, body: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON of a request without a measurement, with its id."""
    return json_response(body | {"request_id": ticket_of(request).request_id}, status, headers)
