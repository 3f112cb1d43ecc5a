"""Something between an operator and the API server that fails when told to; the API server itself stays well."""

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

_OF_THE_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What requests get instead of an answer, where `what` is found in "METHOD /path?query"."""

    what: str
    status: int
    body: str
    headers: Mapping[str, str]


class Interposer:
    """Passes requests on. Takes the place of the control plane where an operator is started.

    `seen` are the requests that came, those that a fault answered too, as "METHOD /path?query".
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._faults: list[Fault] = []
        self._watches: dict[asyncio.Transport, bool] = {}
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self.seen: list[str] = []
        self.url = ""

    @classmethod
    @contextmanager
    def before(cls, plane: ControlPlane) -> Iterator["Interposer"]:
        """Run one in a thread of its own."""
        interposer = cls(plane)
        loop = interposer._loop
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        serving = asyncio.run_coroutine_threadsafe(interposer._serve(), loop)
        try:
            interposer._started.wait(10)
            yield interposer
        finally:
            loop.call_soon_threadsafe(interposer._stop.set)
            serving.result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of an existing service account that leads here."""
        path = self._plane.service_account_kubeconfig(namespace, name)
        config = json.loads(path.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        here = path.with_name(f"{self.url.rpartition(':')[2]}-{path.name}")
        write_private_file(here, json.dumps(config))
        return here

    def fault(self, what: str, status: int, body: str = "", **headers: str) -> None:
        """Answer requests by an error from now on, until cleared; `retry_after` is the header Retry-After."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(what, status, body, named))

    def clear(self) -> None:
        """Let all pass again."""
        self._faults.clear()

    def cut(self) -> int:
        """Close the connection of every watch in the middle; returns how many there were."""
        watches = list(self._watches)
        for transport in watches:
            self._loop.call_soon_threadsafe(transport.abort)
        return len(watches)

    def hush(self) -> int:
        """Let the watches that are open say nothing any more, their connections open; returns how many."""
        self._watches.update(dict.fromkeys(list(self._watches), False))
        return len(self._watches)

    def count(self, what: str) -> int:
        """Count the requests that came."""
        return sum(bool(re.search(what, one)) for one in self.seen)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=16 * 2**20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self._plane.ca_file), limit=0)
        patience = aiohttp.ClientTimeout()
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=patience
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
        what, body = f"{request.method} {request.raw_path}", await request.read()
        self.seen.append(what)
        fault = next((one for one in self._faults if re.search(one.what, what)), None)
        if fault:
            return web.Response(status=fault.status, text=fault.body or "{}", headers=fault.headers)
        url = URL(f"{self._plane.url}{request.raw_path}", encoded=True)
        headers = {name: value for name, value in request.headers.items() if _is_passed_on(name)}
        try:
            async with self._client.request(request.method, url, data=body or None, headers=headers) as answer:
                return await self._passed_on(request, answer)
        except (aiohttp.ClientError, ConnectionResetError):
            # Either side has gone: the other one sees its connection break.
            if request.transport:
                request.transport.abort()
            return web.Response(status=502)

    async def _passed_on(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if _is_passed_on(name)}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        transport = request.transport
        if transport and "watch=true" in request.query_string:
            self._watches[transport] = True
        try:
            async for chunk in answer.content.iter_any():
                if transport is None or self._watches.get(transport, True):
                    await response.write(chunk)
        finally:
            if transport:
                self._watches.pop(transport, None)
        await response.write_eof()
        return response


def _is_passed_on(header: str) -> bool:
    return header.lower() not in _OF_THE_CONNECTION
