"""Events for the changes of a status."""

import dataclasses

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError
from keyturn.core.issuance import Issuance
from keyturn.core.status import Event, Outcome, report
from tests.support.dependencies import NOW, request
from tests.support.status import (
    DELETED,
    FIRST,
    ISSUED,
    LATER,
    REQUEST,
    SECOND_ISSUE,
    UNREACHABLE,
    failed,
    postponed,
    reasons,
    recorded,
)


def test_each_drift_correction_records_an_event() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "DriftDetected", tried=True))
    again = Outcome(LATER, replace(SECOND_ISSUE, revision=3), "DriftDetected", tried=True)

    assert reasons(status, again) == ["DriftCorrected"]


@pytest.mark.parametrize(
    ("error", "event"),
    [
        pytest.param(UNREACHABLE, "RenewalFailed", id="unreachable"),
        pytest.param(ThrottledError("slow"), "RenewalFailed", id="throttled"),
        pytest.param(RefusedError("AccessDenied", "no"), "Stalled", id="access denied"),
        pytest.param(RefusedError("SourceNotFound", "no"), "SourceNotFound", id="source not found"),
        pytest.param(RefusedError("WriteDenied", "no"), "WriteDenied", id="write denied"),
    ],
)
def test_failure_records_one_event_in_a_series(error: KeyturnError, event: str) -> None:
    outcome = failed(error, ISSUED)

    assert [(one.type, one.reason) for one in recorded(FIRST, outcome)] == [("Warning", event)]
    assert recorded(report(REQUEST, FIRST, outcome), outcome) == []


def test_failure_of_another_kind_records_an_event() -> None:
    first = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    throttled = report(REQUEST, first, failed(ThrottledError("slow"), ISSUED))

    assert recorded(first, failed(ThrottledError("slow"), ISSUED)) == []
    assert reasons(throttled, failed(RefusedError("AccessDenied", "no"), ISSUED)) == ["Stalled"]


@pytest.mark.parametrize(
    ("issuance", "failures", "message"),
    [
        pytest.param(SECOND_ISSUE, 3, "renewed after 3 failures: issued for 1h; ", id="renewed"),
        pytest.param(SECOND_ISSUE, 1, "renewed after 1 failure: issued for 1h; ", id="one failure"),
        pytest.param(ISSUED, 3, "recovered after 3 failures: issued for 1h; ", id="nothing was due any more"),
    ],
)
def test_recovery_records_an_event(issuance: Issuance, failures: int, message: str) -> None:
    before = replace(report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED)), failed_attempts=failures)
    (event,) = recorded(before, Outcome(LATER, issuance, "Due" if issuance is SECOND_ISSUE else ""))

    assert (event.type, event.reason, event.message.startswith(message)) == ("Normal", "Recovered", True)


def test_first_issue_after_failures_records_one_event() -> None:
    before = report(REQUEST, Status(), failed(UNREACHABLE))

    assert reasons(before, Outcome(LATER, ISSUED, "SecretMissing")) == ["Issued"]


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        pytest.param(
            Outcome(LATER, SECOND_ISSUE, "SecretMissing"), "Secret acme was deleted and recreated", id="recreated"
        ),
        pytest.param(postponed("SecretMissing", None, "SecretMissing"), DELETED, id="recreated later"),
        pytest.param(
            dataclasses.replace(failed(UNREACHABLE), damage="SecretMissing"), "Secret acme was deleted", id="failed"
        ),
    ],
)
def test_deleted_secret_records_one_event(outcome: Outcome, message: str) -> None:
    after = report(REQUEST, FIRST, outcome)
    later = outcome if outcome.issuance is None else Outcome(LATER, replace(SECOND_ISSUE, revision=3), "Due")

    assert [event.message for event in recorded(FIRST, outcome) if event.reason == "SecretDeleted"] == [message]
    assert "SecretDeleted" not in reasons(after, later)


def test_renamed_target_records_no_deletion() -> None:
    renamed = request(target={"secretName": "other"})

    assert recorded(FIRST, postponed("WaitingForRenewal", None, "SecretMissing"), renamed) == []


def test_event_has_the_message_of_its_condition() -> None:
    renewed = FIRST.condition("Renewed")

    assert renewed
    assert recorded(Status(), Outcome(NOW, ISSUED, "SecretMissing", "id-1", tried=True)) == [
        Event("Normal", "Issued", renewed.message)
    ]
