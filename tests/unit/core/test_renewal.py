from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import Issuance, TargetSecret
from keyturn.core.renewal import check_ours, exchange_interval, renewal_reason, should_apply_metadata
from tests.support.cases import cases
from tests.support.dependencies import DAY, HOUR, MINUTE, NOW, SECOND, request, rotating
from tests.support.issuance import ISSUANCE, REQUEST, TARGET, target_with

NOT_DUE = NOW - DAY


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
