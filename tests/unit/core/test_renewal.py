from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyturn.api.target import RenewalSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.renewal import (
    check_ours,
    exchange_interval,
    renew_before,
    renewal_reason,
    renewal_time,
    should_apply_metadata,
    source_warning,
    when_to_renew,
)
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request, rotating
from tests.support.issuance import ISSUANCE, REQUEST, TARGET, target_with

NOT_DUE = NOW - DAY


@cases(
    "minutes, jitter, after",
    {
        "no jitter: renew_before ahead of the expiry": (10, 0.0, 50),
        "jitter of a half: a twentieth of the lifetime earlier": (10, 0.5, 47),
        "renew_before of half the lifetime": (30, 0.0, 30),
        "renew_before beyond the lifetime: limited to half": (90, 0.0, 30),
    },
)
def test_renewal_time_is_before_the_expiry(minutes: int, jitter: float, after: int) -> None:
    assert renewal_time(NOW, NOW + HOUR, minutes * MINUTE, jitter) == NOW + after * MINUTE


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(0, 1, exclude_max=True))
def test_renewal_time_is_in_the_last_six_tenths_of_the_lifetime(lifetime: int, before: int, jitter: float) -> None:
    expires_at = NOW + lifetime * SECOND
    at = renewal_time(NOW, expires_at, before * SECOND, jitter)

    assert NOW + lifetime * SECOND * 0.4 - SECOND <= at <= expires_at
    assert at.microsecond == 0


@cases(
    "spec, source_life, after",
    {
        "unknown expiry of the source": ({}, None, 40 * MINUTE),
        "the refresh token expires first: at two thirds of its lifetime": ({}, 30 * MINUTE, 20 * MINUTE),
        "it expires shortly after the credentials": ({}, 61 * MINUTE, 40 * MINUTE),
        "it expires much later": ({}, 90 * DAY, 40 * MINUTE),
        "it expired before the issuance, by another clock": ({}, -MINUTE, 40 * MINUTE),
        "renewBefore applies to the credentials only": ({"renewal": {"renewBefore": "50m"}}, 30 * MINUTE, 20 * MINUTE),
        "the earlier of the two times": ({"renewal": {"renewBefore": "50m"}}, 59 * MINUTE, 30 * MINUTE),
    },
)
def test_refresh_token_is_used_before_it_expires(
    spec: dict[str, Any], source_life: timedelta | None, after: timedelta
) -> None:
    source_expiry = None if source_life is None else NOW + source_life

    assert when_to_renew(rotating(**spec), NOW, (NOW + HOUR, source_expiry), 0) == NOW + after


def test_expiry_of_another_source_does_not_move_the_renewal() -> None:
    assert when_to_renew(request(), NOW, (NOW + HOUR, NOW + 30 * MINUTE), 0) == NOW + 40 * MINUTE


@cases(
    "renewal, before",
    {
        "by default, a third of the lifetime": (None, 20 * MINUTE),
        "an empty renewal: the default": (RenewalSpec(), 20 * MINUTE),
        "a duration": (RenewalSpec(renew_before="5m"), 5 * MINUTE),
        "a percentage of the lifetime": (RenewalSpec(renew_before_percentage=10), 6 * MINUTE),
    },
)
def test_renew_before_follows_the_spec(renewal: RenewalSpec | None, before: timedelta) -> None:
    assert renew_before(renewal, HOUR) == before


@cases(
    "reason, lifetime, repairs, expected",
    {
        "due: a twentieth of the lifetime": ("Due", HOUR, 0, 3 * MINUTE),
        "due, short lifetime: 10 s": ("Due", MINUTE, 0, 10 * SECOND),
        "a changed spec: 10 s": ("SpecChanged", HOUR, 0, 10 * SECOND),
        "a requested renewal: 10 s": ("RenewalRequested", HOUR, 3, 10 * SECOND),
        "the first repair: at once": ("DriftDetected", HOUR, 0, 0 * SECOND),
        "the second repair: after a minute": ("SecretMissing", HOUR, 1, MINUTE),
        "later repairs: doubled": ("DriftDetected", HOUR, 5, 16 * MINUTE),
        "at most half an hour": ("IssuanceUnreadable", HOUR, 1000, 30 * MINUTE),
    },
)
def test_exchange_interval_depends_on_the_reason(
    reason: str, lifetime: timedelta, repairs: int, expected: timedelta
) -> None:
    assert exchange_interval(reason, lifetime, 10 * SECOND, repairs) == expected


@cases(
    "target, source, now, reason",
    {
        "no Secret": (None, None, NOT_DUE, "SecretMissing"),
        "no issuance record": (target_with(issuance=None), None, NOT_DUE, "IssuanceUnreadable"),
        "nothing changed": (TARGET, ISSUANCE.source, NOT_DUE, None),
        "another source": (TARGET, "other", NOT_DUE, "SourceChanged"),
        "the source was not read": (TARGET, None, NOT_DUE, None),
        "the data was read and is unchanged": (target_with(data_hash=ISSUANCE.data_hash), None, NOT_DUE, None),
        "the data was edited": (target_with(data_hash="v1:x"), None, NOT_DUE, "DriftDetected"),
        "a data hash of another version": (target_with(data_hash="v9:x"), None, NOT_DUE, None),
        "due at the renewal time": (TARGET, None, ISSUANCE.renew, "Due"),
        "a second before the renewal time": (TARGET, None, ISSUANCE.renew - SECOND, None),
        "several reasons: the first": (target_with(data_hash="v1:x"), "other", ISSUANCE.renew, "SourceChanged"),
    },
)
def test_renewal_reason_is_the_first_that_applies(
    target: TargetSecret | None, source: str | None, now: datetime, reason: str | None
) -> None:
    assert renewal_reason(REQUEST, target, source, now) == reason


ROTATING = rotating()
MOVED = rotating(target={"secretName": "new", "formats": [{"env": {}}]})
ROTATING_ISSUED = msgspec.structs.replace(
    ISSUANCE,
    request_hash=ROTATING.request_hash,
    exchange_hash=ROTATING.exchange_hash,
    metadata_hash=ROTATING.metadata_hash,
    renew=NOW + HOUR,
)


@cases(
    "edited, last, now, reason",
    {
        "only formats and secretName changed: waits": (MOVED, ROTATING_ISSUED, NOW, None),
        "only formats and secretName changed, and due": (MOVED, ROTATING_ISSUED, NOW + HOUR, "Due"),
        "never issued": (MOVED, None, NOW, "SecretMissing"),
        "the Secret was deleted": (ROTATING, ROTATING_ISSUED, NOW, "SecretMissing"),
        "the exchanges changed": (rotating(region="eu-west-1"), ROTATING_ISSUED, NOW, "SpecChanged"),
        "a source that is not consumed": (request(target={"secretName": "new"}), ISSUANCE, NOT_DUE, "SpecChanged"),
    },
)
def test_renewal_reason_of_a_missing_secret(
    edited: Request, last: Issuance | None, now: datetime, reason: str | None
) -> None:
    assert renewal_reason(edited, None, None, now, last) == reason


@cases(
    "edited, reason",
    {
        "only formats and secretName changed: waits": (MOVED, None),
        "the exchanges changed": (rotating(region="eu-west-1"), "SpecChanged"),
    },
)
def test_spec_change_of_a_rotating_source(edited: Request, reason: str | None) -> None:
    assert renewal_reason(edited, target_with(issuance=ROTATING_ISSUED), None, NOW) == reason


@cases(
    "changes, reason",
    {
        "the spec changed": ({"request_hash": "v1:x"}, "SpecChanged"),
        "a spec hash of another version": ({"request_hash": "v9:x"}, None),
        "a renewal was requested": ({"renew_requested": "now"}, "RenewalRequested"),
        "only the metadata changed": ({"metadata_hash": "v1:x"}, None),
    },
)
def test_renewal_reason_of_a_changed_request(changes: dict[str, str], reason: str | None) -> None:
    assert renewal_reason(replace(REQUEST, **changes), TARGET, None, NOT_DUE) == reason  # type: ignore[arg-type]


@cases(
    "target, message",
    {
        "an immutable Secret": (target_with(immutable=True), "Secret acme is immutable and cannot be renewed"),
        "a foreign Secret": (
            target_with(issuance=None, labels={}, owners=frozenset()),
            "was not created by Keyturn; choose another",
        ),
    },
)
def test_secret_of_something_else_is_a_conflict(target: TargetSecret, message: str) -> None:
    with pytest.raises(RefusedError, match=message) as error:
        check_ours(REQUEST, target)

    assert error.value.reason == "TargetConflict"


@cases(
    "uid, metadata_hash, target, expected",
    {
        "unchanged": ("acme-0001", None, TARGET, False),
        "a re-created request": ("acme-0002", None, target_with(owners=frozenset({"acme-0002"})), True),
        "changed metadata in the spec": ("acme-0001", "v1:x", TARGET, True),
        "a hash of another version": ("acme-0001", "v9:x", TARGET, False),
        "no issuance record: it is renewed instead": ("acme-0001", "v1:x", target_with(issuance=None), False),
    },
)
def test_metadata_is_needed(uid: str, metadata_hash: str | None, target: TargetSecret, *, expected: bool) -> None:
    current = request(uid=uid)
    current = replace(current, metadata_hash=metadata_hash or current.metadata_hash)

    assert should_apply_metadata(current, target) is expected


@cases(
    "issued_at, expires_at, expected",
    {
        "no expiry": (NOW, None, None),
        "a year: 14 days before": (NOW, NOW + 365 * DAY, NOW + 351 * DAY),
        "10 days: the last tenth": (NOW, NOW + 10 * DAY, NOW + 9 * DAY),
        "unknown lifetime: 14 days before": (None, NOW + 20 * DAY, NOW + 6 * DAY),
    },
)
def test_source_warning_precedes_the_expiry(
    issued_at: datetime | None, expires_at: datetime | None, expected: datetime | None
) -> None:
    assert source_warning(issued_at, expires_at) == expected
