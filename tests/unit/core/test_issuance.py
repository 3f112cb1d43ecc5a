import json
from dataclasses import replace
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
    consents,
    data_hash,
    field_manager,
    fingerprint,
    has_current_metadata,
    is_ours,
    kept_identity,
    labels,
    read_issuance,
    source_fingerprint,
    unchanged,
)
from keyturn.core.pipeline_values import Credentials, SourceValues
from tests.support.dependencies import HOUR, NOW, manifest, request

GOLDEN = Path(__file__).with_name("golden_hashes.json")
REQUEST = request()
DATA = {"token": "planted", "expiration": "2026-01-02T04:04:05Z"}
MADE = Issuance(
    request="acme",
    uid="acme-0001",
    issued=NOW,
    expires=NOW + HOUR,
    renew=NOW,
    jitter=0.25,
    request_hash=REQUEST.request_hash,
    exchange_hash=REQUEST.exchange_hash,
    metadata_hash=REQUEST.metadata_hash,
    data_hash=data_hash(DATA, REQUEST),
    source=source_fingerprint(SourceValues("refresh-token"), REQUEST),
    revision=1,
    keys=tuple(DATA),
)
OURS = TargetSecret("secret-1", "1", MADE, labels(REQUEST), {}, frozenset({REQUEST.uid}))


def changed(**fields: Any) -> TargetSecret:
    """OURS with other fields."""
    return replace(OURS, **fields)


def test_marks_come_back_as_they_were_written() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: MADE.encoded()}) == MADE


def _compact(fields: dict[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


@pytest.mark.parametrize("field", [*json.loads(MADE.encoded())])
def test_marks_with_any_field_edited_do_not_count(field: str) -> None:
    edited = json.loads(MADE.encoded())
    others = {"keys": ["x"], "revision": 2, "jitter": 0.5}
    edited[field] = others.get(field, "2031-01-01T00:00:00Z")

    assert read_issuance({ISSUANCE_ANNOTATION: _compact(json.loads(MADE.encoded()))}) == MADE
    assert read_issuance({ISSUANCE_ANNOTATION: _compact(edited)}) is None


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({}, id="none at all"),
        pytest.param({ISSUANCE_ANNOTATION: ""}, id="empty"),
        pytest.param({ISSUANCE_ANNOTATION: "{"}, id="no JSON"),
        pytest.param({ISSUANCE_ANNOTATION: "{}"}, id="nothing in it"),
        pytest.param({ISSUANCE_ANNOTATION: "[]"}, id="another type"),
    ],
)
def test_marks_that_cannot_be_read(annotations: dict[str, str]) -> None:
    assert read_issuance(annotations) is None


class Newer(Issuance, frozen=True, kw_only=True):
    """The marks of a later release."""

    new: str = ""


def test_a_field_that_this_release_does_not_know_is_passed_over() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: Newer(**msgspec.structs.asdict(MADE), new="x").encoded()}) == MADE


def test_a_field_that_was_added_by_hand_makes_the_marks_not_count() -> None:
    assert read_issuance({ISSUANCE_ANNOTATION: MADE.encoded().replace(',"digest"', ',"new":"x","digest"')}) is None


def test_marks_hold_no_value_of_the_data() -> None:
    assert "planted" not in MADE.encoded()
    assert "refresh-token" not in MADE.encoded()


@pytest.mark.parametrize(
    ("now", "then", "same"),
    [
        pytest.param("v1:a", "v1:a", True, id="the same hash"),
        pytest.param("v1:a", "v1:b", False, id="another hash"),
        pytest.param("v1:a", "v2:b", True, id="a version that this release does not know"),
        pytest.param("v1:a", "", True, id="no hash"),
    ],
)
def test_unchanged(now: str, then: str, *, same: bool) -> None:
    assert unchanged(now, then) is same


def test_a_fingerprint_is_short_and_keyed_with_the_name() -> None:
    mine = fingerprint("token", REQUEST)

    assert len(mine) == 16
    assert mine != fingerprint("token", request("other"))
    assert mine != fingerprint("token", request(namespace="other"))
    assert mine == fingerprint("token", request(uid="another"))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(SourceValues("other"), id="another token"),
        pytest.param(SourceValues(None, Credentials("AKIA", "key")), id="credentials for a token"),
        pytest.param(SourceValues("token", Credentials("AKIA", "key")), id="credentials beside it"),
    ],
)
def test_a_source_that_changed_has_another_fingerprint(other: SourceValues) -> None:
    assert source_fingerprint(other, REQUEST) != source_fingerprint(SourceValues("token"), REQUEST)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Credentials("AKIB", "key", "session"), id="another key id"),
        pytest.param(Credentials("AKIA", "yek", "session"), id="another secret key"),
        pytest.param(Credentials("AKIA", "key", "other"), id="another session"),
        pytest.param(Credentials("AKIA", "key"), id="no session"),
    ],
)
def test_credentials_that_changed_have_another_fingerprint(other: Credentials) -> None:
    before = SourceValues(None, Credentials("AKIA", "key", "session"))

    assert source_fingerprint(SourceValues(None, other), REQUEST) != source_fingerprint(before, REQUEST)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        pytest.param(dict(reversed(DATA.items())), True, id="another order"),
        pytest.param({**DATA, "token": "other"}, False, id="another value"),
        pytest.param({"expiration": DATA["expiration"]}, False, id="a key less"),
        pytest.param({"expiration": DATA["token"], "token": DATA["expiration"]}, False, id="two values swapped"),
    ],
)
def test_the_hash_of_the_data(other: dict[str, str], *, same: bool) -> None:
    assert (data_hash(other, REQUEST) == MADE.data_hash) is same


@pytest.mark.parametrize("pinned", json.loads(GOLDEN.read_text()))
def test_no_release_changes_the_hash_of_a_manifest(pinned: dict[str, Any]) -> None:
    made = parse(manifest() | {"spec": pinned["spec"]})

    assert (made.request_hash, made.exchange_hash, made.metadata_hash) == (
        pinned["request"],
        pinned["exchange"],
        pinned["metadata"],
    )


@pytest.mark.parametrize(
    ("found", "ours"),
    [
        pytest.param(OURS, True, id="the marks name the request"),
        pytest.param(
            changed(issuance=msgspec.structs.replace(MADE, uid="before"), owners=frozenset()),
            True,
            id="of the same name before a restore",
        ),
        pytest.param(changed(issuance=msgspec.structs.replace(MADE, request="other")), False, id="of another"),
        pytest.param(changed(issuance=None), True, id="without marks, with our label"),
        pytest.param(changed(issuance=None, labels={}), True, id="without marks, with our owner reference"),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset(), managers=frozenset({"keyturn-acme-000"})),
            True,
            id="without marks, with our field manager",
        ),
        pytest.param(
            changed(issuance=None, labels={}, owners=frozenset(), annotations={ADOPTABLE_BY: "acme"}),
            True,
            id="of somebody else who consents",
        ),
        pytest.param(
            changed(issuance=None, labels={OWNER_UID: "x"}, owners=frozenset({"x"})),
            False,
            id="of somebody else",
        ),
    ],
)
def test_is_ours(found: TargetSecret, *, ours: bool) -> None:
    assert is_ours(REQUEST, found) is ours


LABELLED = {"target": {"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}}}


@pytest.mark.parametrize(
    ("spec", "found", "metadata_applied"),
    [
        pytest.param({}, OURS, True, id="as it was made"),
        pytest.param({}, changed(labels={**OURS.labels, "more": "x"}), True, id="with a label of somebody else"),
        pytest.param({}, changed(labels={}), False, id="without our labels"),
        pytest.param({}, changed(owners=frozenset()), False, id="without its owner"),
        pytest.param(LABELLED, OURS, False, id="without what the spec asks for"),
        pytest.param(
            LABELLED,
            changed(labels={**OURS.labels, "team": "blue"}, annotations={"note": "x"}),
            True,
            id="with what the spec asks for",
        ),
        pytest.param({"target": {"deletionPolicy": "Retain"}}, OURS, False, id="retained, with an owner"),
        pytest.param(
            {"target": {"deletionPolicy": "Retain"}}, changed(owners=frozenset()), True, id="retained, without"
        ),
        pytest.param({}, changed(annotations={ADOPTABLE_BY: "acme"}), False, id="adopted, with an owner"),
    ],
)
def test_is_dressed(spec: dict[str, Any], found: TargetSecret, *, metadata_applied: bool) -> None:
    assert has_current_metadata(request(**spec), found) is metadata_applied


def test_consent_is_to_one_request_by_name() -> None:
    found = changed(annotations={ADOPTABLE_BY: "acme"})

    assert consents(REQUEST, found)
    assert not consents(request("other"), found)
    assert not consents(REQUEST, None)


def test_the_field_manager_is_of_one_request() -> None:
    assert field_manager("0123456789") == "keyturn-01234567"


@pytest.mark.parametrize(
    ("last", "kept"),
    [
        pytest.param(None, "", id="nothing was issued yet"),
        pytest.param(MADE, "", id="without an identity"),
        pytest.param(msgspec.structs.replace(MADE, identity_id="us-east-1:1"), "us-east-1:1", id="of the last issue"),
        pytest.param(
            msgspec.structs.replace(MADE, identity_id="us-east-1:1", exchange_hash="v1:other"),
            "",
            id="of a last issue from another pool, perhaps",
        ),
    ],
)
def test_the_identity_that_is_kept(last: Issuance | None, kept: str) -> None:
    assert kept_identity(last, REQUEST) == kept
