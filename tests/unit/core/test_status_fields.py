from typing import Any

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, events, invalid, report
from tests.support.dependencies import ACCESS_TOKEN, HOUR, NOW, ROLE, request
from tests.unit.core.test_status import AWAY, FIRST, ISSUED, LATER, REQUEST, SECOND_ISSUE, conditions, failed, row


def test_a_failure_names_the_next_try_and_the_request_id() -> None:
    error = UnavailableError("Unavailable", "STS: InternalFailure", request_id="id-9")
    renewed = report(REQUEST, FIRST, failed(error, ISSUED)).condition("Renewed")

    assert renewed
    assert renewed.message == ("STS: InternalFailure (AWS request ID id-9); next attempt at 2026-01-02T03:06:05Z")


@pytest.mark.parametrize(
    ("wanted", "outcome", "message"),
    [
        pytest.param(
            REQUEST,
            Outcome(NOW, ISSUED, "SecretMissing", "id-1"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z (AWS request ID id-1)",
            id="the first",
        ),
        pytest.param(
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "SourceChanged"),
            "issued because of SourceChanged for 1h; next renewal at 2026-01-02T03:44:05Z",
            id="another, with its reason",
        ),
        pytest.param(
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "Due"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z",
            id="another, because it was time",
        ),
        pytest.param(
            request(renewal={"renewBefore": "50m"}, exchanges=[ACCESS_TOKEN]),
            Outcome(NOW, ISSUED, "SecretMissing"),
            "issued for 1h; renewBefore is limited to half of the lifetime; next renewal at 2026-01-02T03:44:05Z",
            id="a renewBefore that is too long",
        ),
    ],
)
def test_a_success_says_what_was_issued(wanted: Request, outcome: Outcome, message: str) -> None:
    renewed = report(wanted, Status(), outcome).condition("Renewed")

    assert renewed
    assert renewed.message == message


def test_the_times_are_those_of_the_marks() -> None:
    assert (FIRST.issue_time, FIRST.expiration_time, FIRST.renewal_time, FIRST.last_attempt_time) == (
        "2026-01-02T03:04:05Z",
        "2026-01-02T04:04:05Z",
        "2026-01-02T03:44:05Z",
        "2026-01-02T03:04:05Z",
    )
    assert (FIRST.revision, FIRST.principal, FIRST.secret_name, FIRST.observed_generation) == (1, ROLE, "acme", 1)


def test_a_look_without_a_try_leaves_the_status_as_it_was() -> None:
    assert report(REQUEST, FIRST, Outcome(LATER, ISSUED)) == FIRST


@pytest.mark.parametrize(
    ("kind", "outcome", "moved"),
    [
        pytest.param("Ready", Outcome(LATER, SECOND_ISSUE, "Due"), False, id="another reason, the same status"),
        pytest.param("Renewed", failed(AWAY, ISSUED), True, id="another status"),
        pytest.param("Ready", failed(AWAY, ISSUED), False, id="a failure with a valid Secret"),
        pytest.param("Ready", failed(AWAY, ISSUED, NOW + HOUR), True, id="the expiry"),
    ],
)
def test_the_transition_time_moves_with_the_status_only(kind: str, outcome: Outcome, *, moved: bool) -> None:
    before, after = FIRST.condition(kind), report(REQUEST, FIRST, outcome).condition(kind)

    assert before
    assert after
    assert (before.last_transition_time != after.last_transition_time) is moved


def test_a_revision_is_not_forgotten_with_the_secret() -> None:
    assert report(REQUEST, FIRST, failed(AWAY)).revision == 1


@pytest.mark.parametrize(
    ("outcome", "handled_renew_request"),
    [
        pytest.param(Outcome(LATER, replace(ISSUED, handled_renew_request="t1")), "t1", id="renewed"),
        pytest.param(
            Outcome(LATER, replace(ISSUED, handled_renew_request="t1"), failure=Failure(AWAY, 1, LATER, 1, "t2")),
            "t2",
            id="tried and failed",
        ),
        pytest.param(Outcome(LATER), None, id="never asked for"),
    ],
)
def test_a_renewal_that_was_asked_for_is_echoed(outcome: Outcome, handled_renew_request: str | None) -> None:
    assert report(REQUEST, Status(), outcome).last_handled_renew_request == handled_renew_request


def test_a_spec_that_cannot_be_read() -> None:
    status = invalid(FIRST, 2, "Expected `bool` (at spec.suspend)", LATER)

    assert conditions(status) == row("False InvalidSpec", "False InvalidSpec", "True InvalidSpec")
    assert (status.observed_generation, status.expiration_time) == (2, FIRST.expiration_time)


def test_an_event_has_the_message_of_its_condition() -> None:
    told: list[Any] = list(events(Status(), FIRST))
    renewed = FIRST.condition("Renewed")

    assert renewed
    assert told == [Event("Normal", "Issued", renewed.message)]
