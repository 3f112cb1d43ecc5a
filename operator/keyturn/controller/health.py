"""The operator's HTTP server for probes and metrics."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from keyturn.controller.streams import Boundary
from keyturn.metrics import Exposition, Metrics
from keyturn.sidecar.http_server import HttpRequest, HttpResponse, HttpServer, split_address
from keyturn.sidecar.probes import ProbesHandler

# With 100,000 TokenRequests, each takes 5 MiB until its client has read it. The connection of an older one is closed.
_EXPOSITIONS = 4
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


@asynccontextmanager
async def serve(
    listen: str,
    metrics: Metrics,
    not_ready: Callable[[], str],
    boundary: Boundary,
    note: Callable[[], str] = lambda: "",
) -> AsyncIterator[str]:
    """Serve on HOST:PORT while the block runs; yields the address with the actual port. Raises BindError.

    Without a host, it listens on all IPv4 and IPv6 addresses, because in an IPv6-only cluster the probes use IPv6.
    `not_ready` returns why the process is not ready, or "". `note` returns a line to show while it is ready, or "".
    """
    # One at a time, so that many clients together delay other tasks no more than one does.
    lock, latest = asyncio.Lock(), list[Exposition]()

    async def exposition() -> Exposition:
        async with lock:
            if len(latest) == _EXPOSITIONS:
                latest.pop(0).discard()
            latest.append(await metrics.exposition())
            return latest[-1]

    server = HttpServer(_Handler(not_ready, exposition, note, boundary))
    try:
        address = await server.listen(*split_address(listen))
        _log.info("listening on %s", address)
        yield address
    finally:
        await server.close()
