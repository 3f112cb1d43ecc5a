"""Secrets: sources are read, targets are written by server-side apply, each with its marks."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.api.base import GROUP
from keyturn.api.token_request import OPAQUE, PLURAL, VERSION, Request
from keyturn.controller.api_client import APPLY, JSON, MERGE, ONE, ApiClient, ApiResponse, refusal, secrets_path
from keyturn.controller.secret_cache import Place, SecretCache, target_place
from keyturn.controller.secret_manifest import (
    empty_manifest,
    read_secret,
    released,
    secret_manifest,
    target_secret,
)
from keyturn.controller.secret_replacement import retire, try_anew
from keyturn.controller.secret_watch import Meta
from keyturn.controller.source_reader import read_source
from keyturn.core.errors import BeingDeletedError, KeyturnError, RefusedError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret, field_manager, is_adopted
from keyturn.core.pipeline_values import SourceValues
from keyturn.core.renewal import check_ours

_REHEARSED_SECONDS = 10.0
# An apply with a version creates what is absent and refuses what is there: no Secret is written unseen.
_ABSENT = "1"

_log = logging.getLogger(__name__)


class SecretStore:
    """The Store of the cluster. `seen` is what is known of our Secrets without reading them.

    Where they are not `watched`, a target is read before each look. Where sources must be `labelled`, others are
    not read.
    """

    def __init__(
        self,
        api: ApiClient,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        watched: bool = True,
        require_label: bool = False,
    ) -> None:
        self._api = api
        self._labelled = require_label
        self.watched = watched
        self._monotonic = monotonic
        self._dry_run_passed: dict[str, tuple[str, float]] = {}
        self.cache = SecretCache()

    async def read_source(self, request: Request) -> SourceValues:
        """Read the source, fresh."""
        return await read_source(self._api, request, require_label=self._labelled)

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Find the target as the watch saw it; read it where the watch left a doubt, or there is none."""
        if not self.watched or self.cache.is_stale(request):
            await self._read(request)
        return self.cache.get(target_place(request))

    async def dry_run(self, request: Request) -> None:
        """Apply without writing. A Secret that is there must turn out to be ours.

        Where the request has gone, it raises LeavingError: the end of its Secret may be seen before its own.
        What a namespace took within ten seconds is not tried again, unless a token would be spent for it: the
        write itself refuses a Secret that is there, at the price of one exchange.
        """
        if self.cache.was_deleted(request):
            await self._check_alive(request)
        elif not request.spec.consumption and self._is_dry_run_fresh(request):
            return
        manifest = secret_manifest(request, None, {}, owned=False)
        response = await self._send(request, manifest, dryRun="All")
        if response.status == HTTPStatus.CREATED:
            self._dry_run_passed[request.namespace] = (request.metadata_hash, self._monotonic())
            return
        found, _ = await self._read(request)
        if found:
            response = await self._dry_run_on(request, found, manifest)
        if response.refused:
            raise refusal(response, f"Secret {request.secret_name}", {})

    async def _dry_run_on(self, request: Request, found: TargetSecret, manifest: dict[str, Any]) -> ApiResponse:
        check_ours(request, found)
        if found.type != manifest["type"]:
            return await try_anew(self._api, request, manifest)
        return await self._send(request, manifest, dryRun="All", force="true")

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Apply data and marks in one request; then go the Secrets of a former spec.target.secretName."""
        try:
            with self.cache.writing(target_place(request)):
                await self._apply(request, issuance, data)
        except (KeyturnError, BeingDeletedError):
            self._dry_run_passed.pop(request.namespace, None)
            raise
        for former in self.cache.former_targets(request) - {target_place(request)}:
            try:
                await self._let_go(request, former)
            except UnavailableError as error:
                # What was renewed is written: that is no failure of it. The next renewal lets go of the former.
                _log.warning("Secret %s/%s could not be let go: %s", *former, error)

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Apply the whole Secret again with the data it has: an apply without data would remove them."""
        found, data = await self._read(request)
        if found and found.issuance and found.data_hash == found.issuance.data_hash:
            await self.write(request, issuance, data)
        else:
            # It was edited meanwhile: the next look finds that out by itself.
            self.cache.invalidate(request)

    def _is_dry_run_fresh(self, request: Request) -> bool:
        apply_metadata, at = self._dry_run_passed.get(request.namespace, ("", 0.0))
        return apply_metadata == request.metadata_hash and self._monotonic() - at < _REHEARSED_SECONDS

    async def _check_alive(self, request: Request) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{request.namespace}/{PLURAL}/{request.name}"
        response = await self._api.request("GET", path, accept=ONE)
        about = response.body.get("metadata", {})
        if not response.found or about.get("uid", request.uid) != request.uid or "deletionTimestamp" in about:
            raise BeingDeletedError("the TokenRequest is gone")

    async def _apply(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        known = self.cache.get(target_place(request))
        response = await self._send(request, _manifest(request, issuance, data, known))
        if response.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
            # Somebody holds a field of ours, or it is immutable. Force is for what a read has shown to be ours.
            known, _ = await self._read(request)
            if known:
                check_ours(request, known)
                known = await self._of_its_type(request, issuance, data, known)
            response = await self._send(request, _manifest(request, issuance, data, known), force="true")
        if response.refused:
            raise refusal(response, f"Secret {request.secret_name}", data)
        if known and known.issuance and known.issuance.uid != request.uid:
            # Fields that only the manager of a former request holds, such as its owner reference, go with it.
            former = field_manager(known.issuance.uid)
            nothing = empty_manifest(request.secret_name, known.uid)
            retired = await self._send(request, nothing, fieldManager=former, force="true")
            response = response if retired.refused else retired
        self.cache.was_written(target_place(request), target_secret(_meta(response)))

    async def _of_its_type(
        self, request: Request, issuance: Issuance, data: dict[str, str], found: TargetSecret
    ) -> TargetSecret | None:
        """Delete a Secret that has not the type for its formats: no type can be changed."""
        manifest = _manifest(request, issuance, data, found)
        if manifest.get("type", found.type) == found.type:
            return found
        await retire(self._api, request, manifest, data, found.uid)
        self.cache.forget(target_place(request))
        return None

    async def _let_go(self, request: Request, place: Place) -> None:
        found, path = self.cache.get(place), secrets_path(*place)
        if found is None:
            return
        if is_adopted(request, found):
            query = {"fieldManager": field_manager(request.uid), "force": "true"}
            response = await self._api.request(
                "PATCH", path, empty_manifest(place[1], found.uid), kind=APPLY, query=query
            )
        elif request.retains:
            response = await self._api.request("PATCH", path, released(found), kind=MERGE)
        else:
            response = await self._api.request("DELETE", path, {"preconditions": {"uid": found.uid}}, kind=JSON)
        if response.refused and response.found:
            _log.warning("Secret %s/%s could not be let go: %s", *place, response.message)
        else:
            self.cache.forget(place)

    async def _send(self, request: Request, manifest: dict[str, Any], **query: str) -> ApiResponse:
        query = {"fieldManager": field_manager(request.uid)} | query
        path = secrets_path(*target_place(request))
        return await self._api.request("PATCH", path, manifest, kind=APPLY, query=query, accept=ONE)

    async def _read(self, request: Request) -> tuple[TargetSecret | None, dict[str, str]]:
        place = target_place(request)
        before = self.cache.get(place)
        response = await self._api.request("GET", secrets_path(*place))
        if response.refused and response.found:
            raise RefusedError("WriteDenied", f"Secret {request.secret_name} may not be read: {response.message}")
        found, data = read_secret(request, response.body) if response.found else (None, {})
        overtaken = self.cache.get(place) is not before
        self.cache.was_read(place, found)
        if overtaken:
            # The watch showed something while the answer was on its way: nobody knows which of them is older.
            self.cache.invalidate(request)
        return found, data


def _manifest(request: Request, issuance: Issuance, data: dict[str, str], found: TargetSecret | None) -> dict[str, Any]:
    adopted = is_adopted(request, found)
    issuance = msgspec.structs.replace(issuance, adopted=adopted)
    manifest = secret_manifest(request, issuance, data, owned=not request.retains and not adopted)
    if adopted and manifest["type"] == OPAQUE:
        # Its maker chose the type, and ours needs none of its own.
        del manifest["type"]
    if found is None:
        manifest["metadata"]["resourceVersion"] = _ABSENT
    return manifest


def _meta(response: ApiResponse) -> Meta:
    return msgspec.convert(response.body["metadata"], Meta)
