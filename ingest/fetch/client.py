"""One page over HTTP: from a judged address only, within limits of time and size, asked for only if it changed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin

from ingest.fetch.guard import Guard, Target
from rag.errors import InputError, MissingExtraError
from rag.settings import WebSettings

if TYPE_CHECKING:
    import urllib3

# RFC 9110 leaves the number to the client; who needs more is in a loop.
_MAX_REDIRECTS = 3
_READ_BYTES = 65_536
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


@dataclass(frozen=True, slots=True)
class Validators:
    """What a site gave last time to tell whether a page changed (RFC 9110, section 8.8); empty where it gave none."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a site answered.

    Attributes:
        url: The address that answered, after redirects.
        state: ``page``, ``unchanged`` since the validators, or ``gone`` (404 and 410).
        body: Of a page, decompressed; else empty.
        content_type: In lower case, without parameters.
        validators: For the next time.
        robots: The header ``X-Robots-Tag``, in lower case.
    """

    url: str
    state: str
    body: bytes = b""
    content_type: str = ""
    validators: Validators = Validators()
    robots: str = ""


class Fetch(Protocol):
    """Fetches one page; see `Client.fetch`."""

    def __call__(self, url: str, known: Validators = ..., /) -> Reply:
        """See `Client.fetch`."""
        ...


class Client:
    """Fetches pages, one at a time and each over a connection of its own.

    Args:
        settings: Limits, and the name by which sites know us.
        guard: Judges every address, those of redirects too.

    Raises:
        MissingExtraError: Without the extra ``[web]``.
    """

    def __init__(self, settings: WebSettings, guard: Guard) -> None:
        try:
            import urllib3
        except ImportError as error:
            raise MissingExtraError("fetching web pages", "web") from error
        self._http = urllib3
        self._settings = settings
        self._guard = guard

    def fetch(self, url: str, known: Validators = Validators(), /) -> Reply:
        """Fetch one page.

        Args:
            url: Absolute address.
            known: Validators of the copy at hand.

        Returns:
            The answer; redirects are followed, three at most, each judged like the first address.

        Raises:
            InputError: With code ``bad_address refused_address unknown_host`` (see `Guard.check`), ``too_large``, ``timeout``,
                ``http_status`` or ``fetch_failed``.
        """
        deadline = time.monotonic() + self._settings.timeout_s
        at = url
        for _ in range(_MAX_REDIRECTS + 1):
            target = self._guard.check(at)
            try:
                answer = self._exchange(target, known, deadline)
            except (self._http.exceptions.HTTPError, OSError, ValueError) as error:
                # A refused connection is a kind of timeout to this library.
                refused = isinstance(error, self._http.exceptions.NewConnectionError)
                if isinstance(error, self._http.exceptions.TimeoutError) and not refused:
                    raise self._late(target) from error
                said = str(error).rpartition(": ")[2][:200]
                raise InputError(f"{target.url} could not be fetched: {said}; try again later", code="fetch_failed") from error
            if isinstance(answer, Reply):
                return answer
            at = urljoin(target.url, answer)
        raise InputError(f"{url} redirects more than {_MAX_REDIRECTS} times; give the address that it ends at", code="fetch_failed")

    def _exchange(self, target: Target, known: Validators, deadline: float) -> Reply | str:
        """The answer of one address, or where it sends us."""
        pool = self._pool(target, deadline)
        try:
            response = pool.request(
                "GET",
                target.path,
                headers=self._headers(target, known),
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=True,
            )
            try:
                return self._answer(target, response, deadline)
            finally:
                response.close()
        finally:
            pool.close()

    def _pool(self, target: Target, deadline: float) -> urllib3.HTTPConnectionPool:
        """A connection to the judged address; certificate and Host are those of the name."""
        left = max(deadline - time.monotonic(), 0.001)
        timeout = self._http.Timeout(connect=left, read=left)
        if target.scheme == "http":
            return self._http.HTTPConnectionPool(target.ip, target.port, timeout=timeout)
        return self._http.HTTPSConnectionPool(
            target.ip, target.port, timeout=timeout, server_hostname=target.host, assert_hostname=target.host
        )

    def _headers(self, target: Target, known: Validators) -> Mapping[str, str]:
        host = f"[{target.host}]" if ":" in target.host else target.host
        default = {"https": 443, "http": 80}[target.scheme]
        headers = {
            "Host": host if target.port == default else f"{host}:{target.port}",
            "User-Agent": self._settings.user_agent,
            "Accept": "text/html, application/xhtml+xml, text/*;q=0.9, */*;q=0.5",
            "Accept-Encoding": "gzip, deflate",
        }
        if known.etag:
            headers["If-None-Match"] = known.etag
        if known.last_modified:
            headers["If-Modified-Since"] = known.last_modified
        return headers

    def _answer(self, target: Target, response: urllib3.BaseHTTPResponse, deadline: float) -> Reply | str:
        status = response.status
        if status in _REDIRECTS and (location := response.headers.get("Location")):
            return location
        if status == HTTPStatus.NOT_MODIFIED:
            return Reply(target.url, "unchanged")
        if status in _GONE:
            return Reply(target.url, "gone")
        if status != HTTPStatus.OK:
            wait = response.headers.get("Retry-After", "")
            later = f"again in {wait} s" if wait.isdecimal() else "again later"
            raise InputError(f"{target.url} answered with HTTP {status}; try {later}, or leave it out", code="http_status")
        body = self._body(target, response, deadline)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        validators = Validators(response.headers.get("ETag", ""), response.headers.get("Last-Modified", ""))
        return Reply(target.url, "page", body, kind, validators, response.headers.get("X-Robots-Tag", "").lower())

    def _body(self, target: Target, response: urllib3.BaseHTTPResponse, deadline: float) -> bytes:
        """The body in pieces, so that neither a slow site nor a compressed bomb gets more than its due."""
        limit = self._settings.max_page_bytes
        pieces: list[bytes] = []
        n_bytes = 0
        while piece := response.read1(_READ_BYTES, decode_content=True):  # `read` would wait until so many are there
            pieces.append(piece)
            n_bytes += len(piece)
            if n_bytes > limit:
                raise InputError(f"{target.url} has more than {limit} bytes, which web.max_page_bytes allows", code="too_large")
            if time.monotonic() > deadline:
                raise self._late(target)
        return b"".join(pieces)

    def _late(self, target: Target) -> InputError:
        limit = self._settings.timeout_s
        return InputError(f"{target.url} took longer than {limit:g} s, which web.timeout_s allows; try again later", code="timeout")
