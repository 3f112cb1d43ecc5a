"""Takes turns with long computations on input from tenants, so that no tenant can keep the event loop busy."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

_Result = TypeVar("_Result")


class CpuTurns:
    """Runs long computations on the event loop, one at a time, with a pause after each of them.

    A thread would not help, because decoders keep Python's lock. Without turns, each iteration of the loop may contain
    a computation for every worker, and all other work needs several iterations. A namespace waits with one computation
    at a time, so that many of them delay only that namespace.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._namespaces: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, namespace: str, compute: Callable[[], _Result]) -> _Result:
        """Wait for a turn, and return the result of `compute`, which should take a few milliseconds.

        The next turn starts after a pause that is as long as this computation.
        """
        loop = asyncio.get_running_loop()
        async with self._namespaces.setdefault(namespace, asyncio.Lock()):
            await self._turn.acquire()
            started = time.monotonic()
            try:
                return compute()
            finally:
                loop.call_later(time.monotonic() - started, self._turn.release)
