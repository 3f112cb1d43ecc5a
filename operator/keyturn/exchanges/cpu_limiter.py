"""Limits long computations on input from tenants, so that no tenant can keep the event loop busy."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

# The time that a namespace has used counts half after this time. With a longer half-life, a namespace that has just
# begun to compute would have priority for too long over one that always computes a little.
_HALF_LIFE_SECONDS = 5.0
_MAX_NAMESPACES = 1024
_Result = TypeVar("_Result")


class CpuLimiter:
    """Runs long computations on the event loop, one at a time, with a pause after each of them.

    A thread would not help, because decoders keep Python's lock. Without a limit, every worker could compute in each
    iteration of the loop, and delay all other work. The next computation is that of the namespace that has recently
    used the least time. If namespaces took turns, one that needs many short computations, for example to load a large
    CA bundle, would wait before each of them for a long one of every other namespace.
    """

    def __init__(self) -> None:
        self._is_running = False
        # By namespace, in the order of their first computation.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        # The seconds used, and the time at which that was computed.
        self._used: dict[str, tuple[float, float]] = {}

    async def run(self, namespace: str, compute: Callable[[], _Result]) -> _Result:
        """Wait until no other computation runs, and return the result of `compute`, which may take a few milliseconds.

        The next computation starts after a pause that is as long as this computation.
        """
        await self._acquire(namespace)
        # Not the time that passes: on a busy machine, the pauses would become longer, too.
        started = time.thread_time()
        try:
            return compute()
        finally:
            seconds = time.thread_time() - started
            self._add(namespace, seconds, time.monotonic())
            asyncio.get_running_loop().call_later(seconds, self._release)

    async def _acquire(self, namespace: str) -> None:
        if not self._is_running:
            self._is_running = True
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(namespace, deque()).append(future)
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        now = time.monotonic()
        while self._waiting:
            namespace = min(self._waiting, key=lambda name: self._seconds_used(name, now))
            queue = self._waiting[namespace]
            future = queue.popleft()
            if not queue:
                del self._waiting[namespace]
            if not future.cancelled():
                future.set_result(None)
                return
        self._is_running = False

    def _seconds_used(self, namespace: str, now: float) -> float:
        seconds, at = self._used.get(namespace, (0.0, now))
        return float(seconds * 0.5 ** ((now - at) / _HALF_LIFE_SECONDS))

    def _add(self, namespace: str, seconds: float, now: float) -> None:
        self._used[namespace] = (self._seconds_used(namespace, now) + seconds, now)
        if len(self._used) > _MAX_NAMESPACES:
            by_time = sorted(self._used, key=lambda name: self._seconds_used(name, now), reverse=True)
            self._used = {name: self._used[name] for name in by_time[: _MAX_NAMESPACES // 2]}
