"""One JSON request to a server that the settings name, with the standard library only.

No redirect is followed and no proxy variable is read, so the key goes to the host that the settings name and nowhere else; messages
never show it.
"""

from __future__ import annotations

import http.client
import io
import json
import math
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rag.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_N_TRIES = 3
_FIRST_PAUSE_S = 0.5
# A server that asks for a longer pause is not waited for: the caller of a search has left by then.
_MAX_PAUSE_S = 10.0
# 32 vectors of 8,192 components at 25 characters each are 6.5 MB; 32,000 streamed tokens at 300 bytes each are 10 MB.
_MAX_RESPONSE_BYTES = 64_000_000
_MAX_QUOTE_CHARS = 200
_RETRIED = frozenset({429, 500, 502, 503, 504})
# An address copied with its endpoint is taken too.
_ENDPOINT = re.compile(r"/(embeddings|(chat/)?completions)$")
_TOO_LONG = re.compile(r"context[ _](size|length|window)|too (long|many tokens)|less than \d+ tokens", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response.

    Attributes:
        status: Of HTTP.
        body: As much as came.
        is_whole: False when the connection broke within the body.
        retry_after: Header, empty when absent.
        location: Header, empty when absent.
    """

    status: int
    body: bytes
    is_whole: bool
    retry_after: str
    location: str


class _PassingError(Exception):
    """A failure that is worth another try."""

    def __init__(self, line: str, retry_after: str = "") -> None:
        super().__init__(line)
        self.retry_after = retry_after


# The caller's check while an answer is waited for, if it has one.
_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)
# How often it is called: people who leave should not pay for a tenth of a second more.
_LOOK_S = 0.1


@contextmanager
def watched(check: Callable[[], None]) -> Iterator[None]:
    """Call a check several times a second for as long as a server is waited for in this thread.

    Args:
        check: What it raises ends the wait, and the connection with it.

    Yields:
        Nothing.
    """
    token = _CHECK.set(check)
    try:
        yield
    finally:
        _CHECK.reset(token)


def wait_to_read(sock: socket.socket, deadline: float) -> None:
    """Wait until there is something to read, and look meanwhile whether anybody still waits.

    Args:
        sock: Connected, without bytes that were decrypted and not read.
        deadline: By `time.monotonic`.

    Raises:
        TimeoutError: At the deadline.
    """
    check = _CHECK.get()
    ready = select.poll()  # `select.select` knows no descriptor beyond 1,023, and a service has many
    ready.register(sock, select.POLLIN)
    while not ready.poll(math.ceil(1e3 * min(_left_s(deadline), _LOOK_S if check else math.inf))):
        if check:
            check()


def pause(seconds: float) -> None:
    """Wait, and look meanwhile whether anybody still waits.

    Args:
        seconds: How long.
    """
    check = _CHECK.get()
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, _LOOK_S) if check else left_s)
        if check:
            check()


class JsonServer:
    """A server that takes JSON by POST; safe to share between threads. Opening it sends nothing.

    Args:
        section: Section of the settings that names the server, for messages.
        limit: Setting of that section which says how many tokens the model reads, for messages.
        url: Base URL, up to and without the endpoint.
        model: The server's name of the model.
        api_key: Sent as a bearer token when not empty.
        sleep: Waits between tries, in seconds; a test passes its own.

    Raises:
        ConfigError: If a setting cannot be used; shows neither key nor password.
    """

    def __init__(
        self, section: str, limit: str, url: str, model: str, api_key: str, sleep: Callable[[float], None] = pause
    ) -> None:
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError(f"{section}.api_key (secret) has a space, a line end or a letter outside ASCII; copy it again")
        if not model:
            raise ConfigError(f"{section}.model is empty; set it to the server's name of the model")
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise ConfigError(f"{section}.url is malformed: {error}; expected http://host:port/v1") from error
        if parts.username or parts.password:
            raise ConfigError(f"{section}.url holds a user name or password; set {section}.api_key instead")
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or " " in url:
            raise ConfigError(f"{section}.url is {url!r}; expected http://host:port/v1 or https://host/v1")
        self._host = parts.hostname
        self._is_secure = parts.scheme == "https"
        self._path = _ENDPOINT.sub("", parts.path.rstrip("/"))
        self._query = f"?{parts.query}" if parts.query else ""
        self._shown = f"{section}.url {parts.scheme}://{parts.netloc}{self._path}"
        self._section, self._limit, self._model, self._api_key, self._sleep = section, limit, model, api_key, sleep

    @property
    def host(self) -> str:
        """Name or number of the host, without the port."""
        return self._host

    def post(
        self, endpoint: str, request: Mapping[str, object], timeout_s: float, *, deadline: float = math.inf, partial: bool = False
    ) -> Reply:
        """Ask, at most three times as long as the server is not to be reached or answers 429 or 5xx.

        Args:
            endpoint: Path below the base URL, with its slash.
            request: Sent as JSON; a lone surrogate goes as a question mark, which every server can read.
            timeout_s: Longest wait for one try.
            deadline: End of all tries and pauses, by `time.monotonic`.
            partial: Return the part that came of an answer that was cut, instead of asking again.

        Returns:
            The reply with status 200.

        Raises:
            ModelError: ``timeout``; ``unauthorised``, ``model_unknown``, ``too_long`` or ``http_`` and the status when the server
                refuses; ``bad_answer`` for one of more than 64 MB; the section and ``_unavailable`` after the last try.
        """
        body = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
        n_try = 0
        while True:
            n_try += 1
            try:
                reply = self._exchange(endpoint, body, min(time.monotonic() + timeout_s, deadline))
                if reply.status != http.HTTPStatus.OK:
                    raise self._refusal(reply)
                if reply.is_whole or (partial and reply.body):
                    return reply
                raise _PassingError(f"{self._shown} cut its answer off after {len(reply.body)} bytes")
            except TimeoutError as error:
                raise ModelError(
                    f"{self._shown} did not answer within {timeout_s:g} s; raise {self._section}.timeout_s or check the server",
                    code="timeout",
                ) from error
            except _PassingError as error:
                pause_s = _pause_s(n_try, error.retry_after)
                if n_try == _N_TRIES or time.monotonic() + pause_s >= deadline:
                    raise ModelError(
                        f"{error}; tried {n_try} times: try again later, or check {self._section}.url",
                        code=f"{self._section}_unavailable",
                    ) from error
            self._sleep(pause_s)

    def fault(self, found: str, way_out: str, code: str) -> ModelError:
        """A failure in an answer.

        Args:
            found: What came instead; cut at 200 characters, the key masked should the server repeat it.
            way_out: What to do.
            code: For programs.

        Returns:
            The error to raise.
        """
        # Masked before it is cut, which would leave a part of the key.
        found = " ".join(self.masked(found).split())[:_MAX_QUOTE_CHARS]
        return ModelError(f"{self._shown} {found}; {way_out}", code=code)

    def _exchange(self, endpoint: str, body: bytes, deadline: float) -> Reply:
        """One request on a connection of its own, given up with a TimeoutError at the deadline."""
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            with closing(kind(self._host, self._port, timeout=_left_s(deadline))) as connection:
                connection.connect()
                with closing(connection.sock) as sock:
                    connection.sock = _TimedSocket(sock, deadline)
                    connection.request("POST", self._path + endpoint + self._query, body, headers)
                    response = connection.getresponse()
                    content, is_whole = self._content(response)
        except TimeoutError:
            raise
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            line = f"{self._shown} is not reachable: {type(error).__name__}: {error}"
            raise _PassingError(self.masked(line)) from error
        return Reply(response.status, content, is_whole, response.getheader("Retry-After", ""), response.getheader("Location", ""))

    def _content(self, response: http.client.HTTPResponse) -> tuple[bytes, bool]:
        """The body as far as it comes, and whether that is all of it."""
        parts = []
        n_bytes = 0
        # Python 3.11's read1 does not count down the length, so that reading on would wait on an open connection.
        n_expected = response.length
        try:
            while n_bytes != n_expected and (part := response.read1(65_536)):
                parts.append(part)
                n_bytes += len(part)
                if n_bytes > _MAX_RESPONSE_BYTES:
                    raise self.fault(
                        f"sent more than {_MAX_RESPONSE_BYTES:,} bytes", f"check {self._section}.url", code="bad_answer"
                    )
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            return b"".join(parts), False
        return b"".join(parts), n_expected is None or n_bytes == n_expected

    def _refusal(self, reply: Reply) -> ModelError | _PassingError:
        """One line on a status other than 200, with what to do."""
        section = self._section
        code = f"http_{reply.status}"
        said = reply.body.decode("utf-8", "replace")
        match reply.status:
            case 401 | 403:
                code, way_out = "unauthorised", f"check {section}.api_key"
            case 404:
                code, way_out = "model_unknown", f"check {section}.url and {section}.model, {self._model!r}"
            case status if 300 <= status < 400:
                way_out = f"redirects are not followed: set {section}.url to {reply.location or 'the final address'}"
            case 400 | 413 | 422:
                code = "too_long" if says_too_long(said) else code
                way_out = f"check {section}.model, and {section}.{self._limit} against what the model reads"
            case _:
                way_out = "see the log of the server"
        error = self.fault(f"answered {reply.status}: {said.strip() or 'nothing'}", self.masked(way_out), code)
        return _PassingError(str(error), reply.retry_after) if reply.status in _RETRIED else error

    def masked(self, line: str) -> str:
        """A text of the server without the key, should it repeat it."""
        return line.replace(self._api_key, "(secret)") if self._api_key else line


def says_too_long(said: str) -> bool:
    """Whether a server's words on a failure are about a text longer than its model reads.

    Args:
        said: As the server sent them.

    Returns:
        True for the words of llama.cpp, OpenAI, vLLM and text-embeddings-inference.
    """
    return bool(_TOO_LONG.search(said))


class _TimedSocket(io.RawIOBase):
    """Stands between http.client and a socket so that all reading and writing ends at one moment.

    A timeout of the socket would begin anew with every byte of a server that sends one at a time, in its headers too.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if not (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            wait_to_read(self._sock, self._deadline)
        self._sock.settimeout(_left_s(self._deadline))
        return self._sock.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(_left_s(self._deadline))
        self._sock.sendall(data)

    def close(self) -> None:
        """Nothing: who opened the socket closes it."""


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _pause_s(n_try: int, retry_after: str) -> float:
    """Seconds before the next try: what the server asks for (seconds or a date), else 0.5, 1.0; never above 10."""
    pause: float = _FIRST_PAUSE_S * 2 ** (n_try - 1)
    if retry_after.strip().isdecimal():
        pause = float(retry_after)
    elif retry_after:
        # Neither seconds nor a date with a time zone: our own pause stands.
        with suppress(ValueError, TypeError):
            pause = float((parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    return min(max(pause, 0.0), _MAX_PAUSE_S)
