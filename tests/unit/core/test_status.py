"""The state table of the design, row by row."""

from datetime import datetime

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.state import Failure
from keyturn.core.status import Outcome, events, report
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, ROLE, request
from tests.unit.core.test_issuance import MADE

REQUEST = request()
ISSUED = replace(MADE, renew=NOW + 40 * MINUTE, principal=ROLE)
SECOND_ISSUE = replace(ISSUED, revision=2)
WARNED = replace(ISSUED, source_expires=NOW + DAY, source_warns=NOW)
AWAY = UnavailableError("Unreachable", "STS did not answer")
LATER = NOW + MINUTE


def failed(error: KeyturnError, issuance: Issuance | None = None, at: datetime = LATER) -> Outcome:
    return Outcome(at, issuance, failure=Failure(error, 2, at + MINUTE, 1), tried=True)


def conditions(status: Status) -> dict[str, str]:
    return {one.type: f"{one.status} {one.reason}" for one in status.conditions}


def row(ready: str, renewed: str, stalled: str = "") -> dict[str, str]:
    return {"Ready": ready, "Renewed": renewed} | ({"Stalled": stalled} if stalled else {})


FIRST = report(REQUEST, Status(), Outcome(NOW, ISSUED, "SecretMissing", "id-1", tried=True))
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
PASSING = [
    pytest.param(AWAY, "Unreachable", id="Unreachable"),
    pytest.param(UnavailableError("Unavailable", "no"), "Unavailable", id="Unavailable"),
    pytest.param(ThrottledError("slow"), "Throttled", id="Throttled"),
    pytest.param(RefusedError("SourceNotFound", "no"), "SourceNotFound", id="SourceNotFound"),
]


def test_new_not_tried_yet() -> None:
    status = report(REQUEST, Status(), Outcome(NOW))

    assert conditions(status) == row("False Pending", "Unknown Pending")
    assert list(events(Status(), status)) == []


def test_first_issue() -> None:
    assert conditions(FIRST) == row("True Issued", "True Issued")
    assert [event.reason for event in events(Status(), FIRST)] == ["Issued"]


def test_routine_renewal() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "Due", tried=True))

    assert conditions(status) == row("True Renewed", "True Renewed")
    assert list(events(FIRST, status)) == []


@pytest.mark.parametrize(("error", "reason"), PASSING)
def test_it_will_pass_with_a_valid_secret(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, FIRST, failed(error, ISSUED))) == row("True Issued", f"False {reason}")


@pytest.mark.parametrize(("error", "reason"), PASSING)
def test_it_will_pass_never_issued(error: KeyturnError, reason: str) -> None:
    assert conditions(report(REQUEST, Status(), failed(error))) == row(f"False {reason}", f"False {reason}")


def test_it_will_pass_expired() -> None:
    before = report(REQUEST, FIRST, failed(AWAY, ISSUED))
    status = report(REQUEST, before, failed(AWAY, ISSUED, NOW + HOUR))

    assert conditions(status) == row("False Expired", "False Unreachable")
    assert [event.reason for event in events(before, status)] == ["Expired"]
    assert list(events(status, report(REQUEST, status, failed(AWAY, ISSUED, NOW + 2 * HOUR)))) == []


@pytest.mark.parametrize(("error", "reason"), REFUSED)
def test_refused_with_a_valid_secret(error: KeyturnError, reason: str) -> None:
    status = report(REQUEST, FIRST, failed(error, ISSUED))

    assert conditions(status) == row("True Issued", f"False {reason}", f"True {reason}")


@pytest.mark.parametrize(("error", "reason"), REFUSED)
def test_refused_and_never_issued(error: KeyturnError, reason: str) -> None:
    status = report(REQUEST, Status(), failed(error))

    assert conditions(status) == row(f"False {reason}", f"False {reason}", f"True {reason}")


def test_refused_for_a_spec_that_the_secret_does_not_match() -> None:
    other = request(region="eu-west-1")
    status = report(other, FIRST, failed(RefusedError("AccessDenied", "no"), ISSUED))

    assert conditions(status)["Ready"] == "False AccessDenied"


def test_drifted_and_healed() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, SECOND_ISSUE, "DriftDetected", tried=True))

    assert conditions(status) == row("True Renewed", "True DriftCorrected")
    assert [event.reason for event in events(FIRST, status)] == ["DriftCorrected"]


def test_drifted_is_told_again_when_it_is_healed_again() -> None:
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
def test_suspended(issuance: Issuance | None, at: datetime, ready: str) -> None:
    previous = FIRST if issuance else Status()
    status = report(request(suspend=True), previous, Outcome(at, issuance))

    assert conditions(status)["Ready"] == ready
    assert list(events(previous, status)) == []


def test_the_source_ends_soon() -> None:
    status = report(REQUEST, FIRST, Outcome(LATER, WARNED))

    assert conditions(status) == row("True SourceExpiring", "True Issued")
    assert [event.reason for event in events(FIRST, status)] == ["SourceExpiring"]
    assert list(events(status, report(REQUEST, status, Outcome(LATER, WARNED)))) == []


@pytest.mark.parametrize(
    ("error", "event"),
    [
        pytest.param(AWAY, "RenewalFailed", id="away"),
        pytest.param(ThrottledError("slow"), "RenewalFailed", id="throttled"),
        pytest.param(RefusedError("AccessDenied", "no"), "Stalled", id="forbidden"),
        pytest.param(RefusedError("SourceNotFound", "no"), "SourceNotFound", id="no source"),
        pytest.param(RefusedError("WriteDenied", "no"), "WriteDenied", id="not written"),
    ],
)
def test_a_failure_is_told_once_in_a_series(error: KeyturnError, event: str) -> None:
    first = report(REQUEST, FIRST, failed(error, ISSUED))
    second = report(REQUEST, first, failed(error, ISSUED))

    assert [(one.type, one.reason) for one in events(FIRST, first)] == [("Warning", event)]
    assert list(events(first, second)) == []


def test_a_failure_of_another_kind_is_told() -> None:
    first = report(REQUEST, FIRST, failed(AWAY, ISSUED))
    throttled = report(REQUEST, first, failed(ThrottledError("slow"), ISSUED))
    refused = report(REQUEST, throttled, failed(RefusedError("AccessDenied", "no"), ISSUED))

    assert list(events(first, throttled)) == []
    assert [event.reason for event in events(throttled, refused)] == ["Stalled"]


def test_a_success_ends_the_series_without_an_event() -> None:
    before = report(REQUEST, FIRST, failed(AWAY, ISSUED))
    status = report(REQUEST, before, Outcome(LATER, SECOND_ISSUE, "Due", tried=True))

    assert conditions(status) == row("True Renewed", "True Renewed")
    assert list(events(before, status)) == []
    assert (status.failed_attempts, status.next_attempt_time) == (0, None)
