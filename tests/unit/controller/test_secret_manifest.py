import base64
from typing import Any

import msgspec
import pytest

from keyturn.controller.secret_manifest import (
    empty_manifest,
    read_secret,
    released,
    secret_manifest,
    target_secret,
)
from keyturn.controller.secret_watch import Meta
from keyturn.core.issuance import EXPIRES_AT, ISSUANCE_ANNOTATION, MANAGED_BY, OWNER_UID, data_hash, read_issuance
from tests.support.dependencies import request
from tests.support.manifest_text import writing
from tests.unit.core.test_issuance import DATA, MADE, REQUEST

OURS, THEIRS = "keyturn-acme-000", "kubectl-edit"
ENCODED = {key: base64.b64encode(value.encode()).decode() for key, value in DATA.items()}


def meta(fields: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    """Metadata of a Secret with our marks, and who manages which keys."""
    managed = [
        {"manager": manager, "fieldsV1": {"f:data": {".": {}, **{f"f:{key}": {} for key in keys}}}}
        for manager, keys in fields.items()
    ]
    about = {"name": "acme", "namespace": "billing", "uid": "1", "resourceVersion": "7", "managedFields": managed}
    return about | {"annotations": {ISSUANCE_ANNOTATION: MADE.encoded(), "note": "x"}} | more


def test_a_manifest_is_the_whole_secret() -> None:
    made = secret_manifest(REQUEST, MADE, DATA, owned=True)

    assert (made["type"], made["data"]) == ("Opaque", ENCODED)
    assert made["metadata"]["labels"] == {MANAGED_BY: "keyturn", OWNER_UID: "acme-0001"}
    assert made["metadata"]["annotations"][EXPIRES_AT] == "2026-01-02T04:04:05Z"
    assert read_issuance(made["metadata"]["annotations"])


def test_an_owner_reference_blocks_nothing() -> None:
    (owner,) = secret_manifest(REQUEST, MADE, DATA, owned=True)["metadata"]["ownerReferences"]

    assert owner == {
        "apiVersion": "keyturn.dev/v1alpha1",
        "kind": "TokenRequest",
        "name": "acme",
        "uid": "acme-0001",
    }


def test_without_an_owner() -> None:
    assert "ownerReferences" not in secret_manifest(REQUEST, MADE, DATA, owned=False)["metadata"]


def test_a_rehearsal_has_no_marks() -> None:
    assert secret_manifest(REQUEST, None, {}, owned=False)["metadata"]["annotations"] == {}


def test_a_rehearsal_of_registry_logins_has_data_that_the_type_accepts() -> None:
    made = secret_manifest(writing({"dockerConfigJson": {}}), None, {}, owned=False)

    assert (made["type"], made["data"]) == ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": "e30="})


def test_metadata_of_the_spec_is_in_it() -> None:
    wanted = request(target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}})
    made = secret_manifest(wanted, None, {}, owned=False)["metadata"]

    assert (made["labels"]["team"], made["annotations"]["note"]) == ("blue", "x")


def test_an_apply_of_nothing_names_nothing_but_the_secret() -> None:
    metadata = {"name": "acme", "uid": "secret-1"}

    assert empty_manifest("acme", "secret-1") == {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def test_a_release_touches_no_data() -> None:
    found = target_secret(msgspec.convert(meta({}), Meta))

    assert released(found).keys() == {"metadata"}
    assert released(found)["metadata"]["uid"] == "1"


def test_what_metadata_tell() -> None:
    more = {"labels": {"a": "b"}, "ownerReferences": [{"uid": "acme-0001", "kind": "TokenRequest"}]}
    found = target_secret(msgspec.convert(meta({OURS: [*DATA], THEIRS: []}, **more), Meta))

    assert (found.resource_version, found.labels, found.owners) == ("7", {"a": "b"}, frozenset({"acme-0001"}))
    assert (found.managers, found.annotations) == (frozenset({OURS}), {"note": "x"})
    assert found.data_hash is None


@pytest.mark.parametrize(
    ("fields", "modified_by_others"),
    [
        pytest.param({OURS: ["token", "expiration"]}, False, id="all keys are ours"),
        pytest.param({OURS: ["token", "expiration"], THEIRS: ["note"]}, False, id="a key of theirs beside ours"),
        pytest.param({OURS: ["token", "expiration"], THEIRS: ["token"]}, True, id="a key is shared"),
        pytest.param({OURS: ["token"], THEIRS: ["expiration"]}, True, id="a key was taken"),
        pytest.param({OURS: ["token"]}, True, id="a key was removed"),
        pytest.param({}, True, id="nothing is managed"),
    ],
)
def test_whether_somebody_else_had_a_hand_in_it(fields: dict[str, list[str]], *, modified_by_others: bool) -> None:
    assert target_secret(msgspec.convert(meta(fields), Meta)).modified_by_others is modified_by_others


def test_without_marks_it_counts_as_touched() -> None:
    assert target_secret(msgspec.convert(meta({OURS: [*DATA]}, annotations={}), Meta)).modified_by_others


def test_a_full_read_has_the_data_under_our_keys_only() -> None:
    found, data = read_secret(REQUEST, {"metadata": meta({OURS: [*DATA]}), "data": {**ENCODED, "note": "eA=="}})

    assert (data, found.data_hash) == (DATA, MADE.data_hash)
    assert (found.immutable, found.type) == (False, "Opaque")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="no data"),
        pytest.param({"token": ENCODED["token"]}, id="a key less"),
        pytest.param({**ENCODED, "token": "/w=="}, id="bytes that are no text"),
    ],
)
def test_data_that_were_edited_have_another_hash(data: dict[str, str] | None) -> None:
    found, _ = read_secret(REQUEST, {"metadata": meta({OURS: [*DATA]}), "data": data, "immutable": True})

    assert found.data_hash != data_hash(DATA, REQUEST)
    assert found.immutable
