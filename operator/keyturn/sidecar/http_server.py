"""An HTTP server on one port."""

import asyncio
import os
from collections.abc import Iterable

from keyturn.sidecar.http_connection import Connection, Handler, Limits, ServerState

_TICK_SECONDS = 0.05


class BindError(Exception):
    """A port cannot be opened. The message is one line that says which port and why."""


class HttpServer:
    """Listens on a port and serves its connections."""

    def __init__(self, handler: Handler, limits: Limits | None = None) -> None:
        self._state = ServerState(handler, limits or Limits())
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._state.open)

    async def listen(self, host: str, port: int) -> str:
        """Accept connections until `close` and return the address as HOST:PORT; raises BindError.

        An empty host means all addresses, IPv4 and IPv6. Port 0 means a free one.
        """
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: Connection(self._state), host, port, backlog=self._state.limits.connections
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise BindError(f"cannot listen on {host}:{port}: {reason}") from None
        self._server = server
        self._sweep()
        bound_host, bound_port, *_ = server.sockets[0].getsockname()
        return f"[{bound_host}]:{bound_port}" if ":" in bound_host else f"{bound_host}:{bound_port}"

    async def close(self) -> None:
        """Stop accepting connections, respond to earlier requests, and close all within `drain_seconds`."""
        if self._server is None:
            return
        self._state.draining = True
        self._server.close()
        for _ in range(round(self._state.limits.drain_seconds / _TICK_SECONDS)):
            # The kernel may hold requests that have not been read yet.
            await asyncio.sleep(_TICK_SECONDS)
            for connection in list(self._state.open):
                connection.close_if_idle()
            if not self._state.open:
                break
        self._abort(self._state.open)
        if self._timer:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._abort(it for it in self._state.open if it.deadline <= now)
        self._timer = loop.call_later(self._state.limits.sweep_seconds, self._sweep)

    def _abort(self, connections: Iterable[Connection]) -> None:
        for connection in list(connections):
            connection.abort()
