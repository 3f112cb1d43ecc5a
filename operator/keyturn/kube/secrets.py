"""Secrets: sources are read, targets are written by server-side apply, each with its marks."""

import logging
from collections import defaultdict
from typing import Any

import msgspec

from keyturn.core.errors import LeavingError, RefusedError
from keyturn.core.holding import Source
from keyturn.core.marks import MANAGED_BY, FoundSecret, Marks, field_manager, is_adopted
from keyturn.core.model import GROUP, OPAQUE, PLURAL, VERSION, Request
from keyturn.core.renewal import check_ours
from keyturn.kube.api import APPLY, JSON, MERGE, ONE, ApiAnswer, Kube, refusal
from keyturn.kube.manifest import empty_manifest, found_secret, read_secret, released, secret_manifest
from keyturn.kube.retire import retire
from keyturn.kube.sources import read_source
from keyturn.kube.watch import Meta

_CREATED, _CONFLICT, _UNPROCESSABLE = 201, 409, 422

Place = tuple[str, str]
_log = logging.getLogger(__name__)


class SecretStore:
    """The Store of the cluster. `seen` is what is known of our Secrets, by namespace and name.

    What we wrote is what we know until the watch shows a newer version: a look that starts from a watch which
    has not yet seen our own write would renew twice.
    """

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self.seen: dict[Place, FoundSecret] = {}
        self._doubted: set[Place] = set()
        self._vanished: set[Place] = set()
        self._written_by: defaultdict[str, set[Place]] = defaultdict(set)
        self._in_hand: dict[Place, list[tuple[Meta, bool]]] = {}

    def observe(self, meta: Meta, alive: bool) -> bool:  # noqa: FBT001 - the watch's own shape
        """Take in what the watch shows; returns whether that is news that a look must see to."""
        place = (meta.namespace, meta.name)
        if place in self._in_hand:
            self._in_hand[place].append((meta, alive))
            return False
        known = self.seen.get(place)
        if not alive and known and known.uid != meta.uid:
            # The end of one whose place was taken, by us where the type had to change.
            return False
        if not alive:
            # The label may have gone and not the Secret: it is read before that is believed.
            self._doubted.add(place)
            self._vanished.add(place)
            self._forget(place)
            return known is not None
        if known and int(meta.resource_version) <= int(known.resource_version):
            return False
        found = found_secret(meta)
        self._take(place, found)
        if known or found.touched:
            self._doubted.add(place)
        return True

    def written_by(self, request: Request) -> FoundSecret | None:
        """Find a Secret that a request wrote, under whatever name."""
        return next((self.seen[place] for place in sorted(self._formers(request))), None)

    def is_doubted(self, request: Request) -> bool:
        """Whether the target must be read again before it is believed."""
        return (request.namespace, request.secret_name) in self._doubted

    async def read_source(self, request: Request) -> Source:
        """Read the source, fresh."""
        return await read_source(self._kube, request)

    async def read_target(self, request: Request) -> FoundSecret | None:
        """Find the target as the watch saw it; read it where the watch left a doubt."""
        place = (request.namespace, request.secret_name)
        if place in self._doubted:
            await self._read(request)
        return self.seen.get(place)

    async def rehearse(self, request: Request) -> None:
        """Apply without writing. A Secret that is there and was not known must turn out to be ours.

        Where the request has gone, it raises LeavingError: the end of its Secret may be seen before its own.
        """
        if (request.namespace, request.secret_name) in self._vanished:
            await self._check_alive(request)
            self._vanished.discard((request.namespace, request.secret_name))
        answer = await self._send(request, secret_manifest(request, None, {}, owned=False), dryRun="All")
        if answer.status == _CREATED:
            return
        found, _ = await self._read(request)
        if found:
            check_ours(request, found)
        elif answer.refused:
            raise refusal(answer, f"Secret {request.secret_name}", {})

    async def write(self, request: Request, marks: Marks, data: dict[str, str]) -> None:
        """Apply data and marks in one request; then go the Secrets of a former spec.target.secretName."""
        place = (request.namespace, request.secret_name)
        self._in_hand.setdefault(place, [])
        try:
            await self._apply(request, marks, data)
        finally:
            # Another request that wants the same Secret may have done so already.
            for meta, alive in self._in_hand.pop(place, ()):
                self.observe(meta, alive)
        for former in self._formers(request) - {place}:
            await self._let_go(request, former)

    async def dress(self, request: Request, marks: Marks) -> None:
        """Apply the whole Secret again with the data it has: an apply without data would remove them."""
        found, data = await self._read(request)
        if found and found.marks and found.data_hash == found.marks.data_hash:
            await self.write(request, marks, data)
        else:
            # It was edited meanwhile: the next look finds that out by itself.
            self._doubted.add((request.namespace, request.secret_name))

    async def _check_alive(self, request: Request) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{request.namespace}/{PLURAL}/{request.name}"
        answer = await self._kube.ask("GET", path, accept=ONE)
        about = answer.body.get("metadata", {})
        if not answer.found or about.get("uid", request.uid) != request.uid or "deletionTimestamp" in about:
            raise LeavingError("the TokenRequest is gone")

    async def _apply(self, request: Request, marks: Marks, data: dict[str, str]) -> None:
        known = self.seen.get((request.namespace, request.secret_name))
        answer = await self._send(request, _manifest(request, marks, data, known))
        if answer.status in (_CONFLICT, _UNPROCESSABLE):
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
        self._take((request.namespace, request.secret_name), found_secret(_meta(answer)))
        self._doubted.discard((request.namespace, request.secret_name))

    async def _of_its_type(
        self, request: Request, marks: Marks, data: dict[str, str], found: FoundSecret
    ) -> FoundSecret | None:
        """Delete a Secret that has not the type for its formats: no type can be changed."""
        manifest = _manifest(request, marks, data, found)
        if manifest.get("type", found.type) == found.type:
            return found
        await retire(self._kube, request, manifest, data, found.uid)
        self._forget((request.namespace, request.secret_name))
        return None

    def _formers(self, request: Request) -> set[Place]:
        """Where else the request wrote. A copy that somebody made has our marks, but not our field manager."""
        ours = field_manager(request.uid)
        return {
            place
            for place in self._written_by.get(request.uid, ())
            if place[0] == request.namespace and ours in self.seen[place].managers
        }

    async def _let_go(self, request: Request, place: Place) -> None:
        found, path = self.seen[place], _path(*place)
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
            self._forget(place)

    async def _send(self, request: Request, manifest: dict[str, Any], **query: str) -> ApiAnswer:
        query = {"fieldManager": field_manager(request.uid)} | query
        path = _path(request.namespace, request.secret_name)
        return await self._kube.ask("PATCH", path, manifest, kind=APPLY, query=query, accept=ONE)

    async def _read(self, request: Request) -> tuple[FoundSecret | None, dict[str, str]]:
        place = (request.namespace, request.secret_name)
        answer = await self._kube.ask("GET", _path(*place))
        if not answer.found:
            self._forget(place)
            self._doubted.discard(place)
            return None, {}
        if answer.refused:
            raise RefusedError("WriteRefused", f"Secret {request.secret_name} may not be read: {answer.message}")
        found, data = read_secret(request, answer.body)
        self._take(place, found)
        # No watch shows a Secret without our label: its consent, or its end, is seen by reading it each time.
        (self._doubted.discard if found.labels.get(MANAGED_BY) == "keyturn" else self._doubted.add)(place)
        return found, data

    def _take(self, place: Place, found: FoundSecret) -> None:
        self._forget(place)
        self._vanished.discard(place)
        self.seen[place] = found
        if found.marks:
            self._written_by[found.marks.uid].add(place)

    def _forget(self, place: Place) -> None:
        found = self.seen.pop(place, None)
        if found and found.marks:
            places = self._written_by[found.marks.uid]
            places.discard(place)
            if not places:
                del self._written_by[found.marks.uid]


def _manifest(request: Request, marks: Marks, data: dict[str, str], found: FoundSecret | None) -> dict[str, Any]:
    adopted = is_adopted(request, found)
    marks = msgspec.structs.replace(marks, adopted=adopted)
    made = secret_manifest(request, marks, data, owned=not request.retains and not adopted)
    if adopted and made["type"] == OPAQUE:
        # Its maker chose the type, and ours needs none of its own.
        del made["type"]
    return made


def _meta(answer: ApiAnswer) -> Meta:
    return msgspec.convert(answer.body["metadata"], Meta)


def _path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets/{name}"
