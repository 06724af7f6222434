"""What is known of a request from its first byte on: its id, when it came, and whether the client is still there."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.requests import Request

from rag.cost import Measurement

REQUEST_ID = "x-request-id"
# What clients send goes into logs and headers: letters that need no escaping, no longer than a UUID with a prefix.
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Ticket:
    """A request.

    Attributes:
        request_id: The client's, if it sent one that can be used.
        gone: Done when the client has left.
        began: `time.monotonic` when it came.
        facts: What the log line says besides.
        headers: Sent with the response, whatever it will be.
        measurement: Of the work that was done for it, once it is done.
        measured_ns: `time.time_ns` at that moment.
        first_s: Seconds until the first words of a stream; None where there is none.
    """

    request_id: str
    gone: asyncio.Future[None]
    began: float = field(default_factory=time.monotonic)
    facts: dict[str, object] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    measurement: Measurement | None = None
    measured_ns: int = 0
    first_s: float | None = None


def new_ticket(given_id: str) -> Ticket:
    """A ticket for a request that begins now.

    Args:
        given_id: Header X-Request-ID, or empty.

    Returns:
        With that id if it has 1 to 128 letters, digits, ``.``, ``_`` or ``-``; else with a new one.
    """
    request_id = given_id if _ID.fullmatch(given_id) else uuid.uuid4().hex
    return Ticket(request_id, asyncio.get_running_loop().create_future())


def ticket_of(request: Request) -> Ticket:
    """The ticket of a request that came through the gate."""
    ticket = request.scope["state"]["ticket"]
    assert isinstance(ticket, Ticket), "the gate gives every request a ticket; this is a bug"
    return ticket
