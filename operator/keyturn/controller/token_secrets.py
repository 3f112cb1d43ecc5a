"""The token Secret: the live token of a source that its issuer rotates, with its token family."""

import base64
import logging
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from keyturn.api.base import GROUP
from keyturn.api.source import SecretKeyRef
from keyturn.api.token_request import Request
from keyturn.controller.api_client import MERGE, ApiClient, ApiResponse, refusal, secrets_path
from keyturn.core.errors import BeingDeletedError, UnavailableError
from keyturn.core.issuance import MANAGED_BY
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, StoredToken, is_superseded, read_family
from keyturn.reconcile.dependencies import token_place

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
        if not response.found:
            return None
        if response.refused:
            raise refusal(response, _name(request), {})
        return _stored_token(request, response)

    async def create(self, request: Request, token: StoredToken) -> StoredToken:
        """Create the token Secret."""
        namespace, name = token_place(request)
        body = _body(request, token, token.value) | {"apiVersion": "v1", "kind": "Secret"}
        labels = {MANAGED_BY: "keyturn", TOKEN_OF: _ref(request).name[:63].rstrip("-.")}
        body["metadata"] |= {"name": name, "labels": labels}
        response = await self._api.save("POST", secrets_path(namespace), body, query=_MANAGER)
        if not response.found:
            raise BeingDeletedError(f"namespace {namespace} was deleted")
        return self._result(request, token, response)

    async def keep(self, request: Request, token: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Patch data and token family in one request."""
        body = _body(request, token, _DRY_RUN_VALUE if dry_run else token.value)
        query = _MANAGER | ({"dryRun": "All"} if dry_run else {})
        return self._result(
            request, token, await self._api.request("PATCH", _path(request), body, kind=MERGE, query=query)
        )

    async def save(self, request: Request, token: StoredToken) -> StoredToken:
        """Patch data and token family; if the Secret was deleted or changed during the exchange, it is read first."""
        response = await self._patch(request, token)
        if response.found and response.status != HTTPStatus.CONFLICT:
            return self._result(request, token, response)
        current = await self.read(request)
        if current is None:
            return await self.create(request, replace(token, uid="", version=""))
        if current.family is None:
            raise UnavailableError("Unavailable", f"{_name(request)} is no longer a token Secret of Keyturn; delete it")
        if token.family and is_superseded(token.family, current.family):
            _log.warning("%s contains a newer token than the one that was received late", _name(request))
            return current
        response = await self._patch(request, replace(token, uid=current.uid, version=current.version))
        return self._result(request, token, response)

    async def _patch(self, request: Request, token: StoredToken) -> ApiResponse:
        return await self._api.save("PATCH", _path(request), _body(request, token, token.value), query=_MANAGER)

    def _result(self, request: Request, token: StoredToken, response: ApiResponse) -> StoredToken:
        if response.status == HTTPStatus.CONFLICT or not response.found:
            raise UnavailableError("Unavailable", f"{_name(request)} was changed in the meantime")
        if response.refused:
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
    precondition = {"uid": token.uid} if token.uid else {}
    precondition |= {"resourceVersion": token.version} if token.version else {}
    annotations = {TOKEN_FAMILY_ANNOTATION: token.family.encoded() if token.family else None}
    return {
        "metadata": {"annotations": annotations} | precondition,
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()},
    }


def _stored_token(request: Request, response: ApiResponse) -> StoredToken:
    meta, data, key = response.body["metadata"], response.body.get("data") or {}, _ref(request).key
    return StoredToken(
        value=base64.b64decode(data.get(key, "")).decode(errors="replace"),
        family=read_family((meta.get("annotations") or {}).get(TOKEN_FAMILY_ANNOTATION, "")),
        previous=base64.b64decode(data.get(f"{key}.previous", "")).decode(errors="replace"),
        uid=meta["uid"],
        version=meta["resourceVersion"],
    )


def _name(request: Request) -> str:
    return f"Secret {token_place(request)[1]}"


def _path(request: Request) -> str:
    return secrets_path(*token_place(request))
