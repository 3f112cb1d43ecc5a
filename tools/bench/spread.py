"""Lifetimes of first issuances that make renewals become due evenly, as they do in a cluster that has run for hours."""

import asyncio

from tools.bench.environment import OPERATION, Environment
from tools.bench.renewals import MEAN_SHARE

_SHORTEST_SECONDS = 60
_SLACK = 1.3  # the last issuances may take longer than those before them


async def spread_renewals(env: Environment, number: int, rate: float, seconds: float, settle: float) -> float:
    """Wait for `number` first issuances, and let the last ones be renewed at `rate` for so many seconds.

    The others keep the emulator's lifetime of twelve hours: only a part of the requests is renewed while a benchmark
    runs, and the first issuances come too fast to become due evenly. Returns when the renewals begin, on the loop's
    clock: after the last first issuance and about `settle` seconds.
    """
    loop = asyncio.get_running_loop()
    began, others = loop.time(), number - round(rate * seconds)
    while (issued := env.aws.calls(OPERATION)) < others:  # noqa: ASYNC110 - another process has no event
        await asyncio.sleep(1)
    speed = issued / (loop.time() - began)
    start = loop.time() + _SLACK * (number - issued) / speed + settle
    while (issued := env.aws.calls(OPERATION)) < number:
        wait = start + (issued - others) / rate - loop.time()
        env.aws.settings(session_seconds=max(_SHORTEST_SECONDS, round(wait / MEAN_SHARE)))
        await asyncio.sleep(0.25)
    return start
