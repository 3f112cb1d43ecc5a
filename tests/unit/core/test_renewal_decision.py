"""What decide() returns, in which order it checks its arguments, and when a request is reconciled next."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace as replace_struct

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.renewal import ApplyMetadata, Decision, Idle, Postponed, Refuse, Renew, Wait, decide, next_reconcile
from keyturn.core.state import Failure, ReconcileState
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request
from tests.support.issuance import ISSUANCE, REQUEST, TARGET, target_with

ISSUED = replace_struct(ISSUANCE, renew=NOW + 40 * MINUTE)
CURRENT = target_with(issuance=ISSUED)
STATE = ReconcileState(issuance=ISSUED, last=ISSUED, revision=1, inputs="inputs")
UNAVAILABLE = UnavailableError("Unavailable", "STS: InternalFailure")
FAILURE = Failure(UNAVAILABLE, 1, NOW + MINUTE, generation=1, inputs="inputs", failed_at=NOW)


def decision(target: TargetSecret | None, state: ReconcileState, after: timedelta = timedelta()) -> Decision:
    return decide(REQUEST, target, ISSUANCE.source, state, NOW + after, 10 * SECOND)


@pytest.mark.parametrize(
    ("target", "state", "after", "expected"),
    [
        pytest.param(None, ReconcileState(), timedelta(), Renew("SecretMissing"), id="first issuance"),
        pytest.param(CURRENT, STATE, MINUTE, Idle(ISSUED.due), id="nothing is due"),
        pytest.param(CURRENT, STATE, 40 * MINUTE, Renew("Due"), id="due"),
        pytest.param(
            target_with(issuance=ISSUED, data_hash="v1:x"), STATE, SECOND, Renew("DriftDetected"), id="repair"
        ),
        pytest.param(
            target_with(issuance=ISSUED, data_hash="v1:x"),
            replace(STATE, repairs=1),
            SECOND,
            Idle(NOW + MINUTE, Postponed("DriftDetected", NOW + MINUTE)),
            id="second repair waits",
        ),
        pytest.param(
            CURRENT, replace(STATE, failure=FAILURE), 40 * MINUTE, Renew("Due"), id="the wait after a failure is over"
        ),
    ],
)
def test_decision(target: TargetSecret | None, state: ReconcileState, after: timedelta, expected: Decision) -> None:
    assert decision(target, state, after) == expected


def test_decision_waits_after_a_failure() -> None:
    state = replace(STATE, issuance=None, failure=FAILURE)

    assert decision(None, state) == Wait(NOW + MINUTE, FAILURE)


def test_decision_after_a_restart_waits_with_the_current_inputs() -> None:
    state = replace(STATE, issuance=None, failure=replace(FAILURE, inputs=None))

    assert decision(None, state) == Wait(NOW + MINUTE, FAILURE)


@pytest.mark.parametrize("target", [replace(TARGET, immutable=True), replace(TARGET, has_too_many_fields=True)])
def test_decision_refuses_an_unsuitable_secret(target: TargetSecret) -> None:
    refused = decision(target, STATE)

    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, RefusedError)
    assert refused.error.reason == "TargetConflict"


def test_decision_applies_changed_metadata_at_most_once_a_minute() -> None:
    target = target_with(issuance=ISSUED, labels={})
    first = decision(target, STATE)
    again = decision(target, replace(STATE, metadata_applied_at=NOW), SECOND)

    assert isinstance(first, ApplyMetadata)
    assert again == Idle(NOW + MINUTE)


REFUSAL = Failure(RefusedError("SourceInvalid", ""), 1, NOW + MINUTE, generation=1, inputs="inputs")


@pytest.mark.parametrize(
    ("changes", "inputs", "after", "expected"),
    [
        pytest.param({}, "inputs", 59, True, id="nothing has changed"),
        pytest.param({}, "inputs", 60, False, id="the time of the next attempt"),
        pytest.param({}, "other", 0, False, id="the inputs changed"),
        pytest.param({"generation": 2}, "inputs", 0, False, id="the spec was edited"),
        pytest.param({"renew_requested": "now"}, "inputs", 0, False, id="a renewal was requested"),
    ],
)
def test_failure_delays_the_next_attempt(
    changes: dict[str, object], inputs: str, after: int, *, expected: bool
) -> None:
    assert REFUSAL.should_wait(replace(REQUEST, **changes), inputs, NOW + after * SECOND) is expected  # type: ignore[arg-type]


def test_failure_without_inputs_delays_with_any_inputs() -> None:
    assert replace(REFUSAL, inputs=None).should_wait(REQUEST, "any", NOW)


def test_handled_renew_request_does_not_end_the_delay() -> None:
    assert replace(REFUSAL, handled_renew_request="now").should_wait(
        replace(REQUEST, renew_requested="now"), "inputs", NOW
    )


def failure(reason: str, after: timedelta = 30 * MINUTE) -> Failure:
    return Failure(RefusedError(reason, ""), 1, NOW + after, generation=1)


@pytest.mark.parametrize(
    ("issuance", "failed", "now", "expected"),
    [
        pytest.param(None, None, NOW, NOW, id="never issued: now"),
        pytest.param(ISSUED, None, NOW, ISSUED.due, id="issued: in the second of the renewal time"),
        pytest.param(ISSUED, None, ISSUED.due + SECOND, ISSUED.due + SECOND, id="overdue: now"),
        pytest.param(
            replace_struct(ISSUED, source_warns=NOW + MINUTE),
            None,
            NOW,
            NOW + MINUTE,
            id="the source expires soon: at the time of the warning",
        ),
        pytest.param(
            replace_struct(ISSUED, source_warns=NOW - MINUTE),
            None,
            NOW,
            ISSUED.due,
            id="after the warning: in the second of the renewal time",
        ),
        pytest.param(
            ISSUED, failure("Unavailable", 9 * SECOND), NOW, NOW + 9 * SECOND, id="failed: at the next attempt"
        ),
        pytest.param(
            None,
            failure("SourceInvalid"),
            NOW,
            NOW + MINUTE,
            id="the source was refused: every minute",
        ),
        pytest.param(None, failure("WriteDenied"), NOW, NOW + 30 * MINUTE, id="write denied: at the next attempt"),
        pytest.param(
            replace_struct(ISSUED, expires=NOW + 5 * MINUTE),
            failure("WriteDenied"),
            NOW,
            NOW + 5 * MINUTE,
            id="failed: at the expiry, which changes the status",
        ),
        pytest.param(None, failure("Unavailable", -SECOND), NOW, NOW, id="the next attempt is overdue: now"),
        pytest.param(
            ISSUED, failure("Unavailable", -SECOND), NOW, NOW, id="the next attempt is overdue, the Secret valid: now"
        ),
        pytest.param(
            replace_struct(ISSUED, source_warns=ISSUED.renew + HOUR),
            None,
            ISSUED.renew + SECOND,
            ISSUED.renew + SECOND,
            id="overdue, and the source expires later: now",
        ),
    ],
)
def test_next_reconcile_is_the_next_action_or_status_change(
    issuance: Issuance | None, failed: Failure | None, now: datetime, expected: datetime
) -> None:
    assert next_reconcile(REQUEST, issuance, failed, now) == expected


@pytest.mark.parametrize(
    ("issuance", "now", "expected"),
    [
        pytest.param(None, NOW, None, id="never issued: never"),
        pytest.param(ISSUED, NOW, NOW + HOUR, id="issued: at the expiry, which changes the status"),
        pytest.param(ISSUED, NOW + DAY, None, id="expired: never"),
    ],
)
def test_next_reconcile_of_a_suspended_request(
    issuance: Issuance | None, now: datetime, expected: datetime | None
) -> None:
    assert next_reconcile(request(suspend=True), issuance, failure("Unavailable"), now) == expected
