"""Sources: the Secrets that a renewal starts from, read fresh and never written."""

import base64
import binascii

from keyturn.core.errors import RefusedError
from keyturn.core.holding import Source
from keyturn.core.holding import read_source as parsed_source
from keyturn.core.model import Request
from keyturn.core.model.source import SecretKeyRef
from keyturn.kube.api import Kube


async def read_source(kube: Kube, request: Request) -> Source:
    """Read all Secrets that the source of a request names, each once."""
    wanted = request.spec.source
    data = {name: await _read(kube, request.namespace, name) for name in dict.fromkeys(wanted.secrets)}
    ref = wanted.token and wanted.token.secret_key_ref
    token = _value(ref, data) if ref else None
    of_keys = wanted.credentials and wanted.credentials.secret_ref
    keys = data[of_keys.name] if of_keys else None
    return parsed_source(token, None if keys is None else _texts(keys))


async def read_value(kube: Kube, namespace: str, ref: SecretKeyRef) -> str:
    """Read one value of a step's own, such as a client's secret."""
    return _value(ref, {ref.name: await _read(kube, namespace, ref.name)}).strip()


async def _read(kube: Kube, namespace: str, name: str) -> dict[str, str]:
    answer = await kube.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if not answer.found:
        raise RefusedError("SourceMissing", f"Secret {name} does not exist")
    if answer.refused:
        raise RefusedError("SourceMissing", f"Secret {name} may not be read: {answer.message}")
    return answer.body.get("data") or {}


def _value(ref: SecretKeyRef, data: dict[str, dict[str, str]]) -> str:
    encoded = data[ref.name].get(ref.key)
    if not encoded:
        raise RefusedError("SourceMissing", f"Secret {ref.name} has no key {ref.key}, or an empty one")
    return _text(encoded, f"key {ref.key} of Secret {ref.name}")


def _texts(data: dict[str, str]) -> dict[str, str]:
    return {key: _text(value, f"key {key}") for key, value in data.items() if key.startswith("AWS_")}


def _text(encoded: str, what: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError("SourceInvalid", f"{what} is not text") from None
