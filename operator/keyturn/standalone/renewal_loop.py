"""Reconciles one request whenever it is due or a file has changed."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.clock import ClockSteps
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.state import ReconcileState
from keyturn.core.status import Event
from keyturn.metrics import Series, request_series
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import reconcile
from keyturn.reconcile.reports import report_bug
from keyturn.standalone.file_store import NO_SERVABLE_FORMAT, CredentialPublisher, FileStore, is_servable
from keyturn.standalone.manifest_file import ManifestFile

# The interval at which the files and the clock are checked.
_POLL_SECONDS = 1.0
_PAUSE_AFTER_BUG_SECONDS = 5.0
# How long a check of the files delays a renewal: a file system may not respond.
_CHECK_SECONDS = 2.0
_log = logging.getLogger(__name__)


class RenewalLoop:
    """Renews a request, and applies changes to its manifest."""

    def __init__(
        self,
        deps: Dependencies,
        store: FileStore,
        manifest: ManifestFile,
        request: Request,
        publisher: CredentialPublisher,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deps = deps
        self._store = store
        self._manifest = manifest
        self._request = request
        self._publisher = publisher
        self._monotonic = monotonic
        self._clock_steps = ClockSteps(deps.now(), monotonic())
        self._state = ReconcileState()
        self._check: asyncio.Future[object] | None = None
        self._is_check_late = False
        self.status = self._logged_status = Status()

    async def run(self) -> None:
        """Renew until cancelled. If a token is being consumed, its replacement is saved before this returns."""
        while True:
            try:
                due = await self.reconcile()
                self._log_changes()
                await self._wait(due)
                await self._check_files(self._apply_changes)
            except Exception as bug:  # noqa: BLE001 - a bug must stop neither the renewals nor the endpoint
                report_bug(self._deps.metrics, self._request.namespaced_name, bug)
                await self._deps.sleep(_PAUSE_AFTER_BUG_SECONDS)

    async def reconcile(self) -> datetime | None:
        """Reconcile the request once. Returns the time of the next reconciliation; None if only a change causes one."""
        request = self._request
        reconciled = await reconcile(self._deps, request, self._state, self.status, self._report_progress)
        self._state, self.status = reconciled.state, reconciled.status
        failure = self._state.failure.error.message if self._state.failure else ""
        self._publisher.cache.failure = "spec.suspend is set: nothing is renewed" if request.spec.suspend else failure
        return reconciled.requeue_at

    def series(self) -> Iterator[Series]:
        """Return the metrics of the request."""
        yield request_series(self._request, self.status, self._state)

    async def exposition(self) -> bytes:
        """Return the metrics of the process in the Prometheus text format."""
        return b"".join((await self._deps.metrics.exposition()).parts())

    async def _report_progress(self, status: Status, _: tuple[Event, ...]) -> None:
        self.status = status
        self._log_changes()

    async def _wait(self, due: datetime | None) -> None:
        """Wait until `due` or a file change. Sleeps at least once, so that frequent changes cause no busy loop."""
        now, has_changed = self._deps.now(), False
        while (due is None or now < due) and not has_changed:
            await self._deps.sleep(min(_POLL_SECONDS, (due - now).total_seconds()) if due else _POLL_SECONDS)
            previous, now = now, self._deps.now()
            if step := self._clock_steps.observe(now, self._monotonic()):
                self._state = self._state.with_clock_set(now, step)
            has_changed = (
                bool(step)
                or now < previous
                or await self._check_files(lambda: self._manifest.has_changed() or self._store.has_changed())
            )

    async def _check_files(self, check: Callable[[], object]) -> bool:
        """Run a check of the files in a thread, and return whether its result is true.

        If the file system does not respond, this returns False after a while, so that renewals continue. No other check
        is started until the thread has ended.
        """
        self._check = self._check or asyncio.get_running_loop().run_in_executor(None, check)
        await asyncio.wait({self._check}, timeout=_CHECK_SECONDS)
        was_late, self._is_check_late = self._is_check_late, not self._check.done()
        if self._is_check_late:
            if not was_late:
                _log.warning("a file system does not respond: no change to the files is noticed until it does")
            return False
        done, self._check = self._check, None
        return bool(done.result())

    def _apply_changes(self) -> bool:
        """Apply the changes. Returns True, because a reconciliation must follow, even if this ends late."""
        self._expedite()
        self._read_manifest()
        return True

    def _read_manifest(self) -> None:
        """Read the manifest if it has changed. If this process cannot use it, log why and keep the previous one."""
        if not self._manifest.has_changed():
            return
        try:
            request = self._manifest.read()
            if request.namespaced_name != self._request.namespaced_name:
                raise RefusedError(
                    "InvalidSpec", f"the manifest now contains {request.namespaced_name}: start another process for it"
                )
            if self._publisher.has_endpoint and not is_servable(request):
                raise RefusedError("InvalidSpec", NO_SERVABLE_FORMAT)
        except KeyturnError as error:
            _log.error("%s; the previous manifest stays in use", error)
            return
        if request != self._request:
            _log.info("%s: the manifest has changed", request.namespaced_name)
            self._request = request

    def _expedite(self) -> None:
        """Move the next attempt forward if files have changed, which may have removed the cause of the failure.

        The minimum interval between exchanges still applies.
        """
        # Checked before the state is read: if a check takes long, a reconciliation may change the state meanwhile.
        has_source_changed = self._store.acknowledge_source_changes()
        has_output_changed = self._store.has_output_changed()
        state, failure = self._state, self._state.failure
        if failure is None or failure.error.reason == "RefreshOutcomeUnknown":
            # The time of the final attempt does not depend on the files.
            return
        # Only TargetConflict depends on the output directory.
        is_conflict = failure.error.reason == "TargetConflict"
        if has_source_changed or (is_conflict and has_output_changed):
            now = self._deps.now()
            allowed = (state.exchanged_at or now) + self._deps.min_interval
            next_attempt_time = min(failure.next_attempt_time, max(now, allowed))
            self._state = replace(state, failure=replace(failure, next_attempt_time=next_attempt_time))

    def _log_changes(self) -> None:
        """Log each condition that has changed since the last call, and each renewal."""
        before, self._logged_status = self._logged_status, self.status
        is_renewed = self.status.revision != before.revision
        for condition in self.status.conditions:
            previous = before.condition(condition.type)
            has_changed = previous is None or (previous.status, previous.reason) != (condition.status, condition.reason)
            if has_changed or (is_renewed and condition.type == "Renewed"):
                is_healthy = (condition.status == "True") != (condition.type == "Stalled")
                message = f"{condition.type}={condition.status}, {condition.reason}: {condition.message}"
                level = logging.INFO if is_healthy else logging.WARNING
                _log.log(level, "%s: %s", self._request.namespaced_name, message)
