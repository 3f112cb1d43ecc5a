"""ApiClient against an HTTP server in this process, and what such a server returns."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from kubernetes.aio.client import ApiClient as KubernetesClient
from kubernetes.aio.client import Configuration

from keyturn.controller.api_client import ApiClient
from keyturn.core.service_health import ServiceHealth
from keyturn.exchanges.cpu_limiter import CpuLimiter
from keyturn.exchanges.memory_limiter import MemoryLimiter

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SECRET = "/api/v1/namespaces/billing/secrets/acme"
FOUND = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "acme", "namespace": "billing", "uid": "u", "resourceVersion": "7"},
        "data": {},
    }
)
# JSON nested too deeply for the standard library.
DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """Serve `handler` over real HTTP and yield the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served(
    handler: Handler,
    token: str = "",
    service_health: ServiceHealth | None = None,
    cpu_limiter: CpuLimiter | None = None,
    memory_limiter: MemoryLimiter | None = None,
    *,
    as_proxy: bool = False,
) -> AsyncIterator[ApiClient]:
    """Serve `handler` over real HTTP and yield a client for it, or one that uses it as the proxy to another host."""
    async with listening(handler) as address:
        configuration = Configuration(host="http://cluster.test" if as_proxy else address)
        if as_proxy:
            configuration.proxy = address
        if token:
            configuration.api_key = {"BearerToken": f"Bearer {token}"}
        async with KubernetesClient(configuration) as client:
            yield ApiClient(
                client, service_health or ServiceHealth(), cpu_limiter=cpu_limiter, memory_limiter=memory_limiter
            )
