"""An outage of AWS with a thousand requests due: how soon all are renewed after its end, and in which order."""

import asyncio
import os
import time

from tools.bench.client import MERGE, all_of
from tools.bench.ground import OPERATION, Ground, collection, token_request, until
from tools.bench.renewals import Watched, watched
from tools.bench.table import Table

_NUMBER, _GROUPS = 1000, 10
_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "600"))
_LIMIT_SECONDS = 600


async def outage(on: Ground, table: Table) -> None:
    """Ten groups with different expiries, all asked to renew while every call is dropped."""
    on.start_operator()
    async with watched(on) as seen:
        await _issue_groups(on)
        on.aws.fault(OPERATION, drop="before", times=None)
        called = on.aws.calls(OPERATION)
        await all_of(_ask_to_renew(on, number) for number in range(_NUMBER))
        await asyncio.sleep(_SECONDS)
        dropped = on.aws.calls(OPERATION) - called
        on.aws.clear_faults()
        spent = await _caught_up(seen)
    table.add(f"outage of {_SECONDS:g} s: AWS calls meanwhile", dropped, "")
    table.add("outage: all renewed after its end", spent, "s", at_most=60)
    table.add("outage: of the first 100 renewed, soonest to expire", _urgent(seen), "")


async def _issue_groups(on: Ground) -> None:
    """Issue to a tenth at a time; the later tenths need not live longer."""
    size = _NUMBER // _GROUPS
    for group in range(_GROUPS):
        on.aws.settings(session_seconds=5000 + 600 * (group * 7 % _GROUPS))
        await on.create(range(group * size, (group + 1) * size))
        await on.called((group + 1) * size, 120)
    await on.all_ready(120)


async def _ask_to_renew(on: Ground, number: int) -> None:
    path = f"{collection(number)}/{token_request(number)['metadata']['name']}"
    await on.client.ask("PATCH", path, {"metadata": {"annotations": {"keyturn.dev/renew-requested-at": "x"}}}, MERGE)


async def _caught_up(seen: Watched) -> float:
    started = time.monotonic()

    async def all_renewed() -> bool:
        return len(seen.renewals) >= _NUMBER

    await until(all_renewed, _LIMIT_SECONDS)
    return time.monotonic() - started


def _urgent(seen: Watched) -> int:
    """How many of the first hundred renewals were of the hundred that would have expired first."""
    latest = sorted(one.expired for one in seen.renewals)[99]
    return sum(one.expired <= latest for one in seen.renewals[:100])
