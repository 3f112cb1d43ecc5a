"""A proxy in front of the API server that injects faults; the API server itself stays healthy."""

import asyncio
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.controlplane import ControlPlane
from tests.support.controlplane.cluster import write_private_file

_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Fault:
    """The response to requests whose "METHOD /path?query" contains a match of `pattern`."""

    pattern: str
    status: int
    body: str
    headers: Mapping[str, str]


class ApiProxy:
    """Forwards requests. Use it instead of the control plane to start an operator.

    `requests` are all received requests as "METHOD /path?query", including those that received a fault.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._faults: list[Fault] = []
        self._watches: dict[asyncio.Transport, bool] = {}
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self.requests: list[str] = []
        self.url = ""

    @classmethod
    @contextmanager
    def running(cls, plane: ControlPlane) -> Iterator["ApiProxy"]:
        """Run a proxy in its own thread."""
        proxy = cls(plane)
        loop = proxy._loop
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        serving = asyncio.run_coroutine_threadsafe(proxy._serve(), loop)
        try:
            proxy._started.wait(10)
            yield proxy
        finally:
            loop.call_soon_threadsafe(proxy._stop.set)
            serving.result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of an existing service account that uses this proxy."""
        path = self._plane.service_account_kubeconfig(namespace, name)
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        proxied = path.with_name(f"{self.url.rpartition(':')[2]}-{path.name}")
        write_private_file(proxied, json.dumps(config))
        return proxied

    def add_fault(self, pattern: str, status: int, body: str = "", **headers: str) -> None:
        """Respond to matching requests with this response until the faults are cleared.

        `retry_after` is the header Retry-After.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(pattern, status, body, named))

    def clear_faults(self) -> None:
        """Forward all requests again."""
        self._faults.clear()

    def drop_watches(self) -> int:
        """Abort the connection of every open watch; returns how many there were."""
        watches = list(self._watches)
        for transport in watches:
            self._loop.call_soon_threadsafe(transport.abort)
        return len(watches)

    def mute_watches(self) -> int:
        """Stop forwarding events of the open watches but keep their connections; returns how many there are."""
        self._watches.update(dict.fromkeys(list(self._watches), False))
        return len(self._watches)

    def count(self, pattern: str) -> int:
        """Count the received requests that match."""
        return sum(bool(re.search(pattern, request)) for request in self.requests)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self._plane.ca_file), limit=0)
        no_timeout = aiohttp.ClientTimeout()
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=no_timeout
        ) as self._client:
            self._started.set()
            await self._stop.wait()
            await runner.cleanup()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0.3)  # aiohttp closes its TLS connections later

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        target, body = f"{request.method} {request.raw_path}", await request.read()
        self.requests.append(target)
        fault = next((fault for fault in self._faults if re.search(fault.pattern, target)), None)
        if fault:
            return web.Response(status=fault.status, text=fault.body or "{}", headers=fault.headers)
        url = URL(f"{self._plane.url}{request.raw_path}", encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            async with self._client.request(request.method, url, data=body or None, headers=headers) as upstream:
                return await self._forward(request, upstream)
        except (aiohttp.ClientError, ConnectionResetError):
            # One side closed its connection: close the other one too.
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)

    async def _forward(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in upstream.headers.items() if name.lower() not in _HOP_BY_HOP}
        response = web.StreamResponse(status=upstream.status, headers=headers)
        await response.prepare(request)
        transport = request.transport
        if transport and "watch=true" in request.query_string:
            self._watches[transport] = True
        try:
            async for chunk in upstream.content.iter_any():
                if transport is None or self._watches.get(transport, True):
                    await response.write(chunk)
        finally:
            if transport:
                self._watches.pop(transport, None)
        await response.write_eof()
        return response
