"""/metrics, /healthz and /readyz."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_log = logging.getLogger(__name__)


async def serve(listen: str, registry: CollectorRegistry, ready: Callable[[], bool]) -> web.AppRunner:
    """Serve on HOST:PORT until the runner that is returned is cleaned up.

    No host means every address, of IPv4 and of IPv6: in a cluster of IPv6 alone the probes come by no other.
    Healthy is a process whose event loop answers; ready is one that has spoken to the API server.
    """

    async def metrics(_: web.Request) -> web.Response:
        # In a thread: with 10,000 requests it takes as long as all looks of a second.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(text="not ready\n", status=503)

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    for bound_host, bound_port, *_ in runner.addresses:
        _log.info("listening on %s:%s", bound_host, bound_port)
    return runner
