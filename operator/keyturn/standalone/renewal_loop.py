"""Reconciles one request whenever it is due or a file has changed."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from prometheus_client import generate_latest

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.state import ReconcileState
from keyturn.metrics import Series
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import reconcile, report_bug, series
from keyturn.standalone.file_store import FileStore
from keyturn.standalone.manifest_file import ManifestFile
from keyturn.standalone.publisher import NO_SERVABLE_FORMAT, CredentialPublisher, is_servable

# Interval at which the files and the clock are checked.
_POLL_SECONDS = 1.0
_PAUSE_AFTER_BUG_SECONDS = 5.0
_log = logging.getLogger(__name__)


class RenewalLoop:
    """Renews a request, and follows changes of its manifest."""

    def __init__(
        self,
        deps: Dependencies,
        store: FileStore,
        manifest: ManifestFile,
        request: Request,
        publisher: CredentialPublisher,
    ) -> None:
        self._deps = deps
        self._store = store
        self._manifest = manifest
        self._request = request
        self._publisher = publisher
        self._state = ReconcileState()
        self.status = Status()

    async def run(self) -> None:
        """Renew until cancelled. If a token is being consumed, its successor is saved before this returns."""
        while True:
            try:
                before, due = self.status, await self.reconcile()
                _log_changes(self._request, before, self.status)
                await self._wait(due)
                if await asyncio.to_thread(self._may_succeed_now):
                    self._expedite()
                await asyncio.to_thread(self._read_manifest)
            except Exception as bug:  # noqa: BLE001 - it must stop neither renewals nor the serving of credentials
                report_bug(self._deps.metrics, self._request, bug)
                await self._deps.sleep(_PAUSE_AFTER_BUG_SECONDS)

    async def reconcile(self) -> datetime | None:
        """Reconcile the request once and return the time of the next reconciliation; None: when a file changes."""
        request = self._request
        reconciled = await reconcile(self._deps, request, self._state, self.status)
        self._state, self.status = reconciled.state, reconciled.status
        self._publisher.cache.failure = self._failure_message()
        return reconciled.requeue_at

    def _failure_message(self) -> str:
        """Return why the credentials are not renewed, as SDKs report it, or ""."""
        if self._request.spec.suspend:
            return "spec.suspend is set: nothing is renewed"
        return self._state.failure.error.message if self._state.failure else ""

    def series(self) -> Iterator[Series]:
        """Return the metrics of the request."""
        yield series(self._request, self.status, self._state)

    def exposition(self) -> bytes:
        """Return the metrics of the process in the Prometheus text format."""
        return generate_latest(self._deps.metrics.registry)

    async def _wait(self, due: datetime | None) -> None:
        """Wait until `due` or a file change. Sleep at least once: frequent changes must not cause a busy loop."""
        now, changed = self._deps.now(), False
        while (due is None or now < due) and not changed:
            await self._deps.sleep(min(_POLL_SECONDS, (due - now).total_seconds()) if due else _POLL_SECONDS)
            before, now = now, self._deps.now()
            changed = now < before or await asyncio.to_thread(self._has_changed)

    def _has_changed(self) -> bool:
        return self._manifest.has_changed() or self._store.has_changed()

    def _read_manifest(self) -> None:
        """Read the manifest if it has changed. If it is invalid, log that and keep the previous one."""
        if not self._manifest.has_changed():
            return
        try:
            request = self._manifest.read()
            self._check_compatible(request)
        except KeyturnError as error:
            _log.error("%s; the previous manifest stays in use", error)
            return
        if request != self._request:
            _log.info("%s: the manifest has changed", _name(request))
            self._request = request

    def _check_compatible(self, request: Request) -> None:
        """Raise RefusedError if this process cannot switch to the new manifest."""
        if _name(request) != _name(self._request):
            raise RefusedError(
                "InvalidSpec", f"the manifest contains {_name(request)} now: start another process for it"
            )
        if self._publisher.has_endpoint and not is_servable(request):
            raise RefusedError("InvalidSpec", NO_SERVABLE_FORMAT)

    def _may_succeed_now(self) -> bool:
        """Whether a change of files may have fixed the failure. Only TargetConflict depends on the output directory."""
        failure = self._state.failure
        is_conflict = failure is not None and failure.error.reason == "TargetConflict"
        return self._store.acknowledge_source_changes() or (is_conflict and self._store.has_output_changed())

    def _expedite(self) -> None:
        """Move the next attempt forward, but respect the minimum interval between exchanges."""
        state, failure, now = self._state, self._state.failure, self._deps.now()
        if failure:
            allowed = (state.exchanged_at or now) + self._deps.min_interval
            next_attempt_time = min(failure.next_attempt_time, max(now, allowed))
            self._state = replace(state, failure=replace(failure, next_attempt_time=next_attempt_time))


def _log_changes(request: Request, before: Status, now: Status) -> None:
    """Log each condition that has changed, and each renewal."""
    for condition in now.conditions:
        previous, is_renewed = before.condition(condition.type), now.revision != before.revision
        has_changed = previous is None or (previous.status, previous.reason) != (condition.status, condition.reason)
        if has_changed or (is_renewed and condition.type == "Renewed"):
            is_healthy = (condition.status == "True") != (condition.type == "Stalled")
            kind, status, reason = condition.type, condition.status, condition.reason
            message = f"{kind}={status}, {reason}: {condition.message}"
            _log.log(logging.INFO if is_healthy else logging.WARNING, "%s: %s", _name(request), message)


def _name(request: Request) -> str:
    return f"{request.namespace}/{request.name}"
