"""/metrics, /healthz and /readyz."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_log = logging.getLogger(__name__)


async def serve(listen: str, registry: CollectorRegistry, problem: Callable[[], str]) -> web.AppRunner:
    """Serve on HOST:PORT until the returned runner is cleaned up.

    Without a host, it listens on all IPv4 and IPv6 addresses: in an IPv6-only cluster the probes use IPv6. /healthz
    tests that the event loop responds; /readyz returns what `problem` returns, and succeeds if that is empty.
    """

    async def metrics(_: web.Request) -> web.Response:
        # In a thread: with 10,000 requests this takes as long as all reconciliations of one second.
        body = await asyncio.to_thread(generate_latest, registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        reason = problem()
        return web.Response(text=f"not ready: {reason}\n", status=503) if reason else web.Response(text="ok\n")

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
