"""A server of our own behind TLS, for what the emulator does not do."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from tests.support.certificates import ServerCertificate, issue_loopback_certificate
from tests.support.clock import real_now

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CERTIFIED = issue_loopback_certificate(real_now())
TLS = CERTIFIED.server_context()


@dataclass(slots=True)
class Served:
    """Where it listens, and how many requests came."""

    port: int = 0
    requests: int = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/token"


@asynccontextmanager
async def served(handler: Handler, certified: ServerCertificate = CERTIFIED) -> AsyncIterator[Served]:
    """Serve on loopback, by a certificate of `certified.ca`."""
    found = Served()

    async def handle(request: web.Request) -> web.StreamResponse:
        found.requests += 1
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certified.server_context()).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()
