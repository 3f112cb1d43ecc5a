"""Threads for requests to issuers: an issuer must not block the event loop of the process."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from selectors import DefaultSelector
from typing import Any, TypeVar

from keyturn.exchanges.call_threads import CallThreads

_NICENESS = 10
# For each of IPv4 and IPv6. aiohttp tries all addresses of a name, those that are left once more after each failure.
# With the thousands that a response can contain, a few threads would keep the event loop of the process waiting.
_MAX_ADDRESSES = 8
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_Result = TypeVar("_Result")


class IssuerThreads:
    """Runs each request to an issuer in a thread, with an event loop of its own.

    OpenSSL decodes all certificates of a server before it verifies one, and a name lookup cannot be cancelled. A
    certificate of 500 bytes with crafted elliptic curve parameters takes half a second.
    """

    def __init__(self, workers: int) -> None:
        self._threads = CallThreads(workers, "issuer", _lower_priority)

    async def run(
        self, namespace: str, request: Callable[[], Coroutine[Any, Any, _Result]], timeout_seconds: float
    ) -> _Result:
        """Return the result of a request. After TimeoutError, its thread may continue."""
        return await self._threads.run(namespace, partial(_run, request), timeout_seconds)

    def is_overdue(self, namespace: str) -> bool:
        """Whether too many requests of a namespace still run after their timeout; see CallThreads.is_overdue."""
        return self._threads.is_overdue(namespace)

    def has_share(self, namespace: str) -> bool:
        """Whether enough threads remain for other namespaces if this one starts a request; see CallThreads."""
        return self._threads.has_share(namespace)

    def close(self) -> None:
        """Stop the threads. A request in progress ends by its own timeout."""
        self._threads.close()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop for one request. Name lookups block it, because it has nothing else to do."""

    def __init__(self) -> None:
        self._open = DefaultSelector()
        super().__init__(self._open)

    async def wait_until_closed(self) -> None:
        """Wait a moment until only the loop's own socket is open."""
        for _ in range(100):
            if len(self._open.get_map()) <= 1:
                return
            await asyncio.sleep(0.001)

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        addresses = socket.getaddrinfo(host, port, **options)
        # In the order of the resolver, which begins with the better family.
        firsts = [[it for it in addresses if it[0] == family][:_MAX_ADDRESSES] for family in _FAMILIES]
        return [it for it in addresses if any(it in first for first in firsts)]


def _run(request: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
    loop = _Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(request())
        finally:
            runner.run(loop.wait_until_closed())


def _lower_priority() -> None:
    # On Linux this applies to the thread only; other systems refuse it.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
