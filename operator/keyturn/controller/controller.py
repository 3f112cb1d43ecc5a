"""Controller: adds a TokenRequest to the work queue at each watch event, and reconciles those that are due."""

import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard

from keyturn.api.status import Status
from keyturn.api.token_request import InvalidRequest, Request
from keyturn.controller.batches import Batches
from keyturn.controller.request_index import Entry, RequestIndex, read_request, restored_failure
from keyturn.controller.scope import REPORT_DELAY, ConflictReporter
from keyturn.controller.secret_cache import target_name
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.secret_watch import SecretMeta
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.errors import TOKEN_UNSAVED, BeingDeletedError, KeyturnError, LeaseLostError
from keyturn.core.renewal import Idle, bounded, decide, next_reconcile
from keyturn.core.state import ReconcileState, is_in_future
from keyturn.core.status import Event
from keyturn.core.token_family import TOKEN_FAMILY_ANNOTATION, read_family
from keyturn.metrics import Series
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.reconciler import DELETION_TIMEOUT, SHORTEST_PAUSE, reconcile
from keyturn.reconcile.reports import report_bug

_STATUS_RETRY = timedelta(seconds=10)
_NEVER = datetime.max.replace(tzinfo=UTC)
_SCOPE_RETRY = timedelta(seconds=5)
_log = logging.getLogger(__name__)


class Controller:
    """Keeps every TokenRequest in the work queue, and reconciles it when it is due."""

    def __init__(
        self,
        deps: Dependencies,
        store: SecretStore,
        work_queue: WorkQueue,
        status_writer: StatusWriter,
        conflict_reporter: ConflictReporter,
    ) -> None:
        self._deps = deps
        self._store = store
        self._work_queue = work_queue
        self._status_writer = status_writer
        self._conflict_reporter = conflict_reporter
        self._scope = conflict_reporter.scope
        self._scope.on_free(self.on_namespace_free)
        self.index = RequestIndex()
        self.batches = Batches(functools.partial(report_bug, deps.metrics, "a change that concerns many TokenRequests"))
        self._store.follow_changes(self._current)

    async def on_request(self, body: Mapping[str, Any], *, alive: bool) -> None:
        """Handle a TokenRequest that exists, has changed or was deleted.

        While a finalizer keeps one that is being deleted, it is only reported, as if it were suspended.
        """
        metadata = body.get("metadata")
        if not _is_identified(metadata):
            _log.error("ignored a TokenRequest without namespace, name or uid")
            return
        uid = metadata["uid"]
        if not alive:
            self._drop(uid)
            return
        if self.is_known(metadata):
            return
        # A user may have changed the source just before the TokenRequest.
        self._store.sources.forget(metadata["namespace"])
        known, is_foreign = self.index.entries.get(uid), self._is_foreign(metadata["namespace"])
        request = read_request(body)
        if known is None or is_foreign or isinstance(known.request, InvalidRequest):
            status = self._status_writer.read(body) if known is None or is_foreign else known.status
            entry = replace(self._first_entry(request, status), version=metadata.get("resourceVersion", ""))
            is_new = is_foreign and not self._conflict_reporter.has_reported(uid)
            due = self._deps.now() if is_new else self._first_due(entry)
        else:
            entry, due = replace(known, request=request), self._soon(known)
        self.index.put(entry)
        if known:
            self._release_target(known.request)
        self._work_queue.add(uid, due, entry.deadline(due), request.namespace)

    def is_known(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a TokenRequest with these metadata differs from the known one at most in labels and status."""
        entry = self.index.entries.get(metadata["uid"])
        if entry is None or self._is_foreign(metadata["namespace"]):
            return False
        return not entry.has_changed(metadata)

    def on_request_list(self, uids: AbstractSet[str], namespace: str) -> None:
        """Drop the requests missing from a full list of one namespace, or of all namespaces if `namespace` is empty."""
        for uid in self.index.uids(namespace) - uids:
            self._drop(uid)

    def on_secret(self, meta: SecretMeta, alive: bool) -> None:  # noqa: FBT001 - the signature of the watch
        """Handle a Secret that Keyturn manages.

        The request that writes it is reconciled. A request that reads it is reconciled only if its last attempt failed:
        a source that is also a target changes often, and must not cause early renewals.
        """
        family = read_family(meta.annotations.get(TOKEN_FAMILY_ANNOTATION, "")) if alive else None
        # From the first list on, so that the time for which another operator's intent must be observed starts early.
        self._deps.token_locks.observe_family(meta.namespace, meta.name, family)
        self._store.sources.forget(meta.namespace, meta.name)
        if self._store.cache.observe(meta, alive):
            self._store.sources.forget(meta.namespace)
            self._expedite_users(meta, only_if=lambda entry: _has_failed_or_writes(entry, meta.name))

    def on_source_secret(self, meta: SecretMeta, _alive: bool) -> None:  # noqa: FBT001 - the signature of the watch
        """Handle a Secret labelled keyturn.dev/source: every request that reads it is reconciled."""
        self._store.sources.forget(meta.namespace, meta.name)
        self._expedite_users(meta)

    def on_service_recovered(self, service: str) -> None:
        """Retry the requests that failed because of a service that has recovered."""
        now = self._deps.now()

        def retry(uid: str) -> None:
            entry = self.index.entries.get(uid)
            if entry and entry.failed_service == service and (failure := entry.state.failure):
                self.index.update(uid, state=replace(entry.state, failure=replace(failure, next_attempt_time=now)))
                self._work_queue.expedite(uid, now)

        uids = functools.partial(self.index.failed_because_of, service)
        self.batches.visit(("recovered", service), uids, retry)

    def is_awaited(self, service: str) -> bool:
        """Whether the last attempt of a request failed because of a service."""
        return bool(self.index.failed_because_of(service))

    def on_namespace_free(self, namespace: str) -> None:
        """Resume the requests in a namespace, or in all if it is empty, that another installation has released."""

        def resume(uid: str) -> None:
            if (entry := self.index.entries.get(uid)) and (due := self._first_due(entry)):
                self._work_queue.expedite(uid, due)

        uids = functools.partial(self.index.uids, namespace)
        self.batches.visit(("free", namespace), uids, resume)

    def on_clock_set(self, step: timedelta) -> None:
        """Retry the requests whose failure may be due to a wrong clock.

        If the clock was set back, reconcile all requests: the times in the queue were computed with the wrong clock.
        """
        now = self._deps.now()
        for uid, entry in list(self.index.entries.items()):
            state = entry.state.with_clock_set(now, step)
            if state is not entry.state or step < timedelta():
                self.index.update(uid, state=state)
                self._work_queue.expedite(uid, now)

    def series(self) -> Iterator[Series]:
        """Return the metrics of each request, except those that another installation renews and exports."""
        return (series for series in self.index.series() if not self._is_foreign(series.namespace))

    async def run_one(self, uid: str) -> None:
        """Reconcile a request, write its status and Events, and add it to the queue again."""
        # The request may be deleted while its namespace is claimed.
        if not await self._claim(uid) or not (entry := self.index.entries.get(uid)):
            return
        request, now = entry.request, self._deps.now
        due: datetime | None = None
        self.index.update(uid, reconciled_at=now())
        try:
            report = functools.partial(self._report, request)
            reconciled = await reconcile(self._deps, request, entry.state, entry.status, report)
            self.index.update(uid, state=reconciled.state)
            # Its cache entry is stale if the target was changed while it was written.
            should_read_target = (
                isinstance(request, Request)
                and not (request.is_paused or reconciled.state.failure)
                and self._store.cache.is_stale(request)
            )
            due = now() + SHORTEST_PAUSE if should_read_target else reconciled.requeue_at
            # A spec that changed in the meantime is already queued, and this status must not replace its status.
            if self._is_current(request) and reconciled.status != self.index.entries[uid].status:
                await self._report(request, reconciled.status, reconciled.events)
        except (BeingDeletedError, LeaseLostError) as error:
            _log.info("%s: %s", request.namespaced_name, error)
            # Without the status subresource, the API server responds to each write as if the request was deleted.
            is_deleted = isinstance(error, BeingDeletedError)
            due = min(due or _NEVER, now() + DELETION_TIMEOUT) if is_deleted else now() + _SCOPE_RETRY
        except KeyturnError as error:
            _log.warning("%s: the status was not written: %s", request.namespaced_name, error)
            due = min(due or _NEVER, now() + _STATUS_RETRY)
        except Exception as bug:  # noqa: BLE001 - a bug that one request triggers must not stop the others
            report_bug(self._deps.metrics, request.namespaced_name, bug)
            due = min(due or _NEVER, now() + _STATUS_RETRY)
        if self._is_current(request):
            self._work_queue.add(uid, due, self.index.entries[uid].deadline(due), request.namespace)
        else:
            self._release_target(request)

    async def _claim(self, uid: str) -> bool:
        """Claim the namespace of a request that is due. If that fails, postpone the request and return False."""
        if not (entry := self.index.entries.get(uid)):
            return False
        request = entry.request
        due: datetime | None = None
        try:
            if not (reason := await self._scope.claim(request.namespace)):
                self._conflict_reporter.forget(uid)
                return True
            now = self._deps.now()
            if self._is_foreign(request.namespace):
                due = max(self._first_due(entry) or now, now + REPORT_DELAY)
            self.index.update(uid, status=await self._conflict_reporter.report(entry, reason, now))
        except (BeingDeletedError, LeaseLostError, KeyturnError) as error:
            _log.info("%s: %s", request.namespaced_name, error)
        except Exception as bug:  # noqa: BLE001 - a bug that one request triggers must not stop the others
            report_bug(self._deps.metrics, request.namespaced_name, bug)
            due = self._deps.now() + _STATUS_RETRY
        if self._is_current(request):
            due = due or self._deps.now() + _SCOPE_RETRY
            self._work_queue.add(uid, due, entry.deadline(due), request.namespace)
        return False

    async def _report(self, request: Request | InvalidRequest, status: Status, events: tuple[Event, ...]) -> None:
        await self._status_writer.write_status(request.namespace, request.name, request.uid, status)
        self.index.update(request.uid, status=status)
        for event in events:
            _log.info("%s: %s: %s", request.namespaced_name, event.reason, event.message)
            try:
                await self._status_writer.post_event(request, event)
            except Exception as bug:  # noqa: BLE001 - the other Events are still recorded
                report_bug(self._deps.metrics, request.namespaced_name, bug)

    def _is_foreign(self, namespace: str) -> bool:
        """Whether another installation renews in a namespace: statuses and Secrets there change without us."""
        return bool(self._scope.holder(namespace))

    def _expedite_users(self, secret: SecretMeta, only_if: Callable[[Entry], bool] | None = None) -> None:
        """Reconcile the requests that use a Secret, or those of them for which `only_if` returns True."""

        def expedite(uid: str) -> None:
            if (entry := self.index.entries.get(uid)) and (only_if is None or only_if(entry)):
                self._work_queue.expedite(uid, self._soon(entry))

        name = (secret.namespace, secret.name)
        self.batches.visit((name, only_if is None), functools.partial(self.index.users_of, *name), expedite)

    def _drop(self, uid: str) -> None:
        entry = self.index.drop(uid)
        self._conflict_reporter.forget(uid)
        self._work_queue.remove(uid)
        if entry:
            self._release_target(entry.request)

    def _release_target(self, request: Request | InvalidRequest) -> None:
        """Forget the target of a request that was deleted or changed, unless a request has it or will delete it."""
        if isinstance(request, InvalidRequest):
            return
        name = target_name(request)
        users = (self.index.entries[uid].request for uid in self.index.users_of(*name))
        is_former = request.uid in self.index.entries and name in self._store.cache.former_targets(request)
        if not is_former and not any(isinstance(user, Request) and target_name(user) == name for user in users):
            self._store.release(request)

    def _soon(self, entry: Entry) -> datetime:
        """Return when to reconcile a changed request: now, but at most once a second if it is changed in a loop."""
        now = self._deps.now()
        is_recent = entry.reconciled_at is not None and entry.reconciled_at <= now
        return max(now, entry.reconciled_at + SHORTEST_PAUSE) if is_recent and entry.reconciled_at else now

    def _current(self, request: Request | InvalidRequest) -> Request | InvalidRequest | None:
        """Return a request as it is now, None if it was deleted."""
        entry = self.index.entries.get(request.uid)
        return entry.request if entry else None

    def _is_current(self, request: Request | InvalidRequest) -> bool:
        """Whether the request was neither changed nor deleted during its reconciliation."""
        return self._current(request) is request

    def _first_entry(self, request: Request | InvalidRequest, status: Status) -> Entry:
        """Return the entry of a request that is new to this process, without reading from the API server."""
        ready, cache = status.condition("Ready"), self._store.cache
        # Until the Secret is read, it counts as damaged if the status reports drift.
        damage = "DriftDetected" if ready and ready.reason == "DriftDetected" else ""
        state = ReconcileState(revision=status.revision, failure=restored_failure(status), damage=damage)
        if isinstance(request, InvalidRequest):
            return Entry(request, status, state)
        target = cache.get(target_name(request))
        written = target or cache.written_by(request)
        if written and written.issuance and written.issuance.request == request.name:
            state = state.with_issuance(written.issuance)
        elif target and target.unverified:
            state = state.with_target(request, target)
        if target is None:
            state = replace(state, issuance=None)
            if status.revision:
                # Credentials were issued, but no list contains the Secret: perhaps only its label was removed.
                cache.invalidate(request)
        if state.failure:
            failure = bounded(state.failure, request, state.issuance, self._deps.now())
            state = replace(state, failure=failure)
        return Entry(request, status, state)

    def _first_due(self, entry: Entry) -> datetime | None:
        """Return when to reconcile a new entry: now, unless the status and the cached Secret show a later time."""
        request, status, state, now = entry.request, entry.status, entry.state, self._deps.now()
        if isinstance(request, InvalidRequest) or not self._store.watched:
            return now
        target, ready = self._store.cache.get(target_name(request)), status.condition("Ready")
        if state.failure:
            # The credentials may have expired, or the Secret may have been edited or deleted, while no operator was
            # running, which the status does not report yet.
            has_expired = state.issuance is not None and state.issuance.expires <= now
            is_intact = target is not None and not self._store.cache.is_stale(request) and not has_expired
            is_loss_reported = not (ready and ready.status == "True")
            is_held_back = (is_intact or is_loss_reported) and state.failure.should_wait(request, "", now)
            return next_reconcile(request, state.issuance, state.failure, now) if is_held_back else now
        is_reported = (status.observed_generation, status.revision) == (request.generation, state.revision)
        if target is None or self._store.cache.is_stale(request) or not is_reported or state.damage:
            return now
        # The process that had the unsaved token has ended.
        is_outdated = status.last_error is not None and status.last_error.reason == TOKEN_UNSAVED
        if is_outdated or (target.issuance and is_in_future(target.issuance, now)):
            return now
        decision = decide(request, target, None, state, now, self._deps.min_interval)
        if not isinstance(decision, Idle):
            return now
        return next_reconcile(request, state.issuance, None, now) if request.is_paused else decision.requeue_at


def _has_failed_or_writes(entry: Entry, secret: str) -> bool:
    """Whether the last attempt of a request failed, or it writes this Secret."""
    return bool(entry.state.failure) or (isinstance(entry.request, Request) and entry.request.secret_name == secret)


def _is_identified(metadata: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether the metadata identify the object, so that at least a status can be written."""
    fields = ("namespace", "name", "uid")
    return isinstance(metadata, Mapping) and all(isinstance(metadata.get(key), str) and metadata[key] for key in fields)
