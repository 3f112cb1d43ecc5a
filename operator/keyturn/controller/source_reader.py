"""Reads sources and other values that a TokenRequest refers to; uncached and read-only."""

import base64
import binascii

from keyturn.api.base import GROUP
from keyturn.api.source import ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.controller.api_client import ApiClient, secrets_path
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import SourceValues, parse_source

SOURCE_LABEL = (f"{GROUP}/source", "true")


async def read_source(api: ApiClient, request: Request, *, require_label: bool = False) -> SourceValues:
    """Read the source of a request and its single-use credential, each Secret once.

    With `require_label`, a Secret without the label is refused like one that does not exist.
    """
    source, single_use = request.spec.source, request.spec.single_use_ref
    names = dict.fromkeys((*source.secrets, *((single_use.name,) if single_use else ())))
    data = {name: await _read(api, request.namespace, name, require_label=require_label) for name in names}
    return parse_source(
        token=_value(source.token_ref, data) if source.token_ref else None,
        keys=_texts(data[source.keys_ref.name]) if source.keys_ref else None,
        single_use_credential=_value(single_use, data) if single_use else None,
    )


async def read_value(
    api: ApiClient, namespace: str, ref: SecretKeyRef | ConfigMapKeyRef, *, require_label: bool = False
) -> str:
    """Read a value that an exchange refers to, such as a client secret."""
    if isinstance(ref, ConfigMapKeyRef):
        return await _config_map_value(api, namespace, ref)
    return _value(ref, {ref.name: await _read(api, namespace, ref.name, require_label=require_label)}).strip()


async def _config_map_value(api: ApiClient, namespace: str, ref: ConfigMapKeyRef) -> str:
    response = await api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{ref.name}")
    if not response.found:
        raise RefusedError("SourceNotFound", f"ConfigMap {ref.name} does not exist")
    if response.refused:
        raise RefusedError("SourceNotFound", f"ConfigMap {ref.name} may not be read: {response.message}")
    value = (response.body.get("data") or {}).get(ref.key)
    if not value:
        raise RefusedError("SourceNotFound", f"ConfigMap {ref.name} has no key {ref.key}, or an empty one")
    return str(value)


async def _read(api: ApiClient, namespace: str, name: str, *, require_label: bool) -> dict[str, str]:
    response = await api.request("GET", secrets_path(namespace, name))
    if not response.found:
        raise RefusedError("SourceNotFound", f"Secret {name} does not exist")
    if response.refused:
        raise RefusedError("SourceNotFound", f"Secret {name} may not be read: {response.message}")
    label, value = SOURCE_LABEL
    if require_label and (response.body["metadata"].get("labels") or {}).get(label) != value:
        problem = f'has no label {label}: "{value}", which the operator\'s settings (sources.requireLabel) require'
        raise RefusedError("SourceNotFound", f"Secret {name} {problem}")
    return response.body.get("data") or {}


def _value(ref: SecretKeyRef, data: dict[str, dict[str, str]]) -> str:
    encoded = data[ref.name].get(ref.key)
    if not encoded:
        raise RefusedError("SourceNotFound", f"Secret {ref.name} has no key {ref.key}, or an empty one")
    return _text(encoded, f"key {ref.key} of Secret {ref.name}")


def _texts(data: dict[str, str]) -> dict[str, str]:
    return {key: _text(value, f"key {key}") for key, value in data.items() if key.startswith("AWS_")}


def _text(encoded: str, what: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError("SourceInvalid", f"{what} is not text") from None
