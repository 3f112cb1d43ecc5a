"""An event loop with virtual time: its clock advances only when all tasks wait, so hours pass in seconds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

_P = ParamSpec("_P")


class _Idle(selectors.DefaultSelector):
    """A selector that advances the clock instead of waiting; it has no external events."""

    def __init__(self, advance: Callable[[float], None]) -> None:
        super().__init__()
        self._advance = advance

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("all tasks wait without a timeout")
        self._advance(timeout)
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


def in_virtual_time(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    @wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTime) as runner:
            runner.run(test(*args, **kwargs))

    return run
