"""The scope of an installation: two installations never renew in the same namespace.

The replicas of an installation share one identity, `<namespace>/<name>` of their election's Lease. A Lease named
`keyturn-scope` in a namespace names the installation that works there:

- A namespaced installation holds it in each watched namespace, and renews it.
- A cluster-wide installation creates it before its first renewal in a namespace, and does not renew it: the Lease
  `keyturn-cluster-scope` in its own namespace shows that it is alive. It reads all of these Leases every minute, skips
  the namespaces that a namespaced installation holds, and stands by while another cluster-wide installation is active.

A Lease that was read or renewed is valid for HOLD_SECONDS. A namespaced installation takes a namespace from a
cluster-wide one without asking, but waits for that time before it renews there: by then, the cluster-wide installation
has read the Lease or stopped.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.base import GROUP
from keyturn.api.status import Status
from keyturn.api.token_request import InvalidRequest
from keyturn.controller.api_client import ApiClient, namespace_in
from keyturn.controller.leader_election import ATTEMPT_SECONDS, RETRY_SECONDS, Lease, holder_of
from keyturn.controller.request_index import Entry
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.streams import Boundary
from keyturn.core.errors import UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, expired, report
from keyturn.metrics import Metrics

LEASE_NAME, LABEL = "keyturn-scope", f"{GROUP}/scope"
NAMESPACED, HANDOVER, CLUSTER = "namespaced", "handover", "cluster"
# A takeover takes at most twice this time, because each Lease is read twice in it.
HOLD_SECONDS = 120
_MAX_SHOWN = 10
REPORT_DELAY = timedelta(minutes=1)
_CONFLICT = "ScopeConflict"
_log = logging.getLogger(__name__)


class Scope(ABC):
    """The namespaces in which this installation may renew. Only `check`, `claim` and `release` send requests."""

    def __init__(self, metrics: Metrics, hold_seconds: int, pause: float) -> None:
        self._metrics = metrics
        self._boundary = Boundary("scope", "reading the Leases of the scope", metrics)
        self._reported: dict[str, str] = {}
        self._has_succeeded = False
        self._on_free: Callable[[str], None] = lambda _: None
        self._pause = pause
        self.margin = hold_seconds / 4  # for renewals that have started

    @abstractmethod
    def conflicts(self) -> dict[str, str]:
        """Return the other active installation by namespace; "" stands for all namespaces."""

    @abstractmethod
    def holder(self, namespace: str) -> str:
        """Return the other installation that is active in a namespace, or ""."""

    @abstractmethod
    def is_held(self, namespace: str) -> bool:
        """Whether we may write in a namespace now."""

    @abstractmethod
    async def claim(self, namespace: str) -> str:
        """Return "" if a renewal may start in a namespace, or why not."""

    @abstractmethod
    def leases(self) -> Sequence[Lease]:
        """Return the Leases that this installation renews."""

    @abstractmethod
    def problem(self) -> str:
        """Return the message about a missing right, or ""."""

    @abstractmethod
    async def _check(self) -> bool:
        """Renew our Leases and read those of others. Returns whether it succeeded."""

    @abstractmethod
    async def release(self) -> None:
        """Release our Leases, so that another installation can take over at once."""

    def conflict(self, namespace: str) -> str:
        """Return a message if another installation is active in a namespace, or ""."""
        holder = self.holder(namespace)
        return f"installation {holder} renews in namespace {namespace}; this one does not" if holder else ""

    def on_free(self, callback: Callable[[str], None]) -> None:
        """Call `callback` with each namespace that another installation has released; "" stands for all."""
        self._on_free = callback

    def may_write(self, path: str) -> bool:
        """Whether we may now write the object with this path on the API server."""
        namespace = namespace_in(path)
        return not namespace or self.is_held(namespace)

    async def check(self) -> None:
        """Renew our Leases, read those of others, and report conflicts."""
        try:
            self._has_succeeded = await self._check()
        except Exception as error:  # noqa: BLE001 - no Lease that somebody else wrote ends the process
            self._boundary.report(error)
            self._has_succeeded = False
        conflicts = self.conflicts()
        for namespace, holder in conflicts.items():
            if self._reported.get(namespace) != holder:
                _log.warning("ScopeConflict: %s: installation %s renews there", _place(namespace), holder)
        for namespace in self._reported.keys() - conflicts.keys():
            _log.info("%s: no other installation renews there any longer", _place(namespace))
            self._on_free(namespace)
        self._reported = conflicts
        self._metrics.scope_conflict.set(len(conflicts))

    async def run(self) -> None:
        """Call `check` at intervals until cancelled. `working` does this after its first call."""
        while True:
            await asyncio.sleep(self._pause if self._has_succeeded else min(self._pause, RETRY_SECONDS))
            await self.check()

    @asynccontextmanager
    async def working(self, is_leader: Callable[[], bool]) -> AsyncIterator[None]:
        """Check before the block and during it, and release our Leases after it if `is_leader` still returns True.

        After a signal, the block may wait for a token to be saved. Without these checks, another installation would
        take over and send the old token. If this process is no longer the leader, another replica may hold these Leases
        under the same identity.
        """
        await self.check()
        try:
            async with asyncio.TaskGroup() as tasks:
                checking = tasks.create_task(self.run())
                try:
                    yield
                finally:
                    checking.cancel()
        finally:
            if is_leader():
                await self.release()

    def note(self) -> str:
        """Return the conflicts as a line for /readyz, or ""."""
        places = [f"{_place(namespace)} (installation {holder})" for namespace, holder in self.conflicts().items()]
        more = f" and {len(places) - _MAX_SHOWN} more" if len(places) > _MAX_SHOWN else ""
        return f"ScopeConflict: not renewed here: {', '.join(places[:_MAX_SHOWN])}{more}\n" if places else ""


class NamespacedScope(Scope):
    """The scope of an installation that watches some namespaces."""

    def __init__(  # noqa: PLR0913 - they are independent
        self,
        api: ApiClient,
        namespaces: Sequence[str],
        identity: str,
        now: Callable[[], datetime],
        metrics: Metrics,
        *,
        hold_seconds: int = HOLD_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(metrics, hold_seconds, hold_seconds / 4)
        # A Lease that is held for longer than this need not be renewed yet.
        self._renew_seconds = hold_seconds - self._pause + RETRY_SECONDS
        self._leases = {
            namespace: _NamespaceLease(
                api, namespace, LEASE_NAME, identity, now, self._boundary, seconds=hold_seconds, monotonic=monotonic
            )
            for namespace in namespaces
        }

    def conflicts(self) -> dict[str, str]:
        """Return the other active installation by namespace."""
        return {namespace: holder for namespace in self._leases if (holder := self.holder(namespace))}

    def holder(self, namespace: str) -> str:
        """Return the other installation that holds the Lease in a namespace, or ""."""
        lease = self._leases[namespace]
        return "" if lease.is_held() else lease.holder

    def is_held(self, namespace: str) -> bool:
        """Whether we hold the Lease in a namespace."""
        lease = self._leases[namespace]
        return lease.is_held() and lease.monotonic() >= lease.usable_from

    async def claim(self, namespace: str) -> str:
        """Return "" if a renewal may start in a namespace, or why not."""
        lease = self._leases[namespace]
        if reason := self.conflict(namespace):
            return reason
        if lease.monotonic() < lease.usable_from:
            return f"waiting until the cluster-wide installation stops renewing in namespace {namespace}"
        if lease.held_until - self.margin <= lease.monotonic():
            return f"the Lease {namespace}/{LEASE_NAME} is not held: {lease.denied or 'no response'}"
        return ""

    def leases(self) -> Sequence[Lease]:
        """Return the Lease of each namespace."""
        return list(self._leases.values())

    def problem(self) -> str:
        """Return the message about a missing right, or ""."""
        return next((lease.denied for lease in self._leases.values() if lease.denied and not lease.is_held()), "")

    async def _check(self) -> bool:
        # If one Lease cannot be held, for example because its namespace was deleted, the next check is soon.
        due = [it for it in self._leases.values() if it.held_until - it.monotonic() <= self._renew_seconds]
        results = await asyncio.gather(*(lease.acquire_or_renew() for lease in due))
        return all(renewed or lease.holder for lease, renewed in zip(due, results, strict=True))

    async def release(self) -> None:
        """Release the Lease in each namespace."""
        await asyncio.gather(*(lease.release() for lease in self._leases.values()))


class _NamespaceLease(Lease):
    """The Lease of a namespaced installation in one namespace. `usable_from` is when the handover ends."""

    usable_from = 0.0

    def is_free(self, lease: dict[str, Any]) -> bool:
        return label_of(lease) == CLUSTER or super().is_free(lease)

    def metadata(self, lease: dict[str, Any]) -> dict[str, Any]:
        kind, is_foreign = label_of(lease), holder_of(lease) not in ("", self.identity)
        is_restarted = kind == HANDOVER and not self.usable_from
        if is_restarted or (is_foreign and kind in (CLUSTER, HANDOVER)):
            # Counted from the end of the request, because it may be processed as late as that.
            self.usable_from = self.monotonic() + ATTEMPT_SECONDS + self.seconds
        return {"labels": {LABEL: HANDOVER if self.monotonic() < self.usable_from else NAMESPACED}}


def label_of(lease: dict[str, Any]) -> str:
    """Return which kind of installation wrote a Lease, or ""."""
    return str(((lease.get("metadata") or {}).get("labels") or {}).get(LABEL, ""))


def _place(namespace: str) -> str:
    return f"namespace {namespace}" if namespace else "all namespaces"


class ConflictReporter:
    """The scope, and reports about TokenRequests that may not be renewed because of it.

    If another installation renews, the status belongs to it, because two writers would overwrite each other. This one
    records an Event, and writes the status only if the other one has not written it, or if it still reports credentials
    that have expired as usable.
    """

    def __init__(self, scope: Scope, status_writer: StatusWriter) -> None:
        self.scope = scope
        self._status_writer = status_writer
        self._reported: set[str] = set()
        # When a claim was first refused, by the uid of the request.
        self._since: dict[str, datetime] = {}

    def has_reported(self, uid: str) -> bool:
        """Whether the Event about a request was recorded."""
        return uid in self._reported

    def forget(self, uid: str) -> None:
        """Forget a request that was deleted, or that we renew ourselves."""
        self._reported.discard(uid)
        self._since.pop(uid, None)

    async def report(self, entry: Entry, reason: str, now: datetime) -> Status:
        """Record one Event if another installation renews, and correct an outdated status. Returns the status.

        `reason` is why the claim was refused.
        """
        request, since = entry.request, self._since.setdefault(entry.request.uid, now)
        if request.uid not in self._reported and self.scope.holder(request.namespace):
            self._reported.add(request.uid)
            await self._status_writer.post_event(request, Event("Warning", _CONFLICT, reason))
        if not _correction(entry, entry.status, reason, since, now):
            return entry.status
        # Another installation may have changed the status, which a process that was frozen has not seen yet.
        status, version = await self._status_writer.fetch(request)
        if not (corrected := _correction(entry, status, reason, since, now)):
            return status
        _log.warning("%s: %s", request.namespaced_name, reason)
        await self._status_writer.write_status(request.namespace, request.name, request.uid, corrected, version=version)
        return corrected


def _correction(entry: Entry, status: Status, reason: str, since: datetime, now: datetime) -> Status | None:
    """Return the status to write for a request whose claims have been refused since `since`.

    None if `status` may be correct. Another installation has REPORT_DELAY to report on a new generation.
    """
    request = entry.request
    if isinstance(request, InvalidRequest):
        return None
    if status.observed_generation == request.generation:
        return expired(status, now, reason)
    if now - since < REPORT_DELAY:
        return None
    failure = Failure(
        UnavailableError(_CONFLICT, reason), status.failed_attempts, now + REPORT_DELAY, request.generation
    )
    return report(request, status, Outcome(now, entry.state.issuance, failure=failure))
