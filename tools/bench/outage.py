"""An outage of AWS while a thousand requests are due: how soon and in which order they are renewed afterwards."""

import asyncio
import os
import time

from tools.bench.client import MERGE, run_all
from tools.bench.environment import OPERATION, Environment, collection, token_request, until
from tools.bench.renewals import RenewalRecorder, recorded_renewals
from tools.bench.table import Table

_NUMBER, _GROUPS = 1000, 10
_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "600"))
_LIMIT_SECONDS = 600


async def outage(env: Environment, table: Table) -> None:
    """Request the renewal of ten groups with different expiries while every call is dropped."""
    env.start_operator()
    async with recorded_renewals(env) as recorder:
        await _issue_groups(env)
        env.aws.fault(OPERATION, drop="before", times=None)
        called = env.aws.calls(OPERATION)
        await run_all(_request_renewal(env, number) for number in range(_NUMBER))
        await asyncio.sleep(_SECONDS)
        dropped = env.aws.calls(OPERATION) - called
        env.aws.clear_faults()
        elapsed = await _wait_until_renewed(recorder)
    table.add(f"outage of {_SECONDS:g} s: AWS calls meanwhile", dropped, "")
    table.add("outage: all renewed after its end", elapsed, "s", at_most=60)
    table.add("outage: of the first 100 renewed, soonest to expire", _count_urgent(recorder), "")


async def _issue_groups(env: Environment) -> None:
    """Issue one group at a time. A later group does not always expire later."""
    size = _NUMBER // _GROUPS
    for group in range(_GROUPS):
        env.aws.settings(session_seconds=5000 + 600 * (group * 7 % _GROUPS))
        await env.create(range(group * size, (group + 1) * size))
        await env.wait_for_calls((group + 1) * size, 120)
    await env.wait_until_ready(120)


async def _request_renewal(env: Environment, number: int) -> None:
    path = f"{collection(number)}/{token_request(number)['metadata']['name']}"
    await env.client.request(
        "PATCH", path, {"metadata": {"annotations": {"keyturn.dev/renew-requested-at": "x"}}}, MERGE
    )


async def _wait_until_renewed(recorder: RenewalRecorder) -> float:
    started = time.monotonic()

    async def all_renewed() -> bool:
        return len(recorder.renewals) >= _NUMBER

    await until(all_renewed, _LIMIT_SECONDS)
    return time.monotonic() - started


def _count_urgent(recorder: RenewalRecorder) -> int:
    """Count how many of the first hundred renewals are among the hundred that would have expired first."""
    latest = sorted(renewal.expired for renewal in recorder.renewals)[99]
    return sum(renewal.expired <= latest for renewal in recorder.renewals[:100])
