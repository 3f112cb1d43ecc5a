import base64
import tracemalloc
from typing import Any

import msgspec
import pytest

from keyturn.controller.secret_manifest import empty_manifest, read_meta, read_secret, secret_manifest, target_secret
from keyturn.controller.secret_watch import SecretMeta
from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import EXPIRES_AT, ISSUANCE_ANNOTATION, MANAGED_BY, OWNER_UID, data_hash, read_issuance
from tests.support.dependencies import request
from tests.support.issuance import DATA, ISSUANCE, REQUEST
from tests.support.issuance_keys import KEYS
from tests.support.manifest_text import with_formats

KEYTURN, OTHER = "keyturn-acme-000", "kubectl-edit"
ENCODED = {key: base64.b64encode(value.encode()).decode() for key, value in DATA.items()}


def meta(fields: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    """Return metadata of a Secret with an issuance record; `fields` are the keys by manager."""
    managed = [
        {"manager": manager, "fieldsV1": {"f:data": {".": {}, **{f"f:{key}": {} for key in keys}}}}
        for manager, keys in fields.items()
    ]
    metadata = {"name": "acme", "namespace": "billing", "uid": "1", "resourceVersion": "7", "managedFields": managed}
    return (
        metadata | {"annotations": {ISSUANCE_ANNOTATION: KEYS.encode(ISSUANCE, "billing", "acme"), "note": "x"}} | more
    )


def received(fields: dict[str, list[str]]) -> dict[str, Any]:
    """Return metadata as ApiClient returns it: the managers are still encoded."""
    metadata = meta(fields)
    return metadata | {"managedFields": msgspec.Raw(msgspec.json.encode(metadata["managedFields"]))}


def test_manifest_contains_the_whole_secret() -> None:
    manifest = secret_manifest(REQUEST, ISSUANCE, DATA, KEYS, owned=True)

    assert (manifest["type"], manifest["data"]) == ("Opaque", ENCODED)
    assert manifest["metadata"]["labels"] == {MANAGED_BY: "keyturn", OWNER_UID: "acme-0001"}
    assert manifest["metadata"]["annotations"][EXPIRES_AT] == "2026-01-02T04:04:05Z"
    assert read_issuance(manifest["metadata"]["annotations"])
    # Without blockOwnerDeletion, the Secret never delays the deletion of its TokenRequest.
    assert manifest["metadata"]["ownerReferences"] == [
        {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequest", "name": "acme", "uid": "acme-0001"}
    ]


def test_dry_run_manifest_has_data_valid_for_its_type() -> None:
    manifest = secret_manifest(with_formats({"dockerConfigJson": {}}), None, {}, KEYS, owned=False)

    assert (manifest["type"], manifest["data"]) == ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": "e30="})


def test_manifest_contains_metadata_of_the_spec() -> None:
    labelled = request(target={"metadata": {"labels": {"team": "blue"}, "annotations": {"note": "x"}}})
    manifest = secret_manifest(labelled, None, {}, KEYS, owned=False)["metadata"]

    assert (manifest["labels"]["team"], manifest["annotations"]) == ("blue", {"note": "x"})
    assert "ownerReferences" not in manifest


def test_empty_manifest_only_identifies_the_secret() -> None:
    metadata = {"name": "acme", "uid": "secret-1"}

    assert empty_manifest("acme", "secret-1") == {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def test_target_secret_is_read_from_metadata() -> None:
    more = {"labels": {"a": "b"}, "ownerReferences": [{"uid": "acme-0001", "kind": "TokenRequest"}]}
    secret = target_secret(msgspec.convert(meta({KEYTURN: [*DATA], OTHER: []}, **more), SecretMeta), KEYS)

    assert (secret.resource_version, secret.labels, secret.owners) == ("7", {"a": "b"}, frozenset({"acme-0001"}))
    assert (secret.managers, secret.annotations) == (frozenset({KEYTURN}), {"note": "x"})
    assert secret.data_hash is None


@pytest.mark.parametrize(
    ("fields", "modified_by_others"),
    [
        pytest.param({KEYTURN: ["token", "expiration"]}, False, id="all keys are ours"),
        pytest.param({KEYTURN: ["token", "expiration"], OTHER: ["note"]}, False, id="another manager owns another key"),
        pytest.param({KEYTURN: ["token", "expiration"], OTHER: ["token"]}, True, id="another manager shares a key"),
        pytest.param({KEYTURN: ["token"], OTHER: ["expiration"]}, True, id="another manager took a key over"),
        pytest.param({KEYTURN: ["token"]}, True, id="a key was removed"),
        pytest.param({}, True, id="no managed fields"),
    ],
)
def test_modification_by_others_is_detected(fields: dict[str, list[str]], *, modified_by_others: bool) -> None:
    assert target_secret(msgspec.convert(meta(fields), SecretMeta), KEYS).modified_by_others is modified_by_others


def test_key_applied_with_string_data_counts_as_modified() -> None:
    """The API server writes its value, but our manager remains its owner."""
    managed = meta({KEYTURN: [*DATA]})["managedFields"]
    for key, is_modified in (("token", True), ("note", False)):
        applied = {"manager": OTHER, "fieldsV1": {"f:stringData": {f"f:{key}": {}}}}
        secret = target_secret(msgspec.convert(meta({}, managedFields=[*managed, applied]), SecretMeta), KEYS)
        assert secret.modified_by_others is is_modified


def test_secret_without_issuance_record_counts_as_modified() -> None:
    assert target_secret(msgspec.convert(meta({KEYTURN: [*DATA]}, annotations={}), SecretMeta), KEYS).modified_by_others


def test_full_read_returns_only_data_of_our_keys() -> None:
    everything = msgspec.Raw(msgspec.json.encode({**ENCODED, "note": "eA=="}))
    secret, data = read_secret(REQUEST, {"metadata": received({KEYTURN: [*DATA]}), "data": everything}, KEYS)

    assert (data, secret.data_hash) == (DATA, ISSUANCE.data_hash)
    assert (secret.immutable, secret.type) == (False, "Opaque")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(None, id="no data"),
        pytest.param({"token": ENCODED["token"]}, id="key missing"),
        pytest.param({**ENCODED, "token": "/w=="}, id="binary value"),
    ],
)
def test_edited_data_have_another_hash(data: dict[str, str] | None) -> None:
    body = {"metadata": received({KEYTURN: [*DATA]}), "data": msgspec.Raw(msgspec.json.encode(data)), "immutable": True}
    secret, _ = read_secret(REQUEST, body, KEYS)

    assert secret.data_hash != data_hash(DATA, REQUEST)
    assert secret.immutable


def test_type_is_kept_only_as_far_as_it_is_used() -> None:
    """The API server does not limit it."""
    secret, _ = read_secret(REQUEST, {"metadata": received({}), "type": "x" * 1_400_000}, KEYS)

    assert secret.type == "x" * 256


@pytest.mark.parametrize("fields", ["text", [{"manager": 1}]])
def test_unreadable_metadata_are_unavailable(fields: object) -> None:
    with pytest.raises(UnavailableError, match="Secret acme has unreadable metadata"):
        read_meta(REQUEST, {"metadata": meta({}) | {"managedFields": fields}})


def test_many_labels_are_read_only_as_far_as_they_are_used() -> None:
    labelled = request(target={"metadata": {"labels": {"team": "blue"}}})
    labels = {f"{number}": "" for number in range(150_000)} | {"team": "blue", OWNER_UID: "acme-0001"}
    body = {"metadata": meta({}, labels=labels)}
    tracemalloc.start()
    try:
        read = read_meta(labelled, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert read.labels == {"team": "blue", OWNER_UID: "acme-0001"}
    assert ISSUANCE_ANNOTATION in read.annotations
    assert peak < 2**20
