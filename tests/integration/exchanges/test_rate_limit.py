from contextlib import closing
from datetime import timedelta

import pytest

from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.rate_limit import RateLimiter, RateLimiters, is_too_long
from tests.integration.exchanges.conftest import settings
from tests.support.dependencies import SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN
from tests.support.exchange_steps import aws, get_access_token, step

NO_TIME = timedelta()
OPERATION = "GetAccessToken"
WAITS = {"code": "RateLimitExceededException", "headers": {"Retry-After": "30"}}


def throttled(calls: int, seconds: float, retry_after: timedelta = NO_TIME) -> RateLimiter:
    """A pace that was throttled at second 0, after so many calls in so many seconds."""
    rate_limiter = RateLimiter()
    for number in range(calls):
        rate_limiter.wait(-seconds + number * seconds / calls)
    rate_limiter.throttled(0.0, retry_after)
    return rate_limiter


def test_there_is_no_pace_until_a_throttle() -> None:
    rate_limiter = RateLimiter()

    assert {rate_limiter.wait(0.0) for _ in range(10_000)} == {0.0}


@pytest.mark.parametrize(
    ("calls", "seconds", "rate"),
    [
        pytest.param(10, 1.0, 7.0, id="seven tenths of what was tried"),
        pytest.param(1000, 10.0, 70.0, id="of what was tried of late"),
        pytest.param(1, 0.0, 0.7, id="a single call counts as one in a second"),
        pytest.param(2, 100.0, 0.5, id="never slower than one call in two seconds"),
        pytest.param(32, 0.0001, 140.0, id="never faster than before"),
    ],
)
def test_the_rate_after_a_throttle(calls: int, seconds: float, rate: float) -> None:
    assert throttled(calls, seconds).rate == pytest.approx(rate, rel=0.1)


def test_after_a_throttle_each_call_has_its_turn() -> None:
    rate_limiter = throttled(10, 1.0)
    waits = [rate_limiter.wait(0.0) for _ in range(3)]

    assert waits == pytest.approx([n / rate_limiter.rate for n in (1, 2, 3)])


def test_a_turn_that_nobody_waits_for_is_not_taken() -> None:
    rate_limiter = throttled(10, 1.0, 60 * SECOND)
    waits = {rate_limiter.wait(0.0) for _ in range(100)}

    assert waits == {60.0}
    assert is_too_long(60.0)


def test_what_was_asked_for_is_waited_for() -> None:
    rate_limiter = throttled(10, 1.0, 3 * SECOND)

    assert rate_limiter.wait(0.0) == 3.0
    assert not is_too_long(3.0)


def test_a_later_throttle_does_not_shorten_the_wait() -> None:
    rate_limiter = throttled(10, 1.0, 30 * SECOND)
    rate_limiter.throttled(1.0, NO_TIME)

    assert rate_limiter.wait(1.0) == 29.0


def test_the_pace_recovers_by_what_goes_through() -> None:
    rate_limiter = throttled(10, 1.0)
    for _ in range(200):
        rate_limiter.went_through()

    assert [rate_limiter.wait(10.0) for _ in range(100)] == [0.0] * 100


def test_before_a_service_with_room_for_ten_a_second_the_throttles_die_away() -> None:
    rate_limiter, served, refused = RateLimiter(), [0] * 30, [0] * 30
    for tick in range(30_000):
        now = tick / 1000
        second = int(now)
        # Fifty a second would like to call; a turn that is further away is not waited for here.
        if tick % 20 or rate_limiter._free_at > now or rate_limiter.wait(now):
            continue
        if served[second] < 10:
            served[second] += 1
            rate_limiter.went_through()
        else:
            refused[second] += 1
            rate_limiter.throttled(now, NO_TIME)

    assert refused[0] > 0
    assert sum(refused[1:]) < 30
    assert sum(served[1:]) > 29 * 5


def test_a_pace_is_of_one_key() -> None:
    rate_limiters = RateLimiters()
    rate_limiters.of("a").throttled(0.0, 60 * SECOND)

    assert (rate_limiters.of("a").wait(0.0), rate_limiters.of("b").wait(0.0)) == (60.0, 0.0)


def test_the_least_recently_used_is_forgotten() -> None:
    rate_limiters = RateLimiters()
    first, second = rate_limiters.of("first"), rate_limiters.of("second")
    for number in range(1022):
        rate_limiters.of(number)
    rate_limiters.of("first")
    rate_limiters.of("one more")

    assert rate_limiters.of("first") is first
    assert rate_limiters.of("second") is not second


async def test_while_a_service_throttles_it_is_not_called(emulator: Emulator) -> None:
    with closing(aws(settings(emulator))) as client:
        emulator.fault(OPERATION, **WAITS)
        for _ in range(5):
            with pytest.raises(ThrottledError) as raised:
                await get_access_token(client, emulator.refresh_token())

    assert emulator.calls(OPERATION) == 1
    assert raised.value.message == "License Manager GetAccessToken throttles us"
    assert 25 * SECOND < raised.value.retry_after <= 30 * SECOND


async def test_a_short_pace_is_waited_for(emulator: Emulator) -> None:
    with closing(aws(settings(emulator))) as client:
        emulator.fault(OPERATION, code="RateLimitExceededException")
        with pytest.raises(ThrottledError):
            await get_access_token(client, emulator.refresh_token())
        await get_access_token(client, emulator.refresh_token())

    assert emulator.calls(OPERATION) == 2


async def test_the_pace_of_one_identity_in_one_region_is_nobody_elses(emulator: Emulator) -> None:
    first, second = (Credentials(**emulator.control("POST", "users", name=name)) for name in ("one", "two"))
    emulator.fault("AssumeRole", code="NewlyInvented", status=429, headers={"Retry-After": "30"}, times=3)
    with closing(aws(settings(emulator))) as client:
        reasons = [
            await reason(client, keys, region)
            for keys, region in (
                (first, "us-east-1"),
                (first, "us-east-1"),
                (second, "us-east-1"),
                (first, "eu-west-1"),
            )
        ]

    assert reasons == ["Throttled", "Throttled", "", ""]
    # Three tries of botocore, then none, and one each of who was never throttled.
    assert emulator.calls("AssumeRole") == 3 + 0 + 1 + 1


async def reason(client: Aws, keys: Credentials, region: str) -> str:
    """Why these keys do not get the role; empty if they do."""
    role = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
    wanted = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=[role], region=region)
    try:
        await step(client, PipelineValues(credentials=keys), wanted)
    except KeyturnError as error:
        return error.reason
    return ""
