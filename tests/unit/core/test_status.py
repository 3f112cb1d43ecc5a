"""Conditions, fields and Events of the status in each state of a request."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, events, invalid, report
from tests.support.dependencies import ACCESS_TOKEN, HOUR, NOW, ROLE, request
from tests.support.status import (
    FIRST,
    ISSUED,
    LATER,
    REQUEST,
    SECOND_ISSUE,
    UNREACHABLE,
    WARNED,
    conditions,
    failed,
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
    status = report(REQUEST, Status(), Outcome(NOW))

    assert conditions(status) == row("False Pending", "Unknown Pending")
    assert list(events(Status(), status)) == []


def test_first_issue_is_reported() -> None:
    assert conditions(FIRST) == row("True Issued", "True Issued")
    assert [event.reason for event in events(Status(), FIRST)] == ["Issued"]


def test_routine_renewal_records_no_event() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "Due", tried=True))

    assert conditions(status) == row("True Renewed", "True Renewed")
    assert list(events(FIRST, status)) == []


@pytest.mark.parametrize(("error", "reason"), TRANSIENT)
def test_transient_failure_with_a_valid_secret(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, FIRST, failed(error, ISSUED))) == row("True Issued", f"False {reason}")


@pytest.mark.parametrize(("error", "reason"), TRANSIENT)
def test_transient_failure_of_the_first_issue(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, Status(), failed(error))) == row(f"False {reason}", f"False {reason}")


def test_expired_credentials_are_reported_once() -> None:
    before = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    status = report(REQUEST, before, failed(UNREACHABLE, ISSUED, NOW + HOUR))

    assert conditions(status) == row("False Expired", "False Unreachable")
    assert [event.reason for event in events(before, status)] == ["Expired"]
    assert list(events(status, report(REQUEST, status, failed(UNREACHABLE, ISSUED, NOW + 2 * HOUR)))) == []


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
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "DriftDetected", tried=True))

    assert conditions(status) == row("True Renewed", "True DriftCorrected")
    assert [event.reason for event in events(FIRST, status)] == ["DriftCorrected"]


def test_each_drift_correction_records_an_event() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "DriftDetected", tried=True))
    again = report(REQUEST, status, Outcome(LATER, replace(SECOND_ISSUE, revision=3), "DriftDetected", tried=True))

    assert [event.reason for event in events(status, again)] == ["DriftCorrected"]


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
    status = report(request(suspend=True), previous, Outcome(at, issuance))

    assert conditions(status)["Ready"] == ready
    assert list(events(previous, status)) == []


def test_source_that_expires_soon_is_reported_once() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, WARNED))

    assert conditions(status) == row("True SourceExpiring", "True Issued")
    assert [event.reason for event in events(FIRST, status)] == ["SourceExpiring"]
    assert list(events(status, report(REQUEST, status, Outcome(LATER, WARNED)))) == []


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
    first = report(REQUEST, FIRST, failed(error, ISSUED))
    second = report(REQUEST, first, failed(error, ISSUED))

    assert [(one.type, one.reason) for one in events(FIRST, first)] == [("Warning", event)]
    assert list(events(first, second)) == []


def test_failure_of_another_kind_records_an_event() -> None:
    first = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    throttled = report(REQUEST, first, failed(ThrottledError("slow"), ISSUED))
    refused = report(REQUEST, throttled, failed(RefusedError("AccessDenied", "no"), ISSUED))

    assert list(events(first, throttled)) == []
    assert [event.reason for event in events(throttled, refused)] == ["Stalled"]


def test_success_ends_a_series_without_an_event() -> None:
    before = report(REQUEST, FIRST, failed(UNREACHABLE, ISSUED))
    status = report(REQUEST, before, Outcome(LATER, SECOND_ISSUE, "Due", tried=True))

    assert conditions(status) == row("True Renewed", "True Renewed")
    assert list(events(before, status)) == []
    assert (status.failed_attempts, status.next_attempt_time) == (0, None)


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
            id="first issue",
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
            request(renewal={"renewBefore": "50m"}, exchanges=[ACCESS_TOKEN]),
            Outcome(NOW, ISSUED, "SecretMissing"),
            "issued for 1h; renewBefore is limited to half of the lifetime; next renewal at 2026-01-02T03:44:05Z",
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


def test_event_has_the_message_of_its_condition() -> None:
    recorded = list(events(Status(), FIRST))
    renewed = FIRST.condition("Renewed")

    assert renewed
    assert recorded == [Event("Normal", "Issued", renewed.message)]
