"""An HTTPS server for responses that the emulator does not send."""

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
    """The port that the server listens on, and the number of requests."""

    port: int = 0
    requests: int = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/token"


@asynccontextmanager
async def served(handler: Handler, certified: ServerCertificate = CERTIFIED) -> AsyncIterator[Served]:
    """Serve on loopback with a certificate of `certified.ca`."""
    server_info = Served()

    async def handle(request: web.Request) -> web.StreamResponse:
        server_info.requests += 1
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certified.server_context()).start()
    server_info.port = runner.addresses[0][1]
    try:
        yield server_info
    finally:
        await runner.cleanup()
