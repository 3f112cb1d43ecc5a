import heapq
from datetime import UTC, datetime, timedelta

import pytest

from keyturn.exchanges.rate_limit import RateLimiter, RateLimiters, is_too_long, parse_retry_after
from tests.support.cases import cases
from tests.support.dependencies import SECOND

NO_TIME = timedelta()


def throttled(calls: int, seconds: float, retry_after: timedelta = NO_TIME) -> RateLimiter:
    """A rate limiter that is throttled at second 0, after this number of calls in the seconds before."""
    rate_limiter = RateLimiter()
    for number in range(calls):
        rate_limiter.reserve(-seconds + number * seconds / calls, "billing")
    rate_limiter.throttled(0.0, retry_after)
    return rate_limiter


def test_calls_are_unlimited_until_throttled() -> None:
    rate_limiter = RateLimiter()

    assert {rate_limiter.reserve(0.0, "billing") for _ in range(10_000)} == {0.0}


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
    waits = [rate_limiter.reserve(0.0, "billing") for _ in range(3)]

    assert waits == pytest.approx([n / rate_limiter.rate for n in (1, 2, 3)])


def test_distant_slot_is_not_kept() -> None:
    rate_limiter = throttled(10, 1.0, 60 * SECOND)
    waits = {rate_limiter.reserve(0.0, "billing") for _ in range(100)}

    assert waits == {60.0}
    assert is_too_long(60.0)


def test_long_retry_after_delays_the_other_requests_by_a_minute() -> None:
    assert throttled(10, 1.0, 3600 * SECOND).reserve(0.0, "billing") == 60.0


def test_retry_after_delays_the_next_slot() -> None:
    rate_limiter = throttled(10, 1.0, 3 * SECOND)

    assert rate_limiter.reserve(0.0, "billing") == 3.0
    assert not is_too_long(3.0)


def test_later_throttling_does_not_shorten_the_delay() -> None:
    rate_limiter = throttled(10, 1.0, 30 * SECOND)
    rate_limiter.throttled(1.0, NO_TIME)

    assert rate_limiter.reserve(1.0, "billing") == 29.0


def test_rate_recovers_with_successful_calls() -> None:
    rate_limiter = throttled(10, 1.0)
    for _ in range(200):
        rate_limiter.succeeded()

    assert [rate_limiter.reserve(10.0, "billing") for _ in range(100)] == [0.0] * 100


def test_rate_converges_to_the_limit_of_the_service() -> None:
    rate_limiter, accepted, rejected = RateLimiter(), [0] * 30, [0] * 30
    for tick in range(30_000):
        now = tick / 1000
        second = int(now)
        # Fifty calls are due each second. A call whose slot is not free yet is skipped.
        if tick % 20 or rate_limiter._free_at > now or rate_limiter.reserve(now, "billing"):
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

    assert (rate_limiters.get("a").reserve(0.0, "billing"), rate_limiters.get("b").reserve(0.0, "billing")) == (
        60.0,
        0.0,
    )


def test_least_recently_used_rate_limiter_is_dropped() -> None:
    rate_limiters = RateLimiters()
    first, second = rate_limiters.get("first"), rate_limiters.get("second")
    for number in range(1022):
        rate_limiters.get(number)
    rate_limiters.get("first")
    rate_limiters.get("one more")

    assert rate_limiters.get("first") is first
    assert rate_limiters.get("second") is not second


@pytest.mark.parametrize(("rate", "number"), [(0.5, 50), (5.0, 2000), (100.0, 5000)])
def test_namespace_with_many_calls_leaves_slots_to_another(rate: float, number: int) -> None:
    """Its calls return after each wait, and 10 s after they were made."""
    rate_limiter = throttled(10, 1.0)
    rate_limiter.rate = rate
    events = [(index / 1000, "billing") for index in range(number)] + [(30.0, "web")]
    heapq.heapify(events)
    now = wait = 0.0
    while now < 60:
        now, namespace = heapq.heappop(events)
        wait = rate_limiter.reserve(now, namespace)
        if namespace == "web" and not is_too_long(wait):
            break
        heapq.heappush(events, (now + wait + (0 if is_too_long(wait) else 10), namespace))

    # A wait that is too long for a worker, and one for its slot.
    assert now + wait < 30 + 7.5 + 5


def test_namespace_gets_distant_slots_while_no_other_waits() -> None:
    rate_limiter = throttled(10, 1.0)

    assert max(wait for _ in range(100) if (wait := rate_limiter.reserve(0.0, "billing")) <= 5) > 4.5


@cases(
    "value, seconds",
    {
        "seconds": ("17", 17),
        "more than an hour": ("86400", 3600),
        "a date": ("Sun, 06 Nov 2033 08:49:54 GMT", 17),
        "a date in more than an hour": ("Mon, 07 Nov 2033 08:49:37 GMT", 3600),
        "a date that is past": ("Sun, 06 Nov 2033 08:49:00 GMT", 0),
        "a year with 20 digits": ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        "very many digits": ("9" * 5000, 0),
        "a negative number": ("-1", 0),
        "nothing": ("", 0),
    },
)
def test_retry_after_is_at_most_an_hour(value: str, seconds: int) -> None:
    now = datetime(2033, 11, 6, 8, 49, 37, tzinfo=UTC)

    assert parse_retry_after(value, now) == timedelta(seconds=seconds)


def test_date_counts_only_if_the_time_of_the_service_is_known() -> None:
    assert parse_retry_after("Sun, 06 Nov 2033 08:49:54 GMT") == timedelta()
