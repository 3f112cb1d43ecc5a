import hashlib
import json
from datetime import timedelta
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
from tests.support.dependencies import HOUR, NOW, manifest, request
from tests.support.issuance import DATA, MADE, OURS, REQUEST, changed

GOLDEN = Path(__file__).with_name("golden_hashes.json")


def test_record_is_read_back_as_written() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: MADE.encoded()}) == MADE


def _compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


@pytest.mark.parametrize("field", [*json.loads(MADE.encoded())])
def test_record_with_an_edited_field_is_ignored(field: str) -> None:
    edited = json.loads(MADE.encoded())
    values = {"keys": ["x"], "revision": 2, "jitter": 0.5}
    edited[field] = values.get(field, "2031-01-01T00:00:00Z")

    assert read_issuance({ISSUANCE_ANNOTATION: _compact(json.loads(MADE.encoded()))}) == MADE
    assert read_issuance({ISSUANCE_ANNOTATION: _compact(edited)}) is None


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({}, id="no annotation"),
        pytest.param({ISSUANCE_ANNOTATION: ""}, id="empty"),
        pytest.param({ISSUANCE_ANNOTATION: "{"}, id="not JSON"),
        pytest.param({ISSUANCE_ANNOTATION: "{}"}, id="an empty object"),
        pytest.param({ISSUANCE_ANNOTATION: "[]"}, id="a list"),
        pytest.param({ISSUANCE_ANNOTATION: '{"x":"\ud800","digest":"0"}'}, id="a lone surrogate"),
        pytest.param({ISSUANCE_ANNOTATION: 7}, id="a number"),
    ],
)
def test_invalid_record_is_ignored(annotations: dict[str, Any]) -> None:
    assert read_issuance(annotations) is None


class NewerIssuance(Issuance, frozen=True, kw_only=True):
    """The record of a newer release."""

    new: str = ""


def test_record_of_a_newer_release_is_read() -> None:
    assert (
        read_issuance({ISSUANCE_ANNOTATION: NewerIssuance(**msgspec.structs.asdict(MADE), new="x").encoded()}) == MADE
    )


def test_record_with_an_added_field_is_ignored() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: MADE.encoded().replace(',"digest"', ',"new":"x","digest"')}) is None


def test_record_contains_no_secret() -> None:
    assert "planted" not in MADE.encoded()
    assert "refresh-token" not in MADE.encoded()


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        pytest.param("v1:a", "v1:a", True, id="the same hash"),
        pytest.param("v1:a", "v1:b", False, id="another hash"),
        pytest.param("v1:a", "v2:b", True, id="an unknown version"),
        pytest.param("v1:a", "", True, id="no hash"),
    ],
)
def test_only_hashes_of_one_version_are_compared(ours: str, theirs: str, *, expected: bool) -> None:
    assert is_unchanged(ours, theirs) is expected


def test_fingerprint_is_short_and_keyed_with_the_name() -> None:
    value = fingerprint("token", REQUEST)

    assert len(value) == 16
    assert value != fingerprint("token", request("other"))
    assert value != fingerprint("token", request(namespace="other"))
    assert value == fingerprint("token", request(uid="another"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(SourceValues("other"), id="another token"),
        pytest.param(SourceValues(None, Credentials("AKIA", "key")), id="credentials instead of a token"),
        pytest.param(SourceValues("token", Credentials("AKIA", "key")), id="additional credentials"),
    ],
)
def test_fingerprint_changes_with_the_source(other: SourceValues) -> None:
    assert source_fingerprint(other, REQUEST) != source_fingerprint(SourceValues("token"), REQUEST)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Credentials("AKIB", "key", "session"), id="another access key ID"),
        pytest.param(Credentials("AKIA", "yek", "session"), id="another secret key"),
        pytest.param(Credentials("AKIA", "key", "other"), id="another session token"),
        pytest.param(Credentials("AKIA", "key"), id="no session token"),
    ],
)
def test_fingerprint_changes_with_the_credentials(other: Credentials) -> None:
    before = SourceValues(None, Credentials("AKIA", "key", "session"))

    assert source_fingerprint(SourceValues(None, other), REQUEST) != source_fingerprint(before, REQUEST)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(dict(reversed(DATA.items())), True, id="another order"),
        pytest.param({**DATA, "token": "other"}, False, id="another value"),
        pytest.param({"expiration": DATA["expiration"]}, False, id="a key removed"),
        pytest.param({"expiration": DATA["token"], "token": DATA["expiration"]}, False, id="two values swapped"),
    ],
)
def test_data_hash_ignores_only_the_order(data: dict[str, str], *, expected: bool) -> None:
    assert (data_hash(data, REQUEST) == MADE.data_hash) is expected


@pytest.mark.parametrize("pinned", json.loads(GOLDEN.read_text()))
def test_hashes_of_a_manifest_are_stable(pinned: dict[str, Any]) -> None:
    parsed = parse(manifest() | {"spec": pinned["spec"]})

    assert (parsed.request_hash, parsed.exchange_hash, parsed.metadata_hash) == (
        pinned["request"],
        pinned["exchange"],
        pinned["metadata"],
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param(OURS, True, id="the record names the request"),
        pytest.param(
            changed(issuance=msgspec.structs.replace(MADE, uid="before"), owners=frozenset()),
            True,
            id="the record has the uid before a restore",
        ),
        pytest.param(
            changed(issuance=msgspec.structs.replace(MADE, request="other")),
            False,
            id="the record names another request",
        ),
        pytest.param(changed(issuance=None), True, id="no record, but our label"),
        pytest.param(changed(issuance=None, labels={}), True, id="no record, but our owner reference"),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset(), managers=frozenset({"keyturn-acme-000"})),
            True,
            id="no record, but our field manager",
        ),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset(), annotations={ADOPTABLE_BY: "acme"}),
            True,
            id="a foreign Secret with consent",
        ),
        pytest.param(
            changed(issuance=None, labels={OWNER_UID: "x"}, owners=frozenset({"x"})),
            False,
            id="a foreign Secret",
        ),
    ],
)
def test_secret_belongs_to_the_request(target: TargetSecret, *, expected: bool) -> None:
    assert is_ours(REQUEST, target) is expected


LABELLED = {"target": {"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}}}


@pytest.mark.parametrize(
    ("spec", "target", "expected"),
    [
        pytest.param({}, OURS, True, id="unchanged"),
        pytest.param({}, changed(labels={**OURS.labels, "more": "x"}), True, id="an additional label"),
        pytest.param({}, changed(labels={}), False, id="our labels removed"),
        pytest.param({}, changed(owners=frozenset()), False, id="the owner removed"),
        pytest.param(LABELLED, OURS, False, id="without the metadata in the spec"),
        pytest.param(
            LABELLED,
            changed(labels={**OURS.labels, "team": "blue"}, annotations={"note": "x"}),
            True,
            id="with the metadata in the spec",
        ),
        pytest.param({"target": {"deletionPolicy": "Retain"}}, OURS, False, id="retained, with an owner"),
        pytest.param(
            {"target": {"deletionPolicy": "Retain"}}, changed(owners=frozenset()), True, id="retained, without an owner"
        ),
        pytest.param({}, changed(annotations={ADOPTABLE_BY: "acme"}), False, id="adopted, with an owner"),
    ],
)
def test_metadata_is_current(spec: dict[str, Any], target: TargetSecret, *, expected: bool) -> None:
    assert has_current_metadata(request(**spec), target) is expected


def test_consent_names_one_request() -> None:
    target = changed(annotations={ADOPTABLE_BY: "acme"})

    assert is_adoptable(REQUEST, target)
    assert not is_adoptable(request("other"), target)
    assert not is_adoptable(REQUEST, None)


def test_field_manager_contains_the_uid() -> None:
    assert field_manager("0123456789") == "keyturn-01234567"


@pytest.mark.parametrize(
    ("last", "identity_id"),
    [
        pytest.param(None, "", id="never issued"),
        pytest.param(MADE, "", id="no identity"),
        pytest.param(
            msgspec.structs.replace(MADE, identity_id="us-east-1:1"), "us-east-1:1", id="the identity of the last issue"
        ),
        pytest.param(
            msgspec.structs.replace(MADE, identity_id="us-east-1:1", exchange_hash="v1:other"),
            "",
            id="the exchanges changed since",
        ),
    ],
)
def test_identity_is_reused_while_the_exchanges_are_unchanged(last: Issuance | None, identity_id: str) -> None:
    assert kept_identity(last, REQUEST) == identity_id


# Anyone who may write a Secret can forge its annotations, so implausible ones are ignored.
DEEP = '{"x":' + "[" * 100_000 + "]" * 100_000 + "}"


def forged(text: str) -> dict[str, str]:
    """The annotation with a correct digest, which anyone can compute: it has no key."""
    return {ISSUANCE_ANNOTATION: f'{text[:-1]},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'}


def with_fields(**fields: Any) -> str:
    return msgspec.json.encode(json.loads(msgspec.json.encode(MADE)) | fields).decode()


def times(moment: str) -> str:
    return with_fields(issued=moment, renew=moment, expires=moment)


def test_record_with_a_correct_digest_is_read() -> None:
    assert read_issuance(forged(with_fields())) == MADE


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested too deep"),
        pytest.param(with_fields(jitter=1e300), id="a jitter above 1"),
        pytest.param(with_fields(revision=2**63 - 1), id="a revision whose successor overflows int64"),
        pytest.param(with_fields(expires="2026-01-02T03:04:05"), id="a time without a time zone"),
        pytest.param(with_fields(expires="9999-12-31T23:59:59Z"), id="a lifetime of thousands of years"),
        pytest.param(times("9999-12-31T23:59:59Z"), id="the last second of the calendar"),
        pytest.param(times("9999-12-31T23:59:59-23:59"), id="after the last second in UTC"),
        pytest.param(times("0001-01-01T00:00:00+23:59"), id="before the first second in UTC"),
        pytest.param(with_fields(sourceExpires="9999-12-31T23:59:59Z"), id="a source expiry in 9999"),
        pytest.param(with_fields(sourceWarns="0001-01-01T00:00:00Z"), id="a source warning in year 1"),
        pytest.param(with_fields(superseded=[{"tokenId": "t", "at": "9999-12-31T23:59:59Z"}]), id="superseded in 9999"),
        pytest.param(with_fields(renew=(NOW - 9 * HOUR).isoformat()), id="a renewal before the issue"),
        pytest.param(with_fields(request="x" * 40_000), id="a name that is too long"),
        pytest.param(with_fields(issued=(NOW + timedelta(days=9000)).isoformat()), id="an issue after the expiry"),
    ],
)
def test_implausible_record_is_ignored(text: str) -> None:
    assert read_issuance(forged(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(DEEP, id="nested too deep"),
        pytest.param('{"sourceId":"a","initialTokens":[],"live":"x","consumed":3}', id="fields of wrong types"),
        pytest.param(
            json.dumps({"sourceId": "x" * 40_000, "initialTokens": [], "live": "x"}),
            id="a source ID that is too long",
        ),
        pytest.param(json.dumps({"sourceId": "a\nforged log line", "initialTokens": [], "live": "x"}), id="a newline"),
    ],
)
def test_implausible_token_family_is_ignored(text: str) -> None:
    assert read_family(text) is None
