from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.api.target import RenewalSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.renewal import (
    check_ours,
    min_interval,
    next_attempt_time,
    renew_before,
    renewal_reason,
    renewal_time,
    should_apply_metadata,
    source_warning,
    when_to_renew,
)
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request, rotating
from tests.support.issuance import MADE, OURS, REQUEST, changed

NOT_DUE = NOW - DAY
UNREACHABLE = UnavailableError("Unreachable", "STS did not respond")


@pytest.mark.parametrize(
    ("minutes", "jitter", "after"),
    [
        pytest.param(10, 0.0, 50, id="no jitter: renew_before ahead of the expiry"),
        pytest.param(10, 0.5, 47, id="jitter of a half: a twentieth of the lifetime earlier"),
        pytest.param(30, 0.0, 30, id="renew_before of half the lifetime"),
        pytest.param(90, 0.0, 30, id="renew_before beyond the lifetime: limited to half"),
    ],
)
def test_renewal_time_is_before_the_expiry(minutes: int, jitter: float, after: int) -> None:
    assert renewal_time(NOW, NOW + HOUR, minutes * MINUTE, jitter) == NOW + after * MINUTE


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1, exclude_max=True))
def test_renewal_time_is_in_the_last_six_tenths_of_the_lifetime(lifetime: int, before: int, jitter: float) -> None:
    expires_at = NOW + lifetime * SECOND
    at = renewal_time(NOW, expires_at, before * SECOND, jitter)

    assert NOW + lifetime * SECOND * 0.4 - SECOND <= at <= expires_at
    assert at.microsecond == 0


@pytest.mark.parametrize(
    ("spec", "source_life", "after"),
    [
        pytest.param({}, None, 40 * MINUTE, id="unknown expiry of the source"),
        pytest.param({}, 30 * MINUTE, 20 * MINUTE, id="the refresh token expires first: at two thirds of its lifetime"),
        pytest.param({}, 61 * MINUTE, 40 * MINUTE, id="it expires shortly after the credentials"),
        pytest.param({}, 90 * DAY, 40 * MINUTE, id="it expires much later"),
        pytest.param({}, -MINUTE, 40 * MINUTE, id="it expired before the issue, by another clock"),
        pytest.param(
            {"renewal": {"renewBefore": "50m"}},
            30 * MINUTE,
            20 * MINUTE,
            id="renewBefore applies to the credentials only",
        ),
        pytest.param({"renewal": {"renewBefore": "50m"}}, 59 * MINUTE, 30 * MINUTE, id="the earlier of the two times"),
    ],
)
def test_refresh_token_is_used_before_it_expires(
    spec: dict[str, Any], source_life: timedelta | None, after: timedelta
) -> None:
    source_expiry = None if source_life is None else NOW + source_life

    assert when_to_renew(rotating(**spec), NOW, (NOW + HOUR, source_expiry), 0) == NOW + after


def test_expiry_of_another_source_does_not_move_the_renewal() -> None:
    assert when_to_renew(request(), NOW, (NOW + HOUR, NOW + 30 * MINUTE), 0) == NOW + 40 * MINUTE


@pytest.mark.parametrize(
    ("renewal", "before"),
    [
        pytest.param(None, 20 * MINUTE, id="by default, a third of the lifetime"),
        pytest.param(RenewalSpec(), 20 * MINUTE, id="an empty renewal: the default"),
        pytest.param(RenewalSpec(renew_before="5m"), 5 * MINUTE, id="a duration"),
        pytest.param(RenewalSpec(renew_before_percentage=10), 6 * MINUTE, id="a percentage of the lifetime"),
    ],
)
def test_renew_before_follows_the_spec(renewal: RenewalSpec | None, before: timedelta) -> None:
    assert renew_before(renewal, HOUR) == before


@pytest.mark.parametrize(
    ("reason", "lifetime", "repairs", "expected"),
    [
        pytest.param("Due", HOUR, 0, 3 * MINUTE, id="due: a twentieth of the lifetime"),
        pytest.param("Due", MINUTE, 0, 10 * SECOND, id="due, short lifetime: 10 s"),
        pytest.param("SpecChanged", HOUR, 0, 10 * SECOND, id="a changed spec: 10 s"),
        pytest.param("RenewalRequested", HOUR, 3, 10 * SECOND, id="a requested renewal: 10 s"),
        pytest.param("DriftDetected", HOUR, 0, 0 * SECOND, id="the first repair: at once"),
        pytest.param("SecretMissing", HOUR, 1, MINUTE, id="the second repair: after a minute"),
        pytest.param("DriftDetected", HOUR, 5, 16 * MINUTE, id="later repairs: doubled"),
        pytest.param("IssuanceUnreadable", HOUR, 1000, 30 * MINUTE, id="at most half an hour"),
    ],
)
def test_min_interval_depends_on_the_reason(
    reason: str, lifetime: timedelta, repairs: int, expected: timedelta
) -> None:
    assert min_interval(reason, lifetime, 10 * SECOND, repairs) == expected


@pytest.mark.parametrize(
    ("target", "source", "now", "reason"),
    [
        pytest.param(None, None, NOT_DUE, "SecretMissing", id="no Secret"),
        pytest.param(changed(issuance=None), None, NOT_DUE, "IssuanceUnreadable", id="no issuance record"),
        pytest.param(OURS, MADE.source, NOT_DUE, None, id="nothing changed"),
        pytest.param(OURS, "other", NOT_DUE, "SourceChanged", id="another source"),
        pytest.param(OURS, None, NOT_DUE, None, id="the source was not read"),
        pytest.param(changed(data_hash=MADE.data_hash), None, NOT_DUE, None, id="the data was read and is unchanged"),
        pytest.param(changed(data_hash="v1:x"), None, NOT_DUE, "DriftDetected", id="the data was edited"),
        pytest.param(changed(data_hash="v9:x"), None, NOT_DUE, None, id="a data hash of another version"),
        pytest.param(OURS, None, MADE.renew, "Due", id="due at the renewal time"),
        pytest.param(OURS, None, MADE.renew - SECOND, None, id="a second before the renewal time"),
        pytest.param(changed(data_hash="v1:x"), "other", MADE.renew, "SourceChanged", id="several reasons: the first"),
    ],
)
def test_renewal_reason_is_the_first_that_applies(
    target: TargetSecret | None, source: str | None, now: datetime, reason: str | None
) -> None:
    assert renewal_reason(REQUEST, target, source, now) == reason


ROTATING = rotating()
MOVED = rotating(target={"secretName": "new", "formats": [{"env": {}}]})
ROTATING_ISSUED = msgspec.structs.replace(
    MADE,
    request_hash=ROTATING.request_hash,
    exchange_hash=ROTATING.exchange_hash,
    metadata_hash=ROTATING.metadata_hash,
    renew=NOW + HOUR,
)


@pytest.mark.parametrize(
    ("edited", "last", "now", "reason"),
    [
        pytest.param(MOVED, ROTATING_ISSUED, NOW, None, id="only formats and secretName changed: waits"),
        pytest.param(MOVED, ROTATING_ISSUED, NOW + HOUR, "Due", id="only formats and secretName changed, and due"),
        pytest.param(MOVED, None, NOW, "SecretMissing", id="never issued"),
        pytest.param(ROTATING, ROTATING_ISSUED, NOW, "SecretMissing", id="the Secret was deleted"),
        pytest.param(rotating(region="eu-west-1"), ROTATING_ISSUED, NOW, "SpecChanged", id="the exchanges changed"),
        pytest.param(
            request(target={"secretName": "new"}), MADE, NOT_DUE, "SpecChanged", id="a source that is not consumed"
        ),
    ],
)
def test_renewal_reason_of_a_missing_secret(
    edited: Request, last: Issuance | None, now: datetime, reason: str | None
) -> None:
    assert renewal_reason(edited, None, None, now, last) == reason


@pytest.mark.parametrize(
    ("edited", "reason"),
    [
        pytest.param(MOVED, None, id="only formats and secretName changed: waits"),
        pytest.param(rotating(region="eu-west-1"), "SpecChanged", id="the exchanges changed"),
    ],
)
def test_spec_change_of_a_rotating_source(edited: Request, reason: str | None) -> None:
    assert renewal_reason(edited, changed(issuance=ROTATING_ISSUED), None, NOW) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"request_hash": "v1:x"}, "SpecChanged", id="the spec changed"),
        pytest.param({"request_hash": "v9:x"}, None, id="a spec hash of another version"),
        pytest.param({"renew_requested": "now"}, "RenewalRequested", id="a renewal was requested"),
        pytest.param({"metadata_hash": "v1:x"}, None, id="only the metadata changed"),
    ],
)
def test_renewal_reason_of_a_changed_request(changes: dict[str, str], reason: str | None) -> None:
    assert renewal_reason(replace(REQUEST, **changes), OURS, None, NOT_DUE) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param(
            changed(immutable=True), "Secret acme is immutable and cannot be renewed", id="an immutable Secret"
        ),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset()),
            "was not created by Keyturn; choose another",
            id="a foreign Secret",
        ),
    ],
)
def test_secret_of_something_else_is_a_conflict(target: TargetSecret, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as error:
        check_ours(REQUEST, target)

    assert error.value.reason == "TargetConflict"


@pytest.mark.parametrize(
    ("uid", "metadata_hash", "target", "expected"),
    [
        pytest.param("acme-0001", None, OURS, False, id="unchanged"),
        pytest.param("acme-0002", None, changed(owners=frozenset({"acme-0002"})), True, id="a re-created request"),
        pytest.param("acme-0001", "v1:x", OURS, True, id="changed metadata in the spec"),
        pytest.param("acme-0001", "v9:x", OURS, False, id="a hash of another version"),
        pytest.param(
            "acme-0001", "v1:x", changed(issuance=None), False, id="no issuance record: it is renewed instead"
        ),
    ],
)
def test_metadata_is_needed(uid: str, metadata_hash: str | None, target: TargetSecret, *, expected: bool) -> None:
    current = request(uid=uid)
    current = replace(current, metadata_hash=metadata_hash or current.metadata_hash)

    assert should_apply_metadata(current, target) is expected


@pytest.mark.parametrize(
    ("error", "failed_attempts", "life_left", "rand", "seconds"),
    [
        pytest.param(UNREACHABLE, 1, HOUR, 0.5, 2, id="first failure: up to 4 s"),
        pytest.param(UNREACHABLE, 3, HOUR, 0.5, 8, id="third failure: up to 16 s"),
        pytest.param(UNREACHABLE, 1, HOUR, 0.0, 1, id="at least a second"),
        pytest.param(UNREACHABLE, 50, DAY, 0.99, 297, id="at most 5 min"),
        pytest.param(UNREACHABLE, 50, 2 * MINUTE, 0.5, 15, id="at most a quarter of the remaining lifetime"),
        pytest.param(UNREACHABLE, 50, timedelta(), 0.5, 30, id="expired: within a minute"),
        pytest.param(UNREACHABLE, 50, -HOUR, 0.5, 30, id="long expired: within a minute"),
        pytest.param(
            UnavailableError("Unreachable", "", outcome_unknown=True), 3, HOUR, 0.5, 8, id="nothing to consume: backoff"
        ),
        pytest.param(ThrottledError("", retry_after=MINUTE), 1, HOUR, 0.5, 60, id="throttled with retry_after"),
        pytest.param(ThrottledError(""), 1, HOUR, 0.5, 2, id="throttled without retry_after: backoff"),
        pytest.param(RefusedError("AccessDenied", ""), 9, HOUR, 0.5, 300, id="access denied: 5 min"),
        pytest.param(RefusedError("SourceInvalid", ""), 1, HOUR, 0.5, 1800, id="refused: half an hour"),
        pytest.param(RefusedError("SourceNotFound", ""), 1, HOUR, 0.5, 60, id="no source: a minute"),
        pytest.param(RefusedError("WriteDenied", ""), 1, HOUR, 0.5, 2, id="the API server refuses: backoff"),
    ],
)
def test_next_attempt_time_depends_on_the_error(
    error: KeyturnError, failed_attempts: int, life_left: timedelta, rand: float, seconds: int
) -> None:
    assert next_attempt_time(REQUEST, error, failed_attempts, life_left, NOW, rand) == NOW + seconds * SECOND


def test_next_attempt_time_is_rounded_up() -> None:
    at = next_attempt_time(REQUEST, UNREACHABLE, 1, HOUR, NOW + timedelta(milliseconds=1), 0.5)

    assert at == NOW + 3 * SECOND


@pytest.mark.parametrize(
    ("eventually_consistent", "age", "seconds"),
    [
        pytest.param(True, MINUTE, 5, id="a recent change, new request"),
        pytest.param(True, 2 * MINUTE, 300, id="a recent change, request two minutes old"),
        pytest.param(False, MINUTE, 300, id="another cause"),
    ],
)
def test_new_request_is_retried_soon_if_iam_may_become_consistent(
    *, eventually_consistent: bool, age: timedelta, seconds: int
) -> None:
    recent = replace(REQUEST, created_at=NOW - age)
    error = RefusedError("AccessDenied", "", eventually_consistent=eventually_consistent)

    assert next_attempt_time(recent, error, 1, HOUR, NOW, 0.5) == NOW + seconds * SECOND


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "expected"),
    [
        pytest.param(NOW, None, None, id="no expiry"),
        pytest.param(NOW, NOW + 365 * DAY, NOW + 351 * DAY, id="a year: 14 days before"),
        pytest.param(NOW, NOW + 10 * DAY, NOW + 9 * DAY, id="10 days: the last tenth"),
        pytest.param(None, NOW + 20 * DAY, NOW + 6 * DAY, id="unknown lifetime: 14 days before"),
    ],
)
def test_source_warning_precedes_the_expiry(
    issued_at: datetime | None, expires_at: datetime | None, expected: datetime | None
) -> None:
    assert source_warning(issued_at, expires_at) == expected
