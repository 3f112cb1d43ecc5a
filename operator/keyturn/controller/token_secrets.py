"""The token Secret: the live token of a source that its issuer rotates, with its lineage."""

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
# Of another length and value than any token: a policy or an immutable Secret must show itself in the rehearsal.
_REHEARSAL = "rehearsal"


class TokenSecrets:
    """The TokenStore of the cluster. Without owner reference: the token outlives every TokenRequest."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def read(self, request: Request) -> StoredToken | None:
        """Read the token Secret."""
        response = await self._api.request("GET", _path(request))
        if not response.found:
            return None
        if response.refused:
            raise refusal(response, _name(request), {})
        return _kept(request, response)

    async def create(self, request: Request, kept: StoredToken) -> StoredToken:
        """Make the token Secret."""
        namespace, name = token_place(request)
        body = _body(request, kept, kept.value) | {"apiVersion": "v1", "kind": "Secret"}
        labels = {MANAGED_BY: "keyturn", TOKEN_OF: _ref(request).name[:63].rstrip("-.")}
        body["metadata"] |= {"name": name, "labels": labels}
        response = await self._api.save("POST", secrets_path(namespace), body, query=_MANAGER)
        if not response.found:
            raise BeingDeletedError(f"namespace {namespace} is gone")
        return self._done(request, kept, response)

    async def keep(self, request: Request, kept: StoredToken, *, dry_run: bool = False) -> StoredToken:
        """Patch data and lineage in one request."""
        body = _body(request, kept, _REHEARSAL if dry_run else kept.value)
        query = _MANAGER | ({"dryRun": "All"} if dry_run else {})
        return self._done(
            request, kept, await self._api.request("PATCH", _path(request), body, kind=MERGE, query=query)
        )

    async def save(self, request: Request, kept: StoredToken) -> StoredToken:
        """Patch data and lineage; what somebody deleted or changed during the exchange is looked at first."""
        response = await self._patch(request, kept)
        if response.found and response.status != HTTPStatus.CONFLICT:
            return self._done(request, kept, response)
        now = await self.read(request)
        if now is None:
            return await self.create(request, replace(kept, uid="", version=""))
        if now.family is None:
            raise UnavailableError("Unavailable", f"{_name(request)} is not ours any more; delete it")
        if kept.family and is_superseded(kept.family, now.family):
            _log.warning("%s holds a newer token than the one that was answered late", _name(request))
            return now
        again = await self._patch(request, replace(kept, uid=now.uid, version=now.version))
        return self._done(request, kept, again)

    async def _patch(self, request: Request, kept: StoredToken) -> ApiResponse:
        return await self._api.save("PATCH", _path(request), _body(request, kept, kept.value), query=_MANAGER)

    def _done(self, request: Request, kept: StoredToken, response: ApiResponse) -> StoredToken:
        if response.status == HTTPStatus.CONFLICT or not response.found:
            raise UnavailableError("Unavailable", f"{_name(request)} was changed by somebody else meanwhile")
        if response.refused:
            raise refusal(response, _name(request), {"new": kept.value, "previous": kept.previous})
        return _kept(request, response)


_MANAGER = {"fieldManager": "keyturn-token"}


def _ref(request: Request) -> SecretKeyRef:
    if request.spec.consumption is None:
        raise AssertionError("a TokenRequest that consumes no token has no token Secret")
    return request.spec.consumption.ref


def _body(request: Request, kept: StoredToken, value: str) -> dict[str, Any]:
    key = _ref(request).key
    values = {key: value, f"{key}.previous": kept.previous}
    precondition = {"uid": kept.uid} if kept.uid else {}
    precondition |= {"resourceVersion": kept.version} if kept.version else {}
    annotations = {TOKEN_FAMILY_ANNOTATION: kept.family.encoded() if kept.family else None}
    return {
        "metadata": {"annotations": annotations} | precondition,
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in values.items()},
    }


def _kept(request: Request, response: ApiResponse) -> StoredToken:
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
