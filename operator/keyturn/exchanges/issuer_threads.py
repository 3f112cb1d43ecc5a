"""Threads for requests to issuers: an issuer must not block the event loop of the process."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from selectors import DefaultSelector, SelectorKey
from typing import Any, TypeVar

from keyturn.exchanges.call_threads import CallThreads

_NICENESS = 10
# For IPv4 and IPv6 each. If all addresses of a name fail, aiohttp drops the first ones and tries all others again. With
# the thousands that a DNS response can contain, a few threads would slow down the event loop of the process.
_MAX_ADDRESSES = 8
# Several times as much CPU time as a request usually takes, with the handshake.
_LONG_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 0.2
_Result = TypeVar("_Result")


class IssuerThreads:
    """Runs each request to an issuer in a thread, with an event loop of its own.

    OpenSSL decodes all certificates of a server before it verifies one, and a name lookup cannot be cancelled. A
    certificate of 500 bytes with crafted elliptic curve parameters takes half a second.
    """

    def __init__(self, workers: int) -> None:
        self._threads = CallThreads(workers, "issuer", _lower_priority)
        self._one_at_a_time = threading.Lock()

    async def run(
        self, namespace: str, request: Callable[[], Coroutine[Any, Any, _Result]], timeout_seconds: float
    ) -> _Result:
        """Return the result of a request. After TimeoutError, its thread may continue."""
        return await self._threads.run(namespace, partial(_run, request, self._one_at_a_time), timeout_seconds)

    def is_overdue(self, namespace: str) -> bool:
        """Whether too many requests of a namespace still run after their timeout; see CallThreads.is_overdue."""
        return self._threads.is_overdue(namespace)

    def has_share(self, namespace: str) -> bool:
        """Whether enough threads remain for other namespaces if this one starts a request; see CallThreads."""
        return self._threads.has_share(namespace)

    def close(self) -> None:
        """Stop the threads. A request in progress ends by its own timeout."""
        self._threads.close()


class _Selector(DefaultSelector):
    """Lets only one event loop continue at a time of those that have taken much CPU time.

    An issuer can make each byte of a response expensive, for example with chunks of one byte, and release the responses
    to all threads at once. If they competed for Python's global lock, the event loop of the process would rarely get
    it. Requests that take little CPU time never wait.

    If the thread that may continue is in a TLS handshake for longer than _LONGEST_WAIT_SECONDS, the others continue,
    too: OpenSSL releases the global lock during a handshake.
    """

    def __init__(self, one_at_a_time: threading.Lock) -> None:
        super().__init__()
        self._one_at_a_time = one_at_a_time
        self._is_locked = False
        self._started = time.thread_time()

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self.unlock()
        events = super().select(timeout)
        if time.thread_time() - self._started > _LONG_SECONDS:
            self._is_locked = self._one_at_a_time.acquire(timeout=_LONGEST_WAIT_SECONDS)
        return events

    def unlock(self) -> None:
        """Let another thread continue."""
        if self._is_locked:
            self._is_locked = False
            self._one_at_a_time.release()


class _Loop(asyncio.SelectorEventLoop):
    """An event loop for one request. Name lookups block it, because it has nothing else to do."""

    def __init__(self, one_at_a_time: threading.Lock) -> None:
        self._open = _Selector(one_at_a_time)
        super().__init__(self._open)

    def close(self) -> None:
        self._open.unlock()
        super().close()

    async def wait_until_closed(self) -> None:
        """Wait a moment until only the loop's own socket is open."""
        for _ in range(100):
            if len(self._open.get_map()) <= 1:
                return
            await asyncio.sleep(0.001)

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        # Others may continue meanwhile, because a name server may take long to respond.
        self._open.unlock()
        numbers: Counter[int] = Counter()
        kept = []
        # The order is kept: the resolver begins with the preferred family.
        for address in socket.getaddrinfo(host, port, **options):
            family = address[0]
            numbers[family] += 1
            if numbers[family] <= _MAX_ADDRESSES:
                kept.append(address)
        return kept


def _run(request: Callable[[], Coroutine[Any, Any, _Result]], one_at_a_time: threading.Lock) -> _Result:
    loop = _Loop(one_at_a_time)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(request())
        finally:
            runner.run(loop.wait_until_closed())


def _lower_priority() -> None:
    # On Linux this applies to the thread only; other systems refuse it.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
