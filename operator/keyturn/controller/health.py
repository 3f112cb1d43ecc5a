"""The operator's HTTP server for probes and metrics."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from keyturn.controller.streams import Boundary
from keyturn.metrics import Exposition, Metrics
from keyturn.sidecar.http_server import HttpRequest, HttpResponse, HttpServer, split_address
from keyturn.sidecar.probes import ProbesHandler

# For metrics that clients have not read yet: four times as much as 100,000 TokenRequests need.
_UNREAD_BYTES = 20 * 2**20
_log = logging.getLogger(__name__)


class _Handler(ProbesHandler):
    def __init__(
        self,
        not_ready: Callable[[], str],
        metrics: Callable[[], Awaitable[Exposition]],
        note: Callable[[], str],
        boundary: Boundary,
    ) -> None:
        super().__init__(not_ready, metrics, note)
        self._boundary = boundary

    async def respond(self, http_request: HttpRequest) -> HttpResponse:
        try:
            return await super().respond(http_request)
        except Exception as error:  # noqa: BLE001 - no request ends the process
            self._boundary.report(error)
            return self.error(500, "internal error")


class _Expositions:
    """Formats the metrics for clients.

    One exposition at a time, for all clients that wait for it: many clients together delay other tasks, and each other,
    no more than one does. If those that clients have not read yet take more than `unread_bytes`, the connections of the
    oldest are closed.
    """

    def __init__(self, metrics: Metrics, unread_bytes: int) -> None:
        self._metrics = metrics
        self._unread_bytes = unread_bytes
        self._lock = asyncio.Lock()
        self._serials = itertools.count()
        self._latest = -1
        # Until their clients have read them.
        self._unread: WeakValueDictionary[int, Exposition] = WeakValueDictionary()

    async def get(self) -> Exposition:
        """Return an exposition that was begun after this call."""
        arrived = next(self._serials)
        async with self._lock:
            if self._latest > arrived and (exposition := self._unread.get(self._latest)):
                return exposition
            self._latest = next(self._serials)
            exposition = self._unread[self._latest] = await self._metrics.exposition()
        unread = list(self._unread.values())
        while sum(it.kept_bytes for it in unread) > self._unread_bytes and len(unread) > 1:
            unread.pop(0).discard()
        return exposition


@asynccontextmanager
async def serve(
    listen: str,
    metrics: Metrics,
    not_ready: Callable[[], str],
    boundary: Boundary,
    note: Callable[[], str] = lambda: "",
    *,
    unread_bytes: int = _UNREAD_BYTES,
) -> AsyncIterator[str]:
    """Serve on HOST:PORT while the block runs; yields the address with the actual port. Raises BindError.

    Without a host, it listens on all IPv4 and IPv6 addresses, because in an IPv6-only cluster the probes use IPv6.
    `not_ready` returns why the process is not ready, or "". `note` returns a line to show while it is ready, or "".
    """
    server = HttpServer(_Handler(not_ready, _Expositions(metrics, unread_bytes).get, note, boundary))
    try:
        address = await server.listen(*split_address(listen))
        _log.info("listening on %s", address)
        yield address
    finally:
        await server.close()
