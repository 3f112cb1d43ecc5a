from datetime import timedelta

import pytest
from msgspec.structs import replace

from keyturn.api.status import Status
from keyturn.controller.request_index import Entry, RequestIndex, restored_failure
from keyturn.core.errors import RefusedError
from keyturn.core.state import ReconcileState
from keyturn.core.status import Outcome, invalid, report
from tests.support.dependencies import HOUR, NOW, request
from tests.unit.core.test_issuance import MADE
from tests.unit.core.test_status import FIRST, REQUEST, failed


def known(*names: str) -> RequestIndex:
    made = RequestIndex()
    for name in names:
        made.put(Entry(request(name), Status()))
    return made


@pytest.mark.parametrize(
    ("secret", "uids"),
    [
        pytest.param("acme", {"acme-0001"}, id="by its target"),
        pytest.param("license", {"acme-0001", "other-0001"}, id="by the source of two"),
        pytest.param("else", set(), id="a Secret of nobody"),
    ],
)
def test_who_is_concerned_by_a_secret(secret: str, uids: set[str]) -> None:
    assert known("acme", "other").users_of("billing", secret) == uids


def test_a_secret_of_another_namespace_concerns_nobody() -> None:
    assert known("acme").users_of("other", "acme") == frozenset()


def test_a_request_that_moved_is_not_found_by_its_former_target() -> None:
    made = known("acme")
    made.put(Entry(request(target={"secretName": "new"}), Status()))

    assert made.users_of("billing", "acme") == frozenset()
    assert made.users_of("billing", "new") == {"acme-0001"}


def test_what_is_dropped_leaves_nothing() -> None:
    made = known("acme")
    dropped = made.drop("acme-0001")

    assert dropped
    assert (list(made.series()), made.users_of("billing", "license")) == ([], frozenset())
    assert made.drop("acme-0001") is None


def test_series_of_a_request() -> None:
    made = RequestIndex()
    issuance = replace(MADE, source_expires=NOW + 2 * HOUR, source_warns=NOW + HOUR)
    made.put(Entry(request(suspend=True), FIRST, ReconcileState(issuance=issuance)))
    (one,) = made.series()

    assert (one.issued, one.expires) == (NOW, NOW + HOUR)
    assert (one.source_expires, one.source_warns) == (NOW + 2 * HOUR, NOW + HOUR)
    assert one.conditions == (("Ready", "True"), ("Renewed", "True"))
    assert one.suspended


def test_series_of_a_request_that_was_never_issued() -> None:
    (one,) = known("acme").series()

    assert (one.issued, one.expires, one.failed_attempts, one.suspended) == (None, None, 0, False)


def test_failure_is_restored_from_the_last_error() -> None:
    error = RefusedError("SourceInvalid", "no; really", request_id="id")
    found = restored_failure(report(REQUEST, FIRST, failed(error)))

    assert found
    assert (found.error.reason, found.error.message, found.error.request_id) == ("SourceInvalid", "no; really", "id")
    assert (found.failed_attempts, found.next_attempt_time - NOW) == (2, timedelta(minutes=2))
    assert found.inputs is None


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(Status(), id="nothing was told"),
        pytest.param(FIRST, id="it went well"),
        pytest.param(report(REQUEST, Status(), Outcome(NOW)), id="not tried yet"),
        pytest.param(invalid(FIRST, 1, "no", NOW), id="the spec could not be read"),
    ],
)
def test_status_without_a_failure_restores_none(status: Status) -> None:
    assert restored_failure(status) is None
