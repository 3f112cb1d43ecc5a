import hashlib
import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyturn.api.token_request import parse
from keyturn.core.issuance import (
    ADOPTABLE_BY,
    ISSUANCE_ANNOTATION,
    OWNER_UID,
    Issuance,
    TargetSecret,
    data_hash,
    field_manager,
    fingerprint,
    has_current_metadata,
    is_adoptable,
    is_ours,
    is_unchanged,
    kept_identity,
    read_issuance,
    source_fingerprint,
)
from keyturn.core.pipeline_values import Credentials, SourceValues
from keyturn.core.token_family import read_family
from tests.support.cases import cases
from tests.support.dependencies import HOUR, NOW, manifest, request
from tests.support.issuance import DATA, ISSUANCE, REQUEST, TARGET, target_with

GOLDEN = Path(__file__).with_name("golden_hashes.json")


def test_record_is_read_back_as_written() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: ISSUANCE.encoded()}) == ISSUANCE


def _compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def test_renewals_are_spread_evenly_within_their_second() -> None:
    records = [msgspec.structs.replace(ISSUANCE, jitter=number / 1000) for number in range(1000)]
    tenths = [(record.due - record.renew) / timedelta(seconds=0.1) for record in records]

    assert all(95 <= tenths.count(tenth) <= 105 for tenth in range(10))
    # Those that were issued together and are due in the same second have neighbouring jitters.
    assert all(abs(earlier - later) >= 3 for earlier, later in pairwise(tenths))


@pytest.mark.parametrize("field", [*json.loads(ISSUANCE.encoded())])
def test_record_with_an_edited_field_is_ignored(field: str) -> None:
    edited = json.loads(ISSUANCE.encoded())
    values = {"keys": ["x"], "revision": 2, "jitter": 0.5}
    edited[field] = values.get(field, "2031-01-01T00:00:00Z")

    assert read_issuance({ISSUANCE_ANNOTATION: _compact(json.loads(ISSUANCE.encoded()))}) == ISSUANCE
    assert read_issuance({ISSUANCE_ANNOTATION: _compact(edited)}) is None


@cases(
    "annotations",
    {
        "no annotation": {},
        "empty": {ISSUANCE_ANNOTATION: ""},
        "not JSON": {ISSUANCE_ANNOTATION: "{"},
        "an empty object": {ISSUANCE_ANNOTATION: "{}"},
        "a list": {ISSUANCE_ANNOTATION: "[]"},
        "a lone surrogate": {ISSUANCE_ANNOTATION: '{"x":"\ud800","digest":"0"}'},
        "a number": {ISSUANCE_ANNOTATION: 7},
    },
)
def test_invalid_record_is_ignored(annotations: dict[str, Any]) -> None:
    assert read_issuance(annotations) is None


class NewerIssuance(Issuance, frozen=True, kw_only=True):
    new: str = ""


def test_record_of_a_newer_release_is_read() -> None:
    assert (
        read_issuance({ISSUANCE_ANNOTATION: NewerIssuance(**msgspec.structs.asdict(ISSUANCE), new="x").encoded()})
        == ISSUANCE
    )


def test_record_with_an_added_field_is_ignored() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: ISSUANCE.encoded().replace(',"digest"', ',"new":"x","digest"')}) is None


def test_record_contains_no_secret() -> None:
    assert "planted" not in ISSUANCE.encoded()
    assert "refresh-token" not in ISSUANCE.encoded()


@cases(
    "ours, theirs, expected",
    {
        "the same hash": ("v1:a", "v1:a", True),
        "another hash": ("v1:a", "v1:b", False),
        "an unknown version": ("v1:a", "v2:b", True),
        "no hash": ("v1:a", "", True),
    },
)
def test_only_hashes_of_one_version_are_compared(ours: str, theirs: str, *, expected: bool) -> None:
    assert is_unchanged(ours, theirs) is expected


def test_fingerprint_is_short_and_keyed_with_the_name() -> None:
    value = fingerprint("token", REQUEST)

    assert len(value) == 16
    assert value != fingerprint("token", request("other"))
    assert value != fingerprint("token", request(namespace="other"))
    assert value == fingerprint("token", request(uid="another"))


@cases(
    "other",
    {
        "another token": SourceValues("other"),
        "credentials instead of a token": SourceValues(None, Credentials("AKIA", "key")),
        "additional credentials": SourceValues("token", Credentials("AKIA", "key")),
    },
)
def test_fingerprint_changes_with_the_source(other: SourceValues) -> None:
    assert source_fingerprint(other, REQUEST) != source_fingerprint(SourceValues("token"), REQUEST)


@cases(
    "other",
    {
        "another access key ID": Credentials("AKIB", "key", "session"),
        "another secret key": Credentials("AKIA", "yek", "session"),
        "another session token": Credentials("AKIA", "key", "other"),
        "no session token": Credentials("AKIA", "key"),
    },
)
def test_fingerprint_changes_with_the_credentials(other: Credentials) -> None:
    before = SourceValues(None, Credentials("AKIA", "key", "session"))

    assert source_fingerprint(SourceValues(None, other), REQUEST) != source_fingerprint(before, REQUEST)


@cases(
    "data, expected",
    {
        "another order": (dict(reversed(DATA.items())), True),
        "another value": ({**DATA, "token": "other"}, False),
        "a key removed": ({"expiration": DATA["expiration"]}, False),
        "two values swapped": ({"expiration": DATA["token"], "token": DATA["expiration"]}, False),
    },
)
def test_data_hash_ignores_only_the_order(data: dict[str, str], *, expected: bool) -> None:
    assert (data_hash(data, REQUEST) == ISSUANCE.data_hash) is expected


@pytest.mark.parametrize("pinned", json.loads(GOLDEN.read_text()))
def test_hashes_of_a_manifest_are_stable(pinned: dict[str, Any]) -> None:
    parsed = parse(manifest() | {"spec": pinned["spec"]})

    assert (parsed.request_hash, parsed.exchange_hash, parsed.metadata_hash) == (
        pinned["request"],
        pinned["exchange"],
        pinned["metadata"],
    )


@cases(
    "target, expected",
    {
        "the record names the request": (TARGET, True),
        "the record has the uid before a restore": (
            target_with(issuance=msgspec.structs.replace(ISSUANCE, uid="before"), owners=frozenset()),
            True,
        ),
        "the record names another request": (
            target_with(issuance=msgspec.structs.replace(ISSUANCE, request="other")),
            False,
        ),
        "no record, but our label": (target_with(issuance=None), True),
        "no record, but our owner reference": (target_with(issuance=None, labels={}), True),
        "no record, but our field manager": (
            target_with(issuance=None, labels={}, owners=frozenset(), managers=frozenset({"keyturn-acme-000"})),
            True,
        ),
        "a foreign Secret with consent": (
            target_with(issuance=None, labels={}, owners=frozenset(), annotations={ADOPTABLE_BY: "acme"}),
            True,
        ),
        "a foreign Secret": (target_with(issuance=None, labels={OWNER_UID: "x"}, owners=frozenset({"x"})), False),
    },
)
def test_secret_belongs_to_the_request(target: TargetSecret, *, expected: bool) -> None:
    assert is_ours(REQUEST, target) is expected


LABELLED = {"target": {"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}}}


@cases(
    "spec, target, expected",
    {
        "unchanged": ({}, TARGET, True),
        "an additional label": ({}, target_with(labels={**TARGET.labels, "more": "x"}), True),
        "our labels removed": ({}, target_with(labels={}), False),
        "the owner removed": ({}, target_with(owners=frozenset()), False),
        "without the metadata in the spec": (LABELLED, TARGET, False),
        "with the metadata in the spec": (
            LABELLED,
            target_with(labels={**TARGET.labels, "team": "blue"}, annotations={"note": "x"}),
            True,
        ),
        "retained, with an owner": ({"target": {"deletionPolicy": "Retain"}}, TARGET, False),
        "retained, without an owner": ({"target": {"deletionPolicy": "Retain"}}, target_with(owners=frozenset()), True),
        "adopted, with an owner": ({}, target_with(annotations={ADOPTABLE_BY: "acme"}), False),
    },
)
def test_metadata_is_current(spec: dict[str, Any], target: TargetSecret, *, expected: bool) -> None:
    assert has_current_metadata(request(**spec), target) is expected


def test_consent_names_one_request() -> None:
    target = target_with(annotations={ADOPTABLE_BY: "acme"})

    assert is_adoptable(REQUEST, target)
    assert not is_adoptable(request("other"), target)
    assert not is_adoptable(REQUEST, None)


def test_field_manager_contains_the_uid() -> None:
    assert field_manager("0123456789") == "keyturn-01234567"


@cases(
    "last, identity_id",
    {
        "never issued": (None, ""),
        "no identity": (ISSUANCE, ""),
        "the identity of the last issuance": (
            msgspec.structs.replace(ISSUANCE, identity_id="us-east-1:1"),
            "us-east-1:1",
        ),
        "the exchanges changed since": (
            msgspec.structs.replace(ISSUANCE, identity_id="us-east-1:1", exchange_hash="v1:other"),
            "",
        ),
    },
)
def test_identity_is_reused_while_the_exchanges_are_unchanged(last: Issuance | None, identity_id: str) -> None:
    assert kept_identity(last, REQUEST) == identity_id


# Anyone who may write a Secret can forge its annotations, so implausible ones are ignored.
DEEP = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"


def forged(text: str) -> dict[str, str]:
    """The annotation with a correct digest, which anyone can compute: it has no key."""
    return {ISSUANCE_ANNOTATION: f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'}


def with_fields(**fields: Any) -> str:
    return msgspec.json.encode(json.loads(msgspec.json.encode(ISSUANCE)) | fields).decode()


def times(moment: str) -> str:
    return with_fields(issued=moment, renew=moment, expires=moment)


def test_record_with_a_correct_digest_is_read() -> None:
    assert read_issuance(forged(with_fields())) == ISSUANCE


@cases(
    "text",
    {
        "nested too deep": DEEP,
        "a jitter above 1": with_fields(jitter=1e300),
        "a revision whose successor overflows int64": with_fields(revision=2**63 - 1),
        "a time without a time zone": with_fields(expires="2026-01-02T03:04:05"),
        "a lifetime of thousands of years": with_fields(expires="9999-12-31T23:59:59Z"),
        "the last second of the calendar": times("9999-12-31T23:59:59Z"),
        "after the last second in UTC": times("9999-12-31T23:59:59-23:59"),
        "before the first second in UTC": times("0001-01-01T00:00:00+23:59"),
        "a source expiry in 9999": with_fields(sourceExpires="9999-12-31T23:59:59Z"),
        "a source warning in year 1": with_fields(sourceWarns="0001-01-01T00:00:00Z"),
        "superseded in 9999": with_fields(superseded=[{"tokenId": "t", "at": "9999-12-31T23:59:59Z"}]),
        "a renewal before the issuance": with_fields(renew=(NOW - 9 * HOUR).isoformat()),
        "a name that is too long": with_fields(request="x" * 40_000),
        "an issuance after the expiry": with_fields(issued=(NOW + timedelta(days=9000)).isoformat()),
    },
)
def test_implausible_record_is_ignored(text: str) -> None:
    assert read_issuance(forged(text)) is None


@cases(
    "text",
    {
        "nested too deep": DEEP,
        "fields of wrong types": '{"sourceId":"a","initialTokens":[],"live":"x","consumed":3}',
        "a source ID that is too long": json.dumps({"sourceId": "x" * 40_000, "initialTokens": [], "live": "x"}),
        "a newline": json.dumps({"sourceId": "a\nforged log line", "initialTokens": [], "live": "x"}),
    },
)
def test_implausible_token_family_is_ignored(text: str) -> None:
    assert read_family(text) is None


def test_record_with_too_many_items_is_not_read() -> None:
    # Anyone may write one, and it stays in memory: 32 KiB of two-letter keys needed 300 KiB.
    forged = msgspec.structs.replace(ISSUANCE, keys=tuple(map(str, range(101))))

    assert read_issuance({ISSUANCE_ANNOTATION: forged.encoded()}) is None
