"""The tokens that are being replaced, which a signal must not interrupt."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

_POLL_SECONDS = 1.0
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class PendingTokens:
    """The token Secrets whose token is being exchanged, or whose new token is not saved yet."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pending: dict[str, tuple[asyncio.Task[Any], float]] = {}
        self._is_left = False

    def __contains__(self, name: str) -> bool:
        return name in self._pending

    def __len__(self) -> int:
        return len(self._pending)

    async def complete(self, name: str, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` for the token Secret `name` to its end even if this task is cancelled, then re-raise that.

        A lock excludes a second use of the same name. After `leave`, a task that is cancelled does not wait.
        """
        task = asyncio.create_task(work)
        self._pending[name] = (task, self._monotonic())

        def end(_: object) -> None:
            del self._pending[name]
            if not task.cancelled():
                # Retrieved, or asyncio would log it, and the message of a bug may contain a secret.
                task.exception()

        task.add_done_callback(end)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            while not (task.done() or self._is_left):
                # A second cancellation must not end the wait: asyncio.run would then cancel the save itself.
                with suppress(asyncio.CancelledError):
                    await asyncio.wait({task}, timeout=_POLL_SECONDS)
            raise

    def leave(self) -> None:
        """Let the tasks that are cancelled, and wait for the end of their work, end before it."""
        self._is_left = True

    def stay(self) -> None:
        """From now on, tasks that are cancelled wait again."""
        self._is_left = False

    async def wait(self) -> None:
        """Wait until no token is pending, however often this task is cancelled."""
        while self._pending:
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task for task, _ in self._pending.values()], timeout=_POLL_SECONDS)

    def log(self) -> None:
        """Log what a process that was asked to stop still waits for."""
        for name, (_, since) in self._pending.items():
            _log.warning(
                "still replacing the token of Secret %s, for %d s; the process stops once the new token is saved"
                " (SIGKILL, that is kill -9, would lose it)",
                name,
                self._monotonic() - since,
            )
