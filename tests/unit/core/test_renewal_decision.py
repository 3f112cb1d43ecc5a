"""What decide() returns, and in which order it checks its arguments."""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec.structs import replace as replace_struct

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.issuance import TargetSecret
from keyturn.core.renewal import ApplyMetadata, Decision, Idle, Refuse, Renew, Wait, decide
from keyturn.core.state import Failure, ReconcileState
from tests.support.dependencies import MINUTE, NOW, SECOND
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
        pytest.param(None, ReconcileState(), timedelta(), Renew("SecretMissing"), id="first issue"),
        pytest.param(CURRENT, STATE, MINUTE, Idle(ISSUED.renew), id="nothing is due"),
        pytest.param(CURRENT, STATE, 40 * MINUTE, Renew("Due"), id="due"),
        pytest.param(
            target_with(issuance=ISSUED, data_hash="v1:x"), STATE, SECOND, Renew("DriftDetected"), id="repair"
        ),
        pytest.param(
            target_with(issuance=ISSUED, data_hash="v1:x"),
            replace(STATE, repairs=1),
            SECOND,
            Idle(NOW + MINUTE),
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


def test_decision_refuses_an_immutable_secret() -> None:
    refused = decision(replace(TARGET, immutable=True), STATE)

    assert isinstance(refused, Refuse)
    assert isinstance(refused.error, RefusedError)
    assert refused.error.reason == "TargetConflict"


def test_decision_applies_changed_metadata_at_most_once_a_minute() -> None:
    target = target_with(issuance=ISSUED, labels={})
    first = decision(target, STATE)
    again = decision(target, replace(STATE, metadata_applied_at=NOW), SECOND)

    assert isinstance(first, ApplyMetadata)
    assert again == Idle(NOW + MINUTE)
