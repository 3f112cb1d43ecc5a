"""Leader election with a Lease: one operator writes, the others stand by.

Times are compared only on this process's monotonic clock: neither a clock on another machine nor a clock that is set
can make two operators believe that they hold the same Lease. The renewTime in the Lease is informational.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from keyturn.controller.api_client import MERGE, ApiClient, ApiResponse, is_terminating
from keyturn.controller.streams import Boundary
from keyturn.core.errors import LeaseLostError, ThrottledError

LEASE_SECONDS, DEADLINE_SECONDS, RETRY_SECONDS = 30, 20, 5
# How long an attempt may take, as in client-go: an API server that is overloaded, or an admission webhook, may be slow.
ATTEMPT_SECONDS = 10
# A standby tries more often: due requests wait during the handover of an upgrade.
STANDBY_SECONDS = 1
# Longer than an exchange takes. Only the save of a token can take longer, even forever if the API server refuses it.
STOP_SECONDS = 30
# Another candidate, or a tenant who may write the Lease, can set any duration.
_MAX_DURATION_SECONDS = 600.0
_SHORTEST_PAUSE = 1.0
_UNTIL_RENEWED = timedelta(seconds=2)
# The limit for each text in a spec. The holder is `<namespace>/<name>` of a Lease.
_MAX_TEXT = 320
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
_log = logging.getLogger(__name__)


class Lease:
    """A Lease of coordination.k8s.io/v1, as seen by the candidate `identity`.

    `held_until` is when our hold expires, in monotonic seconds, counted from the start of the request that renewed it.
    `responded` is set by the first response. `holder` is the other candidate that holds the Lease, `denied` the message
    about a missing right, and `spec` the last spec that was written. `on_restored` is called if the Lease is older than
    the last one that this process has read or written, because etcd was restored from a backup.
    """

    def __init__(  # noqa: PLR0913 - they are independent
        self,
        api: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        now: Callable[[], datetime],
        boundary: Boundary,
        *,
        seconds: int = LEASE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._path = LEASES.format(namespace)
        self._name = name
        self._now = now
        self._boundary = boundary
        self.seconds = seconds
        self._observed: tuple[dict[str, Any], float] = ({}, 0.0)
        self.identity = identity
        self.monotonic = monotonic
        self.held_until = 0.0
        self.responded = asyncio.Event()
        self.holder = ""
        self.denied = ""
        self.spec: dict[str, Any] = {}
        self.on_restored: Callable[[], None] = lambda: None
        self._version = 0

    async def acquire_or_renew(self, limit_seconds: float = ATTEMPT_SECONDS) -> bool:
        """Acquire or renew the Lease if nobody else holds it. A lost or slow response is a failed attempt."""
        before = self.monotonic()
        try:
            async with asyncio.timeout(min(limit_seconds, ATTEMPT_SECONDS)):
                acquired = await self._try_to_acquire()
        except Exception as error:  # noqa: BLE001 - no response ends the process
            self._boundary.report(error)
            return False
        self.responded.set()
        if acquired:
            self.held_until = before + self.seconds
        return acquired

    def is_held(self) -> bool:
        """Whether this process holds the Lease."""
        return self.monotonic() < self.held_until

    def check(self, seconds: float) -> None:
        """Raise ThrottledError unless we hold the Lease for that long, even if it is not renewed.

        That is not a failure of the request, and is usually over after the next renewal of the Lease.
        """
        if self.held_until - self.monotonic() < seconds:
            message = "the Lease does not last long enough to consume a token"
            raise ThrottledError(message, retry_after=_UNTIL_RENEWED, nothing_sent=True)

    async def release(self) -> None:
        """Release the Lease, so that a standby need not wait until it expires."""
        if not self.is_held():
            return
        self.held_until = 0.0
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                while True:
                    # Read first, because a renewal that was cancelled may still have been processed.
                    response = await self._api.request("GET", f"{self._path}/{self._name}")
                    if response.is_error or holder_of(response.body) != self.identity:
                        return
                    version = {"resourceVersion": response.body["metadata"]["resourceVersion"]}
                    body = {"metadata": version, "spec": _RELEASED_SPEC}
                    response = await self._api.request("PATCH", f"{self._path}/{self._name}", body, kind=MERGE)
                    if not response.is_error:
                        return
                    await asyncio.sleep(0.1)
        except Exception as error:  # noqa: BLE001 - no response ends the process
            self._boundary.report(error)
            _log.info("the Lease was not released; it expires by itself")

    def metadata(self, lease: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - for subclasses
        """Return metadata to write with the spec; `lease` is the Lease as it was read, empty if it does not exist."""
        return {}

    def is_free(self, lease: dict[str, Any]) -> bool:
        """Whether nobody else holds the Lease: it has no other holder, or we saw it unchanged for its full duration."""
        if holder_of(lease) in ("", self.identity):
            return True
        spec = _bounded(lease["spec"])
        if spec != self._observed[0]:
            self._observed = (spec, self.monotonic())
        return self.monotonic() - self._observed[1] > _duration(spec, self.seconds)

    def _was_held_recently(self) -> bool:
        """Whether another candidate held the Lease when we last saw it, for no longer than its duration ago.

        If the Lease is deleted, that candidate continues to write until it notices, and then creates the Lease again.
        """
        spec, since = self._observed
        return bool(spec) and not self.is_held() and self.monotonic() - since <= _duration(spec, self.seconds)

    async def _try_to_acquire(self) -> bool:
        response = await self._api.request("GET", f"{self._path}/{self._name}")
        if not response.is_found:
            if self._was_held_recently():
                return False
            body = {"metadata": self.metadata({}) | {"name": self._name}, "spec": self._spec(acquired=True)}
            return self._has_written(await self._api.request("POST", self._path, body))
        if response.is_error:
            return self._has_written(response)
        lease, holder = response.body, holder_of(response.body)
        before, self._version = self._version, int(lease["metadata"]["resourceVersion"])
        if self._version < before:
            _log.warning("the Lease %s is older than before: etcd was restored", self._name)
            self.on_restored()
        if not self.is_free(lease):
            self.holder, self.held_until, self.denied = holder[:_MAX_TEXT], 0.0, ""
            return False
        # Because of the resourceVersion, only one candidate can win; a conflict means that another one did.
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        body = {"metadata": self.metadata(lease) | version, "spec": self._spec(acquired=holder != self.identity)}
        return self._has_written(await self._api.request("PATCH", f"{self._path}/{self._name}", body, kind=MERGE))

    def _has_written(self, response: ApiResponse) -> bool:
        self.denied = ""
        if response.status == HTTPStatus.FORBIDDEN and not is_terminating(response):
            self.denied = response.message
            _log.warning("the Lease is forbidden: %s", response.message)
        if not response.is_error:
            self.holder, self.spec = "", _bounded(response.body["spec"])
            self._version = int(response.body["metadata"]["resourceVersion"])
        return not response.is_error

    def _spec(self, *, acquired: bool) -> dict[str, Any]:
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.identity, "leaseDurationSeconds": self.seconds, "renewTime": moment}
        return spec | ({"acquireTime": moment} if acquired else {})


def holder_of(lease: dict[str, Any]) -> str:
    """Return the holder of a Lease, or ""."""
    return (lease.get("spec") or {}).get("holderIdentity") or ""


def _bounded(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a spec that is kept in memory. A tenant can write a holder that takes several megabytes."""
    return {key: value[:_MAX_TEXT] if isinstance(value, str) else value for key, value in spec.items()}


def _duration(spec: dict[str, Any], default: int) -> float:
    """Return for how many seconds a Lease is valid after its last change."""
    return min(float(spec.get("leaseDurationSeconds", default)), _MAX_DURATION_SECONDS)


_RELEASED_SPEC = {"holderIdentity": None, "renewTime": None, "acquireTime": None}


async def lead(
    lease: Lease, work: Callable[[], Awaitable[None]], stop_waiting: Callable[[], None] = lambda: None
) -> None:
    """Wait for the Lease and run `work` while it is held; release it when the work ends.

    If the Lease cannot be renewed in time, writes are blocked, the work is cancelled, and LeaseLostError is raised. If
    the work does not end within STOP_SECONDS after the cancellation, `stop_waiting` is called, which must end it.
    """
    while not await lease.acquire_or_renew():  # noqa: ASYNC110 - the Lease is polled
        await asyncio.sleep(STANDBY_SECONDS)
    _log.info("this process holds the Lease")
    working = asyncio.ensure_future(work())
    keeping = asyncio.ensure_future(_keep(lease))
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            lease.held_until = 0.0
            raise LeaseLostError("the Lease could not be renewed in time; another operator may hold it")
        await working
    finally:
        working.cancel()
        if not lease.is_held() and (await asyncio.wait({working}, timeout=STOP_SECONDS))[1]:
            stop_waiting()
        # The Lease is kept until the work has ended, because it protects a token that is being saved.
        await asyncio.gather(working, return_exceptions=True)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await lease.release()


async def _keep(lease: Lease) -> None:
    """Renew the Lease until renewals fail for DEADLINE_SECONDS. Its remaining time is for the last write."""
    attempted_at = lease.held_until - LEASE_SECONDS
    while _seconds_to_deadline(lease) > 0:
        # After a slow attempt, the next one starts sooner, because there is little time before the deadline.
        await asyncio.sleep(max(_SHORTEST_PAUSE, attempted_at + RETRY_SECONDS - lease.monotonic()))
        if not lease.is_held():
            return  # The process was frozen, and another operator may have held and released the Lease since.
        attempted_at = lease.monotonic()
        await lease.acquire_or_renew(_seconds_to_deadline(lease))


def _seconds_to_deadline(lease: Lease) -> float:
    return lease.held_until - (LEASE_SECONDS - DEADLINE_SECONDS) - lease.monotonic()
