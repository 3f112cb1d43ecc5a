"""The faults: four groups at the same time, in each group one fault after another with random pauses."""

import asyncio
import os
import random  # noqa: TID251 - a seed makes the order of the faults repeatable
import signal
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import aiohttp

from tools.bench.client import MERGE
from tools.soak.journal import Journal
from tools.soak.scenario import Scenario

_LEASE = "/apis/coordination.k8s.io/v1/namespaces/keyturn/leases/keyturn"
_LOST = "the Lease could not be renewed in time"
_AWS = ("GetSessionToken", "GetAccessToken", "AssumeRoleWithWebIdentity")
_AWS_FAULTS: tuple[dict[str, Any], ...] = (
    {"code": "ThrottlingException"}, {"code": "InternalFailure", "status": 500}, {"status": 503, "body": "html"},
    {"drop": "before"}, {"drop": "after"}, {"delay_seconds": 15}, {"body": "empty"},
)  # fmt: skip
# When the issuer hangs, it has not consumed the token yet: otherwise its late response would count as lost.
_ISSUER_FAULTS: tuple[dict[str, Any], ...] = (
    {"code": "slow_down", "status": 429}, {"code": "temporarily_unavailable", "status": 503}, {"drop": "after"},
    {"status": 500, "body": "html"}, {"drop": "before"}, {"drop": "before", "delay_seconds": 15}, {"delay_seconds": 3},
)  # fmt: skip
_BROKEN = ('{"kind": "Sec', "<html>", "[]", "null", "[" * 2000)
_REQUESTS = ("watch=true", "GET .*tokenrequests", "PATCH .*secrets", "PATCH .*status", "leases", ".")


async def _kill(scenario: Scenario, rand: random.Random) -> None:
    operator = rand.choice(scenario.operators)
    await asyncio.to_thread(operator.kill)
    await asyncio.sleep(rand.uniform(0, 5))
    await asyncio.to_thread(operator.start)


async def _freeze(send_signal: Callable[[int], None], seconds: float) -> None:
    send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        send_signal(signal.SIGCONT)


async def _break_json(scenario: Scenario, rand: random.Random) -> None:
    scenario.proxy.add_fault(rand.choice(_REQUESTS), 200, rand.choice(_BROKEN))
    scenario.proxy.drop_watches()
    await asyncio.sleep(rand.uniform(1, 8))
    scenario.proxy.clear_faults()


async def _restore_source(scenario: Scenario, rand: random.Random) -> None:
    """Delete a source and restore the user's last version, as GitOps does: its token was consumed long ago."""
    source = rand.choice(scenario.sources)
    try:
        await scenario.send("DELETE", source.path)
        await asyncio.sleep(rand.uniform(0, 3))
    finally:
        # Even if the response was lost: the API server may have deleted the source.
        await scenario.put(source)


# The mean pause of each group in seconds, and its faults. A process is frozen for less time than it takes until another
# operator's final attempt, because that may consume the token of a process that is alive.
_GROUPS: dict[str, tuple[float, dict[str, Callable[[Scenario, random.Random], Coroutine[Any, Any, object]]]]] = {
    "processes": (25, {
        "operator killed": _kill,
        "operator frozen": lambda it, rand: _freeze(rand.choice(it.operators).process.send_signal, rand.uniform(1, 25)),
        "Lease stolen": lambda it, _: it.send("PATCH", _LEASE, {"spec": {"holderIdentity": "thief"}}, MERGE),
    }),
    "server": (20, {
        "API server frozen": lambda it, rand: _freeze(
            partial(os.kill, it.env.plane.pid("kube-apiserver")), rand.uniform(1, 8)
        ),
        "etcd restarted": lambda it, _: asyncio.to_thread(it.env.plane.restart, "etcd"),
        "watches cut": lambda it, _: asyncio.to_thread(it.proxy.drop_watches),
        "broken JSON": _break_json,
    }),
    "remote": (6, {
        "AWS": lambda it, rand: asyncio.to_thread(
            it.aws.fault, rand.choice(_AWS), times=rand.randint(1, 4), **rand.choice(_AWS_FAULTS)
        ),
        "issuer": lambda it, rand: asyncio.to_thread(it.aws.fault, "oauth:token", **rand.choice(_ISSUER_FAULTS)),
    }),
    "secrets": (8, {
        "target edited": lambda it, rand: it.send("PATCH", rand.choice(it.targets), {"data": {"added": ""}}, MERGE),
        "target deleted": lambda it, rand: it.send("DELETE", rand.choice(it.targets)),
        "source restored": _restore_source,
    }),
}  # fmt: skip


async def inject(scenario: Scenario, journal: Journal, seed: str, seconds: float, *groups: str) -> None:
    """Inject the faults of these groups (by default all) for `seconds`. A fault that has begun ends by itself."""
    end = asyncio.get_running_loop().time() + seconds

    async def repeat(group: str) -> None:
        rand = random.Random(f"{seed} {group}")  # noqa: S311 - not for secrets
        pause, faults = _GROUPS[group]
        while (delay := rand.uniform(0.5, 1.5) * pause) < end - asyncio.get_running_loop().time():
            await asyncio.sleep(delay)
            kind = rand.choice([*faults])
            async with scenario.processes if group == "processes" else nullcontext():
                with suppress(aiohttp.ClientError, TimeoutError), journal.fault(kind, stops_writes=group == "server"):
                    await faults[kind](scenario, rand)

    async with asyncio.TaskGroup() as tasks:
        for group in groups or _GROUPS:
            tasks.create_task(repeat(group))


async def restart_ended(scenario: Scenario, journal: Journal) -> None:
    """Restart operators that have exited, as the kubelet does, until cancelled. Only a lost Lease permits an exit."""
    while True:
        async with scenario.processes:
            for operator in scenario.operators:
                if (code := operator.process.poll()) is not None:
                    if _LOST not in operator.log()[-3000:]:
                        journal.add_violation(f"an operator exited with status {code}: {operator.log()[-500:]}")
                    journal.restarts += 1
                    await asyncio.to_thread(operator.start)
        await asyncio.sleep(0.5)
