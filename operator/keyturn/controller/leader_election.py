"""Leader election by a Lease: one operator writes, the others stand by.

Times are compared only on this process's monotonic clock: neither a clock on another machine nor a clock that is set
can make two operators believe that they hold the same Lease. The renewTime in the Lease is informational.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from keyturn.controller.api_client import MERGE, ApiClient
from keyturn.controller.streams import Boundary
from keyturn.core.errors import LeaseLostError, UnavailableError

LEASE_SECONDS, DEADLINE_SECONDS, RETRY_SECONDS = 30, 20, 5
# A standby tries more often: due requests wait during the handover of an upgrade.
STANDBY_SECONDS = 1
_log = logging.getLogger(__name__)


class Lease:
    """A Lease of coordination.k8s.io/v1, as seen by the candidate `identity`.

    `held_until` is when our hold expires in monotonic seconds, counted from before the request that renewed it.
    `responded` is set by the first response.
    """

    def __init__(
        self,
        api: ApiClient,
        namespace: str,
        name: str,
        identity: str,
        now: Callable[[], datetime],
        boundary: Boundary,
    ) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._now = now
        self._boundary = boundary
        self._observed: tuple[object, float] = (None, 0.0)
        self.held_until = 0.0
        self.responded = asyncio.Event()

    async def acquire_or_renew(self) -> bool:
        """Acquire or renew the Lease if nobody else holds it. A lost or slow response is a failed attempt."""
        before = time.monotonic()
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                acquired = await self._try()
        except Exception as error:  # noqa: BLE001 - no response ends the process
            self._boundary.report(error)
            return False
        self.responded.set()
        if acquired:
            self.held_until = before + LEASE_SECONDS
        return acquired

    def is_held(self) -> bool:
        """Whether this process holds the Lease."""
        return time.monotonic() < self.held_until

    def check(self, seconds: float) -> None:
        """Raise UnavailableError unless we hold the Lease for that long, even if it is not renewed."""
        if self.held_until - time.monotonic() < seconds:
            raise UnavailableError("Unavailable", "the Lease does not last long enough to consume a token")

    async def release(self) -> None:
        """Release the Lease, so that a standby need not wait until it expires."""
        if not self.is_held():
            return
        self.held_until = 0.0
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                while True:
                    # Read first: a renewal that was cancelled may still have been processed.
                    response = await self._api.request("GET", f"{self._path}/{self._name}")
                    if response.is_error or (response.body.get("spec") or {}).get("holderIdentity") != self._identity:
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

    async def _try(self) -> bool:
        response = await self._api.request("GET", f"{self._path}/{self._name}")
        if not response.is_found:
            body = {"metadata": {"name": self._name}, "spec": self._spec(acquired=True)}
            return not (await self._api.request("POST", self._path, body)).is_error
        if response.is_error:
            _log.warning("reading the Lease is forbidden: %s", response.message)
            return False
        spec, version = response.body.get("spec") or {}, response.body["metadata"]["resourceVersion"]
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity:
            # It is free only if we have seen it unchanged for its full duration.
            if spec != self._observed[0]:
                self._observed = (spec, time.monotonic())
            if time.monotonic() - self._observed[1] <= spec.get("leaseDurationSeconds", LEASE_SECONDS):
                return False
        # With the resourceVersion only one candidate can win; a conflict means that another one did.
        body = {"metadata": {"resourceVersion": version}, "spec": self._spec(acquired=holder != self._identity)}
        return not (await self._api.request("PATCH", f"{self._path}/{self._name}", body, kind=MERGE)).is_error

    def _spec(self, *, acquired: bool) -> dict[str, Any]:
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment}
        return spec | ({"acquireTime": moment} if acquired else {})


_RELEASED_SPEC = {"holderIdentity": None, "renewTime": None, "acquireTime": None}


async def lead(lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
    """Wait for the Lease and run `work` while it is held; release it when the work ends.

    If the Lease could not be renewed in time, writes are blocked before the work is cancelled. Then LeaseLostError is
    raised.
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
        for task in (working, keeping):
            task.cancel()
        await asyncio.gather(working, keeping, return_exceptions=True)
        await lease.release()


async def _keep(lease: Lease) -> None:
    """Renew the Lease until renewals fail for DEADLINE_SECONDS. The rest of the Lease is left for the last write."""
    while time.monotonic() < lease.held_until - (LEASE_SECONDS - DEADLINE_SECONDS):
        await asyncio.sleep(RETRY_SECONDS)
        if not lease.is_held():
            return  # The process was frozen: another operator may have led since, and released the Lease.
        await lease.acquire_or_renew()
