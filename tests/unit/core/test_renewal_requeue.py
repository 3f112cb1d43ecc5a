from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace as replaced

from keyturn.core.errors import RefusedError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import next_reconcile
from keyturn.core.state import Failure
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request
from tests.unit.core.test_issuance import MADE, REQUEST

HELD = replaced(MADE, renew=NOW + 40 * MINUTE)
SETBACK = Failure(RefusedError("SourceInvalid", ""), 1, NOW + MINUTE, generation=1, inputs="state")


@pytest.mark.parametrize(
    ("changes", "state", "after", "held"),
    [
        pytest.param({}, "state", 59, True, id="nothing has changed"),
        pytest.param({}, "state", 60, False, id="its time has come"),
        pytest.param({}, "other", 0, False, id="what it waits for has changed"),
        pytest.param({"generation": 2}, "state", 0, False, id="the spec was edited"),
        pytest.param({"renew_requested": "now"}, "state", 0, False, id="a renewal was asked for"),
    ],
)
def test_a_setback_holds_back(changes: dict[str, object], state: str, after: int, *, held: bool) -> None:
    assert SETBACK.holds_back(replace(REQUEST, **changes), state, NOW + after * SECOND) is held  # type: ignore[arg-type]


def test_after_a_restart_any_state_is_the_one_that_failed() -> None:
    assert replace(SETBACK, inputs=None).holds_back(REQUEST, "any", NOW)


def test_a_renewal_that_was_asked_for_and_failed_is_no_new_wish() -> None:
    assert replace(SETBACK, handled_renew_request="now").holds_back(
        replace(REQUEST, renew_requested="now"), "state", NOW
    )


def failure(reason: str, after: timedelta = 30 * MINUTE) -> Failure:
    return Failure(RefusedError(reason, ""), 1, NOW + after, generation=1)


@pytest.mark.parametrize(
    ("issuance", "failed", "now", "reconcile"),
    [
        pytest.param(None, None, NOW, NOW, id="never issued: now"),
        pytest.param(HELD, None, NOW, HELD.renew, id="issued: when it is renewed"),
        pytest.param(HELD, None, HELD.renew, HELD.renew, id="overdue: now"),
        pytest.param(
            replaced(HELD, source_warns=NOW + MINUTE), None, NOW, NOW + MINUTE, id="before, to warn of the source"
        ),
        pytest.param(
            replaced(HELD, source_warns=NOW - MINUTE),
            None,
            NOW,
            HELD.renew,
            id="warned already",
        ),
        pytest.param(
            HELD, failure("Unavailable", 9 * SECOND), NOW, NOW + 9 * SECOND, id="failed: when it is tried again"
        ),
        pytest.param(
            None,
            failure("SourceInvalid"),
            NOW,
            NOW + MINUTE,
            id="the source was refused: each minute",
        ),
        pytest.param(None, failure("AccessDenied"), NOW, NOW + 30 * MINUTE, id="forbidden: nothing to look at"),
        pytest.param(
            replaced(HELD, expires=NOW + 5 * MINUTE),
            failure("AccessDenied"),
            NOW,
            NOW + 5 * MINUTE,
            id="failed: at the expiry, to tell it",
        ),
        pytest.param(None, failure("Unavailable", -SECOND), NOW, NOW, id="the next try is overdue: now"),
        pytest.param(
            HELD, failure("Unavailable", -SECOND), NOW, NOW, id="the next try is overdue, the Secret valid: now"
        ),
        pytest.param(
            replaced(HELD, source_warns=HELD.renew + HOUR),
            None,
            HELD.renew + SECOND,
            HELD.renew + SECOND,
            id="overdue, and the source ends later: now",
        ),
    ],
)
def test_next_look(issuance: Issuance | None, failed: Failure | None, now: datetime, reconcile: datetime) -> None:
    assert next_reconcile(REQUEST, issuance, failed, now) == reconcile


@pytest.mark.parametrize(
    ("issuance", "now", "reconcile"),
    [
        pytest.param(None, NOW, None, id="never issued: never"),
        pytest.param(HELD, NOW, NOW + HOUR, id="issued: at the expiry, to tell it"),
        pytest.param(HELD, NOW + DAY, None, id="expired: never"),
    ],
)
def test_next_look_at_what_is_suspended(issuance: Issuance | None, now: datetime, reconcile: datetime | None) -> None:
    assert next_reconcile(request(suspend=True), issuance, failure("Unavailable"), now) == reconcile
