"""A hundred thousand TokenRequests in a hundred namespaces: first issuance, steady renewal, restart. Started by hand.

COUNT and MINUTES (of steady renewal) make a shorter trial.
"""

import asyncio
import os
import time
from http import HTTPStatus

import aiohttp

from tools.bench import usage
from tools.bench.client import run_all
from tools.bench.converge import restart
from tools.bench.environment import OPERATION, Environment, is_ready, running_environment, until
from tools.bench.renewals import RenewalRecorder, add_renewals, quantile, recorded_renewals
from tools.bench.spread import spread_renewals
from tools.bench.table import Table

_NUMBER = int(os.environ.get("COUNT", "100000"))
_SECONDS = 60 * float(os.environ.get("MINUTES", "10"))
_NAMESPACES = 100
_LIFETIME_SECONDS = 3600
# Each is renewed after two thirds of its lifetime: 42 renewals a second.
_RATE = _NUMBER / (_LIFETIME_SECONDS * 2 / 3)
# Renewals become due evenly for longer than is measured: their jitter blurs both ends.
_BEFORE_SECONDS, _AFTER_SECONDS = 30, 150
_SETTLE_SECONDS = max(30, _NUMBER / 1000)
_QUIET_SECONDS = 15
_LIMIT_SECONDS = 3600
# By default etcd refuses writes beyond 2 GiB, which the history of the objects may need.
_FLAGS = {"etcd": [f"--quota-backend-bytes={8 * 2**30}"]}
_LEAST_MIB = 1024
_PROGRESS_SECONDS = 30
_PAUSES = (1, 5, 30)


async def hundred_thousand(table: Table) -> None:
    """Run all stages. Raises MemoryError before the machine runs out of memory, and TimeoutError."""
    async with running_environment(_NAMESPACES, _FLAGS) as env, asyncio.TaskGroup() as tasks:
        progress = tasks.create_task(_report_progress(env))
        await _create(env, table)
        start = await _issue(env, table)
        await _renew(env, table, start)
        await restart(env, table, _NUMBER, seconds=60, mib=900)
        _add_memory(env, table, "at the end")
        progress.cancel()


async def _create(env: Environment, table: Table) -> None:
    began = time.monotonic()
    await run_all(_create_one(env, number) for number in range(_NUMBER))
    table.add(f"creation of {_NUMBER}", time.monotonic() - began, "s")


async def _create_one(env: Environment, number: int) -> None:
    """Create a TokenRequest; an overloaded API server must not end the run."""
    for pause in (*_PAUSES, None):
        try:
            await env.create_one(number)
        except (aiohttp.ClientError, TimeoutError) as error:
            status = getattr(error, "status", HTTPStatus.SERVICE_UNAVAILABLE)
            if status == HTTPStatus.CONFLICT:
                return  # The response to an earlier attempt was lost.
            if pause is None or status < HTTPStatus.TOO_MANY_REQUESTS:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def _issue(env: Environment, table: Table) -> float:
    """Start the operator and wait for all first issuances; returns when the renewals begin."""
    before = env.usage()
    env.start_operator()
    seconds = _BEFORE_SECONDS + _SECONDS + _AFTER_SECONDS
    async with asyncio.timeout(_LIMIT_SECONDS):
        start = await spread_renewals(env, _NUMBER, _RATE, seconds, _SETTLE_SECONDS)
        while _status_writes(used := env.usage() - before) < _NUMBER:  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(1)
    env.aws.settings(session_seconds=_LIFETIME_SECONDS)
    name = f"converge {_NUMBER}"
    table.add(f"{name}: to the last status", used.at, "s")
    table.add_cpu(name, used, _NUMBER)
    table.add(f"{name}: API requests", used.single_object_requests.total() / _NUMBER, "each")
    table.add(f"{name}: connections to AWS", env.connections(), "", at_most=16)
    table.add(f"{name}: peak memory", env.memory(peak=True), "MiB", at_most=900)
    _add_memory(env, table, name)
    ready = 0
    async for page in env.client.request_pages():
        ready += sum(map(is_ready, page))
    table.add(f"{name}: Ready", ready, "", exactly=_NUMBER)
    return start


def _status_writes(used: usage.Usage) -> int:
    return used.requests["PATCH tokenrequests/status"]


async def _renew(env: Environment, table: Table, start: float) -> None:
    """Measure steady renewal, then a scrape of the metrics, and wait until nothing is due."""
    loop, name = asyncio.get_running_loop(), f"renewals with {_NUMBER}"
    async with recorded_renewals(env) as recorder:
        await until(lambda: _has_all(recorder), _LIMIT_SECONDS)
        table.add(f"{name}: begun before the measurement", len(recorder.renewals), "")
        await asyncio.sleep(start + _BEFORE_SECONDS - loop.time())
        first, before = len(recorder.renewals), env.usage()
        await asyncio.sleep(_SECONDS)
        renewals, used = recorder.renewals[first:], env.usage() - before
        table.add(f"{name}: more than a second overdue at the end", recorder.overdue(), "")
        table.add(f"{name}: connections to AWS", env.connections(), "", at_most=16)
        add_renewals(table, name, renewals, used, p99=1)
        table.add(f"{name}: peak memory", env.memory(peak=True), "MiB", at_most=900)
        await _scrape(env, table, recorder)
        await _wait_until_quiet(recorder)


async def _has_all(recorder: RenewalRecorder) -> bool:
    return recorder.first_issues >= _NUMBER


async def _scrape(env: Environment, table: Table, recorder: RenewalRecorder) -> None:
    """Measure what a scrape costs, and how late the renewals are meanwhile."""
    first, began = len(recorder.renewals), time.monotonic()
    async with aiohttp.ClientSession() as http, http.get(f"http://{env.operator.address}/metrics") as response:
        size = len(await response.read())
    table.add("scrape: duration", time.monotonic() - began, "s")
    table.add("scrape: size", size / 2**20, "MiB")
    await asyncio.sleep(5)
    late = sorted(renewal.late for renewal in recorder.renewals[first:])
    table.add("scrape: late, p99", quantile(late, 0.99), "s")
    table.add("scrape: peak memory", env.memory(peak=True), "MiB")


async def _wait_until_quiet(recorder: RenewalRecorder) -> None:
    """Wait until nothing has been renewed for a while, so that nothing is due after the restart."""
    before = -1
    async with asyncio.timeout(_LIMIT_SECONDS):
        while len(recorder.renewals) > before:
            before = len(recorder.renewals)
            await asyncio.sleep(_QUIET_SECONDS)


def _add_memory(env: Environment, table: Table, when: str) -> None:
    for process, mib in env.peak_memories().items():
        if process != "operator":
            table.add(f"{when}: peak memory of {process}", mib, "MiB")
    database = env.plane.directory / "etcd" / "member" / "snap" / "db"
    table.add(f"{when}: etcd's database", database.stat().st_size / 2**20, "MiB")


async def _report_progress(env: Environment) -> None:
    """Print what the run has reached, every half a minute. Raises MemoryError if the machine has little memory left."""
    began = last = time.monotonic()
    while True:
        await asyncio.sleep(1)
        if (available := usage.available_mib()) < _LEAST_MIB:
            raise MemoryError(f"only {available:.0f} MiB of memory are left; set a lower COUNT")
        if time.monotonic() - last < _PROGRESS_SECONDS:
            continue
        last = time.monotonic()
        memory = [f"{name} {usage.memory_mib(pid):.0f}" for name, pid in env.pids().items()]
        memory.append(f"left {available:.0f}")
        print(f"... {last - began:.0f} s, {env.aws.calls(OPERATION)} AWS calls, MiB: {', '.join(memory)}", flush=True)
