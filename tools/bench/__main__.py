"""make bench: measure, print a table, write build/bench.json. ONLY=NAME measures one part."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.signals import interrupt_on_signals
from tools.bench.converge import converge_100, converge_1000, idle, memory_per_request, restart_1000, ten_thousand
from tools.bench.endpoint import credential_process, endpoint_reader, endpoint_standalone, standalone_renewals
from tools.bench.environment import Environment, running_environment
from tools.bench.hundred_thousand import hundred_thousand
from tools.bench.interpreter import use_optimised
from tools.bench.outage import outage
from tools.bench.renewals import highest, steady_20, steady_50
from tools.bench.request_cost import request_cost
from tools.bench.table import Table

PARTS: dict[str, Callable[[Environment, Table], Awaitable[None]]] = {
    part.__name__: part
    for part in (
        idle, request_cost, converge_100, converge_1000, restart_1000, memory_per_request, ten_thousand,
        steady_20, steady_50, highest, outage,
    )
}  # fmt: skip
# These need no cluster.
WITHOUT_CLUSTER: dict[str, Callable[[Table], Awaitable[None]]] = {
    part.__name__: part for part in (endpoint_reader, endpoint_standalone, standalone_renewals, credential_process)
}
# This starts a cluster of its own, and only if it is named.
BY_HAND = {hundred_thousand.__name__: hundred_thousand}


async def main(head: str, only: str) -> None:
    """Run each part in its own environment."""
    names = [*PARTS, *WITHOUT_CLUSTER]
    if only and only not in [*names, *BY_HAND]:
        sys.exit(f"ONLY must be one of {', '.join([*names, *BY_HAND])}")
    table = Table(head)
    for name in [only] if only else names:
        print(f"\n{name}, load {os.getloadavg()[0]:.1f}", flush=True)
        try:
            if part := (WITHOUT_CLUSTER | BY_HAND).get(name):
                await part(table)
            else:
                async with running_environment() as env:
                    await PARTS[name](env, table)
        finally:
            table.write(Path("build/bench.json"))


if __name__ == "__main__":
    interrupt_on_signals()
    asyncio.run(main(f"{use_optimised()}\n{os.cpu_count()} cores", os.environ.get("ONLY", "")))
