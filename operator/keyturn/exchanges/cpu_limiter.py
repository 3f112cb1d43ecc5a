"""Limits long computations on input from tenants, so that no tenant can keep the event loop busy."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

_Result = TypeVar("_Result")


class CpuLimiter:
    """Runs long computations on the event loop, one at a time, with a pause after each of them.

    A thread would not help, because decoders keep Python's lock. Without a limit, each iteration of the loop may
    contain a computation for every worker, and all other work needs several iterations. A namespace waits with one
    computation at a time, so that many of them delay only that namespace.
    """

    def __init__(self) -> None:
        self._running = asyncio.Lock()
        self._namespaces: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, namespace: str, compute: Callable[[], _Result]) -> _Result:
        """Wait until no other computation runs, and return the result of `compute`: a few milliseconds of work.

        The next computation starts after a pause that is as long as this one.
        """
        loop = asyncio.get_running_loop()
        async with self._namespaces.setdefault(namespace, asyncio.Lock()):
            await self._running.acquire()
            started = time.monotonic()
            try:
                return compute()
            finally:
                loop.call_later(time.monotonic() - started, self._running.release)
