"""An event loop whose clock moves only when nobody has anything to do: hours pass in seconds, in true order."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Idle(selectors.DefaultSelector):
    """Nothing comes from outside: instead of waiting, the time that would be waited for is added."""

    def __init__(self, passed: Callable[[float], None]) -> None:
        super().__init__()
        self._passed = passed

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("all wait for ever")
        self._passed(timeout)
        return []


class VirtualTime(asyncio.SelectorEventLoop):
    """Starts at 0.0 seconds."""

    def __init__(self) -> None:
        self._seconds = 0.0
        super().__init__(_Idle(self._pass))

    def time(self) -> float:
        return self._seconds

    def _pass(self, seconds: float) -> None:
        self._seconds += seconds
