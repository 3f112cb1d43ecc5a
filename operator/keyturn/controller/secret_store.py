"""Secrets: sources are read, targets are written by server-side apply, each with its marks."""

import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec

from keyturn.api.token_request import GROUP, OPAQUE, PLURAL, VERSION, Request
from keyturn.controller.api_client import APPLY, JSON, MERGE, ONE, ApiAnswer, Kube, refusal, secrets_path
from keyturn.controller.secret_cache import Place, SeenSecrets, target
from keyturn.controller.secret_manifest import empty_manifest, found_secret, read_secret, released, secret_manifest
from keyturn.controller.secret_replacement import retire, try_anew
from keyturn.controller.secret_watch import Meta
from keyturn.controller.source_reader import read_source
from keyturn.core.errors import KeyturnError, LeavingError, RefusedError, UnavailableError
from keyturn.core.issuance import FoundSecret, Marks, field_manager, is_adopted
from keyturn.core.pipeline_values import Source
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
        kube: Kube,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        watched: bool = True,
        require_label: bool = False,
    ) -> None:
        self._kube = kube
        self._labelled = require_label
        self.watched = watched
        self._monotonic = monotonic
        self._rehearsed: dict[str, tuple[str, float]] = {}
        self.seen = SeenSecrets()

    async def read_source(self, request: Request) -> Source:
        """Read the source, fresh."""
        return await read_source(self._kube, request, require_label=self._labelled)

    async def read_target(self, request: Request) -> FoundSecret | None:
        """Find the target as the watch saw it; read it where the watch left a doubt, or there is none."""
        if not self.watched or self.seen.is_doubted(request):
            await self._read(request)
        return self.seen.get(target(request))

    async def rehearse(self, request: Request) -> None:
        """Apply without writing. A Secret that is there must turn out to be ours.

        Where the request has gone, it raises LeavingError: the end of its Secret may be seen before its own.
        What a namespace took within ten seconds is not tried again, unless a token would be spent for it: the
        write itself refuses a Secret that is there, at the price of one exchange.
        """
        if self.seen.has_vanished(request):
            await self._check_alive(request)
        elif not request.spec.spending and self._is_rehearsed(request):
            return
        manifest = secret_manifest(request, None, {}, owned=False)
        answer = await self._send(request, manifest, dryRun="All")
        if answer.status == HTTPStatus.CREATED:
            self._rehearsed[request.namespace] = (request.dress_hash, self._monotonic())
            return
        found, _ = await self._read(request)
        if found:
            answer = await self._rehearse_on(request, found, manifest)
        if answer.refused:
            raise refusal(answer, f"Secret {request.secret_name}", {})

    async def _rehearse_on(self, request: Request, found: FoundSecret, manifest: dict[str, Any]) -> ApiAnswer:
        check_ours(request, found)
        if found.type != manifest["type"]:
            return await try_anew(self._kube, request, manifest)
        return await self._send(request, manifest, dryRun="All", force="true")

    async def write(self, request: Request, marks: Marks, data: dict[str, str]) -> None:
        """Apply data and marks in one request; then go the Secrets of a former spec.target.secretName."""
        try:
            with self.seen.in_hand(target(request)):
                await self._apply(request, marks, data)
        except KeyturnError:
            self._rehearsed.pop(request.namespace, None)
            raise
        for former in self.seen.formers(request) - {target(request)}:
            try:
                await self._let_go(request, former)
            except UnavailableError as error:
                # What was renewed is written: that is no failure of it. The next renewal lets go of the former.
                _log.warning("Secret %s/%s could not be let go: %s", *former, error)

    async def dress(self, request: Request, marks: Marks) -> None:
        """Apply the whole Secret again with the data it has: an apply without data would remove them."""
        found, data = await self._read(request)
        if found and found.marks and found.data_hash == found.marks.data_hash:
            await self.write(request, marks, data)
        else:
            # It was edited meanwhile: the next look finds that out by itself.
            self.seen.doubt(request)

    def _is_rehearsed(self, request: Request) -> bool:
        dress, at = self._rehearsed.get(request.namespace, ("", 0.0))
        return dress == request.dress_hash and self._monotonic() - at < _REHEARSED_SECONDS

    async def _check_alive(self, request: Request) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{request.namespace}/{PLURAL}/{request.name}"
        answer = await self._kube.ask("GET", path, accept=ONE)
        about = answer.body.get("metadata", {})
        if not answer.found or about.get("uid", request.uid) != request.uid or "deletionTimestamp" in about:
            raise LeavingError("the TokenRequest is gone")

    async def _apply(self, request: Request, marks: Marks, data: dict[str, str]) -> None:
        known = self.seen.get(target(request))
        answer = await self._send(request, _manifest(request, marks, data, known))
        if answer.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
            # Somebody holds a field of ours, or it is immutable. Force is for what a read has shown to be ours.
            known, _ = await self._read(request)
            if known:
                check_ours(request, known)
                known = await self._of_its_type(request, marks, data, known)
            answer = await self._send(request, _manifest(request, marks, data, known), force="true")
        if answer.refused:
            raise refusal(answer, f"Secret {request.secret_name}", data)
        if known and known.marks and known.marks.uid != request.uid:
            # Fields that only the manager of a former request holds, such as its owner reference, go with it.
            former = field_manager(known.marks.uid)
            nothing = empty_manifest(request.secret_name, known.uid)
            retired = await self._send(request, nothing, fieldManager=former, force="true")
            answer = answer if retired.refused else retired
        self.seen.was_written(target(request), found_secret(_meta(answer)))

    async def _of_its_type(
        self, request: Request, marks: Marks, data: dict[str, str], found: FoundSecret
    ) -> FoundSecret | None:
        """Delete a Secret that has not the type for its formats: no type can be changed."""
        manifest = _manifest(request, marks, data, found)
        if manifest.get("type", found.type) == found.type:
            return found
        await retire(self._kube, request, manifest, data, found.uid)
        self.seen.forget(target(request))
        return None

    async def _let_go(self, request: Request, place: Place) -> None:
        found, path = self.seen.get(place), secrets_path(*place)
        if found is None:
            return
        if is_adopted(request, found):
            query = {"fieldManager": field_manager(request.uid), "force": "true"}
            answer = await self._kube.ask(
                "PATCH", path, empty_manifest(place[1], found.uid), kind=APPLY, query=query
            )
        elif request.retains:
            answer = await self._kube.ask("PATCH", path, released(found), kind=MERGE)
        else:
            answer = await self._kube.ask("DELETE", path, {"preconditions": {"uid": found.uid}}, kind=JSON)
        if answer.refused and answer.found:
            _log.warning("Secret %s/%s could not be let go: %s", *place, answer.message)
        else:
            self.seen.forget(place)

    async def _send(self, request: Request, manifest: dict[str, Any], **query: str) -> ApiAnswer:
        query = {"fieldManager": field_manager(request.uid)} | query
        path = secrets_path(*target(request))
        return await self._kube.ask("PATCH", path, manifest, kind=APPLY, query=query, accept=ONE)

    async def _read(self, request: Request) -> tuple[FoundSecret | None, dict[str, str]]:
        place = target(request)
        before = self.seen.get(place)
        answer = await self._kube.ask("GET", secrets_path(*place))
        if answer.refused and answer.found:
            raise RefusedError("WriteDenied", f"Secret {request.secret_name} may not be read: {answer.message}")
        found, data = read_secret(request, answer.body) if answer.found else (None, {})
        overtaken = self.seen.get(place) is not before
        self.seen.was_read(place, found)
        if overtaken:
            # The watch showed something while the answer was on its way: nobody knows which of them is older.
            self.seen.doubt(request)
        return found, data


def _manifest(request: Request, marks: Marks, data: dict[str, str], found: FoundSecret | None) -> dict[str, Any]:
    adopted = is_adopted(request, found)
    marks = msgspec.structs.replace(marks, adopted=adopted)
    manifest = secret_manifest(request, marks, data, owned=not request.retains and not adopted)
    if adopted and manifest["type"] == OPAQUE:
        # Its maker chose the type, and ours needs none of its own.
        del manifest["type"]
    if found is None:
        manifest["metadata"]["resourceVersion"] = _ABSENT
    return manifest


def _meta(answer: ApiAnswer) -> Meta:
    return msgspec.convert(answer.body["metadata"], Meta)
