"""The token Secret: the live token of a source that its issuer rotates, with its token family."""

import base64
import functools
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from keyturn.api.base import GROUP
from keyturn.api.source import SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.controller.api_client import MERGE, ApiClient, ApiResponse, refusal, secrets_path
from keyturn.core.errors import BeingDeletedError, UnavailableError
from keyturn.core.issuance import MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, StoredToken, is_superseded, read_family
from keyturn.reconcile.dependencies import token_secret_name

TOKEN_OF = f"{GROUP}/token-of"
_log = logging.getLogger(__name__)
# Differs from any token, so that the dry run detects an immutable Secret or a policy that refuses changes.
_DRY_RUN_VALUE = "dry-run"


class TokenSecrets:
    """The cluster's TokenStore. Token Secrets have no owner reference: the token outlives its TokenRequests."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret."""
        response = await self._api.request("GET", _path(request))
        if not response.is_found:
            return None
        if response.is_error:
            raise refusal(response, _name(request), {})
        return _stored_token(request, response)

    async def create(self, request: Request, token: StoredToken) -> StoredToken:
        """Create the token Secret."""
        return await self._create(request, token, _body(request, token, token.value))

    async def keep(self, request: Request, token: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Patch data and token family in one request."""
        body = _body(request, token, _DRY_RUN_VALUE if dry_run else token.value)
        query = _MANAGER | ({"dryRun": "All"} if dry_run else {})
        return self._result(
            request, token, await self._api.request("PATCH", _path(request), body, kind=MERGE, query=query)
        )

    def prepare_save(self, request: Request, token: StoredToken) -> Callable[[], Awaitable[StoredToken]]:
        """Return a patch of data and token family."""
        return functools.partial(self._save, request, token, _body(request, token, token.value))

    async def _save(self, request: Request, token: StoredToken, body: dict[str, Any]) -> StoredToken:
        """Patch the Secret; if it was deleted or changed during the exchange, it is read first."""
        response = await self._api.save("PATCH", _path(request), body, query=_MANAGER)
        if response.is_found and response.status != HTTPStatus.CONFLICT:
            return self._result(request, token, response)
        current = await self.read(request)
        if current is None:
            return await self._create(request, token, _with_precondition(body, {}))
        if current.family is None:
            raise UnavailableError("Unavailable", f"{_name(request)} is no longer a token Secret of Keyturn; delete it")
        if token.family and is_superseded(token.family, current.family):
            _log.warning("%s contains a newer token than the one that was received late", _name(request))
            return current
        body = _with_precondition(body, _precondition(current))
        return self._result(request, token, await self._api.save("PATCH", _path(request), body, query=_MANAGER))

    async def _create(self, request: Request, token: StoredToken, body: dict[str, Any]) -> StoredToken:
        namespace, name = token_secret_name(request)
        labels = {MANAGED_BY: "keyturn", TOKEN_OF: _ref(request).name[:63].rstrip("-.")}
        body = body | {"apiVersion": "v1", "kind": "Secret"}
        body["metadata"] |= {"name": name, "labels": labels}
        response = await self._api.save("POST", secrets_path(namespace), body, query=_MANAGER)
        # A proxy may respond with 404, too.
        if not response.is_found and (response.body.get("details") or {}).get("kind") == "namespaces":
            raise BeingDeletedError(f"namespace {namespace} was deleted")
        return self._result(request, token, response)

    def _result(self, request: Request, token: StoredToken, response: ApiResponse) -> StoredToken:
        if response.status == HTTPStatus.CONFLICT or not response.is_found:
            raise UnavailableError("Unavailable", f"{_name(request)} was changed in the meantime")
        if response.is_error:
            raise refusal(response, _name(request), {"new": token.value, "previous": token.previous})
        return _stored_token(request, response)


_MANAGER = {"fieldManager": "keyturn-token"}


def _ref(request: Request) -> SecretKeyRef:
    if request.spec.consumption is None:
        raise AssertionError("a TokenRequest that consumes no token has no token Secret")
    return request.spec.consumption.ref


def _body(request: Request, token: StoredToken, value: str) -> dict[str, Any]:
    key = _ref(request).key
    values = {key: value, f"{key}.previous": token.previous}
    annotations = {TOKEN_FAMILY_ANNOTATION: token.family.encoded() if token.family else None}
    return {
        "metadata": {"annotations": annotations} | _precondition(token),
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()},
    }


def _precondition(token: StoredToken) -> dict[str, str]:
    fields = {"uid": token.uid, "resourceVersion": token.version}
    return {name: value for name, value in fields.items() if value}


def _with_precondition(body: dict[str, Any], precondition: dict[str, str]) -> dict[str, Any]:
    return body | {"metadata": {"annotations": body["metadata"]["annotations"]} | precondition}


def _stored_token(request: Request, response: ApiResponse) -> StoredToken:
    meta, data, key = response.body.get("metadata") or {}, response.body.get("data") or {}, _ref(request).key
    if not (meta.get("uid") and meta.get("resourceVersion")):
        # For example, a page of a proxy. A token that it seems to contain was not saved.
        raise UnavailableError("Unavailable", f"the API server's response is not {_name(request)}")
    return StoredToken(
        value=base64.b64decode(data.get(key, "")).decode(errors="replace"),
        family=read_family((meta.get("annotations") or {}).get(TOKEN_FAMILY_ANNOTATION, "")),
        previous=base64.b64decode(data.get(f"{key}.previous", "")).decode(errors="replace"),
        uid=meta["uid"],
        version=meta["resourceVersion"],
    )


def _name(request: Request) -> str:
    return f"Secret {token_secret_name(request)[1]}"


def _path(request: Request) -> str:
    return secrets_path(*token_secret_name(request))
