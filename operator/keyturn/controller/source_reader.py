"""Reads sources and other values that a TokenRequest refers to, and requests ServiceAccount tokens."""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from http import HTTPStatus

from keyturn.api.source import SOURCE_LABEL, ConfigMapKeyRef, SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.controller.api_client import ApiClient, ApiResponse, is_terminating
from keyturn.controller.response_body import select
from keyturn.core.der import binary_hint
from keyturn.core.errors import NamespaceTerminatingError, RefusedError
from keyturn.core.lru import LruDict
from keyturn.core.pipeline_values import AWS_KEYS, SourceValues, parse_source, require_content
from keyturn.exchanges.memory_limiter import LARGE_BYTES

_MAX_AUDIENCES = 1024  # users choose them, and each may have 4 KiB
_READ_REMEDY = "the chart grants it if rbac.create is set, only in watchNamespaces if that is set"
_SHARED_SECONDS = 1.0
_ACCOUNT_REMEDY = (
    "the chart grants it if rbac.serviceAccountTokens is set, only for rbac.serviceAccountTokenNames if that is set"
)


@dataclass(frozen=True, slots=True)
class _SharedRead:
    """When a read of a Secret began, and its data."""

    began: float
    data: "asyncio.Future[dict[str, str] | None]" = field(repr=False)


class SourceReader:
    """Reads sources. With `require_label`, a Secret without the label is refused like one that does not exist."""

    def __init__(
        self, api: ApiClient, monotonic: Callable[[], float] = time.monotonic, *, require_label: bool = False
    ) -> None:
        self._api = api
        self._monotonic = monotonic
        self._require_label = require_label
        # For a second, by namespace, and by name and keys.
        self._shared: dict[str, dict[tuple[str, frozenset[str]], _SharedRead]] = {}

    async def read(self, request: Request, *, shared: bool = False) -> SourceValues:
        """Read the source of a request and its single-use credential, each Secret once.

        With `shared`, a read of a Secret that began less than a second ago is used, if there is one.
        """
        source, single_use = request.spec.source, request.spec.single_use_ref
        refs = [ref for ref in (source.token_ref, single_use) if ref]
        names = dict.fromkeys((*source.secrets, *((single_use.name,) if single_use else ())))
        keys_read = frozenset({*AWS_KEYS, *(ref.key for ref in refs)})
        read = self._share if shared else self._read
        data = {name: await read(request.namespace, name, keys_read) for name in names}
        token = _value(source.token_ref, data) if source.token_ref else None
        keys = None
        if source.keys_ref:
            encoded = data[source.keys_ref.name]
            keys = {key: _text(encoded[key], f"key {key}") for key in AWS_KEYS if key in encoded}
        keys_from = f"Secret {source.keys_ref.name}" if source.keys_ref else ""
        return parse_source(token, keys, _value(single_use, data) if single_use else None, keys_from=keys_from)

    def forget(self, namespace: str, name: str = "") -> None:
        """Stop sharing reads that have begun, of a Secret or of all in a namespace: they may be outdated."""
        reads = self._shared.get(namespace, {})
        for key in [key for key in reads if name in ("", key[0])]:
            del reads[key]

    async def _share(self, namespace: str, name: str, keys: frozenset[str]) -> dict[str, str]:
        began, shared = self._monotonic(), self._shared.get(namespace, {}).get((name, keys))
        if shared and began - shared.began < _SHARED_SECONDS:
            # None if that read failed or was cancelled.
            data = await asyncio.shield(shared.data)
            return await self._read(namespace, name, keys) if data is None else data
        loop, data = asyncio.get_running_loop(), None
        shared = _SharedRead(began, loop.create_future())
        self._shared.setdefault(namespace, {})[name, keys] = shared
        timer = loop.call_later(_SHARED_SECONDS, self._end, namespace, shared)
        try:
            data = await self._read(namespace, name, keys)
        finally:
            shared.data.set_result(data)
            # A tenant may have hundreds of large Secrets, and no source needs one.
            if data is None or sum(map(len, data.values())) > LARGE_BYTES:
                timer.cancel()  # It refers to the data.
                self._end(namespace, shared)
        return data

    def _end(self, namespace: str, shared: _SharedRead) -> None:
        reads = {key: read for key, read in self._shared.pop(namespace, {}).items() if read is not shared}
        if reads:
            self._shared[namespace] = reads

    async def _read(self, namespace: str, name: str, keys: frozenset[str]) -> dict[str, str]:
        return await _read(self._api, namespace, "Secret", name, keys, require_label=self._require_label)


async def read_value(
    api: ApiClient, namespace: str, ref: SecretKeyRef | ConfigMapKeyRef, *, require_label: bool = False
) -> str:
    """Read a value that an exchange refers to, such as a client secret."""
    if isinstance(ref, ConfigMapKeyRef):
        value = (await _read(api, namespace, "ConfigMap", ref.name, {ref.key})).get(ref.key)
        if value is None:
            raise RefusedError("SourceNotFound", f"ConfigMap {ref.name} has no key {ref.key}")
        return require_content(value, f"key {ref.key} of ConfigMap {ref.name}")
    data = await _read(api, namespace, "Secret", ref.name, {ref.key}, require_label=require_label)
    return _value(ref, {ref.name: data}).strip()


class ServiceAccounts:
    """Requests ServiceAccount tokens for audiences other than the API server.

    Verifies once for each ServiceAccount and set of audiences that the API server itself does not accept the token. Not
    once for all ServiceAccounts: anyone who deletes one before its token is verified makes the API server refuse it.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._checked: LruDict[tuple[str, str, tuple[str, ...]], bool] = LruDict(_MAX_AUDIENCES)

    async def make_token(self, namespace: str, name: str, audiences: tuple[str, ...], seconds: int) -> str:
        """Request a token (the token subresource of a ServiceAccount).

        Raises RefusedError: SourceNotFound if the ServiceAccount does not exist or its token is refused,
        SourceForbidden if the operator lacks the right, and IdentityNotAllowed if the API server accepts the token
        itself: it would give access to the cluster.
        """
        spec = {"audiences": list(audiences), "expirationSeconds": seconds}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        response = await self._api.request("POST", path, body)
        if not response.is_found:
            raise RefusedError("SourceNotFound", f"ServiceAccount {name} does not exist")
        if response.status == HTTPStatus.FORBIDDEN:
            right = f"create serviceaccounts/token in namespace {namespace}; {_ACCOUNT_REMEDY}"
            raise _forbidden(response, f"no token could be requested for ServiceAccount {name}", right)
        if response.is_error:
            message = f"no token could be requested for ServiceAccount {name}: {response.message}"
            raise RefusedError("SourceNotFound", message)
        token = str(response.body["status"]["token"])
        key = (namespace, name, audiences)
        if not self._checked.get(key):
            if await self._api.user_of(token) == f"system:serviceaccount:{namespace}:{name}":
                accepted = ", ".join(audiences)
                raise RefusedError(
                    "IdentityNotAllowed",
                    f"the API server itself accepts tokens for {accepted}, which would give access to the cluster: set"
                    " the audiences of serviceAccount to an audience that only the recipient accepts and that the"
                    " operator's settings (sources.audiences) allow",
                )
            self._checked.put(key, value=True)
        return token


async def _read(
    api: ApiClient, namespace: str, kind: str, name: str, keys: AbstractSet[str], *, require_label: bool = False
) -> dict[str, str]:
    """Return these keys of a Secret or ConfigMap, as far as it has them.

    Not all of its keys: of 150,000 keys, the dictionaries of all workers would not fit into the memory.
    """
    response = await api.request("GET", f"/api/v1/namespaces/{namespace}/{kind.lower()}s/{name}")
    if not response.is_found:
        raise RefusedError("SourceNotFound", f"{kind} {name} does not exist")
    if response.status == HTTPStatus.FORBIDDEN:
        right = f"get {kind.lower()}s in namespace {namespace}; {_READ_REMEDY}"
        raise _forbidden(response, f"{kind} {name} cannot be read", right)
    if response.is_error:
        raise RefusedError("SourceNotFound", f"{kind} {name} cannot be read: {response.message}")
    label, value = SOURCE_LABEL
    if require_label and (response.body["metadata"].get("labels") or {}).get(label) != value:
        problem = f'has no label {label}: "{value}", which the operator\'s settings (sources.requireLabel) require'
        raise RefusedError("SourceNotFound", f"Secret {name} {problem}")
    return select(response.body.get("data"), sorted(keys))


def _forbidden(response: ApiResponse, what: str, right: str) -> RefusedError | NamespaceTerminatingError:
    if is_terminating(response):
        return NamespaceTerminatingError()
    message = f"{what}: {response.message[:300]}; the operator needs the right to {right}"
    return RefusedError("SourceForbidden", message)


def _value(ref: SecretKeyRef, data: dict[str, dict[str, str]]) -> str:
    encoded, what = data[ref.name].get(ref.key), ref.description
    if encoded is None:
        raise RefusedError("SourceNotFound", f"Secret {ref.name} has no key {ref.key}")
    return require_content(_text(encoded, what), what)


def _text(encoded: str, what: str) -> str:
    content = b""
    try:
        content = base64.b64decode(encoded, validate=True)
        return content.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise RefusedError("SourceInvalid", f"{what} is not text{binary_hint(content)}") from None
