"""Secrets as manifests: what we apply, and what we make of what is there."""

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from keyturn.api.base import GROUP
from keyturn.api.times import rfc3339
from keyturn.api.token_request import DOCKER, KIND, OPAQUE, VERSION, Request
from keyturn.controller.secret_watch import Meta
from keyturn.core.issuance import (
    EXPIRES_AT,
    ISSUANCE_ANNOTATION,
    MANAGED_BY,
    OWNER_UID,
    Issuance,
    TargetSecret,
    annotations,
    data_hash,
    field_manager,
    labels,
    read_issuance,
)

# The API server checks the data of this type; what is rehearsed has none yet.
_REHEARSED = {DOCKER: {".dockerconfigjson": "{}"}}
_NOT_KEPT = frozenset({ISSUANCE_ANNOTATION, EXPIRES_AT, "kubectl.kubernetes.io/last-applied-configuration"})


def secret_manifest(
    request: Request, issuance: Issuance | None, data: Mapping[str, str], *, owned: bool
) -> dict[str, Any]:
    """Make the whole Secret as it is applied; without marks it is a rehearsal.

    `owned` gives it an owner reference, with which it goes when the TokenRequest goes.
    """
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": request.name, "uid": request.uid}
    kind = request.spec.secret_type
    shown = data if issuance else _REHEARSED.get(kind, data)
    marked = {ISSUANCE_ANNOTATION: issuance.encoded(), EXPIRES_AT: rfc3339(issuance.expires)} if issuance else {}
    about = {
        "name": request.secret_name,
        "labels": labels(request),
        "annotations": annotations(request) | marked,
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": about | ({"ownerReferences": [owner]} if owned else {}),
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in shown.items()},
    }


def empty_manifest(name: str, uid: str) -> dict[str, Any]:
    """An apply of nothing: it takes back all that this manager had applied and nobody else holds."""
    # With the uid: an apply on an absent object would make an empty one.
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "uid": uid}}


def released(found: TargetSecret) -> dict[str, Any]:
    """A merge patch that makes a Secret nobody's: the data stay."""
    return {
        "metadata": {
            "uid": found.uid,
            "annotations": {ISSUANCE_ANNOTATION: None, EXPIRES_AT: None},
            "labels": {MANAGED_BY: None, OWNER_UID: None},
            "ownerReferences": None,
        }
    }


def target_secret(meta: Meta) -> TargetSecret:
    """What the metadata of a Secret tells."""
    issuance = read_issuance(meta.annotations)
    return TargetSecret(
        uid=meta.uid,
        resource_version=meta.resource_version,
        issuance=issuance,
        labels=meta.labels,
        annotations={key: value for key, value in meta.annotations.items() if key not in _NOT_KEPT},
        owners=frozenset(owner.uid for owner in meta.owner_references),
        managers=frozenset(f.manager for f in meta.managed_fields if f.manager.startswith("keyturn-")),
        modified_by_others=issuance is None or _touched(meta, issuance),
    )


def read_secret(request: Request, body: Mapping[str, Any]) -> tuple[TargetSecret, dict[str, str]]:
    """What a full read tells, and the data under our keys."""
    found = target_secret(msgspec.convert(body["metadata"], Meta))
    keys = found.issuance.keys if found.issuance else ()
    given = body.get("data") or {}
    data = {key: _decoded(given[key]) for key in keys if key in given}
    known = {"immutable": bool(body.get("immutable")), "type": body.get("type", OPAQUE)}
    return replace(found, data_hash=data_hash(data, request), **known), data


def _touched(meta: Meta, issuance: Issuance) -> bool:
    """Whether another manager holds one of our keys, or we hold one no more."""
    keys, manager = set(issuance.keys), field_manager(issuance.uid)
    ours = frozenset[str]().union(*(f.data_keys() for f in meta.managed_fields if f.manager == manager))
    theirs = frozenset[str]().union(*(f.data_keys() for f in meta.managed_fields if f.manager != manager))
    return not keys <= ours or bool(keys & theirs)


def _decoded(value: str) -> str:
    # What was edited by hand need not be text: it only has to differ.
    return base64.b64decode(value).decode(errors="replace")
