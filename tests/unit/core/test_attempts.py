"""When the next attempt is made after a failure."""

from dataclasses import replace
from datetime import timedelta

from msgspec import structs

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, TransientRefusalError, UnavailableError
from keyturn.core.renewal import after_failure
from keyturn.core.renewal_time import RetryContext, next_attempt_time
from keyturn.core.state import ReconcileState
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, rotating
from tests.support.issuance import ISSUANCE, REQUEST

UNREACHABLE = UnavailableError("Unreachable", "STS did not respond")
UNKNOWN = UnavailableError("RefreshOutcomeUnknown", "", outcome_unknown=True)
ROTATING = rotating()


@cases(
    "error, failed_attempts, remaining_lifetime, rand, seconds",
    {
        "first failure: up to 4 s": (UNREACHABLE, 1, HOUR, 0.5, 2),
        "third failure: up to 16 s": (UNREACHABLE, 3, HOUR, 0.5, 8),
        "at least a second": (UNREACHABLE, 1, HOUR, 0.0, 1),
        "at most 5 min": (UNREACHABLE, 50, DAY, 0.99, 297),
        "at most a quarter of the remaining lifetime": (UNREACHABLE, 50, 2 * MINUTE, 0.5, 15),
        "expired: within a minute": (UNREACHABLE, 50, timedelta(), 0.5, 30),
        "long expired: within a minute": (UNREACHABLE, 50, -HOUR, 0.5, 30),
        "nothing to consume: backoff": (
            UnavailableError("Unreachable", "", outcome_unknown=True),
            3,
            HOUR,
            0.5,
            8,
        ),
        "throttled with retry_after": (ThrottledError("", retry_after=MINUTE), 1, HOUR, 0.5, 60),
        "throttled: at most half of the remaining lifetime": (ThrottledError("", retry_after=HOUR), 1, HOUR, 0.5, 1800),
        "throttled for long": (ThrottledError("", retry_after=HOUR), 1, DAY, 0.5, 3600),
        "throttled shortly before the expiry": (ThrottledError("", retry_after=HOUR), 1, SECOND, 0.5, 60),
        "throttled, expired": (ThrottledError("", retry_after=HOUR), 1, timedelta(), 0.5, 300),
        "throttled without retry_after: backoff": (ThrottledError(""), 1, HOUR, 0.5, 2),
        "outcome unknown: half of the remaining lifetime": (UNKNOWN, 1, HOUR, 0.5, 1800),
        "outcome unknown, valid for long: an hour": (UNKNOWN, 1, DAY, 0.5, 3600),
        "outcome unknown, nothing valid: as soon as allowed": (UNKNOWN, 1, timedelta(), 0.5, 32),
        "access denied: 5 min": (RefusedError("AccessDenied", ""), 9, HOUR, 0.5, 300),
        "refused: half an hour": (RefusedError("SourceInvalid", ""), 1, 3 * HOUR, 0.5, 1800),
        "refused, expired: half an hour": (RefusedError("SourceInvalid", ""), 1, timedelta(), 0.5, 1800),
        "refused: at most a quarter of the remaining lifetime": (RefusedError("InvalidSpec", ""), 1, HOUR, 0.5, 900),
        "access denied: the same": (RefusedError("AccessDenied", ""), 1, 5 * MINUTE, 0.5, 75),
        "refused shortly before the expiry: 5 s": (RefusedError("SourceInvalid", ""), 1, SECOND, 0.5, 5),
        "only a new source helps: half an hour": (RefusedError("SourceConsumed", ""), 1, MINUTE, 0.5, 1800),
        "usually passes: 5 min": (TransientRefusalError("SourceInvalid", ""), 1, DAY, 0.5, 300),
        "a wrong clock: a minute": (UnavailableError("ClockSkew", ""), 9, HOUR, 0.5, 60),
        "no source: a minute": (RefusedError("SourceNotFound", ""), 1, HOUR, 0.5, 60),
        "the API server refuses a read: a second": (RefusedError("SourceForbidden", ""), 1, HOUR, 0.5, 1),
        "the API server refuses a read again": (RefusedError("SourceForbidden", ""), 4, HOUR, 0.5, 8),
        "the API server refuses a read for long": (RefusedError("SourceForbidden", ""), 2000, HOUR, 0.5, 60),
        "the API server refuses: backoff": (RefusedError("WriteDenied", ""), 1, HOUR, 0.5, 2),
    },
)
def test_next_attempt_time_depends_on_the_error(
    error: KeyturnError, failed_attempts: int, remaining_lifetime: timedelta, rand: float, seconds: int
) -> None:
    assert (
        next_attempt_time(REQUEST, error, failed_attempts, RetryContext(remaining_lifetime), NOW, rand)
        == NOW + seconds * SECOND
    )


def test_next_attempt_time_is_rounded_up() -> None:
    at = next_attempt_time(REQUEST, UNREACHABLE, 1, RetryContext(HOUR), NOW + timedelta(milliseconds=1), 0.5)

    assert at == NOW + 3 * SECOND


@cases(
    "eventually_consistent, age, seconds",
    {
        "a recent change, new request": (True, MINUTE, 5),
        "a recent change, request two minutes old": (True, 2 * MINUTE, 300),
        "another cause": (False, MINUTE, 300),
    },
)
def test_new_request_is_retried_soon_if_iam_may_become_consistent(
    *, eventually_consistent: bool, age: timedelta, seconds: int
) -> None:
    recent = replace(REQUEST, created_at=NOW - age)
    error = RefusedError("AccessDenied", "", eventually_consistent=eventually_consistent)

    assert next_attempt_time(recent, error, 1, RetryContext(HOUR), NOW, 0.5) == NOW + seconds * SECOND


@cases(
    "failing, context, error, seconds",
    {
        "the attempt consumed a token": (
            ROTATING, RetryContext(MINUTE, consumed=True), RefusedError("AccessDenied", ""), 300,
        ),
        "the attempt consumed none": (ROTATING, RetryContext(MINUTE), RefusedError("AccessDenied", ""), 15),
        "usually passes, but consumes a token": (
            ROTATING, RetryContext(DAY, consumed=True), TransientRefusalError("SourceInvalid", ""), 1800,
        ),
        "worked before: 5 min": (REQUEST, RetryContext(DAY, worked_before=True), RefusedError("InvalidSpec", ""), 300),
        "worked before, but has expired: half an hour": (
            REQUEST, RetryContext(DAY, worked_before=True), RefusedError("SourceExpired", ""), 1800,
        ),
        "a revoked refresh token that worked before": (
            ROTATING, RetryContext(DAY, worked_before=True), RefusedError("SourceInvalid", ""), 1800,
        ),
    },
)  # fmt: skip
def test_refusal_is_retried_sooner_if_that_may_help_and_consumes_nothing(
    failing: Request, context: RetryContext, error: RefusedError, seconds: int
) -> None:
    assert next_attempt_time(failing, error, 1, context, NOW, 0.5) == NOW + seconds * SECOND


def test_slow_attempt_that_consumed_a_token_is_not_repeated_soon() -> None:
    issuance, failed_at = structs.replace(ISSUANCE, expires=NOW + 2 * MINUTE), NOW + 20 * SECOND
    state = ReconcileState(issuance=issuance, exchanged_at=NOW, consumed_at=NOW)
    for failed_attempts in (1, 2):
        state, tried = after_failure(ROTATING, state, RefusedError("AccessDenied", ""), NOW, failed_at, rand=0.5)

        assert tried
        assert state.failure
        assert state.failure.failed_attempts == failed_attempts
        assert state.failure.next_attempt_time == failed_at + 5 * MINUTE
