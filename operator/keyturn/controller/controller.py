"""From an event in the cluster to the agenda, and from the agenda to the spine and back into the status."""

import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.base import InvalidSpecError
from keyturn.api.status import Status, read_status
from keyturn.api.token_request import Request, parse, renew_requested
from keyturn.controller.request_index import Entry, RequestIndex, remembered
from keyturn.controller.secret_cache import target
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import Meta
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.errors import BeingDeletedError, KeyturnError, LeaseLostError, RefusedError, UnavailableError
from keyturn.core.renewal import needs_metadata, renewal_reason
from keyturn.core.status import events, invalid, report
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import reconcile
from keyturn.reconcile.requeue import AFTER_A_BUG, LEAST_PAUSE, next_time, where
from keyturn.reconcile.state import ReconcileState

_TELL_AGAIN = timedelta(seconds=10)
_IF_IT_WAS_NO_END = timedelta(minutes=5)
_log = logging.getLogger(__name__)


class Controller:
    """Keeps every TokenRequest on the agenda, and sees to it when its time has come."""

    def __init__(
        self, deps: Dependencies, store: SecretStore, work_queue: WorkQueue, status_writer: StatusWriter
    ) -> None:
        self._deps = deps
        self._store = store
        self._work_queue = work_queue
        self._status_writer = status_writer
        self._untold: dict[str, tuple[Mapping[str, Any], RefusedError]] = {}
        self.index = RequestIndex()

    async def on_request(self, body: Mapping[str, Any], *, alive: bool) -> None:
        """Take in a TokenRequest that is there, has changed or has gone."""
        uid = body["metadata"]["uid"]
        if not alive or "deletionTimestamp" in body["metadata"]:
            self._forget(uid)
            return
        entry = self.index.entries.get(uid)
        if entry and not _has_changed(entry.request, body["metadata"]):
            return
        try:
            request = parse(body)
        except InvalidSpecError as error:
            self._forget(uid)
            await self._tell_invalid(body, RefusedError("InvalidSpec", error.message))
            return
        if entry:
            self.index.put(replace(entry, request=request))
            self._put(request, self._soon(entry), entry.state)
        else:
            self._meet(request, read_status(body))

    def on_request_list(self, uids: AbstractSet[str], namespace: str) -> None:
        """Take in which TokenRequests there are, in a namespace or in all: others have gone unseen."""
        for uid in self.index.uids(namespace) - uids:
            self._forget(uid)

    def on_secret(self, meta: Meta, alive: bool) -> None:  # noqa: FBT001 - the watch's own shape
        """Take in a Secret of ours that is there, has changed or has gone.

        Who writes it looks again. Who reads it does so only where the last try failed: a source that is a
        target of ours changes often, and must not pull renewals forward.
        """
        if not self._store.cache.observe(meta, alive):
            return
        for uid in self.index.users_of(meta.namespace, meta.name):
            entry = self.index.entries[uid]
            if entry.request.secret_name == meta.name or entry.state.failure:
                self._expedite(uid, entry)

    def on_source_secret(self, meta: Meta, _alive: bool) -> None:  # noqa: FBT001 - the watch's own shape
        """Take in a Secret labelled keyturn.dev/source: whoever reads it looks again at once."""
        for uid in self.index.users_of(meta.namespace, meta.name):
            self._expedite(uid, self.index.entries[uid])

    def on_service_recovered(self, system: str) -> None:
        """Hurry those whose last try failed because of a system that works again, the most urgent first."""
        now = self._deps.now()
        for uid, entry in self.index.entries.items():
            failure = entry.state.failure
            if failure and isinstance(failure.error, UnavailableError) and failure.error.service == system:
                entry.state.failure = replace(failure, next_attempt_time=now)
                self._work_queue.expedite(uid, now)

    def on_clock_set_back(self) -> None:
        """Look at all again: a look knows which times still count."""
        for uid in self.index.entries:
            self._work_queue.expedite(uid, self._deps.now())

    async def run_one(self, uid: str) -> None:
        """Look at a request, tell how it went, and give it its next place on the agenda."""
        entry = self.index.entries.get(uid)
        await (self._run_one(entry) if entry else self._tell_again(uid))

    async def _run_one(self, entry: Entry) -> None:
        request, entry.reconciled = entry.request, self._deps.now()
        try:
            await self._tell(request, entry.status, await self._reconcile(entry))
            due = self._next(request, entry.state)
        except (BeingDeletedError, LeaseLostError) as error:
            _log.info("%s/%s: %s", request.namespace, request.name, error)
            due = self._deps.now() + _IF_IT_WAS_NO_END
        except KeyturnError as error:
            _log.warning("%s/%s: not told: %s", request.namespace, request.name, error)
            due = self._deps.now() + _TELL_AGAIN
        except Exception as error:  # noqa: BLE001 - a bug that one request meets must not stop the others
            _log.error("%s/%s: a bug: %s", request.namespace, request.name, where(error))
            due = self._deps.now() + AFTER_A_BUG
        if self._is_current(request):
            self._put(request, due, entry.state)

    async def _reconcile(self, entry: Entry) -> Status:
        request = entry.request
        outcome = await reconcile(self._deps, request, entry.state)
        _log.debug("%s/%s: looked at: %s", request.namespace, request.name, outcome)
        return report(request, entry.status, outcome)

    def _expedite(self, uid: str, entry: Entry) -> None:
        self._work_queue.expedite(uid, self._soon(entry))

    def _soon(self, entry: Entry) -> datetime:
        """When to look at what changed: now, but not at every edit that somebody makes in a loop."""
        now = self._deps.now()
        return max(now, entry.reconciled + LEAST_PAUSE) if entry.reconciled and entry.reconciled <= now else now

    def _is_current(self, request: Request) -> bool:
        """Whether neither spec nor life of the request changed during the look; if they did, it has a place."""
        entry = self.index.entries.get(request.uid)
        return entry is not None and entry.request is request

    async def _tell(self, request: Request, before: Status, status: Status) -> None:
        if status == before:
            return
        await self._status_writer.status(request.namespace, request.name, request.uid, status)
        entry = self.index.entries.get(request.uid)
        if entry:
            entry.status = status
        for event in events(before, status):
            _log.info("%s/%s: %s: %s", request.namespace, request.name, event.reason, event.message)
            await self._status_writer.event(request, event)

    def _meet(self, request: Request, status: Status) -> None:
        """Place a request that is new to this process by what the lists tell: nothing is read, nothing written."""
        found = self._store.cache.get(target(request))
        state = ReconcileState(revision=status.revision, failure=remembered(status))
        written = found or self._store.cache.written_by(request)
        if written and written.issuance and written.issuance.request == request.name:
            state.saw(written.issuance)
        if found is None:
            state.issuance = None
            if status.revision:
                # It was issued once, and no list shows it: perhaps only its label has gone.
                self._store.cache.invalidate(request)
        self.index.put(Entry(request, status, state))
        self._put(request, self._first(request, status, state), state)

    def _first(self, request: Request, status: Status, state: ReconcileState) -> datetime:
        """When to look at it first: by its own time, if nothing that the lists tell calls for a look now."""
        now = self._deps.now()
        if not self._store.watched:
            return now
        if state.failure:
            return self._next(request, state) if state.failure.holds_back(request, "", now) else now
        told = status.observed_generation == request.generation and status.revision == state.revision
        return self._next(request, state) if told and self._is_settled(request, now) else now

    def _is_settled(self, request: Request, now: datetime) -> bool:
        found = self._store.cache.get(target(request))
        if found is None or self._store.cache.is_stale(request):
            return False
        try:
            return not (renewal_reason(request, found, None, now) or needs_metadata(request, found))
        except RefusedError:
            return False

    def _next(self, request: Request, state: ReconcileState) -> datetime:
        now = self._deps.now()
        waits = state.failure or request.spec.suspend
        if not waits and self._store.cache.is_stale(request):
            return now + LEAST_PAUSE
        return next_time(request, state, now)

    def _put(self, request: Request, due: datetime, state: ReconcileState) -> None:
        expires = state.issuance.expires if state.issuance else due
        self._work_queue.put(request.uid, due, expires, request.namespace)

    def _forget(self, uid: str) -> None:
        entry = self.index.drop(uid)
        self._work_queue.remove(uid)
        self._untold.pop(uid, None)
        if entry:
            self._store.cache.release(entry.request)

    async def _tell_again(self, uid: str) -> None:
        if untold := self._untold.pop(uid, None):
            await self._tell_invalid(*untold)

    async def _tell_invalid(self, body: Mapping[str, Any], error: RefusedError) -> None:
        meta, before = body["metadata"], read_status(body)
        status = invalid(before, meta.get("generation", 0), error.message, self._deps.now())
        self.index.put_invalid(meta["uid"], meta["namespace"], meta["name"], status)
        if status == before:
            return
        try:
            await self._status_writer.status(meta["namespace"], meta["name"], meta["uid"], status)
        except BeingDeletedError:
            self._forget(meta["uid"])
        except (KeyturnError, LeaseLostError) as failed:
            _log.warning("%s/%s: not told that %s: %s", meta["namespace"], meta["name"], error, failed)
            self._untold[meta["uid"]] = body, error
            due = self._deps.now() + _TELL_AGAIN
            self._work_queue.put(meta["uid"], due, due, meta["namespace"])


def _has_changed(index: Request, metadata: Mapping[str, Any]) -> bool:
    """Whether a new version says anything that matters here; labels and status do not."""
    asked = renew_requested(metadata.get("annotations", {}))
    return (index.generation, index.renew_requested) != (metadata.get("generation", 0), asked)
