"""The Store in a cluster: reads sources, and writes targets with their issuance records by server-side apply."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.api.base import NamespacedName
from keyturn.api.token_request import OPAQUE, InvalidRequest, Request
from keyturn.controller.api_client import (
    APPLY,
    JSON,
    STRATEGIC,
    ApiClient,
    ApiResponse,
    refusal,
    secrets_path,
    token_request_path,
)
from keyturn.controller.response_body import ONE
from keyturn.controller.secret_cache import SecretCache, target_name
from keyturn.controller.secret_manifest import (
    disown_patch,
    empty_manifest,
    read_meta,
    read_secret,
    release_patch,
    secret_manifest,
    target_secret,
)
from keyturn.controller.source_reader import SourceReader
from keyturn.controller.withdrawal import withdrawal_patch
from keyturn.core.errors import BeingDeletedError, KeyturnError, RefusedError, UnavailableError
from keyturn.core.issuance import Issuance, IssuanceKeys, TargetSecret, field_manager, is_adopted, is_ours, may_delete
from keyturn.core.lru import LruDict
from keyturn.core.pipeline_values import SourceValues
from keyturn.core.renewal import check_ours

_DRY_RUN_SECONDS = 10.0
_MAX_NAMESPACES = 4096  # a tenant may create and delete namespaces in a loop
# An apply with a wrong resourceVersion fails if the object exists, so no Secret is overwritten before it was read.
_ABSENT = "1"
# Not the manager of a request, which would own a required key that is emptied.
_WITHDRAWAL = {"fieldManager": "keyturn"}
_CONFLICT = ApiResponse(HTTPStatus.CONFLICT, {})

_log = logging.getLogger(__name__)


class SecretStore:
    """Reads sources and writes targets in the cluster. `cache` contains the targets seen so far.

    `keys` sign and verify issuance records. If Secrets are not `watched`, a target is read in each reconciliation. With
    `require_label`, sources without the label are refused.
    """

    def __init__(
        self,
        api: ApiClient,
        keys: IssuanceKeys,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        watched: bool = True,
        require_label: bool = False,
    ) -> None:
        self._api = api
        self._keys = keys
        self.sources = SourceReader(api, monotonic, require_label=require_label)
        self.watched = watched
        self._monotonic = monotonic
        self._dry_run_passed: LruDict[str, tuple[str, float]] = LruDict(_MAX_NAMESPACES)
        self._current: Callable[[Request], Request | InvalidRequest | None] = lambda request: request
        self.cache = SecretCache(keys)

    def follow_changes(self, current: Callable[[Request], Request | InvalidRequest | None]) -> None:
        """From now on, `current` returns a request as it is now, or None if it was deleted."""
        self._current = current

    def release(self, request: Request) -> None:
        """Forget the target of a request that was deleted or has another target now."""
        self.cache.release(request, is_watched=self.watched)

    async def read_source(self, request: Request, *, shared: bool = False) -> SourceValues:
        """Read the source; with `shared`, at most once a second."""
        return await self.sources.read(request, shared=shared)

    async def read_target(self, request: Request) -> TargetSecret | None:
        """Return the target from the cache, or read it if its entry is stale or Secrets are not watched."""
        if not self.watched or self.cache.is_stale(request):
            await self._read(request)
        return self.cache.get(target_name(request))

    async def dry_run(self, request: Request) -> None:
        """Write with dryRun, and check that an existing Secret may be written for the request.

        Raises BeingDeletedError if the request was deleted: the watch may show the deletion of its Secret first. The
        dry run is skipped if one succeeded in the namespace within the last ten seconds, unless the request consumes a
        token. After a skipped dry run, the write itself reports a conflict, at the cost of one exchange.
        """
        metadata_hash, passed_at = self._dry_run_passed.get(request.namespace) or ("", 0.0)
        has_just_passed = metadata_hash == request.metadata_hash and self._monotonic() - passed_at < _DRY_RUN_SECONDS
        if self.cache.was_deleted(request):
            await self._check_alive(request)
        elif has_just_passed and not request.spec.consumption:
            return
        path = secrets_path(*target_name(request))
        query = {"fieldManager": field_manager(request.uid), "dryRun": "All"}
        manifest = secret_manifest(request, None, {}, self._keys, owned=False)
        # Not an apply: if a Secret with thousands of field managers exists, that takes the API server a second.
        response = await self._api.request("POST", secrets_path(request.namespace), manifest, query=query, accept=ONE)
        if response.status == HTTPStatus.CREATED:
            self._dry_run_passed.put(request.namespace, (request.metadata_hash, self._monotonic()))
            return
        target = (await self._read(request))[0]  # not its data, which may be large
        if target:
            check_ours(request, target)
            if target.type != manifest["type"]:
                response = await self._dry_run_creation(request, manifest)
            else:
                query |= {"force": "true"}
                response = await self._api.request("PATCH", path, manifest, kind=APPLY, query=query, accept=ONE)
        if response.is_error:
            raise refusal(response, f"Secret {request.secret_name}", {})

    async def write(self, request: Request, issuance: Issuance, data: dict[str, str]) -> None:
        """Apply data and issuance record in one request, then release the targets of earlier values of secretName.

        Raises BeingDeletedError if the request was deleted during the exchanges: another one with its name, which may
        write the same Secret, may exist now. Or the request was deleted with --cascade=orphan, and with a new owner
        reference, the Secret would be deleted with it.
        """
        current = self._current(request)
        if current is None or current.is_being_deleted:
            raise BeingDeletedError("the TokenRequest was deleted")
        name, query = target_name(request), {"fieldManager": field_manager(request.uid)}
        path = secrets_path(*name)
        try:
            with self.cache.writing(name):
                known, response = self.cache.get(name), _CONFLICT
                # The watch may have shown a Secret of somebody else during the exchanges. It need not have a field in
                # common with ours, so an apply could succeed.
                if known is None or is_ours(request, known):
                    # Not in a variable, which would keep it in memory until the response arrives.
                    response = await self._api.request(
                        "PATCH", path, self._manifest(request, issuance, data, known),
                        kind=APPLY, query=query, accept=ONE,
                    )  # fmt: skip
                if response.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
                    response, known = await self._force(request, issuance, data)
                if response.is_error:
                    raise refusal(response, f"Secret {request.secret_name}", data)
                if known and known.issuance and known.issuance.uid != request.uid:
                    # Removes fields that only the manager of the former request owns, such as its owner reference.
                    removal = await self._apply_empty(name, known.uid, field_manager(known.issuance.uid))
                    response = response if removal.is_error else removal
                self.cache.was_written(name, target_secret(read_meta(request, response.body), self._keys))
        except (KeyturnError, BeingDeletedError):
            self._dry_run_passed.remove(request.namespace)
            raise
        await self._release_former(request, name)

    async def apply_metadata(self, request: Request, issuance: Issuance) -> None:
        """Apply the whole Secret again with its current data: an apply without data would remove them."""
        target, data = await self._read(request)
        if target and target.issuance and target.data_hash == target.issuance.data_hash:
            await self.write(request, issuance, data)
        else:
            # It was edited in the meantime; the next reconciliation detects that.
            self.cache.invalidate(request)

    async def disown(self, request: Request, target: TargetSecret) -> TargetSecret | None:
        """Remove the owner reference of the request from the target, and return the Secret as it is then."""
        response = await self._api.request(
            "PATCH", secrets_path(*target_name(request)), disown_patch(request, target), kind=STRATEGIC, accept=ONE
        )
        if response.is_error:
            raise refusal(response, f"Secret {request.secret_name}", {})
        # The response consists of metadata, which do not show whether the data were edited.
        return (await self._read(request))[0]

    async def disown_former(self, request: Request) -> None:
        """Remove the owner reference of the request from the targets of earlier values of secretName."""
        for name in self.cache.former_targets(request) - {target_name(request)}:
            former, path = self.cache.get(name), secrets_path(*name)
            if former and request.uid in former.owners:
                patch = disown_patch(request, former)
                response = await self._api.request("PATCH", path, patch, kind=STRATEGIC, accept=ONE)
                if response.is_error:
                    raise refusal(response, f"Secret {name[1]}", {})

    async def _check_alive(self, request: Request) -> None:
        path = token_request_path(request.namespace, request.name)
        response = await self._api.request("GET", path, accept=ONE)
        metadata = response.body.get("metadata", {})
        if not response.is_found or metadata.get("uid", request.uid) != request.uid or "deletionTimestamp" in metadata:
            raise BeingDeletedError("the TokenRequest was deleted")

    async def _force(
        self, request: Request, issuance: Issuance, data: dict[str, str]
    ) -> tuple[ApiResponse, TargetSecret | None]:
        """Apply with force, because another manager owns one of our fields, or one is immutable.

        Before that, a read must show that the Secret may be written for the request. If the formats need another type,
        which cannot be changed, the Secret is deleted. Returns the response, and the Secret that was applied to.
        """
        target = (await self._read(request))[0]
        path, manifest = secrets_path(*target_name(request)), self._manifest(request, issuance, data, target)
        if target:
            check_ours(request, target)
        if target and manifest.get("type", target.type) != target.type:
            # Try the new Secret first: if a policy refuses it, the existing one must remain.
            response = await self._dry_run_creation(request, manifest)
            if not response.is_error:
                precondition = {"preconditions": {"uid": target.uid}}
                response = await self._api.request("DELETE", path, precondition, kind=JSON)
            if response.is_error and response.is_found:
                raise refusal(response, f"Secret {request.secret_name}", data)
            # Not forgotten: while a finalizer keeps it, no other one can be created, and its end must be noticed.
            self.cache.invalidate(request)
            target = None
            manifest = self._manifest(request, issuance, data, None)
        query = {"fieldManager": field_manager(request.uid), "force": "true"}
        return await self._api.request("PATCH", path, manifest, kind=APPLY, query=query, accept=ONE), target

    async def _dry_run_creation(self, request: Request, manifest: dict[str, Any]) -> ApiResponse:
        """Create a Secret with dryRun, under another name, because the name of the target is taken."""
        metadata = {key: value for key, value in manifest["metadata"].items() if key not in ("name", "resourceVersion")}
        trial = manifest | {"metadata": metadata | {"generateName": "keyturn-trial-"}}
        return await self._api.request("POST", secrets_path(request.namespace), trial, query={"dryRun": "All"})

    async def _release_former(self, request: Request, written: NamespacedName) -> None:
        for name in self.cache.former_targets(request) - {written}:
            # The spec may have changed during the exchanges, and may even name the former Secret again.
            current = self._current(request)
            if isinstance(current, Request) and target_name(current) == written:
                await self._release(current, name)

    async def _release(self, request: Request, name: NamespacedName) -> None:
        """Release a target of an earlier secretName. If that fails, the next renewal tries again."""
        target, path = self.cache.get(name), secrets_path(*name)
        if target is None:
            return
        try:
            if is_adopted(request, target):
                response = await self._remove_fields(request, name)
            elif request.should_retain_secret:
                response = await self._api.request("PATCH", path, release_patch(request, target), kind=STRATEGIC)
            else:
                response = await self._delete_as_issued(request, name)
        except UnavailableError as error:
            _log.warning("Secret %s/%s could not be released: %s", *name, error)
            return
        if response.is_error and response.is_found:
            _log.warning("Secret %s/%s could not be released: %s", *name, response.message)
        else:
            self.cache.forget(name)

    async def _remove_fields(self, request: Request, name: NamespacedName) -> ApiResponse:
        """Remove the field manager of the request and the fields that only it owns. Those of a user remain."""
        path = secrets_path(*name)
        response = await self._api.request("GET", path)
        if response.is_error:
            return response
        # Not by an apply without fields, which removes all data and labels of which no other manager owns one. Nobody
        # owns a key that a user applied with stringData, or a label that an admission policy added.
        patch = withdrawal_patch(request, response.body, self._keys)
        return await self._api.request("PATCH", path, patch, kind=STRATEGIC, query=_WITHDRAWAL, accept=ONE)

    async def _apply_empty(self, name: NamespacedName, uid: str, manager: str) -> ApiResponse:
        """Apply a Secret without fields, which removes those that only this field manager owns."""
        path, query = secrets_path(*name), {"fieldManager": manager, "force": "true"}
        return await self._api.request("PATCH", path, empty_manifest(name[1], uid), kind=APPLY, query=query, accept=ONE)

    async def _delete_as_issued(self, request: Request, name: NamespacedName) -> ApiResponse:
        """Delete a Secret if it is still as Keyturn wrote it.

        A user may have recreated it since with other data and its earlier record, which still verifies.
        """
        path = secrets_path(*name)
        response = await self._api.request("GET", path)
        if response.is_error:
            return response
        secret, _ = read_secret(request, response.body, self._keys)
        if not may_delete(request, secret) or secret.issuance is None or secret.data_hash != secret.issuance.data_hash:
            return ApiResponse(
                HTTPStatus.CONFLICT, {"message": "it was changed after it was issued; delete it yourself"}
            )
        current = self._current(request)
        if not isinstance(current, Request) or current.should_retain_secret or target_name(current) == name:
            return ApiResponse(HTTPStatus.CONFLICT, {"message": "the spec has changed"})
        preconditions = {"uid": secret.uid, "resourceVersion": secret.resource_version}
        return await self._api.request("DELETE", path, {"preconditions": preconditions}, kind=JSON)

    async def _read(self, request: Request) -> tuple[TargetSecret | None, dict[str, str]]:
        name = target_name(request)
        before = self.cache.get(name)
        response = await self._api.request("GET", secrets_path(*name))
        if response.is_error and response.is_found:
            raise RefusedError("WriteDenied", f"Secret {request.secret_name} cannot be read: {response.message}")
        target, data = read_secret(request, response.body, self._keys) if response.is_found else (None, {})
        changed_meanwhile = self.cache.get(name) is not before
        self.cache.was_read(name, target)
        if changed_meanwhile:
            # The watch delivered an event during the read, and either of the two may be newer.
            self.cache.invalidate(request)
        return target, data

    def _manifest(
        self, request: Request, issuance: Issuance, data: dict[str, str], target: TargetSecret | None
    ) -> dict[str, Any]:
        adopted = is_adopted(request, target)
        issuance = msgspec.structs.replace(issuance, adopted=adopted)
        owned = not request.should_retain_secret and not adopted
        manifest = secret_manifest(request, issuance, data, self._keys, owned=owned)
        if target and not may_delete(request, target) and manifest["type"] == OPAQUE:
            # The formats require no type, so the type of a Secret that a user may have created is kept.
            del manifest["type"]
        # If the Secret was deleted or replaced after it was read, the apply fails, and Keyturn reads it again.
        manifest["metadata"] |= {"uid": target.uid} if target else {"resourceVersion": _ABSENT}
        return manifest
