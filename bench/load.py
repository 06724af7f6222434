"""HTTP load on loopback that costs little CPU time itself: it shares the cores with the service that is measured.

Raw HTTP/1.1 over kept connections: httpx takes ten times the CPU of this, and at ten times the capacity of a service the generator would
be what is measured.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

# Beyond it an open-loop request is not sent but counted as one that got no answer: more would be files of the system.
_MAX_CONNECTIONS = 4096
_PATIENCE_S = 60.0


class Reply(NamedTuple):
    """What came of one request, timed by `time.perf_counter`.

    Attributes:
        status: Of HTTP; 0 when the connection broke or nothing came in time.
        due_s: When it was to be sent; waiting for the generator itself counts as waiting.
        first_s: First byte of the body.
        done_s: Last byte.
        has_retry_after: Whether it says when to come again.
        body: As sent, chunk marks included.
    """

    status: int
    due_s: float
    first_s: float
    done_s: float
    has_retry_after: bool
    body: bytes

    @property
    def wall_s(self) -> float:
        """From the moment it was due to the last byte."""
        return self.done_s - self.due_s


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go: ``http://HOST:PORT`` and a path."""

    address: str
    path: str

    def post(self, body: object) -> bytes:
        """A request with a JSON body, as bytes."""
        text = json.dumps(body).encode()
        head = (
            f"POST {self.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        )
        return head.encode() + text

    def get(self) -> bytes:
        """A request without a body, as bytes."""
        return f"GET {self.path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


class _Connection(asyncio.Protocol):
    """One kept connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._begin(0.0)

    def _begin(self, due_s: float) -> None:
        self._buffer = bytearray()
        self._due_s, self._first_s = due_s, 0.0
        self._body_at = self._length = -1
        self._status, self._has_retry_after = 0, False

    @property
    def is_open(self) -> bool:
        """Whether another request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, due_s: float) -> asyncio.Future[Reply]:
        self._begin(due_s)
        self._answer = asyncio.get_running_loop().create_future()
        assert self._transport, "a connection is made before it is used; this is a bug"
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP is a stream; this is a bug"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._body_at < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._read_head(bytes(self._buffer[:end]).lower(), end + 4)
        if self._body_at < 0:
            return
        if not self._first_s and len(self._buffer) > self._body_at:
            self._first_s = time.perf_counter()
        is_over = self._buffer.endswith(b"0\r\n\r\n") if self._length < 0 else len(self._buffer) >= self._body_at + self._length
        if is_over:
            self._finish(self._status)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(0)

    def _read_head(self, head: bytes, body_at: int) -> None:
        self._body_at = body_at
        self._status = int(head[9:12])
        self._has_retry_after = b"\r\nretry-after:" in head
        _, found, rest = head.partition(b"\r\ncontent-length:")
        self._length = int(rest.split(b"\r\n", 1)[0]) if found else -1

    def _finish(self, status: int) -> None:
        if self._answer is None or self._answer.done():
            return
        now = time.perf_counter()
        body = bytes(self._buffer[self._body_at :]) if self._body_at >= 0 else b""
        self._answer.set_result(Reply(status, self._due_s, self._first_s or now, now, self._has_retry_after, body))


class _Pool:
    """Connections that are idle, and new ones when there are none."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: list[_Connection] = []
        self._n_open = 0

    async def request(self, request: bytes, due_s: float) -> Reply:
        connection = await self._take()
        if connection is None:
            now = time.perf_counter()
            return Reply(0, due_s, now, now, False, b"")
        try:
            reply = await asyncio.wait_for(connection.send(request, due_s), _PATIENCE_S)
        except TimeoutError:
            connection.close()
            now = time.perf_counter()
            reply = Reply(0, due_s, now, now, False, b"")
        if connection.is_open:
            self._idle.append(connection)
        else:
            self._n_open -= 1
        return reply

    async def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
            self._n_open -= 1
        if self._n_open >= _MAX_CONNECTIONS:
            return None
        self._n_open += 1
        try:
            _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        except OSError:
            self._n_open -= 1
            return None
        return made

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def closed_loop(address: str, requests: Sequence[bytes], n_connections: int) -> list[Reply]:
    """Send requests over some connections, each the next one as soon as it has the answer to the last.

    Args:
        address: Base URL of the service.
        requests: All there are to send, as `Target` makes them.
        n_connections: At once, at least 1.

    Returns:
        One reply a request, in the order in which they ended.
    """
    pool, waiting, replies = _Pool(address), iter(requests), []

    async def client() -> None:
        for request in waiting:
            replies.append(await pool.request(request, time.perf_counter()))

    await asyncio.gather(*(client() for _ in range(n_connections)))
    pool.close()
    return replies


async def open_loop(address: str, requests: Iterator[bytes], rate: float, seconds: float, seed: int = 0) -> list[Reply]:
    """Send requests at a mean rate, whether or not the service keeps up; the gaps are those of a Poisson process.

    Args:
        address: Base URL of the service.
        requests: As many as are needed.
        rate: Requests a second.
        seconds: How long new ones are sent; their replies are waited for.
        seed: Of the gaps.

    Returns:
        One reply a request, in the order of sending; status 0 for those that got none.
    """
    pool, gaps = _Pool(address), random.Random(seed)
    tasks: list[asyncio.Task[Reply]] = []
    began = due = time.perf_counter()
    while True:
        due += gaps.expovariate(rate)
        if due - began >= seconds:
            break
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        tasks.append(asyncio.ensure_future(pool.request(next(requests), due)))
    replies = list(await asyncio.gather(*tasks))
    pool.close()
    return replies
