"""Converts targets to and from manifests of Secrets."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from keyturn.api.base import GROUP
from keyturn.api.times import rfc3339
from keyturn.api.token_request import JSON_KEYS, KIND, OPAQUE, VERSION, Request
from keyturn.controller.response_body import has_too_many_fields, select
from keyturn.controller.secret_watch import OUR_NAMES, SecretMeta
from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import (
    EXPIRES_AT,
    ISSUANCE_ANNOTATION,
    MANAGED_BY,
    OWNER_UID,
    Issuance,
    IssuanceKeys,
    TargetSecret,
    annotations,
    data_hash,
    field_manager,
    labels,
)

# The API server checks that Secrets of these types have this data; a dry run has no real data yet.
_DRY_RUN_DATA = {kind: {key: "{}"} for kind, key in JSON_KEYS.items()}
# More labels or annotations than `SecretMeta.bounded` keeps.
_MANY = 1000
# Longer than any type that the formats require.
_MAX_TYPE_LENGTH = 256
_NOT_KEPT = frozenset({ISSUANCE_ANNOTATION, EXPIRES_AT, "kubectl.kubernetes.io/last-applied-configuration"})


def secret_manifest(
    request: Request, issuance: Issuance | None, data: Mapping[str, str], keys: IssuanceKeys, *, owned: bool
) -> dict[str, Any]:
    """Return the Secret to apply or, without an issuance record, to apply with dryRun.

    `owned` adds an owner reference, so that the Secret is deleted with the TokenRequest.
    """
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": request.name, "uid": request.uid}
    kind = request.spec.secret_type
    content = data if issuance else _DRY_RUN_DATA.get(kind, data)
    record = {}
    if issuance:
        signed = keys.encode(issuance, request.namespace, request.secret_name)
        record = {ISSUANCE_ANNOTATION: signed, EXPIRES_AT: rfc3339(issuance.expires)}
    metadata = {
        "name": request.secret_name,
        "labels": labels(request),
        "annotations": annotations(request) | record,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": metadata | ({"ownerReferences": [owner]} if owned else {}),
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in content.items()},
    }


def empty_manifest(name: str, uid: str) -> dict[str, Any]:
    """Return a manifest without fields: applying it removes all fields that only this manager owns."""
    # Without the uid, an apply would create an empty Secret if there is none.
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "uid": uid}}


def disown_patch(request: Request, secret: TargetSecret) -> dict[str, Any]:
    """Return a strategic merge patch that removes only the owner reference of this request."""
    return {"metadata": {"uid": secret.uid, "ownerReferences": [{"$patch": "delete", "uid": request.uid}]}}


def release_patch(request: Request, secret: TargetSecret) -> dict[str, Any]:
    """Return a strategic merge patch that releases a Secret but keeps its data."""
    patch, ours = disown_patch(request, secret), {MANAGED_BY: "keyturn", OWNER_UID: request.uid}
    patch["metadata"] |= {
        "annotations": {ISSUANCE_ANNOTATION: None, EXPIRES_AT: None},
        "labels": {name: None for name, value in ours.items() if secret.labels.get(name) == value},
    }
    return patch


def target_secret(meta: SecretMeta, keys: IssuanceKeys) -> TargetSecret:
    """Return a Secret as far as it is known from its metadata."""
    issuance, unverified = keys.read(meta.annotations, meta.namespace, meta.name)
    return TargetSecret(
        uid=meta.uid,
        resource_version=meta.resource_version,
        issuance=issuance,
        labels=meta.labels,
        annotations={key: value for key, value in meta.annotations.items() if key not in _NOT_KEPT},
        owners=frozenset(owner.uid for owner in meta.owner_references),
        managers=frozenset(fields.manager for fields in meta.managed_fields if fields.is_ours),
        modified_by_others=issuance is None or _is_modified_by_others(meta, issuance),
        unverified=unverified,
    )


def read_meta(request: Request, body: Mapping[str, Any]) -> SecretMeta:
    """Return the metadata of a Secret from its manifest, with all names that the request's spec contains.

    Raises UnavailableError if the metadata cannot be decoded.
    """
    names = {request.uid, *labels(request), *annotations(request)}
    metadata = dict(body["metadata"])
    for kind in ("labels", "annotations"):
        # Encoding and decoding 150,000 labels would take 65 ms.
        if len(texts := metadata.get(kind) or {}) > _MANY:
            metadata[kind] = {name: texts[name] for name in names | OUR_NAMES if name in texts}
    try:
        # Encoded again, because managedFields are still encoded.
        return msgspec.json.decode(msgspec.json.encode(metadata), type=SecretMeta).bounded(names)
    except msgspec.DecodeError:
        raise UnavailableError("Unavailable", f"Secret {request.secret_name} has unreadable metadata") from None


def read_secret(request: Request, body: Mapping[str, Any], keys: IssuanceKeys) -> tuple[TargetSecret, dict[str, str]]:
    """Return a Secret from its full manifest, and the data of the keys that were issued."""
    secret = target_secret(read_meta(request, body), keys)
    issued = secret.issuance.keys if secret.issuance else ()
    # A value that was edited by hand may not be text. It only has to differ from the issued value.
    data = {
        key: base64.b64decode(value).decode(errors="replace") for key, value in select(body.get("data"), issued).items()
    }
    # The API server does not limit the type, and it is cached.
    fields = {"immutable": bool(body.get("immutable")), "type": body.get("type", OPAQUE)[:_MAX_TYPE_LENGTH]}
    fields["has_too_many_fields"] = has_too_many_fields(body)
    return replace(secret, data_hash=data_hash(data, request), **fields), data


def _is_modified_by_others(meta: SecretMeta, issuance: Issuance) -> bool:
    """Whether another field manager owns one of our keys or has applied one, or we no longer own one."""
    return not set(issuance.keys) <= meta.keys_of(field_manager(issuance.uid)) - meta.string_data_keys()
