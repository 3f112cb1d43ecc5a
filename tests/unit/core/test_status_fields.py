from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, events, invalid, report
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, HOUR, NOW, ROLE, request
from tests.support.status import AWAY, FIRST, ISSUED, LATER, REQUEST, SECOND_ISSUE, conditions, failed, row


def test_failure_message_has_request_id_and_next_attempt() -> None:
    error = UnavailableError("Unavailable", "STS: InternalFailure", request_id="id-9")
    renewed = report(REQUEST, FIRST, failed(error, ISSUED)).condition("Renewed")

    assert renewed
    assert renewed.message == ("STS: InternalFailure (AWS request ID id-9); next attempt at 2026-01-02T03:06:05Z")


@cases(
    "current, outcome, message",
    {
        "first issue": (
            REQUEST,
            Outcome(NOW, ISSUED, "SecretMissing", "id-1"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z (AWS request ID id-1)",
        ),
        "renewal with a reason": (
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "SourceChanged"),
            "issued because of SourceChanged for 1h; next renewal at 2026-01-02T03:44:05Z",
        ),
        "routine renewal": (
            REQUEST,
            Outcome(NOW, SECOND_ISSUE, "Due"),
            "issued for 1h; next renewal at 2026-01-02T03:44:05Z",
        ),
        "renewBefore that is too long": (
            request(renewal={"renewBefore": "50m"}, exchanges=[ACCESS_TOKEN]),
            Outcome(NOW, ISSUED, "SecretMissing"),
            "issued for 1h; renewBefore is limited to half of the lifetime; next renewal at 2026-01-02T03:44:05Z",
        ),
    },
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


@cases(
    "kind, outcome, has_changed",
    {
        "another reason, the same status": ("Ready", Outcome(LATER, SECOND_ISSUE, "Due"), False),
        "another status": ("Renewed", failed(AWAY, ISSUED), True),
        "a failure with a valid Secret": ("Ready", failed(AWAY, ISSUED), False),
        "the expiry": ("Ready", failed(AWAY, ISSUED, NOW + HOUR), True),
    },
)
def test_transition_time_changes_only_with_the_status(kind: str, outcome: Outcome, *, has_changed: bool) -> None:
    before, after = FIRST.condition(kind), report(REQUEST, FIRST, outcome).condition(kind)

    assert before
    assert after
    assert (before.last_transition_time != after.last_transition_time) is has_changed


def test_revision_is_kept_if_the_secret_is_deleted() -> None:
    assert report(REQUEST, FIRST, failed(AWAY)).revision == 1


@cases(
    "outcome, handled_renew_request",
    {
        "renewed": (Outcome(LATER, replace(ISSUED, handled_renew_request="t1")), "t1"),
        "failed": (
            Outcome(LATER, replace(ISSUED, handled_renew_request="t1"), failure=Failure(AWAY, 1, LATER, 1, "t2")),
            "t2",
        ),
        "never requested": (Outcome(LATER), None),
    },
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
