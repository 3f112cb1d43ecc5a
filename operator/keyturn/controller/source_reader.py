"""Sources: the Secrets that a renewal starts from, read fresh and never written."""

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
    """Read all that the source of a request names, each Secret once, and what works only once in a step.

    Where they must have the label (`require_label`), those that are not are refused like those that are not there.
    """
    wanted, proof = request.spec.source, request.spec.single_use_ref
    names = dict.fromkeys((*wanted.secrets, *((proof.name,) if proof else ())))
    data = {name: await _read(api, request.namespace, name, require_label=require_label) for name in names}
    return parse_source(
        token=_value(wanted.token_ref, data) if wanted.token_ref else None,
        keys=_texts(data[wanted.keys_ref.name]) if wanted.keys_ref else None,
        proof=_value(proof, data) if proof else None,
    )


async def read_value(
    api: ApiClient, namespace: str, ref: SecretKeyRef | ConfigMapKeyRef, *, require_label: bool = False
) -> str:
    """Read one value of a step's own, such as a client's secret."""
    if isinstance(ref, ConfigMapKeyRef):
        return await _of_config_map(api, namespace, ref)
    return _value(ref, {ref.name: await _read(api, namespace, ref.name, require_label=require_label)}).strip()


async def _of_config_map(api: ApiClient, namespace: str, ref: ConfigMapKeyRef) -> str:
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
        says = f'has no label {label}: "{value}", which the operator\'s settings (sources.requireLabel) ask for'
        raise RefusedError("SourceNotFound", f"Secret {name} {says}")
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
