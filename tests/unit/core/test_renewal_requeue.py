from dataclasses import replace
from datetime import datetime, timedelta

from msgspec.structs import replace as replaced

from keyturn.core.errors import RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import next_reconcile
from keyturn.core.state import Failure
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request
from tests.support.issuance import MADE, REQUEST

ISSUED = replaced(MADE, renew=NOW + 40 * MINUTE)
FAILURE = Failure(RefusedError("SourceInvalid", ""), 1, NOW + MINUTE, generation=1, inputs="inputs")


@cases(
    "changes, inputs, after, expected",
    {
        "nothing has changed": ({}, "inputs", 59, True),
        "the time of the next attempt": ({}, "inputs", 60, False),
        "the inputs changed": ({}, "other", 0, False),
        "the spec was edited": ({"generation": 2}, "inputs", 0, False),
        "a renewal was requested": ({"renew_requested": "now"}, "inputs", 0, False),
    },
)
def test_failure_delays_the_next_attempt(
    changes: dict[str, object], inputs: str, after: int, *, expected: bool
) -> None:
    assert FAILURE.holds_back(replace(REQUEST, **changes), inputs, NOW + after * SECOND) is expected  # type: ignore[arg-type]


def test_failure_without_inputs_delays_with_any_inputs() -> None:
    assert replace(FAILURE, inputs=None).holds_back(REQUEST, "any", NOW)


def test_handled_renew_request_does_not_end_the_delay() -> None:
    assert replace(FAILURE, handled_renew_request="now").holds_back(
        replace(REQUEST, renew_requested="now"), "inputs", NOW
    )


def failure(reason: str, after: timedelta = 30 * MINUTE) -> Failure:
    return Failure(RefusedError(reason, ""), 1, NOW + after, generation=1)


@cases(
    "issuance, failed, now, expected",
    {
        "never issued: now": (None, None, NOW, NOW),
        "issued: at the renewal time": (ISSUED, None, NOW, ISSUED.renew),
        "overdue: now": (ISSUED, None, ISSUED.renew, ISSUED.renew),
        "the source expires soon: at the time of the warning": (
            replaced(ISSUED, source_warns=NOW + MINUTE),
            None,
            NOW,
            NOW + MINUTE,
        ),
        "after the warning: at the renewal time": (
            replaced(ISSUED, source_warns=NOW - MINUTE),
            None,
            NOW,
            ISSUED.renew,
        ),
        "failed: at the next attempt": (ISSUED, failure("Unavailable", 9 * SECOND), NOW, NOW + 9 * SECOND),
        "the source was refused: every minute": (None, failure("SourceInvalid"), NOW, NOW + MINUTE),
        "access denied: at the next attempt": (None, failure("AccessDenied"), NOW, NOW + 30 * MINUTE),
        "failed: at the expiry, which changes the status": (
            replaced(ISSUED, expires=NOW + 5 * MINUTE),
            failure("AccessDenied"),
            NOW,
            NOW + 5 * MINUTE,
        ),
        "the next attempt is overdue: now": (None, failure("Unavailable", -SECOND), NOW, NOW),
        "the next attempt is overdue, the Secret valid: now": (ISSUED, failure("Unavailable", -SECOND), NOW, NOW),
        "overdue, and the source expires later: now": (
            replaced(ISSUED, source_warns=ISSUED.renew + HOUR),
            None,
            ISSUED.renew + SECOND,
            ISSUED.renew + SECOND,
        ),
    },
)
def test_next_reconcile_is_the_next_action_or_status_change(
    issuance: Issuance | None, failed: Failure | None, now: datetime, expected: datetime
) -> None:
    assert next_reconcile(REQUEST, issuance, failed, now) == expected


@cases(
    "issuance, now, expected",
    {
        "never issued: never": (None, NOW, None),
        "issued: at the expiry, which changes the status": (ISSUED, NOW, NOW + HOUR),
        "expired: never": (ISSUED, NOW + DAY, None),
    },
)
def test_next_reconcile_of_a_suspended_request(
    issuance: Issuance | None, now: datetime, expected: datetime | None
) -> None:
    assert next_reconcile(request(suspend=True), issuance, failure("Unavailable"), now) == expected
