import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.api.times import rfc3339
from keyturn.api.token_request import RENEW_REQUESTED, InvalidRequest, Request
from keyturn.controller.request_index import Entry, RequestIndex, read_request, restored_failure
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import bounded
from keyturn.core.state import Failure, ReconcileState
from keyturn.core.status import Outcome, invalid, report
from tests.support.dependencies import HOUR, MINUTE, NOW, request, rotating
from tests.support.issuance import ISSUANCE
from tests.support.status import FIRST, ISSUED, REQUEST, UNREACHABLE, failed


def index_of(*names: str) -> RequestIndex:
    index = RequestIndex()
    for name in names:
        index.put(Entry(request(name), Status()))
    return index


@pytest.mark.parametrize(
    ("namespace", "secret", "uids"),
    [
        pytest.param("billing", "acme", {"acme-0001"}, id="target of one"),
        pytest.param("billing", "license", {"acme-0001", "other-0001"}, id="source of both"),
        pytest.param("billing", "else", set(), id="unrelated Secret"),
        pytest.param("other", "acme", set(), id="another namespace"),
    ],
)
def test_users_of_a_secret_read_or_write_it(namespace: str, secret: str, uids: set[str]) -> None:
    assert index_of("acme", "other").users_of(namespace, secret) == uids


def test_changed_target_replaces_the_former_one() -> None:
    index = index_of("acme")
    index.put(Entry(request(target={"secretName": "new"}), Status()))

    assert index.users_of("billing", "acme") == frozenset()
    assert index.users_of("billing", "new") == {"acme-0001"}


def test_dropped_request_leaves_nothing() -> None:
    index = index_of("acme")
    dropped = index.drop("acme-0001")

    assert dropped
    assert (list(index.series()), index.users_of("billing", "license")) == ([], frozenset())
    assert index.drop("acme-0001") is None


EXPIRY, YEAR_9999 = NOW + HOUR, datetime.max.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("expires", "failed_at", "due", "deadline"),
    [
        pytest.param(EXPIRY, None, NOW, EXPIRY, id="that of the expiry"),
        pytest.param(None, None, NOW, NOW, id="now without credentials"),
        pytest.param(EXPIRY, NOW, NOW, EXPIRY + 5 * MINUTE, id="later after a failure"),
        pytest.param(EXPIRY, EXPIRY, EXPIRY + MINUTE, EXPIRY + 11 * MINUTE, id="last, in the order of retries"),
        pytest.param(None, NOW, NOW + MINUTE, NOW + 11 * MINUTE, id="last if it never succeeded"),
        pytest.param(YEAR_9999, NOW, NOW, YEAR_9999 - 5 * MINUTE, id="the last one if a forged record has no limit"),
        pytest.param(None, NOW, YEAR_9999, YEAR_9999, id="the last one if it is never due"),
    ],
)
def test_deadline_orders_requests_by_expiry_and_retries_last(
    expires: datetime | None, failed_at: datetime | None, due: datetime, deadline: datetime
) -> None:
    failure = Failure(UNREACHABLE, 1, NOW, 1, failed_at=failed_at) if failed_at else None
    issuance = replace(ISSUANCE, expires=expires) if expires else None

    assert Entry(REQUEST, Status(), ReconcileState(issuance=issuance, failure=failure)).deadline(due) == deadline


@pytest.mark.parametrize(
    ("metadata", "has_changed"),
    [
        pytest.param({"generation": 1}, False, id="the same generation"),
        pytest.param({"generation": 1, "labels": {"team": "billing"}}, False, id="another label"),
        pytest.param({"generation": 2}, True, id="another generation"),
        pytest.param({"generation": 1, "annotations": {RENEW_REQUESTED: "1"}}, True, id="a requested renewal"),
    ],
)
def test_entry_has_changed_with_generation_or_renewal(metadata: dict[str, Any], *, has_changed: bool) -> None:
    assert Entry(request(), Status()).has_changed(metadata) is has_changed


def test_request_with_an_invalid_spec_is_read_with_its_error() -> None:
    metadata = {"namespace": "billing", "name": "acme", "uid": "acme-0001", "generation": 3}
    invalid_request = read_request({"metadata": metadata, "spec": {}})

    assert isinstance(invalid_request, InvalidRequest)
    assert (invalid_request.generation, invalid_request.message) == (
        3,
        "required field `exchanges` is missing (at spec)",
    )
    assert Entry(invalid_request, Status()).has_changed({"generation": 4})
    assert not Entry(invalid_request, Status()).has_changed({"generation": 3})


def test_series_contain_times_conditions_and_suspension() -> None:
    index = RequestIndex()
    issuance = replace(ISSUANCE, source_expires=NOW + 2 * HOUR, source_warns=NOW + HOUR)
    index.put(Entry(request(suspend=True), FIRST, ReconcileState(issuance=issuance)))
    (one,) = index.series()

    assert (one.issued, one.expires) == (NOW, NOW + HOUR)
    assert (one.source_expires, one.source_warns) == (NOW + 2 * HOUR, NOW + HOUR)
    assert one.conditions == (("Ready", "True", "Issued"), ("Renewed", "True", "Issued"))
    assert one.suspended


def test_failure_is_restored_from_the_last_error() -> None:
    error = RefusedError("SourceInvalid", "no; really", request_id="id")
    outcome = failed(error)
    assert outcome.failure
    field = "spec.exchanges[1].assumeRoleWithWebIdentity"
    outcome = dataclasses.replace(outcome, failure=dataclasses.replace(outcome.failure, field=field))
    failure = restored_failure(report(REQUEST, FIRST, outcome))

    assert failure
    assert failure.field == field
    assert (failure.error.reason, failure.error.message, failure.error.request_id) == (
        "SourceInvalid",
        "no; really",
        "id",
    )
    assert (failure.failed_attempts, failure.next_attempt_time - NOW) == (2, timedelta(minutes=2))
    assert failure.inputs is None


def test_failure_of_a_suspended_request_is_restored() -> None:
    status = report(request(suspend=True), FIRST, failed(UNREACHABLE))
    failure = restored_failure(status)

    assert failure
    assert rfc3339(failure.next_attempt_time) == status.last_attempt_time


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(Status(), id="empty status"),
        pytest.param(FIRST, id="issued"),
        pytest.param(report(REQUEST, Status(), Outcome(NOW)), id="no attempt yet"),
        pytest.param(invalid(FIRST, 1, "no", NOW), id="invalid spec"),
    ],
)
def test_status_without_a_failure_restores_none(status: Status) -> None:
    assert restored_failure(status) is None


@pytest.mark.parametrize(
    ("forged", "reason", "issuance", "longest"),
    [
        pytest.param(REQUEST, "Unavailable", None, timedelta(minutes=5), id="backoff"),
        pytest.param(REQUEST, "Throttled", ISSUED, timedelta(minutes=30), id="Retry-After"),
        pytest.param(REQUEST, "SourceInvalid", None, timedelta(minutes=30), id="stalled"),
        pytest.param(REQUEST, "SourceInvalid", ISSUED, timedelta(minutes=15), id="a quarter of the remaining lifetime"),
        pytest.param(rotating(), "SourceInvalid", ISSUED, timedelta(minutes=30), id="the attempt consumes a token"),
    ],
)
def test_forged_status_delays_no_attempt_for_longer_than_its_reason(
    forged: Request, reason: str, issuance: Issuance | None, longest: timedelta
) -> None:
    status = replace(
        report(REQUEST, FIRST, failed(RefusedError(reason, "forged"))),
        next_attempt_time="9999-12-31T23:59:59Z",
        failed_attempts=2**63 - 1,
    )
    failure = restored_failure(status)

    assert failure
    assert bounded(failure, forged, issuance, NOW).next_attempt_time == NOW + longest
    assert failure.failed_attempts < 2**31


def test_requests_that_failed_are_found_by_service() -> None:
    index = RequestIndex()
    for name in ("a", "b", "c"):
        error = UnavailableError("Unreachable", "no response", service="issuer.example" if name == "c" else "sts")
        failure = Failure(error, failed_attempts=1, next_attempt_time=NOW, generation=1)
        index.put(Entry(request(name), Status(), ReconcileState(failure=failure)))
    assert index.failed_because_of("sts") == {"a-0001", "b-0001"}

    index.update("a-0001", state=ReconcileState())
    index.drop("b-0001")

    assert index.failed_because_of("sts") == frozenset()
    assert index.failed_because_of("issuer.example") == {"c-0001"}
