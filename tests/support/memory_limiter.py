"""A MemoryLimiter that records what it gives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyturn.exchanges.memory_limiter import MemoryLimiter


class RecordingMemoryLimiter(MemoryLimiter):
    """Records the namespaces that had a place, and those that have one now."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []
        self.taken_now: list[str] = []

    @asynccontextmanager
    async def place(self, namespace: str) -> AsyncIterator[None]:
        async with super().place(namespace):
            self.given.append(namespace)
            self.taken_now.append(namespace)
            yield
            self.taken_now.remove(namespace)
