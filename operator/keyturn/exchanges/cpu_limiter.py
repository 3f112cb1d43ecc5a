"""Limits long computations on input from tenants, so that no tenant can keep the event loop busy."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

_Result = TypeVar("_Result")


class CpuLimiter:
    """Runs long computations on the event loop, one at a time, with a pause after each of them.

    A thread would not help, because decoders keep Python's lock. Without a limit, every worker could compute in each
    iteration of the loop, and delay all other work. Only one computation of each namespace waits for its turn with
    those of other namespaces, so a namespace with many computations delays only itself.
    """

    def __init__(self) -> None:
        self._running = asyncio.Lock()
        self._namespaces: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, namespace: str, compute: Callable[[], _Result]) -> _Result:
        """Wait until no other computation runs, and return the result of `compute`, which may take a few milliseconds.

        The next computation starts after a pause that is as long as this computation.
        """
        loop = asyncio.get_running_loop()
        async with self._namespaces.setdefault(namespace, asyncio.Lock()):
            await self._running.acquire()
            started = time.monotonic()
            try:
                return compute()
            finally:
                loop.call_later(time.monotonic() - started, self._running.release)
