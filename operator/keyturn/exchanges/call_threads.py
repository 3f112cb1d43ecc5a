"""Threads for calls to other systems, which block and cannot be cancelled."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

# Threads are created when they are needed.
_THREADS_PER_WORKER, _MIN_THREADS = 8, 64
_MAX_OVERDUE = 4
# An owner may occupy one thread for every eight free threads, so its share shrinks as they become scarce.
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
        # The owners of the calls that have not ended. Results are not kept, because they contain secrets.
        self._running: dict[Future[Any], str] = {}
        self._overdue: set[Future[Any]] = set()

    async def run(self, owner: str, call: Callable[[], _Result], timeout_seconds: float) -> _Result:
        """Return the result of a call. After TimeoutError, its thread may continue."""
        work = self._threads.submit(call)
        self._running[work] = owner
        try:
            async with asyncio.timeout(timeout_seconds):
                return await asyncio.wrap_future(work)
        finally:
            if work.done():
                del self._running[work]
            else:
                self._overdue.add(work)

    def is_overdue(self, owner: str) -> bool:
        """Whether too many calls of an owner still run after their timeout, so that it must not start another one."""
        self._drop_ended()
        return sum(self._running[work] == owner for work in self._overdue) >= _MAX_OVERDUE

    def has_share(self, owner: str) -> bool:
        """Whether enough threads remain for other owners if this one starts another call.

        An owner without calls may always start one. Without this rule, many owners with calls that continue after their
        timeout could occupy all threads. As long as no call does that, no owner reaches its share, because there are
        fewer workers.
        """
        self._drop_ended()
        number = sum(name == owner for name in self._running.values())
        return not number or number * _SHARE < self._number - len(self._running)

    def _drop_ended(self) -> None:
        """Drop the overdue calls that have ended."""
        for work in [work for work in self._overdue if work.done()]:
            self._overdue.discard(work)
            del self._running[work]

    def close(self) -> None:
        """Stop the threads. A call in progress ends by its own timeout, if it has one."""
        self._threads.shutdown(wait=False, cancel_futures=True)
