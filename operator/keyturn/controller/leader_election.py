"""Leadership: one operator writes, by a Lease; the others stand by.

Times are compared by our own monotonic clock only: neither another's clock nor one that is set can make two
operators believe that they hold the same Lease. What is written as renewTime is for people.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from keyturn.controller.api_client import MERGE, ApiClient
from keyturn.core.errors import KeyturnError, LeaseLostError

LEASE_SECONDS, DEADLINE_SECONDS, RETRY_SECONDS = 30, 20, 5
# A standby asks more often: while an upgrade hands over, what is due waits.
STANDBY_SECONDS = 1
_log = logging.getLogger(__name__)


class Lease:
    """A Lease of coordination.k8s.io/v1, as `identity` sees it.

    `held_until` is when our hold ends at the latest, counted from before the request that renewed it. `seen` is
    set with the first answer.
    """

    def __init__(self, api: ApiClient, namespace: str, name: str, identity: str, now: Callable[[], datetime]) -> None:
        self._api = api
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._now = now
        self._observed: tuple[object, float] = (None, 0.0)
        self.held_until = 0.0
        self.seen = asyncio.Event()

    async def hold(self) -> bool:
        """Take or renew the Lease if nobody else holds it; a break or a slow answer is only a failed try."""
        before = time.monotonic()
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                held = await self._try()
        except (KeyturnError, TimeoutError) as error:
            _log.warning("the Lease was not reached: %s", error)
            return False
        self.seen.set()
        if held:
            self.held_until = before + LEASE_SECONDS
        return held

    async def release(self) -> None:
        """Give the Lease back, so that a standby need not wait for its end."""
        if time.monotonic() >= self.held_until:
            return
        self.held_until = 0.0
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                while not await self._given_back():  # noqa: ASYNC110 - a conflict is asked again
                    await asyncio.sleep(0.1)
        except (KeyturnError, TimeoutError):
            _log.info("the Lease was not given back; it ends by itself")

    async def _given_back(self) -> bool:
        # Read first: a renewal that was cut off by our end is perhaps made all the same, a moment later.
        found = await self._api.request("GET", f"{self._path}/{self._name}")
        if found.refused or (found.body.get("spec") or {}).get("holderIdentity") != self._identity:
            return True
        version = {"resourceVersion": found.body["metadata"]["resourceVersion"]}
        body = {"metadata": version, "spec": _SPEC_OF_NOBODY}
        return not (await self._api.request("PATCH", f"{self._path}/{self._name}", body, kind=MERGE)).refused

    async def _try(self) -> bool:
        found = await self._api.request("GET", f"{self._path}/{self._name}")
        if not found.found:
            body = {"metadata": {"name": self._name}, "spec": self._spec(acquired=True)}
            return not (await self._api.request("POST", self._path, body)).refused
        if found.refused:
            _log.warning("the Lease may not be read: %s", found.message)
            return False
        spec, version = found.body.get("spec") or {}, found.body["metadata"]["resourceVersion"]
        ours = spec.get("holderIdentity") == self._identity
        if not ours and spec.get("holderIdentity") and not self._is_stale(spec):
            return False
        # The version makes it ours or somebody else's, never both: a conflict is an answer like any other.
        body = {"metadata": {"resourceVersion": version}, "spec": self._spec(acquired=not ours)}
        return not (await self._api.request("PATCH", f"{self._path}/{self._name}", body, kind=MERGE)).refused

    def _is_stale(self, spec: dict[str, Any]) -> bool:
        """Whether another's hold has not been renewed for its whole length, while we watched."""
        if spec != self._observed[0]:
            self._observed = (spec, time.monotonic())
        return bool(time.monotonic() - self._observed[1] > spec.get("leaseDurationSeconds", LEASE_SECONDS))

    def _spec(self, *, acquired: bool) -> dict[str, Any]:
        moment = self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self._identity, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": moment}
        return spec | ({"acquireTime": moment} if acquired else {})


_SPEC_OF_NOBODY = {"holderIdentity": None, "renewTime": None, "acquireTime": None}


async def lead(lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
    """Wait for the Lease and run `work` while it is held; give it back when the work ends.

    When the Lease could not be renewed in time, our hold is over before the work is cancelled, so that it cannot
    write on its way out; then LeaseLostError is raised.
    """
    while not await lease.hold():  # noqa: ASYNC110 - there is nothing to be told by: the Lease is asked
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
    """Renew the Lease until that fails for too long: the time between deadline and end is for the last write."""
    while time.monotonic() < lease.held_until - (LEASE_SECONDS - DEADLINE_SECONDS):
        await asyncio.sleep(RETRY_SECONDS)
        if time.monotonic() >= lease.held_until:
            return  # We were frozen: another may have led meanwhile, and given the Lease back since.
        await lease.hold()
