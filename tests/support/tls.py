"""An HTTPS server for responses that the emulator cannot send."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from tests.support.certificates import ServerCertificate, issue_loopback_certificate
from tests.support.clock import real_now

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CERTIFICATE = issue_loopback_certificate(real_now())
SERVER_CONTEXT = CERTIFICATE.server_context()


@dataclass(slots=True)
class HttpsServer:
    """The port of a running server, and the number of requests that it received."""

    port: int = 0
    requests: int = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}/token"


@asynccontextmanager
async def served(handler: Handler, certificate: ServerCertificate = CERTIFICATE) -> AsyncIterator[HttpsServer]:
    """Serve on loopback with a certificate of `certified.ca`."""
    server = HttpsServer()

    async def handle(request: web.Request) -> web.StreamResponse:
        server.requests += 1
        return await handler(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.server_context()).start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
