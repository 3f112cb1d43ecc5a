"""The patch that releases an adopted Secret: it removes what only Keyturn manages."""

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from keyturn.api.token_request import JSON_KEYS, Request
from keyturn.controller.secret_manifest import disown_patch, read_secret
from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import IssuanceKeys, field_manager

_EMPTY_JSON = base64.b64encode(b"{}").decode()
# The API server refuses a Secret of such a type without its keys. The values are empty.
_REQUIRED = {kind: {key: _EMPTY_JSON} for kind, key in JSON_KEYS.items()} | {
    "kubernetes.io/basic-auth": {"username": "", "password": ""},
    "kubernetes.io/tls": {"tls.crt": "", "tls.key": ""},
}
# The API server ignores an empty list.
_NO_MANAGERS: list[Any] = [{}]


# gc=False, as in secret_watch.
class _Leaf(msgspec.Struct, gc=False):
    pass


_Leaves = dict[str, _Leaf]


class _Metadata(msgspec.Struct, gc=False):
    labels: _Leaves = msgspec.field(default_factory=dict, name="f:labels")
    annotations: _Leaves = msgspec.field(default_factory=dict, name="f:annotations")


class _Fields(msgspec.Struct, gc=False):
    data: _Leaves = msgspec.field(default_factory=dict, name="f:data")
    string_data: _Leaves = msgspec.field(default_factory=dict, name="f:stringData")
    metadata: _Metadata = msgspec.field(default_factory=_Metadata, name="f:metadata")


class _Manager(msgspec.Struct, gc=False):
    manager: str = ""
    fields: _Fields = msgspec.field(default_factory=_Fields, name="fieldsV1")


def withdrawal_patch(request: Request, body: Mapping[str, Any], keys: IssuanceKeys) -> dict[str, Any]:
    """Return a strategic merge patch that removes the field manager of the request, and what no other manager owns.

    `body` is the full manifest. An apply without fields would also remove what no manager owns: keys that a user
    applied with stringData, and labels that an admission policy added.

    Raises UnavailableError if the managers cannot be decoded.
    """
    secret, _ = read_secret(request, body, keys)
    encoded = body["metadata"].get("managedFields", b"[]")
    try:
        entries = msgspec.json.decode(encoded, type=list[msgspec.Raw])
        managers = msgspec.json.decode(encoded, type=list[_Manager])
    except (msgspec.DecodeError, RecursionError):
        raise UnavailableError("Unavailable", "its managedFields are unreadable") from None
    ours = field_manager(request.uid)

    def only_ours(names: Callable[[_Fields], Iterable[str]]) -> dict[str, None]:
        owned = {name for it in managers if it.manager == ours for name in names(it.fields)}
        owned.difference_update(*(names(it.fields) for it in managers if it.manager != ours))
        return {name[2:]: None for name in owned if name.startswith("f:")}

    data: dict[str, str | None] = {**only_ours(lambda fields: fields.data)}
    if secret.issuance is None or secret.data_hash != secret.issuance.data_hash:
        # A user may have applied other values with stringData, which does not change the owner of the keys.
        for name in {name[2:] for it in managers for name in it.fields.string_data}:
            data.pop(name, None)
    data |= {key: empty for key, empty in _REQUIRED.get(secret.type, {}).items() if key in data}
    patch = disown_patch(request, secret)
    patch["metadata"] |= {
        "resourceVersion": secret.resource_version,
        "labels": only_ours(lambda fields: fields.metadata.labels),
        "annotations": only_ours(lambda fields: fields.metadata.annotations),
        "managedFields": [entry for entry, it in zip(entries, managers, strict=True) if it.manager != ours]
        or _NO_MANAGERS,
    }
    return patch | {"data": data}
