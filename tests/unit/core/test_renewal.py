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
    needs_metadata,
    next_attempt_time,
    renew_before,
    renewal_reason,
    renewal_time,
    source_warning,
    when_to_renew,
)
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request, rotating
from tests.support.issuance import MADE, OURS, REQUEST, changed

NEVER = NOW - DAY
AWAY = UnavailableError("Unreachable", "no answer")


@pytest.mark.parametrize(
    ("minutes", "jitter", "after"),
    [
        pytest.param(10, 0.0, 50, id="without spread: exactly renew_before ahead"),
        pytest.param(10, 0.5, 47, id="half the spread: a twentieth of the lifetime earlier"),
        pytest.param(30, 0.0, 30, id="half the lifetime"),
        pytest.param(90, 0.0, 30, id="renew_before beyond the lifetime: half the lifetime"),
    ],
)
def test_renewal_time(minutes: int, jitter: float, after: int) -> None:
    assert renewal_time(NOW, NOW + HOUR, minutes * MINUTE, jitter) == NOW + after * MINUTE


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1, exclude_max=True))
def test_the_renewal_is_within_the_life(lifetime: int, before: int, jitter: float) -> None:
    expires = NOW + lifetime * SECOND
    at = renewal_time(NOW, expires, before * SECOND, jitter)

    assert NOW + lifetime * SECOND * 0.4 - SECOND <= at <= expires
    assert at.microsecond == 0


@pytest.mark.parametrize(
    ("spec", "source_ends", "after"),
    [
        pytest.param({}, None, 40 * MINUTE, id="nothing says when the source ends"),
        pytest.param({}, 30 * MINUTE, 20 * MINUTE, id="a refresh token ends first: at two thirds of its life"),
        pytest.param({}, 61 * MINUTE, 40 * MINUTE, id="it ends after what it gave, and not much"),
        pytest.param({}, 90 * DAY, 40 * MINUTE, id="it lives for long"),
        pytest.param({}, -MINUTE, 40 * MINUTE, id="it has ended, says another clock"),
        pytest.param(
            {"renewal": {"renewBefore": "50m"}}, 30 * MINUTE, 20 * MINUTE, id="renewBefore is of what is written"
        ),
        pytest.param(
            {"renewal": {"renewBefore": "50m"}}, 59 * MINUTE, 30 * MINUTE, id="the earlier of the two is taken"
        ),
    ],
)
def test_a_refresh_token_is_used_before_it_ends(
    spec: dict[str, Any], source_ends: timedelta | None, after: timedelta
) -> None:
    ends = None if source_ends is None else NOW + source_ends

    assert when_to_renew(rotating(**spec), NOW, (NOW + HOUR, ends), 0) == NOW + after


def test_a_source_that_use_does_not_prolong_changes_nothing() -> None:
    assert when_to_renew(request(), NOW, (NOW + HOUR, NOW + 30 * MINUTE), 0) == NOW + 40 * MINUTE


@pytest.mark.parametrize(
    ("renewal", "before"),
    [
        pytest.param(None, 20 * MINUTE, id="by default a third of the lifetime"),
        pytest.param(RenewalSpec(), 20 * MINUTE, id="no wish is the default"),
        pytest.param(RenewalSpec(renew_before="5m"), 5 * MINUTE, id="as asked for"),
        pytest.param(RenewalSpec(renew_before_percentage=10), 6 * MINUTE, id="in per cent of the lifetime"),
    ],
)
def test_renew_before(renewal: RenewalSpec | None, before: timedelta) -> None:
    assert renew_before(renewal, HOUR) == before


@pytest.mark.parametrize(
    ("reason", "lifetime", "repairs", "least"),
    [
        pytest.param("Due", HOUR, 0, 3 * MINUTE, id="due: a twentieth of the lifetime"),
        pytest.param("Due", MINUTE, 0, 10 * SECOND, id="due, of a short life: 10 s"),
        pytest.param("SpecChanged", HOUR, 0, 10 * SECOND, id="what a person changed: 10 s"),
        pytest.param("RenewalRequested", HOUR, 3, 10 * SECOND, id="what a person asked for: 10 s"),
        pytest.param("DriftDetected", HOUR, 0, 0 * SECOND, id="the first heal: at once"),
        pytest.param("SecretMissing", HOUR, 1, MINUTE, id="the second: after a minute"),
        pytest.param("DriftDetected", HOUR, 5, 16 * MINUTE, id="then it doubles"),
        pytest.param("IssuanceUnreadable", HOUR, 1000, 30 * MINUTE, id="to half an hour"),
    ],
)
def test_min_interval(reason: str, lifetime: timedelta, repairs: int, least: timedelta) -> None:
    assert min_interval(reason, lifetime, 10 * SECOND, repairs) == least


@pytest.mark.parametrize(
    ("found", "source", "now", "reason"),
    [
        pytest.param(None, None, NEVER, "SecretMissing", id="no Secret"),
        pytest.param(changed(issuance=None), None, NEVER, "IssuanceUnreadable", id="no marks"),
        pytest.param(OURS, MADE.source, NEVER, None, id="nothing"),
        pytest.param(OURS, "other", NEVER, "SourceChanged", id="another source"),
        pytest.param(OURS, None, NEVER, None, id="the source was not read"),
        pytest.param(changed(data_hash=MADE.data_hash), None, NEVER, None, id="the data were read, and are ours"),
        pytest.param(changed(data_hash="v1:x"), None, NEVER, "DriftDetected", id="the data were edited"),
        pytest.param(changed(data_hash="v9:x"), None, NEVER, None, id="a data hash of another version"),
        pytest.param(OURS, None, MADE.renew, "Due", id="due, to the second"),
        pytest.param(OURS, None, MADE.renew - SECOND, None, id="a second before"),
        pytest.param(changed(data_hash="v1:x"), "other", MADE.renew, "SourceChanged", id="the first reason wins"),
    ],
)
def test_reason_to_renew(found: TargetSecret | None, source: str | None, now: datetime, reason: str | None) -> None:
    assert renewal_reason(REQUEST, found, source, now) == reason


ROTATING = rotating()
MOVED = rotating(target={"secretName": "new", "formats": [{"env": {}}]})
OF_ROTATING = msgspec.structs.replace(
    MADE,
    request_hash=ROTATING.request_hash,
    exchange_hash=ROTATING.exchange_hash,
    metadata_hash=ROTATING.metadata_hash,
    renew=NOW + HOUR,
)


@pytest.mark.parametrize(
    ("wanted", "last", "now", "reason"),
    [
        pytest.param(MOVED, OF_ROTATING, NOW, None, id="only moved: waits"),
        pytest.param(MOVED, OF_ROTATING, NOW + HOUR, "Due", id="only moved, and due"),
        pytest.param(MOVED, None, NOW, "SecretMissing", id="never issued"),
        pytest.param(ROTATING, OF_ROTATING, NOW, "SecretMissing", id="deleted where it should be"),
        pytest.param(rotating(region="eu-west-1"), OF_ROTATING, NOW, "SpecChanged", id="something else is sent"),
        pytest.param(request(target={"secretName": "new"}), MADE, NEVER, "SpecChanged", id="no token is spent"),
    ],
)
def test_a_missing_secret_of_a_source_that_is_spent_by_use(
    wanted: Request, last: Issuance | None, now: datetime, reason: str | None
) -> None:
    assert renewal_reason(wanted, None, None, now, last) == reason


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        pytest.param(MOVED, None, id="only formats and name: waits"),
        pytest.param(rotating(region="eu-west-1"), "SpecChanged", id="something else is sent"),
    ],
)
def test_a_change_of_the_spec_of_a_source_that_is_spent_by_use(wanted: Request, reason: str | None) -> None:
    assert renewal_reason(wanted, changed(issuance=OF_ROTATING), None, NOW) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"request_hash": "v1:x"}, "SpecChanged", id="the spec changed"),
        pytest.param({"request_hash": "v9:x"}, None, id="a spec hash of another version"),
        pytest.param({"renew_requested": "now"}, "RenewalRequested", id="a renewal was asked for"),
        pytest.param({"metadata_hash": "v1:x"}, None, id="only its dress changed"),
    ],
)
def test_reason_to_renew_by_the_request(changes: dict[str, str], reason: str | None) -> None:
    assert renewal_reason(replace(REQUEST, **changes), OURS, None, NEVER) == reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(
            changed(immutable=True), "Secret acme is immutable and cannot be renewed", id="an immutable Secret"
        ),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset()),
            "was not created by Keyturn; choose another",
            id="foreign",
        ),
    ],
)
def test_a_secret_that_may_not_be_written(found: TargetSecret, says: str) -> None:
    with pytest.raises(RefusedError, match=says) as refused:
        check_ours(REQUEST, found)

    assert refused.value.reason == "TargetConflict"


@pytest.mark.parametrize(
    ("uid", "apply_metadata", "found", "metadata_applied"),
    [
        pytest.param("acme-0001", None, OURS, False, id="as it is"),
        pytest.param("acme-0002", None, changed(owners=frozenset({"acme-0002"})), True, id="of a request before"),
        pytest.param("acme-0001", "v1:x", OURS, True, id="other metadata are wanted"),
        pytest.param("acme-0001", "v9:x", OURS, False, id="a hash of another version"),
        pytest.param("acme-0001", "v1:x", changed(issuance=None), False, id="without marks it is renewed instead"),
    ],
)
def test_reason_to_dress(uid: str, apply_metadata: str | None, found: TargetSecret, *, metadata_applied: bool) -> None:
    wanted = request(uid=uid)
    wanted = replace(wanted, metadata_hash=apply_metadata or wanted.metadata_hash)

    assert needs_metadata(wanted, found) is metadata_applied


@pytest.mark.parametrize(
    ("error", "failed", "life", "rand", "seconds"),
    [
        pytest.param(AWAY, 1, HOUR, 0.5, 2, id="the first: up to 4 s"),
        pytest.param(AWAY, 3, HOUR, 0.5, 8, id="the third: up to 16 s"),
        pytest.param(AWAY, 1, HOUR, 0.0, 1, id="never under a second"),
        pytest.param(AWAY, 50, DAY, 0.99, 297, id="never over 5 min"),
        pytest.param(AWAY, 50, 2 * MINUTE, 0.5, 15, id="at most a quarter of the life that is left"),
        pytest.param(AWAY, 50, timedelta(), 0.5, 30, id="expired: within a minute"),
        pytest.param(AWAY, 50, -HOUR, 0.5, 30, id="long expired: within a minute"),
        pytest.param(ThrottledError("", retry_after=MINUTE), 1, HOUR, 0.5, 60, id="throttled: as it was told"),
        pytest.param(ThrottledError(""), 1, HOUR, 0.5, 2, id="throttled without a time: as any other"),
        pytest.param(RefusedError("AccessDenied", ""), 9, HOUR, 0.5, 300, id="forbidden: 5 min"),
        pytest.param(RefusedError("SourceInvalid", ""), 1, HOUR, 0.5, 1800, id="refused: half an hour"),
        pytest.param(RefusedError("SourceNotFound", ""), 1, HOUR, 0.5, 60, id="no source: a minute"),
        pytest.param(RefusedError("WriteDenied", ""), 1, HOUR, 0.5, 2, id="the API server refuses: backoff"),
    ],
)
def test_next_try(error: KeyturnError, failed: int, life: timedelta, rand: float, seconds: int) -> None:
    assert next_attempt_time(REQUEST, error, failed, life, NOW, rand) == NOW + seconds * SECOND


def test_next_try_is_never_early_by_a_fraction() -> None:
    at = next_attempt_time(REQUEST, AWAY, 1, HOUR, NOW + timedelta(milliseconds=1), 0.5)

    assert at == NOW + 3 * SECOND


@pytest.mark.parametrize(
    ("eventually_consistent", "age", "seconds"),
    [
        pytest.param(True, MINUTE, 5, id="a role that may be new, and a request that is"),
        pytest.param(True, 2 * MINUTE, 300, id="after two minutes"),
        pytest.param(False, MINUTE, 300, id="a refusal that does not settle"),
    ],
)
def test_iam_may_settle(*, eventually_consistent: bool, age: timedelta, seconds: int) -> None:
    made = replace(REQUEST, created_at=NOW - age)
    error = RefusedError("AccessDenied", "", eventually_consistent=eventually_consistent)

    assert next_attempt_time(made, error, 1, HOUR, NOW, 0.5) == NOW + seconds * SECOND


@pytest.mark.parametrize(
    ("issued", "expires", "warns"),
    [
        pytest.param(NOW, None, None, id="a source without an end"),
        pytest.param(NOW, NOW + 365 * DAY, NOW + 351 * DAY, id="a year: 14 days before"),
        pytest.param(NOW, NOW + 10 * DAY, NOW + 9 * DAY, id="10 days: the last tenth"),
        pytest.param(None, NOW + 20 * DAY, NOW + 6 * DAY, id="of unknown length: 14 days before"),
    ],
)
def test_source_warning(issued: datetime | None, expires: datetime | None, warns: datetime | None) -> None:
    assert source_warning(issued, expires) == warns
