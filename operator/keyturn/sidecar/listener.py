"""A port of the sidecar."""

import asyncio
import os
from collections.abc import Iterable

from keyturn.sidecar.connection import Answers, Connection, Limits, Port

_TICK_SECONDS = 0.05


class NotListeningError(Exception):
    """A port cannot be listened on; the message says which and why in one line."""


class Listener:
    """A port, and the connections that came by it."""

    def __init__(self, answers: Answers, limits: Limits | None = None) -> None:
        self._port = Port(answers, limits or Limits())
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> str:
        """Accept connections from now on, until `close`; returns HOST:PORT. Raises NotListeningError."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: Connection(self._port), host, port, backlog=self._port.limits.connections
            )
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise NotListeningError(f"cannot listen on {host}:{port}: {why}") from None
        self._server = server
        self._sweep()
        bound, bound_port, *_ = server.sockets[0].getsockname()
        return f"[{bound}]:{bound_port}" if ":" in bound else f"{bound}:{bound_port}"

    async def close(self) -> None:
        """Accept nothing more, answer what has been sent by now, and close; takes two seconds at most."""
        if self._server is None:
            return
        self._port.draining = True
        self._server.close()
        for _ in range(round(self._port.limits.drain_seconds / _TICK_SECONDS)):
            # What the kernel holds at the first moment has not been seen yet.
            await asyncio.sleep(_TICK_SECONDS)
            for connection in list(self._port.open):
                connection.close_if_idle()
            if not self._port.open:
                break
        self._end(self._port.open)
        if self._timer:
            self._timer.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._end(one for one in self._port.open if one.ends_at <= now)
        self._timer = loop.call_later(self._port.limits.sweep_seconds, self._sweep)

    def _end(self, connections: Iterable[Connection]) -> None:
        for connection in list(connections):
            connection.abort()
