"""Crashes of a reconciliation at a chosen await."""

import asyncio
from collections.abc import Callable

from keyturn.api.token_request import Request
from tests.support.dependencies import Outside
from tests.support.rotation import nothing


class Death(BaseException):
    """The process is gone: nothing of it runs any more."""


Crash = Callable[[asyncio.Task[object]], None]


def die(_: asyncio.Task[object]) -> None:
    raise Death


async def crash(outside: Outside, wanted: Request, number: int, how: Crash) -> str:
    """Look at a request, and crash at the given await; returns where that was, or nothing if it is not reached."""
    reached: list[str] = []
    crashed: list[str] = []
    task: asyncio.Task[object]

    async def checkpoint(where: str) -> None:
        await asyncio.sleep(0)
        if crashed and how is die:
            raise Death
        reached.append(where)
        if len(reached) == number:
            crashed.append(where)
            how(task)

    outside.watch(checkpoint)
    task = asyncio.create_task(outside.reconcile(wanted))
    await asyncio.wait({task})
    task.cancelled() or task.exception()
    outside.watch(nothing)
    return crashed[0] if crashed else ""


SENT = ("after OauthToken", "after IdentityCenterCreateToken", "before save")
