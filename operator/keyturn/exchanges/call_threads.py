"""Threads for calls to other systems, which block and cannot be cancelled."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

# Threads are created when they are needed.
_THREADS_PER_WORKER, _MIN_THREADS = 8, 64
_MAX_OVERDUE = 4
# An owner may occupy an eighth as many threads as are free, so that its share shrinks as they become scarce.
_SHARE = 8
_Result = TypeVar("_Result")


class CallThreads:
    """Runs each call in a thread.

    A call that takes too long occupies its thread after its caller has stopped waiting. Therefore there are more
    threads than workers, and callers check `is_overdue` before each call. The owner of a call is a namespace or a
    service.
    """

    def __init__(self, workers: int, name: str, initializer: Callable[[], None] | None = None) -> None:
        self._number = max(_THREADS_PER_WORKER * workers, _MIN_THREADS)
        self._threads = ThreadPoolExecutor(self._number, thread_name_prefix=name, initializer=initializer)
        self._running: list[tuple[str, Future[Any]]] = []
        self._overdue: list[tuple[str, Future[Any]]] = []

    async def run(self, owner: str, call: Callable[[], _Result], timeout_seconds: float) -> _Result:
        """Return the result of a call. After TimeoutError, its thread may continue."""
        work = self._threads.submit(call)
        self._running.append((owner, work))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.wrap_future(work)
        finally:
            if not work.done():
                self._overdue.append((owner, work))

    def is_overdue(self, owner: str) -> bool:
        """Whether too many calls of an owner still run after their timeout, so that it must not start another one."""
        self._overdue = [(name, work) for name, work in self._overdue if not work.done()]
        return sum(name == owner for name, _ in self._overdue) >= _MAX_OVERDUE

    def has_share(self, owner: str) -> bool:
        """Whether enough threads remain for other owners if this one starts another call.

        An owner without calls may always start one. Without this rule, many owners with calls that continue after their
        timeout could occupy all threads. While no call does that, no owner reaches its share, because there are fewer
        workers.
        """
        self._running = [(name, work) for name, work in self._running if not work.done()]
        number = sum(name == owner for name, _ in self._running)
        return not number or number * _SHARE < self._number - len(self._running)

    def close(self) -> None:
        """Stop the threads. A call in progress ends by its own timeout, if it has one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
