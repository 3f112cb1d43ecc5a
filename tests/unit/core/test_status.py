"""Conditions, fields and Events of the status in each state of a request."""

import dataclasses
from datetime import datetime

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, after_bug, invalid, report
from tests.support.dependencies import ACCESS_TOKEN, HOUR, NOW, ROLE, request
from tests.support.status import (
    DELETED,
    FIRST,
    ISSUED,
    LATER,
    REQUEST,
    SECOND_ISSUE,
    UNREACHABLE,
    WARNED,
    conditions,
    failed,
    postponed,
    reasons,
    recorded,
    row,
)

REFUSED = [
    pytest.param(RefusedError(reason, "no"), reason, id=reason)
    for reason in (
        "AccessDenied",
        "InvalidSpec",
        "SourceInvalid",
        "SourceExpired",
        "TargetConflict",
        "WriteDenied",
    )
]
TRANSIENT = [
    pytest.param(UNREACHABLE, "Unreachable", id="Unreachable"),
    pytest.param(UnavailableError("Unavailable", "no"), "Unavailable", id="Unavailable"),
    pytest.param(ThrottledError("slow"), "Throttled", id="Throttled"),
    pytest.param(RefusedError("SourceNotFound", "no"), "SourceNotFound", id="SourceNotFound"),
]


def test_new_request_is_pending() -> None:
    assert conditions(report(REQUEST, Status(), Outcome(NOW))) == row("False Pending", "Unknown Pending")
    assert recorded(Status(), Outcome(NOW)) == []


def test_first_issue_is_reported() -> None:
    assert conditions(FIRST) == row("True Issued", "True Issued")
    assert reasons(Status(), Outcome(NOW, ISSUED, "SecretMissing", "id-1", tried=True)) == ["Issued"]


def test_routine_renewal_records_no_event() -> None:
    outcome = Outcome(LATER, SECOND_ISSUE, "Due", tried=True)

    assert conditions(report(REQUEST, FIRST, outcome)) == row("True Renewed", "True Renewed")
    assert recorded(FIRST, outcome) == []


@pytest.mark.parametrize(("error", "reason"), TRANSIENT)
def test_transient_failure_with_a_valid_secret(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, FIRST, failed(error, ISSUED))) == row("True Issued", f"False {reason}")


@pytest.mark.parametrize(("error", "reason"), TRANSIENT)
def test_transient_failure_of_the_first_issue(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, Status(), failed(error))) == row(f"False {reason}", f"False {reason}")


def test_expired_credentials_are_reported_once() -> None:
    before = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    outcome = failed(UNREACHABLE, ISSUED, NOW + HOUR)
    status = report(REQUEST, before, outcome)

    assert conditions(status) == row("False Expired", "False Unreachable")
    assert reasons(before, outcome) == ["Expired"]
    assert recorded(status, failed(UNREACHABLE, ISSUED, NOW + 2 * HOUR)) == []


@pytest.mark.parametrize(("error", "reason"), REFUSED)
def test_refusal_with_a_valid_secret_is_stalled(error: KeyturnError, reason: str) -> None:
    status = report(REQUEST, FIRST, failed(error, ISSUED))

    assert conditions(status) == row("True Issued", f"False {reason}", f"True {reason}")


@pytest.mark.parametrize(("error", "reason"), REFUSED)
def test_refusal_of_the_first_issue_is_stalled(error: KeyturnError, reason: str) -> None:
    status = report(REQUEST, Status(), failed(error))

    assert conditions(status) == row(f"False {reason}", f"False {reason}", f"True {reason}")


def test_refusal_is_not_ready_if_the_secret_has_another_spec() -> None:
    other = request(region="eu-west-1")
    status = report(other, FIRST, failed(RefusedError("AccessDenied", "no"), ISSUED))

    assert conditions(status)["Ready"] == "False AccessDenied"


def test_drift_correction_records_an_event() -> None:
    outcome = Outcome(LATER, SECOND_ISSUE, "DriftDetected", tried=True)

    assert conditions(report(REQUEST, FIRST, outcome)) == row("True Renewed", "True DriftCorrected")
    assert reasons(FIRST, outcome) == ["DriftCorrected"]


@pytest.mark.parametrize(
    ("issuance", "at", "ready"),
    [
        pytest.param(ISSUED, LATER, "True Suspended", id="still valid"),
        pytest.param(ISSUED, NOW + HOUR, "False Suspended", id="expired"),
        pytest.param(None, LATER, "False Suspended", id="never issued"),
    ],
)
def test_suspended_request_reports_validity(issuance: Issuance | None, at: datetime, ready: str) -> None:
    previous = FIRST if issuance else Status()
    suspended, outcome = request(suspend=True), Outcome(at, issuance)

    assert conditions(report(suspended, previous, outcome))["Ready"] == ready
    assert recorded(previous, outcome, suspended) == []


def test_request_being_deleted_reports_validity_and_no_renewal() -> None:
    deleted, outcome = dataclasses.replace(REQUEST, is_being_deleted=True), failed(UNREACHABLE, ISSUED)
    valid = report(deleted, FIRST, outcome)
    expired = report(deleted, valid, dataclasses.replace(outcome, at=NOW + HOUR))

    assert conditions(valid) == row("True Deleting", "False Unreachable")
    assert conditions(expired) == row("False Deleting", "False Unreachable")
    assert valid.next_attempt_time is None


def test_suspended_request_reports_no_next_attempt() -> None:
    status = report(request(suspend=True), FIRST, failed(UNREACHABLE, ISSUED))
    renewed = status.condition("Renewed")

    assert renewed
    assert (status.next_attempt_time, "next attempt" in renewed.message) == (None, False)


def test_source_that_expires_soon_is_reported_once() -> None:
    outcome = Outcome(LATER, WARNED)
    status = report(REQUEST, FIRST, outcome)

    assert conditions(status) == row("True SourceExpiring", "True Issued")
    assert reasons(FIRST, outcome) == ["SourceExpiring"]
    assert recorded(status, outcome) == []


def test_success_ends_a_series_of_failures() -> None:
    before = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    status = report(REQUEST, before, Outcome(LATER, SECOND_ISSUE, "Due", tried=True))

    assert conditions(status) == row("True Renewed", "True Renewed")
    assert (status.failed_attempts, status.next_attempt_time) == (0, None)


EDITED = "keys of Secret acme were edited; they will be corrected at 2026-01-02T03:34:05Z"


@pytest.mark.parametrize(
    ("outcome", "reason", "message"),
    [
        pytest.param(postponed("DriftDetected", ISSUED, "DriftDetected"), "DriftDetected", EDITED, id="edited"),
        pytest.param(postponed("SecretMissing", None, "SecretMissing"), "SecretDeleted", DELETED, id="deleted"),
        pytest.param(
            postponed("IssuanceUnreadable", None, "IssuanceUnreadable"), "DriftDetected",
            "Secret acme has lost its issuance record; it will be corrected at 2026-01-02T03:34:05Z",
            id="issuance record edited",
        ),
        pytest.param(
            dataclasses.replace(failed(UNREACHABLE, ISSUED), damage="DriftDetected"), "DriftDetected",
            "keys of Secret acme were edited; the next attempt to correct them is at 2026-01-02T03:06:05Z",
            id="correction failed",
        ),
        pytest.param(
            Outcome(LATER, WARNED, damage="DriftDetected"), "DriftDetected", "keys of Secret acme were edited",
            id="edited, and the source expires soon",
        ),
        pytest.param(
            postponed("WaitingForRenewal"), "WaitingForRenewal",
            "Secret acme will be written at 2026-01-02T03:34:05Z; to renew now, set the annotation"
            " keyturn.dev/renew-requested-at",
            id="another secretName of a rotating source",
        ),
        pytest.param(
            postponed("SpecChanged"), "Pending",
            "Secret acme has not been written for the current spec; it will be written at 2026-01-02T03:34:05Z",
            id="changed too often",
        ),
    ],
)  # fmt: skip
def test_secret_that_is_not_as_issued_is_not_ready(outcome: Outcome, reason: str, message: str) -> None:
    ready = report(REQUEST, FIRST, outcome).condition("Ready")

    assert ready
    assert (ready.status, ready.reason, ready.message) == ("False", reason, message)


def test_edited_secret_of_a_suspended_request_is_not_ready() -> None:
    status = report(request(suspend=True), FIRST, Outcome(LATER, ISSUED, damage="DriftDetected"))

    assert conditions(status)["Ready"] == "False Suspended"


def test_deleted_secret_leaves_the_last_renewal_successful() -> None:
    assert conditions(report(REQUEST, FIRST, postponed("SecretMissing")))["Renewed"] == "True Issued"


BUG = Failure(UnavailableError("InternalError", "internal error: KeyError in x"), 1, LATER + HOUR, 1)


@pytest.mark.parametrize(
    ("previous", "generation", "at", "ready"),
    [
        pytest.param(FIRST, 1, LATER, "True Issued", id="valid"),
        pytest.param(FIRST, 1, NOW + HOUR, "False Expired", id="expired"),
        pytest.param(FIRST, 2, LATER, "False InternalError", id="valid, but for another spec"),
        pytest.param(Status(), 1, LATER, "False InternalError", id="never issued"),
        pytest.param(replace(FIRST, expiration_time=None), 1, LATER, "False InternalError", id="no expiry"),
    ],
)
def test_status_after_a_bug_is_truthful(previous: Status, generation: int, at: datetime, ready: str) -> None:
    status = after_bug(previous, generation, BUG, at)

    assert conditions(status) == row(ready, "False InternalError")
    assert (status.observed_generation, status.failed_attempts) == (generation, 1)
    assert status.last_error
    assert status.last_error.reason == "InternalError"


def test_failure_message_has_request_id_and_next_attempt() -> None:
    error = UnavailableError("Unavailable", "STS: InternalFailure", request_id="id-9")
    renewed = report(REQUEST, FIRST, failed(error, ISSUED)).condition("Renewed")

    assert renewed
    assert renewed.message == ("STS: InternalFailure (AWS request ID id-9); next attempt at 2026-01-02T03:06:05Z")


@pytest.mark.parametrize(
    ("current", "outcome", "message"),
    [
        pytest.param(
            REQUEST,
            Outcome(NOW, ISSUED, "SecretMissing", "id-1"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z (AWS request ID id-1)",
            id="first issuance",
        ),
        pytest.param(
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "SourceChanged"),
            "issued because of SourceChanged for 1h; next renewal at 2026-01-02T03:44:05Z",
            id="renewal with a reason",
        ),
        pytest.param(
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "Due"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z",
            id="routine renewal",
        ),
        pytest.param(
            request(renewal={"renewBefore": "59m"}, exchanges=[ACCESS_TOKEN]),
            Outcome(NOW, ISSUED, "SecretMissing"),
            "issued for 1h; renewBefore is limited to 57m; next renewal at 2026-01-02T03:44:05Z",
            id="renewBefore that is too long",
        ),
    ],
)
def test_success_message_has_lifetime_and_next_renewal(current: Request, outcome: Outcome, message: str) -> None:
    renewed = report(current, Status(), outcome).condition("Renewed")

    assert renewed
    assert renewed.message == message


def test_times_are_those_of_the_issuance_record() -> None:
    assert (FIRST.issue_time, FIRST.expiration_time, FIRST.renewal_time, FIRST.last_attempt_time) == (
        "2026-01-02T03:04:05Z",
        "2026-01-02T04:04:05Z",
        "2026-01-02T03:44:05Z",
        "2026-01-02T03:04:05Z",
    )
    assert (FIRST.revision, FIRST.principal, FIRST.secret_name, FIRST.observed_generation) == (1, ROLE, "acme", 1)


def test_reconciliation_without_an_attempt_keeps_the_status() -> None:
    assert report(REQUEST, FIRST, Outcome(LATER, ISSUED)) == FIRST


@pytest.mark.parametrize(
    ("kind", "outcome", "has_changed"),
    [
        pytest.param("Ready", Outcome(LATER, SECOND_ISSUE, "Due"), False, id="another reason, the same status"),
        pytest.param("Renewed", failed(UNREACHABLE, ISSUED), True, id="another status"),
        pytest.param("Ready", failed(UNREACHABLE, ISSUED), False, id="a failure with a valid Secret"),
        pytest.param("Ready", failed(UNREACHABLE, ISSUED, NOW + HOUR), True, id="the expiry"),
    ],
)
def test_transition_time_changes_only_with_the_status(kind: str, outcome: Outcome, *, has_changed: bool) -> None:
    before, after = FIRST.condition(kind), report(REQUEST, FIRST, outcome).condition(kind)

    assert before
    assert after
    assert (before.last_transition_time != after.last_transition_time) is has_changed


def test_revision_is_kept_if_the_secret_is_deleted() -> None:
    assert report(REQUEST, FIRST, failed(UNREACHABLE)).revision == 1


@pytest.mark.parametrize(
    ("outcome", "handled_renew_request"),
    [
        pytest.param(Outcome(LATER, replace(ISSUED, handled_renew_request="t1")), "t1", id="renewed"),
        pytest.param(
            Outcome(
                LATER, replace(ISSUED, handled_renew_request="t1"), failure=Failure(UNREACHABLE, 1, LATER, 1, "t2")
            ),
            "t2",
            id="failed",
        ),
        pytest.param(Outcome(LATER), None, id="never requested"),
    ],
)
def test_handled_renew_request_is_reported(outcome: Outcome, handled_renew_request: str | None) -> None:
    assert report(REQUEST, Status(), outcome).last_handled_renew_request == handled_renew_request


def test_invalid_spec_is_stalled_and_keeps_the_times() -> None:
    status = invalid(FIRST, 2, "Expected `bool` (at spec.suspend)", LATER)

    assert conditions(status) == row("False InvalidSpec", "False InvalidSpec", "True InvalidSpec")
    assert (status.observed_generation, status.expiration_time) == (2, FIRST.expiration_time)
