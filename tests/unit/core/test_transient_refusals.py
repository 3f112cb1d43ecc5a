"""A refusal that usually passes is reported as Unavailable until it has lasted for some minutes."""

from dataclasses import replace
from datetime import datetime, timedelta

from msgspec.structs import replace as replace_struct

from keyturn.api.status import Status
from keyturn.controller.request_index import restored_failure
from keyturn.core.errors import KeyturnError, RefusedError, TransientRefusalError, UnavailableError
from keyturn.core.renewal import after_failure
from keyturn.core.state import ReconcileState
from keyturn.core.status import Outcome, report
from tests.support.cases import cases
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND
from tests.support.issuance import ISSUANCE, REQUEST

REFUSAL = TransientRefusalError("SourceInvalid", "STS AssumeRoleWithWebIdentity: InvalidIdentityToken")
UNREACHABLE = UnavailableError("Unreachable", "STS did not respond")
INVALID = RefusedError("SourceInvalid", "STS AssumeRole: SignatureDoesNotMatch")


def after(state: ReconcileState, error: KeyturnError, now: datetime) -> ReconcileState:
    """Return the state after an attempt that reached the exchanges at `now`."""
    return after_failure(REQUEST, replace(state, exchanged_at=now), error, now, now, rand=0.5)[0]


def reason(state: ReconcileState) -> str:
    return state.failure.error.reason if state.failure else ""


@cases(
    "errors, expected",
    {
        "at first": ([(0, REFUSAL)], "Unavailable"),
        "for less than five minutes": ([(0, REFUSAL), (299, REFUSAL)], "Unavailable"),
        "for five minutes": ([(0, REFUSAL), (300, REFUSAL)], "SourceInvalid"),
        "after an outage of five minutes": ([(0, UNREACHABLE), (300, REFUSAL)], "Unavailable"),
        "interrupted by an outage": ([(0, REFUSAL), (200, UNREACHABLE), (300, REFUSAL)], "Unavailable"),
        "after the clock was set back": ([(0, REFUSAL), (-3600, REFUSAL)], "Unavailable"),
        "after another refusal with the same reason": ([(0, INVALID), (60, REFUSAL)], "SourceInvalid"),
    },
)
def test_refusal_that_usually_passes_is_stalled_when_it_persists(
    errors: list[tuple[int, KeyturnError]], expected: str
) -> None:
    state = ReconcileState()
    for seconds, error in errors:
        state = after(state, error, NOW + seconds * SECOND)

    assert reason(state) == expected
    assert state.failure
    assert (state.failure.error.message, state.failure.failed_attempts) == (REFUSAL.message, len(errors))


def restarted(state: ReconcileState, at: datetime) -> ReconcileState:
    """Return the state of a new process, which reads the status that was written at this time."""
    status = report(REQUEST, Status(), Outcome(at, failure=state.failure, tried=True))
    return ReconcileState(failure=restored_failure(status))


def test_restart_does_not_forget_since_when_a_refusal_has_lasted() -> None:
    state = restarted(after(ReconcileState(), REFUSAL, NOW), NOW)

    assert reason(after(state, REFUSAL, NOW + 4 * MINUTE)) == "Unavailable"
    assert reason(after(state, REFUSAL, NOW + 5 * MINUTE)) == "SourceInvalid"


def test_restart_leaves_a_persistent_refusal_stalled() -> None:
    state = after(after(ReconcileState(), REFUSAL, NOW), REFUSAL, NOW + HOUR)

    assert reason(after(restarted(state, NOW + HOUR), REFUSAL, NOW + HOUR + MINUTE)) == "SourceInvalid"


@cases(
    "life, attempts",
    {"sessions of an hour": (HOUR, 12), "sessions of 15 minutes": (15 * MINUTE, 8)},
)
def test_refused_renewal_is_attempted_until_the_expiry(life: timedelta, attempts: int) -> None:
    """The last attempt is within seconds of the expiry, and each wait is at most a quarter of what is left."""
    expires = NOW + life
    issuance = replace_struct(ISSUANCE, expires=expires, renew=NOW + life * 2 / 3)
    state, now, times = ReconcileState(issuance=issuance, last=issuance), issuance.renew, list[datetime]()
    while now < expires:
        times.append(now)
        state = after(state, RefusedError("InvalidSpec", "STS AssumeRole: ValidationError"), now)
        assert state.failure
        assert state.failure.next_attempt_time - now <= max((expires - now) / 4, 5 * SECOND) + SECOND
        now = state.failure.next_attempt_time

    assert attempts <= len(times) <= attempts + 12
    assert expires - times[-1] <= 6 * SECOND
