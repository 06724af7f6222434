"""How much a key may ask: a bucket of requests and one of tokens for each, which fill evenly and hold one minute's worth.

A request takes one from the first before it is served. What an answer used is known only afterwards, so tokens are charged then, and may
overdraw: who is in debt waits until it is paid. Counts are whole numbers of tokens times nanoseconds, so nothing is lost to rounding.

References:
    The headers are those of OpenAI: https://platform.openai.com/docs/guides/rate-limits
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from rag.errors import InputError, OverloadedError

# A bucket that nobody used for a minute is full (unless it was overdrawn) and forgotten for free, so this is keys in one minute.
MAX_KEYS = 10_000

_MAX_LIMIT = 1_000_000_000
_SECOND_NS = 1_000_000_000
# One request or token, in the unit of a level: filled at ``limit`` units a nanosecond, that is ``limit`` of them in a minute.
_ONE = 60 * _SECOND_NS


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may use in a minute.

    Attributes:
        requests_per_minute: 0 (no limit) to 1,000,000,000.
        tokens_per_minute: Prompt and completion together; likewise.
    """

    requests_per_minute: int = 0
    tokens_per_minute: int = 0

    def __post_init__(self) -> None:
        for limit in (self.requests_per_minute, self.tokens_per_minute):
            if not 0 <= limit <= _MAX_LIMIT:
                raise InputError(f"a limit of {limit} a minute is not allowed; allowed: 0 (none) to {_MAX_LIMIT}", code="bad_key")


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Quota:
    """Where a key stands with one of its limits.

    Attributes:
        limit: A minute.
        remaining: Whole ones left, 0 or more.
        reset_ns: Nanoseconds until all of the limit is there again.
        wait_ns: Nanoseconds until there is one; 0 when there is.
    """

    limit: int
    remaining: int
    reset_ns: int
    wait_ns: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands.

    Attributes:
        is_admitted: Whether the request may be served.
        requests: None without such a limit.
        tokens: None without such a limit.
    """

    is_admitted: bool
    requests: Quota | None
    tokens: Quota | None

    @property
    def retry_after_s(self) -> int:
        """Seconds after which a refused request would be admitted, rounded up, at least 1; 0 for one that was."""
        if self.is_admitted:
            return 0
        return max(1, max(-(-quota.wait_ns // _SECOND_NS) for quota in (self.requests, self.tokens) if quota is not None))

    def headers(self) -> dict[str, str]:
        """What an answer tells of it; ``Retry-After`` only where the request was refused, nothing where there is no limit."""
        found = {}
        for name, quota in (("requests", self.requests), ("tokens", self.tokens)):
            if quota is not None:
                found[f"x-ratelimit-limit-{name}"] = str(quota.limit)
                found[f"x-ratelimit-remaining-{name}"] = str(quota.remaining)
                found[f"x-ratelimit-reset-{name}"] = span(quota.reset_ns)
        return found if self.is_admitted else found | {"Retry-After": str(self.retry_after_s)}

    def refusal(self) -> OverloadedError:
        """The error of a request that was refused; code ``rate_limit``."""
        used_up = [
            f"{quota.limit} {name} a minute"
            for name, quota in (("requests", self.requests), ("tokens", self.tokens))
            if quota is not None and quota.wait_ns
        ]
        return OverloadedError(
            f"the API key has used up its limit of {' and '.join(used_up)}; try again in {self.retry_after_s} s", code="rate_limit"
        )


_UNLIMITED = Standing(is_admitted=True, requests=None, tokens=None)


@dataclass(slots=True)
class _Bucket:
    """Level in units of 1 / `_ONE`, negative while in debt, as it was at a time."""

    level: int
    at_ns: int

    def fill(self, limit: int, now_ns: int) -> None:
        """Let in what came since; a clock that went back brings nothing and takes nothing."""
        elapsed_ns = max(0, now_ns - self.at_ns)
        self.level = min(limit * _ONE, self.level + elapsed_ns * limit)
        self.at_ns = max(self.at_ns, now_ns)

    def quota(self, limit: int) -> Quota:
        return Quota(
            limit,
            max(0, self.level // _ONE),
            reset_ns=-(-(limit * _ONE - self.level) // limit),
            wait_ns=max(0, -(-(_ONE - self.level) // limit)),
        )


class Limiter:
    """Keeps the limits of keys within one process; safe to share between threads.

    Args:
        clock: Nanoseconds that only grow.
        max_keys: Keys remembered, 1 or more; the one that asked longest ago is forgotten first, and with it a debt.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._lock = Lock()
        self._buckets: OrderedDict[str, tuple[_Bucket, _Bucket]] = OrderedDict()

    def admit(self, key_id: str, limits: Limits) -> Standing:
        """Ask for a request to be served.

        Args:
            key_id: Who asks.
            limits: Of that key.

        Returns:
            Admitted, which takes one request, when every limit has one or more left; otherwise refused, which takes nothing.
        """
        if limits == NO_LIMITS:
            return _UNLIMITED
        with self._lock:
            requests, tokens = self._filled(key_id, limits)
            is_admitted = all(
                bucket.level >= _ONE
                for bucket, limit in ((requests, limits.requests_per_minute), (tokens, limits.tokens_per_minute))
                if limit
            )
            requests.level -= _ONE if is_admitted else 0
            return _standing(requests, tokens, limits, is_admitted=is_admitted)

    def charge(self, key_id: str, limits: Limits, n_tokens: int) -> Standing:
        """Take what an answer used, also more than there is.

        Args:
            key_id: Who asked.
            limits: Of that key.
            n_tokens: 0 or more.

        Returns:
            Where the key stands then, as admitted.
        """
        if limits == NO_LIMITS:
            return _UNLIMITED
        with self._lock:
            requests, tokens = self._filled(key_id, limits)
            tokens.level -= n_tokens * _ONE
            return _standing(requests, tokens, limits, is_admitted=True)

    def _filled(self, key_id: str, limits: Limits) -> tuple[_Bucket, _Bucket]:
        """The buckets of a key as they are now; those of one that is new are full."""
        now_ns = self._clock()
        wanted = limits.requests_per_minute, limits.tokens_per_minute
        if key_id not in self._buckets:
            self._buckets[key_id] = _Bucket(wanted[0] * _ONE, now_ns), _Bucket(wanted[1] * _ONE, now_ns)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key_id)
        pair = self._buckets[key_id]
        for bucket, limit in zip(pair, wanted, strict=True):
            bucket.fill(limit, now_ns)
        return pair


def span(span_ns: int) -> str:
    """A length of time as OpenAI writes it.

    Args:
        span_ns: 0 or more.

    Returns:
        Rounded up: ``0s``, ``20ms`` below a second, ``6m0s``, ``1h0m0s``.
    """
    if 0 < span_ns <= _SECOND_NS - 1_000_000:
        return f"{-(-span_ns // 1_000_000)}ms"
    minutes, seconds = divmod(-(-span_ns // _SECOND_NS), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _standing(requests: _Bucket, tokens: _Bucket, limits: Limits, *, is_admitted: bool) -> Standing:
    n_requests, n_tokens = limits.requests_per_minute, limits.tokens_per_minute
    return Standing(is_admitted, requests.quota(n_requests) if n_requests else None, tokens.quota(n_tokens) if n_tokens else None)
