"""Measures the time until new requests are Ready, restarts, and the cost of an idle operator."""

import asyncio
import json
import subprocess
import sys
import time

from tests.support.controlplane import die_with_parent
from tests.support.emulator.constants import USER_KEY_ID, USER_SECRET_KEY
from tools.bench import usage
from tools.bench.environment import OPERATION, Environment, namespaces, until
from tools.bench.sample import create_places, read_sample
from tools.bench.startup import add_stages, start_again
from tools.bench.table import Table
from tools.bench.usage import Usage

_IDLE_SHARE = 0.05  # of a core, over a second
_IDLE_SECONDS = 60
_SECONDS = {10000: 70}
_MIB = {10000: 160}
_FIRST_CPU = {"operator": 3.5, "API server": 7.0}  # ms
_LIMIT_SECONDS = 900


async def idle(env: Environment, table: Table) -> None:
    """Measure an operator without TokenRequests."""
    env.start_operator()
    await wait_until_idle(env)
    table.add("idle: operator memory", env.memory(), "MiB")


async def converge_100(env: Environment, table: Table) -> None:
    await _converge(env, table, 100)


async def converge_1000(env: Environment, table: Table) -> None:
    """Measure a thousand requests, and the same calls from a minimal client."""
    used = await _converge(env, table, 1000)
    requests = used.single_object_requests
    for what, number in sorted(requests.items()):
        if number >= 10:
            table.add(f"first issuance: {what}", number / 1000, "each")
    table.add("first issuance: API requests", round(requests.total() / 1000, 1), "each", at_most=4)
    table.add("first issuance: AWS calls", used.calls / 1000, "each", exactly=1)
    dry_run = requests["APPLY secrets dry run"] > 500
    env.operator.stop()
    raw = await _raw(env, dry_run=dry_run)
    table.add("converge 1000: raw loop", raw, "s")
    table.add("converge 1000: times the raw loop", used.at / raw, "", at_most=1.25)


async def restart_1000(env: Environment, table: Table) -> None:
    await _issued(env, 1000)
    await restart(env, table, 1000, seconds=2, mib=110)


async def ten_thousand(env: Environment, table: Table) -> None:
    """Measure ten thousand requests: first issuance, idle, restart."""
    await _converge(env, table, 10000)
    await wait_until_idle(env)
    table.add("idle with 10000: operator memory", env.memory(), "MiB")
    before = usage.cpu_seconds(env.operator.process.pid)
    await asyncio.sleep(_IDLE_SECONDS)
    cpu = usage.cpu_seconds(env.operator.process.pid) - before
    table.add("idle with 10000: operator CPU", cpu / _IDLE_SECONDS * 100, "% of core", at_most=1)
    await restart(env, table, 10000, seconds=6, mib=150)


async def memory_per_request(env: Environment, table: Table) -> None:
    """Measure how the operator's memory grows from 1,000 to 10,000 requests: once issued, and after a restart."""
    few, many = 1000, 10000
    await _issued(env, few)
    await wait_until_idle(env)
    issued = env.memory()
    restarted = await _memory_after_restart(env)
    await env.create(range(few, many))
    await env.wait_for_calls(many, _LIMIT_SECONDS)
    await wait_until_idle(env)
    table.add("memory per request: issued", (env.memory() - issued) / (many - few) * 1024, "KiB")
    growth = await _memory_after_restart(env) - restarted
    table.add("memory per request: after a restart", growth / (many - few) * 1024, "KiB")


async def _memory_after_restart(env: Environment) -> float:
    env.operator.stop()
    await start_again(env.operator)
    await wait_until_idle(env)
    return env.memory()


async def _issued(env: Environment, number: int) -> Usage:
    """Create the requests, then start the operator; returns the usage from its start to the last Ready."""
    await env.create(range(number))
    before = env.usage()
    env.start_operator()
    await env.wait_for_calls(number, _LIMIT_SECONDS)
    await env.wait_until_ready(_LIMIT_SECONDS)
    return env.usage() - before


async def _converge(env: Environment, table: Table, number: int) -> Usage:
    used = await _issued(env, number)
    name = f"converge {number}"
    table.add(f"{name}: to the last Ready", used.at, "s", at_most=_SECONDS.get(number))
    table.add_cpu(name, used, number, _FIRST_CPU)
    table.add(f"{name}: peak memory", env.memory(peak=True), "MiB", at_most=_MIB.get(number))
    table.add(f"{name}: connections to AWS", env.connections(), "", at_most=16)
    return used


async def restart(env: Environment, table: Table, number: int, *, seconds: float, mib: float) -> None:
    """Stop the operator as Kubernetes does and restart it: nothing is due, so no exchange and no write may happen."""
    env.operator.stop()
    await asyncio.sleep(1)
    before = env.usage()
    started = time.monotonic()
    stages = await start_again(env.operator)
    idle_after = await wait_until_idle(env) - started
    used, name = env.usage() - before, f"restart with {number}"
    add_stages(table, name, stages)
    table.add(f"{name}: leading and idle after", idle_after, "s", at_most=seconds)
    table.add(f"{name}: AWS calls", used.calls, "", exactly=0)
    # The issuance key is read twice: before the Lease is acquired, and after.
    table.add(f"{name}: reads and writes of single objects", used.single_object_requests.total(), "", exactly=2)
    table.add(f"{name}: lists and watches", used.requests.total() - used.single_object_requests.total(), "")
    table.add(f"{name}: peak memory", env.memory(peak=True), "MiB", at_most=mib)


async def wait_until_idle(env: Environment) -> float:
    """Wait until the operator leads and has been idle for a second; returns when it became idle."""
    await until(lambda: _holds_lease(env), 60)
    pid = env.operator.process.pid
    samples = [(time.monotonic(), usage.cpu_seconds(pid))]
    async with asyncio.timeout(_LIMIT_SECONDS):
        while True:
            await asyncio.sleep(0.05)
            samples.append((time.monotonic(), usage.cpu_seconds(pid)))
            while samples[-1][0] - samples[0][0] > 1:
                since, cpu = samples.pop(0)
                if samples[-1][1] - cpu <= _IDLE_SHARE:
                    return since


async def _holds_lease(env: Environment) -> bool:
    return "this process holds the Lease" in env.operator.log().rpartition("listening on")[2]


async def _raw(env: Environment, *, dry_run: bool) -> float:
    """Time a minimal client that sends the same calls for as many new requests."""
    sample = await read_sample(env)
    env.plane.kubectl("create", "-f", "-", stdin=json.dumps(namespaces("raw")))
    places = await create_places(env, "raw", 1000)
    work = {
        "bodies": sample.bodies,
        "kubeconfig": str(env.plane.service_account_kubeconfig("keyturn", "keyturn")),
        "aws": env.aws.url,
        "key_id": USER_KEY_ID,
        "secret_key": USER_SECRET_KEY,
        "dry_run": dry_run,
        "places": places,
    }
    called, started = env.aws.calls(OPERATION), time.monotonic()
    command = die_with_parent([sys.executable, "-m", "tools.bench.raw"])
    subprocess.run(command, input=json.dumps(work), text=True, check=True, timeout=_LIMIT_SECONDS)  # noqa: ASYNC221
    elapsed = time.monotonic() - started
    if env.aws.calls(OPERATION) - called != len(places):
        raise RuntimeError("the raw loop did not make the same calls")
    return elapsed
