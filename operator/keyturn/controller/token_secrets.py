"""The token Secret: the live token of a source that its issuer rotates, with its token family."""

import base64
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.api.base import GROUP
from keyturn.api.source import SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.controller.api_client import JSON, MERGE, ApiClient, ApiResponse, refusal, secrets_path
from keyturn.controller.response_body import ONE, UnreadableBodyError, has_too_many_fields, is_empty, select
from keyturn.controller.secret_watch import read_item
from keyturn.core.errors import BeingDeletedError, RefusedError, UnavailableError
from keyturn.core.issuance import ADOPTABLE_BY, MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, StoredToken, TokenFamily, is_superseded, read_family
from keyturn.reconcile.token_locks import token_secret_name

TOKEN_OF = f"{GROUP}/token-of"
_log = logging.getLogger(__name__)
# Differs from any token, so that the dry run detects an immutable Secret or a policy that refuses changes.
_DRY_RUN_VALUE = "dry-run"
# The limits for a list of the token Secrets of one source. Each contains a token family of at most 32 KiB.
_MAX_LISTED, _MAX_LIST_BYTES = 16, 2**20


class TokenSecrets:
    """The TokenStore in a cluster. Token Secrets have no owner reference: the token outlives its TokenRequests.

    Without `may_list`, `find_families` finds nothing.
    """

    def __init__(self, api: ApiClient, *, may_list: bool = True) -> None:
        self._api = api
        self._may_list = may_list

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret."""
        response = await self._get(*token_secret_name(request))
        return _stored_token(request, response) if response else None

    async def read_family(self, request: Request, name: str) -> TokenFamily | None:
        """Read the token family of another Secret in the namespace."""
        response = await self._get(request.namespace, name, accept=ONE)
        annotations = ((response.body.get("metadata") or {}).get("annotations") or {}) if response else {}
        return read_family(annotations.get(TOKEN_FAMILY_ANNOTATION, ""))

    async def _get(self, namespace: str, name: str, *, accept: str = JSON) -> ApiResponse | None:
        response = await self._api.request("GET", secrets_path(namespace, name), accept=accept)
        if not response.is_found:
            return None
        if response.is_error:
            raise RefusedError("WriteDenied", f"Secret {name} cannot be read: {response.message[:500]}")
        return response

    async def find_families(self, request: Request) -> Mapping[str, TokenFamily]:
        """Return the token families of the Secrets with the label token-of for this source, at most 16, by name."""
        if not self._may_list:
            return {}
        query = {"labelSelector": f"{TOKEN_OF}={_token_of(request)}", "limit": str(_MAX_LISTED)}
        try:
            page = await self._api.list_page(secrets_path(request.namespace), query, _MAX_LIST_BYTES)
            secrets = [read_item(item) for item in page.items] if page else []
        except (UnreadableBodyError, msgspec.DecodeError, RecursionError):
            problem = f"the metadata of the Secrets with the label {TOKEN_OF} are too large"
            raise UnavailableError("Unavailable", problem) from None
        families = {meta.name: read_family(meta.annotations.get(TOKEN_FAMILY_ANNOTATION, "")) for meta in secrets}
        own = token_secret_name(request)[1]
        return {name: family for name, family in families.items() if family and name != own}

    async def create(self, request: Request, token: StoredToken) -> StoredToken:
        """Create the token Secret."""
        return await self._create(request, token, _body(request, token, token.value))

    async def update(self, request: Request, token: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Patch data and token family in one request."""
        body = _body(request, token, _DRY_RUN_VALUE if dry_run else token.value)
        query = _MANAGER | ({"dryRun": "All"} if dry_run else {})
        response = await self._api.request("PATCH", _path(request), body, kind=MERGE, query=query)
        return self._result(request, token, response, body)

    async def withdraw(self, request: Request, token: StoredToken) -> StoredToken:
        """Patch data and token family, even if the Lease is lost."""
        body = _body(request, token, token.value)
        response = await self._api.save("PATCH", _path(request), body, query=_MANAGER)
        return self._result(request, token, response, body)

    def prepare_save(self, request: Request, token: StoredToken) -> Callable[[], Awaitable[StoredToken]]:
        """Return the call that patches data and token family."""
        return functools.partial(self._save, request, token, _body(request, token, token.value))

    async def _save(self, request: Request, token: StoredToken, body: dict[str, Any]) -> StoredToken:
        """Patch the Secret; if it was deleted or changed during the exchange, it is read first."""
        response = await self._api.save("PATCH", _path(request), body, query=_MANAGER)
        if response.is_found and response.status != HTTPStatus.CONFLICT:
            return self._result(request, token, response, body)
        current = await self.read(request)
        if current is None:
            return await self._create(request, token, body)
        if current.family is None and not current.is_adoptable:
            raise RefusedError("TargetConflict", f"{_name(request)} is no longer a Keyturn token Secret; delete it")
        if token.family and current.family and is_superseded(token.family, current.family):
            _log.warning("%s already contains a newer token than the one to save", _name(request))
            return current
        body = body | {"metadata": _metadata(token, current)}
        response = await self._api.save("PATCH", _path(request), body, query=_MANAGER)
        return self._result(request, token, response, body)

    async def _create(self, request: Request, token: StoredToken, body: dict[str, Any]) -> StoredToken:
        namespace, name = token_secret_name(request)
        absent = StoredToken("", None, missing_metadata=_missing_metadata(request, {}))
        metadata = _metadata(token, absent) | {"name": name}
        body = body | {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        response = await self._api.save("POST", secrets_path(namespace), body, query=_MANAGER)
        # Not every 404: a proxy may return one, too.
        if not response.is_found and (response.body.get("details") or {}).get("kind") == "namespaces":
            raise BeingDeletedError(f"namespace {namespace} was deleted")
        return self._result(request, token, response, body)

    def _result(self, request: Request, token: StoredToken, response: ApiResponse, body: dict[str, Any]) -> StoredToken:
        if response.status == HTTPStatus.CONFLICT or not response.is_found:
            raise UnavailableError("Unavailable", f"{_name(request)} was changed in the meantime")
        if response.is_error:
            raise refusal(response, _name(request), {"new": token.value, "previous": token.previous})
        stored = _stored_token(request, response)
        if not _contains(response.body, body):
            # For example, a proxy returned an earlier version of the Secret, or a webhook changed the data.
            message = f"{_name(request)}: the API server's response does not contain what was sent"
            raise UnavailableError("Unavailable", message)
        return stored


_MANAGER = {"fieldManager": "keyturn-token"}


def _token_of(request: Request) -> str:
    return _ref(request).name[:63].rstrip("-.")


def _ref(request: Request) -> SecretKeyRef:
    if request.spec.consumption is None:
        raise AssertionError("a TokenRequest that consumes no token has no token Secret")
    return request.spec.consumption.ref


def _body(request: Request, token: StoredToken, value: str) -> dict[str, Any]:
    key = _ref(request).key
    values = {key: value, f"{key}.previous": token.previous}
    return {
        "metadata": _metadata(token, token),
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()},
    }


def _metadata(token: StoredToken, current: StoredToken) -> dict[str, Any]:
    """Return the metadata to write to the Secret in its current version."""
    missing, precondition = current.missing_metadata, {"uid": current.uid, "resourceVersion": current.version}
    family = {TOKEN_FAMILY_ANNOTATION: token.family.encoded() if token.family else None}
    return {
        "labels": missing.get("labels", {}),
        "annotations": {**missing.get("annotations", {}), **family},
    } | {name: value for name, value in precondition.items() if value}


def _contains(secret: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether a Secret has the data and the token family of a request body."""
    sent: dict[str, str] = body["data"]
    annotations: dict[str, str] = secret["metadata"].get("annotations") or {}
    has_family = annotations.get(TOKEN_FAMILY_ANNOTATION) == body["metadata"]["annotations"][TOKEN_FAMILY_ANNOTATION]
    return has_family and select(secret.get("data"), sent) == sent


def _missing_metadata(request: Request, meta: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return the labels and annotations that the Secret should have and does not have.

    Others are never changed: two requests that share a token Secret may disagree, and people may set their own.
    """
    save_to = request.spec.source.token.save_to if request.spec.source.token else None
    spec = save_to.metadata if save_to else None
    ours = {MANAGED_BY: "keyturn", TOKEN_OF: _token_of(request)}
    metadata = {
        "labels": {**((spec and spec.labels) or {}), **ours},
        "annotations": (spec and spec.annotations) or {},
    }
    return {
        kind: missing
        for kind, values in metadata.items()
        if (missing := {name: value for name, value in values.items() if name not in (meta.get(kind) or {})})
    }


def _stored_token(request: Request, response: ApiResponse) -> StoredToken:
    meta, all_data, key = response.body.get("metadata") or {}, response.body.get("data"), _ref(request).key
    data = select(all_data, (key, f"{key}.previous"))
    if not (meta.get("uid") and meta.get("resourceVersion")):
        # For example, the error page of a proxy, which does not show that the token was saved.
        raise UnavailableError("Unavailable", f"the API server's response is not {_name(request)}")
    annotations, has_many = meta.get("annotations") or {}, has_too_many_fields(response.body)
    return StoredToken(
        value=base64.b64decode(data.get(key, "")).decode(errors="replace"),
        family=read_family(annotations.get(TOKEN_FAMILY_ANNOTATION, "")),
        previous=base64.b64decode(data.get(f"{key}.previous", "")).decode(errors="replace"),
        uid=meta["uid"],
        version=meta["resourceVersion"],
        is_adoptable=is_empty(all_data) and annotations.get(ADOPTABLE_BY) == request.name and not has_many,
        missing_metadata=_missing_metadata(request, meta),
        has_too_many_fields=has_many,
    )


def _name(request: Request) -> str:
    return f"Secret {token_secret_name(request)[1]}"


def _path(request: Request) -> str:
    return secrets_path(*token_secret_name(request))
