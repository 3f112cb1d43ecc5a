from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from keyturn.api.target import RenewalSpec
from keyturn.api.times import whole_seconds
from keyturn.core.renewal import exchange_interval
from keyturn.core.renewal_time import renew_before, renewal_time, source_warning, when_to_renew
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request, rotating


@cases(
    "minutes, jitter, after",
    {
        "no jitter: renew_before ahead of the expiry": (10, 0.0, 50),
        "jitter of a half: a twentieth of the lifetime earlier": (10, 0.5, 47),
        "renew_before of more than half the lifetime": (50, 0.0, 10),
        "jitter not into the first twentieth": (55, 0.5, 4),
        "renew_before of almost the lifetime: limited to 95%": (59, 0.5, 3),
        "renew_before of the lifetime: limited to half": (60, 0.0, 30),
        "renew_before beyond the lifetime: limited to half": (90, 0.0, 30),
    },
)
def test_renewal_time_is_before_the_expiry(minutes: int, jitter: float, after: float) -> None:
    assert renewal_time(NOW, NOW + HOUR, minutes * MINUTE, jitter) == NOW + after * MINUTE


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1, exclude_max=True))
def test_renewal_time_is_not_in_the_first_twentieth_of_the_lifetime(lifetime: int, before: int, jitter: float) -> None:
    expires_at = NOW + lifetime * SECOND
    at = renewal_time(NOW, expires_at, before * SECOND, jitter)

    assert whole_seconds(NOW + exchange_interval("Due", lifetime * SECOND, 0 * SECOND, 0)) <= at <= expires_at
    assert at.microsecond == 0


@cases(
    "spec, source_life, after",
    {
        "unknown expiry of the source": ({}, None, 40 * MINUTE),
        "the refresh token expires first: at two thirds of its lifetime": ({}, 30 * MINUTE, 20 * MINUTE),
        "it expires shortly after the credentials": ({}, 61 * MINUTE, 40 * MINUTE),
        "it expires much later": ({}, 90 * DAY, 40 * MINUTE),
        "it expired before the issuance, by another clock": ({}, -MINUTE, 40 * MINUTE),
        "renewBefore applies to the credentials only": ({"renewal": {"renewBefore": "30m"}}, 30 * MINUTE, 20 * MINUTE),
        "the earlier of the two times": ({"renewal": {"renewBefore": "50m"}}, 59 * MINUTE, 10 * MINUTE),
    },
)
def test_refresh_token_is_used_before_it_expires(
    spec: dict[str, Any], source_life: timedelta | None, after: timedelta
) -> None:
    source_expiry = None if source_life is None else NOW + source_life

    assert when_to_renew(rotating(**spec), NOW, (NOW + HOUR, source_expiry), 0) == NOW + after


def test_expiry_of_another_source_does_not_move_the_renewal() -> None:
    assert when_to_renew(request(), NOW, (NOW + HOUR, NOW + 30 * MINUTE), 0) == NOW + 40 * MINUTE


@cases(
    "renewal, before",
    {
        "by default, a third of the lifetime": (None, 20 * MINUTE),
        "an empty renewal: the default": (RenewalSpec(), 20 * MINUTE),
        "a duration": (RenewalSpec(renew_before="5m"), 5 * MINUTE),
        "a percentage of the lifetime": (RenewalSpec(renew_before_percentage=10), 6 * MINUTE),
    },
)
def test_renew_before_follows_the_spec(renewal: RenewalSpec | None, before: timedelta) -> None:
    assert renew_before(renewal, HOUR) == before


@cases(
    "issued_at, expires_at, expected",
    {
        "no expiry": (NOW, None, None),
        "a year: 14 days before": (NOW, NOW + 365 * DAY, NOW + 351 * DAY),
        "10 days: the last tenth": (NOW, NOW + 10 * DAY, NOW + 9 * DAY),
        "unknown lifetime: 14 days before": (None, NOW + 20 * DAY, NOW + 6 * DAY),
    },
)
def test_source_warning_precedes_the_expiry(
    issued_at: datetime | None, expires_at: datetime | None, expected: datetime | None
) -> None:
    assert source_warning(issued_at, expires_at) == expected
