"""The life of one request: look, tell, wait until it is due or something has changed, look again."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from prometheus_client import generate_latest

from keyturn.api.status import Condition, Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.status import report
from keyturn.metrics import Series
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import reconcile
from keyturn.reconcile.requeue import AFTER_A_BUG, next_time, series, where
from keyturn.reconcile.state import ReconcileState
from keyturn.standalone.file_store import FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.publisher import NOTHING_TO_SERVE, Giving, is_servable

# How often the files are looked at, and the clock: one that was set is noticed as soon.
_POLL_SECONDS = 1.0
_log = logging.getLogger(__name__)


class Renewing:
    """Renews `request`, and what its manifest says from then on."""

    def __init__(
        self, deps: Dependencies, store: FileStore, manifest: ManifestFile, request: Request, giving: Giving
    ) -> None:
        self._deps = deps
        self._store = store
        self._manifest = manifest
        self._request = request
        self._giving = giving
        self._state = ReconcileState()
        self.status = Status()

    async def go_on(self) -> None:
        """Renew until cancelled. A token that is being spent is saved first."""
        while True:
            before, due = self.status, await self.reconcile()
            _tell(self._request, before, self.status)
            await self._rest(due)
            await asyncio.to_thread(self._read_manifest)

    async def reconcile(self) -> datetime:
        """Look at the request once, and return when it is due again; `status` says how it went."""
        request = self._request
        if await asyncio.to_thread(self._is_cause_gone):
            self._expedite()
        try:
            outcome = await reconcile(self._deps, request, self._state)
        except Exception as error:  # noqa: BLE001 - what is held is served all the same
            _log.error("%s: a bug: %s", _name(request), where(error))
            self._giving.held.trouble = "a bug of Keyturn's; its log says where"
            return self._deps.now() + AFTER_A_BUG
        self.status = report(request, self.status, outcome)
        self._giving.held.trouble = self._trouble()
        return next_time(request, self._state, self._deps.now())

    def _trouble(self) -> str:
        """Say why nothing newer comes, in what an SDK's user reads."""
        if self._request.spec.suspend:
            return "spec.suspend is set: nothing is renewed"
        return self._state.failure.error.message if self._state.failure else ""

    def series(self) -> Iterator[Series]:
        """What is exported of it."""
        yield series(self._request, self.status, self._state)

    def exposition(self) -> bytes:
        """The metrics of the process, as Prometheus reads them."""
        return generate_latest(self._deps.metrics.registry)

    async def _rest(self, due: datetime) -> None:
        """Sleep at least once: whatever changes all the time must not make a loop of looks."""
        now, changed = self._deps.now(), False
        while now < due and not changed:
            await self._deps.sleep(min(_POLL_SECONDS, (due - now).total_seconds()))
            before, now = now, self._deps.now()
            changed = now < before or await asyncio.to_thread(self._has_changed)

    def _has_changed(self) -> bool:
        return self._manifest.has_changed() or self._store.has_changed()

    def _read_manifest(self) -> None:
        """Take in another manifest; one that cannot be used is told, and the last goes on."""
        if not self._manifest.has_changed():
            return
        try:
            request = self._manifest.read()
            self._check_follows(request)
        except KeyturnError as error:
            _log.error("%s; what it said before goes on", error)
            return
        if request != self._request:
            _log.info("%s: the manifest has changed", _name(request))
            self._request = request

    def _check_follows(self, request: Request) -> None:
        """Refuse what this process cannot go on with."""
        if _name(request) != _name(self._request):
            raise RefusedError("InvalidSpec", f"it holds {_name(request)} now: start a process of its own for that")
        if self._giving.serves and not is_servable(request):
            raise RefusedError("InvalidSpec", NOTHING_TO_SERVE)

    def _is_cause_gone(self) -> bool:
        """Whether what the last try failed of may be gone; other failures are no matter of the folder."""
        failure = self._state.failure
        taken = failure is not None and failure.error.reason == "TargetConflict"
        return self._store.take_source_changes() or (taken and self._store.has_folder_changed())

    def _expedite(self) -> None:
        """Let a failure wait no longer than for the next try that is allowed: its cause may be gone."""
        state, failure, now = self._state, self._state.failure, self._deps.now()
        if failure:
            allowed = (state.exchanged or now) + self._deps.least_interval
            next_attempt_time = min(failure.next_attempt_time, max(now, allowed))
            state.failure = replace(failure, next_attempt_time=next_attempt_time)


def _tell(request: Request, before: Status, now: Status) -> None:
    """Log each condition that has changed, and each renewal."""
    for condition in now.conditions:
        was, renewed = before.condition(condition.type), now.revision != before.revision
        news = was is None or (was.status, was.reason) != (condition.status, condition.reason)
        if news or (renewed and condition.type == "Renewed"):
            level = logging.INFO if _is_good(condition) else logging.WARNING
            _log.log(level, "%s: %s: %s", _name(request), _told(condition), condition.message)


def _is_good(condition: Condition) -> bool:
    return (condition.status == "True") != (condition.type == "Stalled")


def _told(condition: Condition) -> str:
    return f"{condition.type}={condition.status}, {condition.reason}"


def _name(request: Request) -> str:
    return f"{request.namespace}/{request.name}"
