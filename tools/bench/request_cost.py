"""The API server's CPU for each kind of request of an issuance: one kind at a time, and nothing watches the objects."""

import asyncio
import functools
import json
from collections.abc import Callable

from tools.bench.client import ApiRequest, run_all
from tools.bench.environment import Environment, namespaces
from tools.bench.issuance_requests import IssuanceRequests, Place
from tools.bench.sample import create_places, read_sample
from tools.bench.table import Table
from tools.bench.usage import Usage

_NUMBER = 1000
_SECONDS = 10
_PREFIX = "kinds"


async def request_cost(env: Environment, table: Table) -> None:
    """Send a thousand requests of each kind, with bodies copied from the operator's."""
    await env.create(range(1))
    env.start_operator()
    await env.wait_until_ready(60)
    requests = await read_sample(env)
    env.operator.stop()
    # Its garbage collector watches all objects, and a watch adds to the cost of each write.
    env.plane.stop("kube-controller-manager")
    env.plane.kubectl("create", "-f", "-", stdin=json.dumps(namespaces(_PREFIX)))
    idle = await _idle(env)
    before = env.usage(counts=False)
    places = await create_places(env, _PREFIX, _NUMBER)
    _add(table, "creation of a TokenRequest", env.usage(counts=False) - before, idle)
    for kind, build in _kinds(requests).items():
        before = env.usage(counts=False)
        await run_all(env.client.send(build(place)) for place in places)
        _add(table, kind, env.usage(counts=False) - before, idle)


def _kinds(requests: IssuanceRequests) -> dict[str, Callable[[Place], ApiRequest]]:
    return {
        "source read": requests.source_read,
        "Secret apply, first": requests.secret_apply,
        "status write, first": requests.status_write,
        "Event": requests.event,
        "Secret apply, renewal": functools.partial(requests.secret_apply, is_renewal=True),
        "status write, renewal": functools.partial(requests.status_write, is_renewal=True),
    }


async def _idle(env: Environment) -> dict[str, float]:
    """Return the cores that each server needs without requests."""
    before = env.usage(counts=False)
    await asyncio.sleep(_SECONDS)
    used = env.usage(counts=False) - before
    return {name: seconds / used.at for name, seconds in used.cpu.items()}


def _add(table: Table, kind: str, used: Usage, idle: dict[str, float]) -> None:
    for server in ("API server", "etcd"):
        seconds = used.cpu[server] - idle[server] * used.at
        table.add(f"{kind}: CPU of {server}", seconds / _NUMBER * 1000, "ms each")
    table.add(f"{kind}: other work on this machine", used.others / used.at, "cores")
