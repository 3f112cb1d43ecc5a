"""Limits the memory for large objects from tenants that are being read or written."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Nearly all Secrets are smaller.
LARGE_BYTES = 128 * 1024
_PLACES = 8


class MemoryLimiter:
    """Gives a few tasks at a time a place for a large object.

    To read or write a Secret of 1 MiB takes up to 5 MiB of memory, and an issuer could release the responses to all
    workers at once. A free place goes to the namespace that has the fewest, and among equal ones to the task that has
    waited longest.
    """

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a place, and keep it during the block."""
        given = asyncio.get_running_loop().create_future()
        self._waiting.append((namespace, given))
        self._start_next()
        try:
            await given
            yield
        finally:
            if given.done() and not given.cancelled():
                self._taken[namespace] -= 1
                self._taken = +self._taken
            self._start_next()

    def _start_next(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        while self._waiting and self._taken.total() < _PLACES:
            # The first of equal ones has waited longest.
            number = min(range(len(self._waiting)), key=lambda it: self._taken[self._waiting[it][0]])
            namespace, given = self._waiting.pop(number)
            self._taken[namespace] += 1
            given.set_result(None)
