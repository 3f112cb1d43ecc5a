"""Crashes of a reconciliation at a chosen await."""

import asyncio
from collections.abc import Callable

from keyturn.api.token_request import Request
from tests.support.dependencies import FakeEnvironment
from tests.support.rotation import no_checkpoint


class ProcessDied(BaseException):
    """The process died: none of its code runs any more."""


Crash = Callable[[asyncio.Task[object]], None]


def die(_: asyncio.Task[object]) -> None:
    raise ProcessDied


def bug(_: asyncio.Task[object]) -> None:
    raise ZeroDivisionError("planted-secret")


async def crash(env: FakeEnvironment, request: Request, number: int, action: Crash) -> str:
    """Reconcile a request and crash at await `number`. Returns the checkpoint, or "" if there are fewer awaits."""
    reached: list[str] = []
    crashed: list[str] = []
    task: asyncio.Task[object]

    async def checkpoint(point: str) -> None:
        await asyncio.sleep(0)
        if crashed and action is die:
            raise ProcessDied
        reached.append(point)
        if len(reached) == number:
            crashed.append(point)
            action(task)

    env.watch(checkpoint)
    task = asyncio.create_task(env.reconcile(request))
    await asyncio.wait({task})
    task.cancelled() or task.exception()
    env.watch(no_checkpoint)
    return crashed[0] if crashed else ""


# A crash here loses the response to a token that was sent.
SENT = ("after OauthToken", "after IdentityCenterCreateToken", "before save")
