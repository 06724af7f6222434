"""Embed by an OpenAI-compatible server: ``POST {url}/embeddings``, with the standard library only.

What is not known of the server's model is estimated: its tokens by the shipped tokenizer with a margin, its length of vector by a
first request. No redirect is followed and no proxy variable is read, so the key goes to the host that the settings name and nowhere
else.

References:
    OpenAI API, "Create embeddings": request keys model, input, encoding_format; response keys data, index, embedding.
"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import numpy as np

from rag.errors import ConfigError, ModelError
from rag.models.registry import SHIPPED_DIR, TOKENIZER_NAME
from rag.models.session import ModelTokenizer
from rag.settings import EmbedderSettings
from rag.tokens import SHIPPED_NAME
from rag.types import TextRole, Vectors

# text-embeddings-inference refuses more than 32 texts a request by default; hosted services take more, and gain little from it.
_MAX_TEXTS = 32
_N_TRIES = 3
_FIRST_PAUSE_S = 0.5
# A server that asks for a longer pause is not waited for: the caller of a search has left by then.
_MAX_PAUSE_S = 10.0
# 32 vectors of 8,192 components at 25 characters each are 6.5 MB.
_MAX_RESPONSE_BYTES = 64_000_000
_MAX_QUOTE_CHARS = 200
# Subword tokenizers of other models cut the same text into up to a quarter more tokens than ours (cl100k against WordPiece: median
# 0.96, 95th percentile of the error 9 %; XLM-R and code are worse). Counting too many wastes a little of the window, too few loses
# text.
_MARGIN = 1.25
_N_SPECIAL = 2
# Servers refuse an empty input; some trim it first.
_EMPTY_STAND_IN = "."
_RETRIED = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where requests go; ``shown`` is the address without its query, for messages."""

    secure: bool
    host: str
    port: int | None
    path: str
    shown: str


@dataclass(frozen=True, slots=True)
class _Reply:
    """A response with its body."""

    status: int
    body: bytes
    retry_after: str
    location: str


class _ConnectionLostError(Exception):
    """The server could not be reached or hung up: worth another try."""


class HttpEmbedder:
    """An `Embedder` over HTTP; safe to share between threads.

    Opening sends nothing, so that a search by words alone works while the server is down. The protocol has no roles: a model that
    wants prompts must have them set by its server.

    Args:
        settings: ``url``, ``model``, ``api_key``, ``timeout_s`` (of one request) and ``max_tokens``.
        sleep: Waits between tries, in seconds; a test passes its own. A setting that cannot be used is a ConfigError, a server that
            does not answer well a ModelError.
    """

    def __init__(self, settings: EmbedderSettings, sleep: Callable[[float], None] = time.sleep) -> None:
        self._settings = settings
        self._sleep = sleep
        self._endpoint = _endpoint(settings)
        self._tokenizer = ModelTokenizer(SHIPPED_DIR / SHIPPED_NAME / TOKENIZER_NAME)
        self._dim = 0

    @property
    def id(self) -> str:
        """``http:`` and the server's name of the model; its revision is not known, so a changed server needs a new index."""
        return f"http:{self._settings.model}"

    @property
    def dim(self) -> int:
        """Length of a vector, as the first answer has it; asking for it may ask the server."""
        return self._dim or self._embed_some(["dimension"]).shape[1]

    @property
    def max_tokens(self) -> int:
        """Tokens that the model reads, from the settings."""
        return self._settings.max_tokens

    def count_tokens(self, text: str) -> int:
        """Upper estimate of the tokens of a text: those of `token_spans` and a quarter, and two special ones."""
        return math.ceil(_MARGIN * len(self.token_spans(text))) + _N_SPECIAL

    def token_spans(self, text: str) -> Sequence[tuple[int, int]]:
        """Spans of the shipped tokenizer, cut into characters where they are not ASCII.

        Args:
            text: Any text.

        Returns:
            Pairs of first character and one past the last, ascending. The shipped tokenizer takes a whole word of an unknown script
            for one token; another model may need one a character.
        """
        spans: list[tuple[int, int]] = []
        for start, end in self._tokenizer.spans(text):
            if end - start > 1 and not text[start:end].isascii():
                spans.extend((at, at + 1) for at in range(start, end))
            else:
                spans.append((start, end))
        return spans

    def embed(self, texts: Sequence[str], role: TextRole = "document") -> Vectors:
        """Embed texts, at most 32 a request; see `rag.embed.Embedder`.

        Args:
            texts: Any number of texts, also none; each is cut where `max_tokens` is reached by our estimate.
            role: Accepted and not sent.

        Returns:
            float32 of shape (len(texts), dim), rows of unit length, in the order of the texts. Anything else from the server is a
            ModelError.
        """
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        readable = [self._cut(text) for text in texts]
        batches = [readable[at : at + _MAX_TEXTS] for at in range(0, len(readable), _MAX_TEXTS)]
        return np.concatenate([self._embed_some(batch) for batch in batches])

    def _cut(self, text: str) -> str:
        """The part of a text that the model reads, storable and not empty."""
        spans = self.token_spans(text)
        n_read = int((self.max_tokens - _N_SPECIAL) / _MARGIN)
        part = text[: spans[n_read - 1][1]] if len(spans) > n_read else text
        return part.encode("utf-8", "replace").decode("utf-8") if part.strip() else _EMPTY_STAND_IN

    def _embed_some(self, texts: Sequence[str]) -> Vectors:
        request = {"model": self._settings.model, "input": list(texts), "encoding_format": "float"}
        reply = self._ask(json.dumps(request).encode("ascii"))
        vectors = self._vectors(reply.body, len(texts))
        self._dim = self._dim or vectors.shape[1]
        return vectors

    def _ask(self, body: bytes) -> _Reply:
        """The reply with status 200, after at most three tries."""
        failure = ""
        for n_try in range(1, _N_TRIES + 1):
            retry_after = ""
            try:
                reply = self._post(body)
            except _ConnectionLostError as error:
                failure = str(error)
            else:
                if reply.status == http.HTTPStatus.OK:
                    return reply
                failure = self._refusal(reply)
                if reply.status not in _RETRIED:
                    raise ModelError(failure, code=f"http_{reply.status}")
                retry_after = reply.retry_after
            if n_try < _N_TRIES:
                self._sleep(_pause_s(n_try, retry_after))
        raise ModelError(f"{failure}; tried {_N_TRIES} times: try again later, or check embedder.url", code="embedder_unavailable")

    def _post(self, body: bytes) -> _Reply:
        """One request on a connection of its own, given up when ``timeout_s`` has passed."""
        to = self._endpoint
        deadline = time.monotonic() + self._settings.timeout_s
        kind = http.client.HTTPSConnection if to.secure else http.client.HTTPConnection
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._settings.api_key:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        try:
            with closing(kind(to.host, to.port, timeout=self._settings.timeout_s)) as connection:
                connection.request("POST", to.path, body, headers)
                response = connection.getresponse()
                content = self._read(response, deadline)
        except TimeoutError as error:
            raise ModelError(
                f"embedding server {to.shown} did not answer within {self._settings.timeout_s:g} s; "
                "raise embedder.timeout_s or check the server",
                code="embedder_unavailable",
            ) from error
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise _ConnectionLostError(f"embedding server {to.shown} is not reachable: {type(error).__name__}: {error}") from error
        return _Reply(response.status, content, response.getheader("Retry-After", ""), response.getheader("Location", ""))

    def _read(self, response: http.client.HTTPResponse, deadline: float) -> bytes:
        """The whole body; the deadline also holds against a server that sends a byte at a time."""
        parts = []
        n_bytes = 0
        # Python 3.11's read1 does not count down the length, so that reading on would wait on an open connection.
        n_expected = response.length
        while n_bytes != n_expected and (part := response.read1(65_536)):
            parts.append(part)
            n_bytes += len(part)
            if n_bytes > _MAX_RESPONSE_BYTES:
                raise ModelError(
                    f"embedding server {self._endpoint.shown} sent more than {_MAX_RESPONSE_BYTES:,} bytes; check embedder.url"
                )
            if time.monotonic() > deadline:
                raise TimeoutError
        if n_expected is not None and n_bytes < n_expected:
            raise http.client.IncompleteRead(b"", n_expected - n_bytes)
        return b"".join(parts)

    def _refusal(self, reply: _Reply) -> str:
        """One line on a status other than 200, with what to do; the key is masked should the server repeat it."""
        match reply.status:
            case 401 | 403:
                way_out = "check embedder.api_key"
            case 404:
                way_out = f"check embedder.url and embedder.model, {self._settings.model!r}"
            case status if 300 <= status < 400:
                way_out = f"redirects are not followed: set embedder.url to {reply.location or 'the final address'}"
            case 400 | 413 | 422:
                way_out = "check embedder.model, and embedder.max_tokens against what the model reads"
            case _:
                way_out = "see the log of the server"
        said = " ".join(reply.body.decode("utf-8", "replace").split())[:_MAX_QUOTE_CHARS]
        line = f"embedding server {self._endpoint.shown} answered {reply.status}: {said or 'nothing'}; {way_out}"
        return line.replace(self._settings.api_key, "(secret)") if self._settings.api_key else line

    def _vectors(self, body: bytes, n_texts: int) -> Vectors:
        """Unit vectors in the order of the texts, or a ModelError that says what came instead."""
        try:
            rows = _rows(json.loads(body), n_texts)
            raw = np.array(rows, dtype=np.float64)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise self._unusable(f"{type(error).__name__}: {error}"[:_MAX_QUOTE_CHARS]) from error
        if raw.ndim != 2 or raw.shape[1] == 0 or (self._dim and raw.shape[1] != self._dim):
            raise self._unusable(f"vectors of shape {raw.shape}, expected ({n_texts}, {self._dim or 'any'})")
        if not np.isfinite(raw).all():
            raise self._unusable("a vector with NaN or infinity")
        # Divided by the largest component first, so that squares neither overflow nor vanish.
        largest = np.abs(raw).max(axis=1, keepdims=True)
        if not largest.all():
            raise self._unusable("a vector of zeros")
        scaled = raw / largest
        unit: Vectors = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def _unusable(self, found: str) -> ModelError:
        return ModelError(
            f"embedding server {self._endpoint.shown} gave no usable vectors: {found}; "
            f"check that {self._settings.model!r} is an embedding model and embedder.url ends before /embeddings",
            code="embedder_answer",
        )


def _endpoint(settings: EmbedderSettings) -> _Endpoint:
    """The address of the settings, taken apart, or a ConfigError that shows neither key nor password."""
    key = settings.api_key
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError("embedder.api_key (secret) has a space, a line end or a letter outside ASCII; copy it again")
    if not settings.model:
        raise ConfigError("embedder.model is empty; set it to the server's name of the model")
    try:
        parts = urlsplit(settings.url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"embedder.url is malformed: {error}; expected http://host:port/v1") from error
    if parts.username or parts.password:
        raise ConfigError("embedder.url holds a user name or password; set embedder.api_key instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or not settings.url.isascii() or " " in settings.url:
        raise ConfigError(f"embedder.url is {settings.url!r}; expected http://host:port/v1 or https://host/v1")
    path = parts.path.rstrip("/").removesuffix("/embeddings") + "/embeddings"
    shown = f"{parts.scheme}://{parts.netloc}{path}"
    return _Endpoint(parts.scheme == "https", parts.hostname, port, f"{path}?{parts.query}" if parts.query else path, shown)


def _rows(answer: object, n_texts: int) -> list[object]:
    """The embeddings of an answer in the order of their index; ValueError, KeyError or TypeError when it is no such answer."""
    if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
        raise TypeError("the answer has no list called data")
    data = answer["data"]
    if len(data) != n_texts:
        raise ValueError(f"{len(data)} vectors for {n_texts} texts")
    places = [item.get("index", place) if isinstance(item, dict) else None for place, item in enumerate(data)]
    by_place = dict(zip(places, data, strict=True))
    if by_place.keys() != set(range(n_texts)):
        raise ValueError(f"the indexes {places}, expected each of 0 to {n_texts - 1} once")
    return [by_place[place]["embedding"] for place in range(n_texts)]


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
