from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.limits import NO_LIMITS, Limiter, Limits, span
from rag.errors import InputError, OverloadedError

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class Clock:
    """Nanoseconds that stand still until they are set."""

    def __init__(self) -> None:
        self.now_ns = 5

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(clock)


@dataclass
class NaiveBucket:
    """What a bucket is, in exact fractions of one."""

    limit: int
    level: Fraction = field(init=False)

    def __post_init__(self) -> None:
        self.level = Fraction(self.limit)

    def wait(self, span_ns: int) -> None:
        self.level = min(Fraction(self.limit), self.level + Fraction(self.limit * span_ns, MINUTE))

    @property
    def admits(self) -> bool:
        return self.limit == 0 or self.level >= 1

    @property
    def remaining(self) -> int:
        return max(0, self.level.__floor__())


steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 999_999_999, SECOND, 7 * SECOND, MINUTE, 600 * MINUTE]) | st.integers(0, MINUTE), st.integers(0, 9)
    ),
    max_size=40,
)


@given(st.integers(0, 7), st.integers(0, 9), steps)
def test_buckets_are_what_they_say_they_are(n_requests: int, n_tokens: int, steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    limiter, limits = Limiter(clock), Limits(n_requests, n_tokens)
    requests, tokens = NaiveBucket(n_requests), NaiveBucket(n_tokens)
    for span_ns, n_used in steps:
        clock.now_ns += span_ns
        requests.wait(span_ns)
        tokens.wait(span_ns)
        admitted = limiter.admit("a", limits)
        assert admitted.is_admitted == (requests.admits and tokens.admits)
        if admitted.is_admitted:
            requests.level -= 1
            tokens.level -= n_used
            charged = limiter.charge("a", limits, n_used)
            for quota, naive in ((charged.requests, requests), (charged.tokens, tokens)):
                assert (quota.remaining if quota else None) == (naive.remaining if naive.limit else None)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(0, 10_000), st.integers(0, MINUTE))
def test_who_waits_as_told_is_admitted_and_who_waits_a_second_less_is_not(
    n_requests: int, n_tokens: int, n_used: int, at_ns: int
) -> None:
    clock = Clock()
    limiter, limits = Limiter(clock), Limits(n_requests, n_tokens)
    clock.now_ns += at_ns
    while limiter.admit("a", limits).is_admitted:
        limiter.charge("a", limits, n_used)
    refused = limiter.admit("a", limits)
    assert refused.retry_after_s >= 1
    clock.now_ns += (refused.retry_after_s - 1) * SECOND
    assert not limiter.admit("a", limits).is_admitted or refused.retry_after_s == 1
    clock.now_ns += SECOND
    assert limiter.admit("a", limits).is_admitted


@given(st.integers(1, 500), st.integers(0, 2000))
def test_all_of_the_limit_is_there_after_the_reset_and_not_a_nanosecond_before(limit: int, n_used: int) -> None:
    clock = Clock()
    limiter, limits = Limiter(clock), Limits(0, limit)
    quota = limiter.charge("a", limits, n_used).tokens
    assert quota
    clock.now_ns += max(0, quota.reset_ns - 1)
    before = limiter.admit("a", limits).tokens
    clock.now_ns += min(1, quota.reset_ns)
    after = limiter.admit("a", limits).tokens
    assert before
    assert after
    assert (before.remaining == limit, after.remaining) == (n_used == 0, limit)


@given(st.lists(st.sampled_from([-5 * MINUTE, -MINUTE, 0, MINUTE, 5 * MINUTE]) | st.integers(-MINUTE, MINUTE), max_size=30))
def test_clock_that_goes_back_gives_nothing_twice(jumps: list[int]) -> None:
    clock = Clock()
    limiter, limits = Limiter(clock), Limits(1, 0)
    began = highest = clock.now_ns
    n_admitted = int(limiter.admit("a", limits).is_admitted)
    for jump in jumps:
        clock.now_ns += jump
        highest = max(highest, clock.now_ns)
        n_admitted += limiter.admit("a", limits).is_admitted
    assert n_admitted <= 1 + (highest - began) // MINUTE


def test_clock_that_goes_back_takes_nothing(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(requests_per_minute=2)
    assert limiter.admit("a", limits).is_admitted
    clock.now_ns -= MINUTE
    assert limiter.admit("a", limits).is_admitted


def test_key_without_limits_is_always_admitted_and_told_nothing(limiter: Limiter) -> None:
    standing = [limiter.admit("a", NO_LIMITS), limiter.charge("a", NO_LIMITS, 10**9), limiter.admit("a", NO_LIMITS)]
    assert [(each.is_admitted, each.headers(), each.retry_after_s) for each in standing] == [(True, {}, 0)] * 3


def test_limit_of_requests_holds_for_bursts_and_fills_evenly(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(requests_per_minute=6)
    assert [limiter.admit("a", limits).is_admitted for _ in range(7)] == [True] * 6 + [False]
    clock.now_ns += 10 * SECOND
    assert [limiter.admit("a", limits).is_admitted for _ in range(2)] == [True, False]


def test_keys_do_not_share_a_limit(limiter: Limiter) -> None:
    limits = Limits(requests_per_minute=1)
    assert [limiter.admit(key_id, limits).is_admitted for key_id in "aabb"] == [True, False, True, False]


def test_answer_may_overdraw_and_the_debt_is_paid_before_the_next(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(tokens_per_minute=60)
    assert limiter.admit("a", limits).is_admitted
    limiter.charge("a", limits, 180)
    refused = limiter.admit("a", limits)
    assert (refused.is_admitted, refused.retry_after_s) == (False, 121)
    clock.now_ns += 121 * SECOND
    assert limiter.admit("a", limits).is_admitted


def test_refused_request_takes_nothing(limiter: Limiter, clock: Clock) -> None:
    limits = Limits(requests_per_minute=2, tokens_per_minute=60)
    limiter.charge("a", limits, 60)
    for _ in range(5):
        assert not limiter.admit("a", limits).is_admitted
    clock.now_ns += SECOND
    assert limiter.admit("a", limits).is_admitted


def test_headers_are_those_of_openai(limiter: Limiter) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=40_000)
    limiter.admit("a", limits)
    limiter.admit("a", limits)
    assert limiter.charge("a", limits, 10_010).headers() == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "58",
        "x-ratelimit-reset-requests": "2s",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-tokens": "29990",
        "x-ratelimit-reset-tokens": "16s",
    }


def test_headers_of_a_refusal_say_when_to_come_back(limiter: Limiter) -> None:
    limits = Limits(requests_per_minute=4)
    headers = [limiter.admit("a", limits).headers() for _ in range(5)]
    assert [each.get("Retry-After") for each in headers] == [None] * 4 + ["15"]
    assert headers[-1] == {
        "x-ratelimit-limit-requests": "4",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1m0s",
        "Retry-After": "15",
    }


def test_refusal_names_only_the_limit_that_is_used_up(limiter: Limiter) -> None:
    limits = Limits(requests_per_minute=100, tokens_per_minute=60)
    limiter.charge("a", limits, 62)
    error = limiter.admit("a", limits).refusal()
    assert isinstance(error, OverloadedError)
    assert (error.code, str(error)) == (
        "rate_limit",
        "the API key has used up its limit of 60 tokens a minute; try again in 3 s",
    )


@pytest.mark.parametrize(
    ("span_ns", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (20_000_000, "20ms"),
        (999_000_000, "999ms"),
        (999_000_001, "1s"),
        (SECOND, "1s"),
        (SECOND + 1, "2s"),
        (59 * SECOND + 1, "1m0s"),
        (6 * MINUTE, "6m0s"),
        (60 * MINUTE, "1h0m0s"),
        (25 * 60 * MINUTE + 61 * SECOND, "25h1m1s"),
    ],
)
def test_spans_are_written_as_openai_does(span_ns: int, text: str) -> None:
    assert span(span_ns) == text


@given(st.integers(0, 10**16))
def test_span_is_never_shorter_than_it_is(span_ns: int) -> None:
    scale = {"h": 60 * MINUTE, "m": MINUTE, "s": SECOND, "ms": 1_000_000}
    parts = re.findall(r"(\d+)(ms|h|m|s)", span(span_ns))
    assert 0 <= sum(int(count) * scale[unit] for count, unit in parts) - span_ns < SECOND


@pytest.mark.parametrize("limits", [(-1, 0), (0, -1), (10**9 + 1, 0)])
def test_wrong_limits_are_refused(limits: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"a limit of -?\d+ a minute is not allowed; allowed: 0 \(none\) to 1000000000"):
        Limits(*limits)


def test_threads_together_are_admitted_as_often_as_one() -> None:
    limiter, limits = Limiter(Clock()), Limits(requests_per_minute=100)
    admitted: list[bool] = []

    def ask() -> None:
        admitted.extend(limiter.admit("a", limits).is_admitted for _ in range(60))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(admitted), sum(admitted)) == (240, 100)


def test_only_so_many_keys_are_remembered_and_the_one_that_asked_longest_ago_goes(clock: Clock) -> None:
    limiter, limits = Limiter(clock, max_keys=2), Limits(requests_per_minute=1)
    for key_id in ("a", "b", "a", "c"):
        limiter.admit(key_id, limits)
    assert [limiter.admit(key_id, limits).is_admitted for key_id in ("a", "c", "b")] == [False, False, True]
