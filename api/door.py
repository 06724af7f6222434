"""Before HTTP is parsed: as long as there is no place, a request for work is answered from its first bytes.

To parse a request, to make it a task and to send it through the application costs many times what it costs to say no; at ten times the
capacity that, and not the work, would fill the process. Only what is plainly one request after another is answered here. Whatever else a
connection brings goes the usual way from then on, where the gate refuses it too: two opinions on where a request ends would let one
request hide in another.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from api.errors import fault_of, response_of
from api.gate import WORK
from api.service import Service
from api.ticket import REQUEST_ID, Ticket, new_ticket
from rag.errors import OverloadedError

_HEAD = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[^\r\n\0]*\r\n)*)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,9}")
# With these a body ends elsewhere than its length says, or is yet to be asked for, or the connection is no longer HTTP.
_SPECIAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a plain request.

    Attributes:
        method: In capitals.
        path: Without its query.
        request_id: As the client gave it; empty if it did not.
        n_bytes: Of head and body together.
        n_body_bytes: Of the body.
        stays: Whether the connection is kept.
    """

    method: str
    path: str
    request_id: str
    n_bytes: int
    n_body_bytes: int
    stays: bool


def head_of(data: bytes) -> Head | None:
    """Read the head of a request, if it is whole and plain.

    Args:
        data: The first bytes of a request.

    Returns:
        The head; None if it is not all there, if it breaks the rules or a header comes twice, or if it does not tell how long it is.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    lines = [line.partition(b":") for line in found[3].split(b"\r\n")[:-1]]
    headers = {name.lower(): value.strip(b" \t") for name, _, value in lines}
    length = headers.get(b"content-length", b"0")
    if len(headers) < len(lines) or not _SPECIAL.isdisjoint(headers) or not _LENGTH.fullmatch(length):
        return None
    return Head(
        method=found[1].decode(),
        path=found[2].partition(b"?")[0].decode(),
        request_id=headers.get(REQUEST_ID.encode(), b"").decode("latin-1"),
        n_bytes=found.end() + int(length),
        n_body_bytes=int(length),
        stays=headers.get(b"connection", b"keep-alive").lower() == b"keep-alive",
    )


class _Whole:
    """A transport that sends the head of a response together with what follows it at once: uvicorn writes them one by one.

    A system call on a socket takes a tenth of what the service adds to a request, and wakes up the client one time more.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send, or keep for as long as the loop is at this task."""
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.") and data.endswith(b"\r\n\r\n"):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        """Send what is kept, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything else is that of the transport
        return getattr(self._transport, name)


class Door(AutoHTTPProtocol):  # type: ignore[misc,valid-type]  # which parser it has shows at run time
    """uvicorn's protocol, which hears of a request for work only if there is a place; for ``http=`` of its configuration."""

    app_state: dict[str, Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - those of uvicorn
        super().__init__(*arguments, **named)
        self._is_plain = True
        self._own_state = self.app_state
        self._n_left = 0  # bytes that the request at hand still has
        self._is_refused = False  # the request at hand: nobody wants those bytes
        self._ticket: Ticket | None = None  # of the request at hand, while the parser is given its first bytes

    def connection_made(self, transport: asyncio.Transport) -> None:
        """A client has come."""
        super().connection_made(_Whole(transport, self.loop))

    def data_received(self, data: bytes) -> None:
        """Bytes of a client."""
        if not self._is_plain:
            super().data_received(data)
        elif data := self._looked_at(data):
            before = self.cycle
            super().data_received(data)
            if self._ticket and self.cycle is before:  # the parser does not like it, so nobody else will hear of it
                self._service.admission.arrived(self._ticket.gone)
            self._ticket = None
            self.app_state = self._own_state

    @property
    def _service(self) -> Service:
        service: Service = self.config.app.state.service
        return service

    def _looked_at(self, data: bytes) -> bytes:
        """The bytes that go on to the parser."""
        if self._n_left:
            n_taken = min(self._n_left, len(data))
            self._n_left -= n_taken
            self._is_plain = n_taken == len(data)  # else another request follows unasked
            return data[n_taken:] if self._is_refused else data
        self._is_refused = False
        is_busy = self.cycle is not None and not self.cycle.response_complete
        head = None if is_busy or self.transport.is_closing() else head_of(data)
        if head is None or head.n_bytes < len(data):
            self._is_plain = False
            return data
        self._n_left = head.n_bytes - len(data)
        if head.method == "POST" and head.path in WORK and head.stays:
            return self._admitted(data, head)
        return data

    def _admitted(self, data: bytes, head: Head) -> bytes:
        service = self._service
        ticket = new_ticket(head.request_id)
        try:
            if self._n_left:
                service.admission.check()
            else:  # only who has sent all of it: a client that sends slowly must not keep a place from others
                service.admission.expect(ticket.gone)
        except OverloadedError as error:
            if head.n_body_bytes > service.options.max_query_bytes:
                return data
            self._refuse(service, head, ticket, error)
            return b""
        self.app_state = self._own_state | {"ticket": ticket}
        self._ticket = ticket
        return data

    def _refuse(self, service: Service, head: Head, ticket: Ticket, error: OverloadedError) -> None:
        self._is_refused = True
        response = response_of(fault_of(error), head.path, ticket.request_id)
        headers = (
            *self.server_state.default_headers,
            *response.raw_headers,
            (b"retry-after", b"%d" % service.admission.retry_after_s),
            (REQUEST_ID.encode(), ticket.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
        )
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(b"HTTP/1.1 503 Service Unavailable\r\n%b\r\n%b" % (lines, bytes(response.body)))
        self.on_response_complete()  # the connection may stay for as long as any that is idle
        service.metrics.rejected(error.code)
        service.metrics.request(head.path, 503, time.monotonic() - ticket.began)
        if n := service.admission.refused():
            service.log.info("refused", request_id=ticket.request_id, route=head.path, status=503, error=error.code, n=n)
