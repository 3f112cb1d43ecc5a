"""Counts the iterations of the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Iterations:
    """How many iterations the event loop has made."""

    number: int = 0


@asynccontextmanager
async def counted_iterations(pause_seconds: float = 0) -> AsyncIterator[Iterations]:
    """Count the iterations of the event loop during the block, or at most one for each pause."""
    iterations = Iterations()

    async def count() -> None:
        while True:
            await asyncio.sleep(pause_seconds)
            iterations.number += 1

    counting = asyncio.create_task(count())
    try:
        yield iterations
    finally:
        counting.cancel()
