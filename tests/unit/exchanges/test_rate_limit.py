from datetime import timedelta

import pytest

from keyturn.exchanges.rate_limit import ConcurrencyLimiter, RateLimiter, RateLimiters, is_too_long
from tests.support.dependencies import SECOND

NO_TIME = timedelta()


def throttled(calls: int, seconds: float, retry_after: timedelta = NO_TIME) -> RateLimiter:
    """A rate limiter that is throttled at second 0, after this number of calls in the seconds before."""
    rate_limiter = RateLimiter()
    for number in range(calls):
        rate_limiter.reserve(-seconds + number * seconds / calls)
    rate_limiter.throttled(0.0, retry_after)
    return rate_limiter


def test_calls_are_unlimited_until_throttled() -> None:
    rate_limiter = RateLimiter()

    assert {rate_limiter.reserve(0.0) for _ in range(10_000)} == {0.0}


@pytest.mark.parametrize(
    ("calls", "seconds", "rate"),
    [
        pytest.param(10, 1.0, 7.0, id="70 % of the attempted rate"),
        pytest.param(1000, 10.0, 70.0, id="70 % of the recent rate"),
        pytest.param(1, 0.0, 0.7, id="a single call counts as one per second"),
        pytest.param(2, 100.0, 0.5, id="at least one call in two seconds"),
        pytest.param(32, 0.0001, 140.0, id="at most 70 % of the maximum"),
    ],
)
def test_rate_after_throttling(calls: int, seconds: float, rate: float) -> None:
    assert throttled(calls, seconds).rate == pytest.approx(rate, rel=0.1)


def test_each_call_gets_its_slot_after_throttling() -> None:
    rate_limiter = throttled(10, 1.0)
    waits = [rate_limiter.reserve(0.0) for _ in range(3)]

    assert waits == pytest.approx([n / rate_limiter.rate for n in (1, 2, 3)])


def test_distant_slot_is_not_kept() -> None:
    rate_limiter = throttled(10, 1.0, 60 * SECOND)
    waits = {rate_limiter.reserve(0.0) for _ in range(100)}

    assert waits == {60.0}
    assert is_too_long(60.0)


def test_retry_after_delays_the_next_slot() -> None:
    rate_limiter = throttled(10, 1.0, 3 * SECOND)

    assert rate_limiter.reserve(0.0) == 3.0
    assert not is_too_long(3.0)


def test_later_throttling_does_not_shorten_the_delay() -> None:
    rate_limiter = throttled(10, 1.0, 30 * SECOND)
    rate_limiter.throttled(1.0, NO_TIME)

    assert rate_limiter.reserve(1.0) == 29.0


def test_rate_recovers_with_successful_calls() -> None:
    rate_limiter = throttled(10, 1.0)
    for _ in range(200):
        rate_limiter.succeeded()

    assert [rate_limiter.reserve(10.0) for _ in range(100)] == [0.0] * 100


def test_rate_converges_to_the_limit_of_the_service() -> None:
    rate_limiter, accepted, rejected = RateLimiter(), [0] * 30, [0] * 30
    for tick in range(30_000):
        now = tick / 1000
        second = int(now)
        # Fifty calls are due each second. A call whose slot is not free yet is skipped.
        if tick % 20 or rate_limiter._free_at > now or rate_limiter.reserve(now):
            continue
        if accepted[second] < 10:
            accepted[second] += 1
            rate_limiter.succeeded()
        else:
            rejected[second] += 1
            rate_limiter.throttled(now, NO_TIME)

    assert rejected[0] > 0
    assert sum(rejected[1:]) < 30
    assert sum(accepted[1:]) > 29 * 5


def test_rate_limiters_are_separate_per_key() -> None:
    rate_limiters = RateLimiters()
    rate_limiters.get("a").throttled(0.0, 60 * SECOND)

    assert (rate_limiters.get("a").reserve(0.0), rate_limiters.get("b").reserve(0.0)) == (60.0, 0.0)


def test_least_recently_used_rate_limiter_is_dropped() -> None:
    rate_limiters = RateLimiters()
    first, second = rate_limiters.get("first"), rate_limiters.get("second")
    for number in range(1022):
        rate_limiters.get(number)
    rate_limiters.get("first")
    rate_limiters.get("one more")

    assert rate_limiters.get("first") is first
    assert rate_limiters.get("second") is not second


def test_concurrency_limit_allows_its_number_of_calls() -> None:
    limiter = ConcurrencyLimiter(2)
    waits = [limiter.acquire(0.0, "billing") for _ in range(3)]
    limiter.release(1.0, "billing")

    assert [wait > 0 for wait in waits] == [False, False, True]
    assert limiter.acquire(1.0, "billing") == 0


def test_calls_above_the_concurrency_limit_return_one_after_the_other() -> None:
    limiter = ConcurrencyLimiter(2)
    waits = [limiter.acquire(10.0, "billing") for _ in range(6)]

    assert waits == [0, 0, 0.5, 1.0, 1.5, 2.0]


def test_return_follows_the_duration_of_recent_calls() -> None:
    limiter = ConcurrencyLimiter(1)
    for _ in range(50):
        limiter.acquire(0.0, "billing")
        limiter.release(4.0, "billing")
    limiter.acquire(0.0, "billing")

    assert limiter.acquire(0.0, "billing") == pytest.approx(4.0, rel=0.01)


def test_return_takes_at_most_30_seconds() -> None:
    limiter = ConcurrencyLimiter(1)

    assert max(limiter.acquire(0.0, "billing") for _ in range(1000)) == 30


def test_namespace_with_many_calls_leaves_one_to_another() -> None:
    limiter = ConcurrencyLimiter(2)
    assert [limiter.acquire(0.0, "billing") for _ in range(2)] == [0, 0]
    wait = limiter.acquire(0.0, "web")
    limiter.release(10.0, "billing")

    # The other one is reserved as long as the other namespace can be expected back.
    assert limiter.acquire(0.1, "billing") > 0
    assert limiter.acquire(wait, "web") == 0
    limiter.release(1.0, "web")
    assert limiter.acquire(wait, "billing") == 0


def test_namespace_that_does_not_come_back_reserves_nothing() -> None:
    limiter = ConcurrencyLimiter(2)
    assert [limiter.acquire(0.0, "billing") for _ in range(2)] == [0, 0]
    wait = limiter.acquire(0.0, "web")
    limiter.release(1.0, "billing")

    assert limiter.acquire(wait + 16, "billing") == 0


@pytest.mark.parametrize("limit", [1, 3])
def test_each_namespace_has_at_least_one_call(limit: int) -> None:
    limiter = ConcurrencyLimiter(limit)
    assert [limiter.acquire(0.0, "billing") for _ in range(limit)] == [0] * limit
    limiter.acquire(0.0, "web")
    for _ in range(limit):
        limiter.release(1.0, "billing")

    assert limiter.acquire(0.1, "billing") == 0
