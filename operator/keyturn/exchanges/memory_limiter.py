"""Limits the memory for large objects from tenants that are being read or written."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Nearly all Secrets are smaller.
LARGE_BYTES = 128 * 1024
_SLOTS = 8


class MemoryLimiter:
    """Limits how many large objects are in memory at a time.

    Reading or writing a Secret of 1 MiB takes up to 5 MiB of memory, and an issuer could release the responses to all
    workers at once. A free slot goes to the namespace that holds the fewest slots. If several namespaces hold equally
    few, it goes to the task that has waited longest.
    """

    def __init__(self, slots: int = _SLOTS) -> None:
        self._slots = slots
        self._in_use: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def slot(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a slot, and hold it during the block."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((namespace, granted))
        self._grant()
        try:
            await granted
            yield
        finally:
            # A task can also be cancelled after it was granted a slot and before it continues.
            if granted.done() and not granted.cancelled():
                self._in_use[namespace] -= 1
                self._in_use = +self._in_use
            self._grant()

    def _grant(self) -> None:
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        while self._waiting and self._in_use.total() < self._slots:
            # min() returns the first of equal ones, which has waited longest.
            waiting = min(self._waiting, key=lambda it: self._in_use[it[0]])
            self._waiting.remove(waiting)
            namespace, granted = waiting
            self._in_use[namespace] += 1
            granted.set_result(None)
