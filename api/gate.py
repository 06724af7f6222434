"""The outermost layer: every request gets a ticket here, and what can be refused is refused before anything is parsed.

Bodies of queries are read here, within their limit; after that the only thing that a client can still say is that it leaves, and a task
listens for it. Probes and metrics are never refused.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import CLIENT_GONE, Fault, RefusedError, fault_of, response_of
from api.service import Service
from api.ticket import REQUEST_ID, Ticket, new_ticket
from rag.errors import OverloadedError

PROBES = frozenset({"/livez", "/readyz", "/healthz", "/metrics", "/version"})
# Paths whose requests take a place in the queue.
WORK = frozenset({"/v1/search", "/v1/context", "/v1/answer", "/v1/chat/completions", "/v1/embeddings", "/v1/rerank"})
_UPLOADS = "/documents"


class Gate:
    """Middleware around the whole application.

    Args:
        app: What is behind it. Its service is looked up with each request, as it is opened after the middleware is made.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; whatever is no request passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service: Service = scope["app"].state.service
        headers = Headers(scope=scope)
        state = scope.setdefault("state", {})
        ticket: Ticket = state.get("ticket") or new_ticket(headers.get(REQUEST_ID, ""))  # the door may have made it
        state["ticket"] = ticket
        passage = _Passage(service, ticket, scope, send)
        try:
            await self._passed(scope, receive, passage, headers)
        except OverloadedError as error:
            service.metrics.rejected(error.code)
            await passage.refuse(fault_of(error), receive)
        except RefusedError as error:
            service.metrics.rejected(error.code)
            await _drained(receive, service.options.max_upload_bytes)
            await passage.refuse(fault_of(error), receive)
        except Exception as error:  # noqa: BLE001 - the process border: say that it is our fault, and where
            place = traceback.extract_tb(error.__traceback__)[-1]
            trace = "".join(traceback.format_exception(error))
            where = f"{Path(place.filename).name}:{place.lineno}"
            service.log.critical("bug", request_id=ticket.request_id, message=f"{type(error).__name__} in {where}", trace=trace)
            await passage.refuse(fault_of(error), receive)
        finally:
            service.admission.arrived(ticket.gone)
            passage.close()

    async def _passed(self, scope: Scope, receive: Receive, passage: _Passage, headers: Headers) -> None:
        service, path = passage.service, scope["path"]
        if path in PROBES:
            await self._app(scope, receive, passage.send)
            return
        if path in WORK or service.admission.is_draining:
            service.admission.check(passage.ticket.gone)
        is_upload = path.endswith(_UPLOADS) and scope["method"] == "POST"
        limit = service.options.max_upload_bytes if is_upload else service.options.max_query_bytes
        if int(_number(headers.get("content-length", "0"))) > limit:
            raise _too_large(limit)
        if is_upload:
            await self._app(scope, _limited(receive, limit), passage.send)
            return
        body = await _body(receive, limit)
        if path in WORK:
            service.admission.expect(passage.ticket.gone)
        replay = _Replay(body, passage.ticket.gone)
        watch = asyncio.ensure_future(_watch(receive, passage.ticket.gone))
        try:
            await self._app(scope, replay, passage.send)
        finally:
            watch.cancel()


class _Passage:
    """One request on its way: what is sent, and what is told of it afterwards."""

    def __init__(self, service: Service, ticket: Ticket, scope: Scope, send: Send) -> None:
        self.service = service
        self.ticket = ticket
        self._scope = scope
        self._send = send
        self._status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in {**self.ticket.headers, REQUEST_ID: self.ticket.request_id}.items():
                headers[name] = value
            headers["x-content-type-options"] = "nosniff"
        if self._status != CLIENT_GONE:
            await self._send(message)

    async def refuse(self, fault: Fault, receive: Receive) -> None:
        """Answer with an error, unless an answer has begun."""
        if self._status:
            return
        self.ticket.facts["error"] = fault.code
        if fault.status == 503:
            fault.headers["retry-after"] = str(self.service.admission.retry_after_s)
        response: Response = response_of(fault, self._scope["path"], self.ticket.request_id)
        await response(self._scope, receive, self.send)

    def close(self) -> None:
        """Count and log it; probes are counted only."""
        seconds = time.monotonic() - self.ticket.began
        route = getattr(self._scope.get("route"), "path", "unmatched")
        status = self._status or CLIENT_GONE
        self.service.metrics.request(route, status, seconds)
        if self.service.otel:
            self.service.otel.request(self.ticket, route, status, seconds, Headers(scope=self._scope))
        if self._scope["path"] not in PROBES:
            self.service.log.info(
                "request",
                request_id=self.ticket.request_id,
                method=self._scope["method"],
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
                **self.ticket.facts,
            )


class _Replay:
    """Gives the body to the application, and after it nothing until the client leaves."""

    def __init__(self, body: bytes, gone: asyncio.Future[None]) -> None:
        self._body: bytes | None = body
        self._gone = gone

    async def __call__(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.wait({self._gone})
        return {"type": "http.disconnect"}


async def _body(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    n_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""
        parts.append(message.get("body", b""))
        n_bytes += len(parts[-1])
        if n_bytes > limit:
            raise _too_large(limit)
        if not message.get("more_body"):
            return b"".join(parts)


async def _watch(receive: Receive, gone: asyncio.Future[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not gone.done():
        gone.set_result(None)


def _limited(receive: Receive, limit: int) -> Receive:
    n_bytes = 0

    async def limited() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise _too_large(limit)
        return message

    return limited


async def _drained(receive: Receive, limit: int) -> None:
    """Read on for a while: a client that is still sending would see a broken connection, not the refusal."""
    n_bytes = 0
    while n_bytes <= limit:
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _too_large(limit: int) -> RefusedError:
    return RefusedError(
        f"the body is larger than {limit} bytes (api.max_query_bytes, api.max_upload_bytes); send less", code="too_large"
    )
