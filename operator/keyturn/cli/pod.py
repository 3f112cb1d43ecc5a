"""What the commands that serve a pod share: where they listen, and how they run until they are stopped."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from keyturn.cli.options import FILE, option
from keyturn.cli.process import cancel_on_signals

Command = TypeVar("Command", bound=Callable[..., Any])
Result = TypeVar("Result")


def serving_options(command: Command) -> Command:
    """Where the endpoint and the probes listen, and what clients must show."""
    listen = option(
        "--listen", default="127.0.0.1:9911", metavar="HOST:PORT", help="Of credentials; loopback only."
    )
    probes = option(
        "--probes-listen", default=":9912", metavar="HOST:PORT", help="Of /metrics, /healthz and /readyz."
    )
    file = option(
        "--authorization-file",
        default="/var/run/keyturn/token",
        type=FILE,
        help="The token that clients show; made where there is none.",
    )
    return listen(probes(file(command)))


async def stoppable(work: Coroutine[Any, Any, Result]) -> Result:
    """Do `work`, which SIGTERM, SIGINT or SIGHUP cancels.

    To be called before anything is announced: the first process of a container ignores signals without a handler.
    """
    working = asyncio.ensure_future(work)
    cancel_on_signals(working)
    return await working


async def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, which has no end of its own, until a signal ends it; its errors are raised."""
    with suppress(asyncio.CancelledError):
        await stoppable(work)
