"""Threads for requests to issuers: an issuer must not block the event loop of the process."""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from selectors import DefaultSelector
from typing import Any, TypeVar

_THREADS_PER_WORKER = 8
_MAX_OVERDUE = 4
_NICENESS = 10
_Result = TypeVar("_Result")


class IssuerThreads:
    """Runs each request to an issuer in a thread, with an event loop of its own.

    OpenSSL decodes all certificates of a server before it verifies one, and a name lookup cannot be cancelled. A
    certificate of 500 bytes with crafted parameters of an elliptic curve takes half a second. Either occupies the
    thread after its caller has stopped waiting, so there are more threads than workers, and `is_overdue` limits those
    of a namespace.
    """

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(
            _THREADS_PER_WORKER * workers, thread_name_prefix="issuer", initializer=_lower_priority
        )
        self._overdue: list[tuple[str, Future[Any]]] = []

    async def run(
        self, namespace: str, request: Callable[[], Coroutine[Any, Any, _Result]], timeout_seconds: float
    ) -> _Result:
        """Return the result of a request. After TimeoutError, its thread may continue."""
        work = self._threads.submit(_run, request)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.wrap_future(work)
        finally:
            if not work.done():
                self._overdue.append((namespace, work))

    def is_overdue(self, namespace: str) -> bool:
        """Whether so many threads of a namespace continue after a timeout that it must not start another one."""
        self._overdue = [(name, work) for name, work in self._overdue if not work.done()]
        return sum(name == namespace for name, _ in self._overdue) >= _MAX_OVERDUE

    def close(self) -> None:
        """Stop the threads. A request in progress ends by its own timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)


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
        return socket.getaddrinfo(host, port, **options)


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
