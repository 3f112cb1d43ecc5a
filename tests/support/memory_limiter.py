"""A MemoryLimiter that records who holds its slots."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from keyturn.exchanges.memory_limiter import MemoryLimiter


class RecordingMemoryLimiter(MemoryLimiter):
    """Records the namespaces that were granted a slot, and those that hold one now."""

    def __init__(self) -> None:
        super().__init__()
        self.granted: list[str] = []
        self.held_now: list[str] = []

    @asynccontextmanager
    async def slot(self, namespace: str) -> AsyncIterator[None]:
        async with super().slot(namespace):
            self.granted.append(namespace)
            self.held_now.append(namespace)
            yield
            self.held_now.remove(namespace)
