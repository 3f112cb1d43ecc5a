"""New requests until all are Ready, restarts, and what an operator costs that has nothing to do."""

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from keyturn.api.token_request import Status
from tests.support.controlplane import die_with_parent
from tests.support.emulator.constants import USER_KEY_ID, USER_SECRET_KEY
from tools.bench import usage
from tools.bench.client import all_of
from tools.bench.ground import OPERATION, Ground, collection, namespaces, token_request, until
from tools.bench.table import Table
from tools.bench.usage import Usage

_QUIET_SHARE = 0.05  # of a core, over a second
_IDLE_SECONDS = 60
_SECONDS = {1000: 10, 10000: 90}
_MIB = {10000: 200}
_LIMIT_SECONDS = 900


async def nothing(on: Ground, table: Table) -> None:
    """An operator without any request."""
    on.start_operator()
    await _quiet(on)
    table.add("idle: operator memory", on.memory(), "MiB")


async def converge_100(on: Ground, table: Table) -> None:
    await _converge(on, table, 100)


async def converge_1000(on: Ground, table: Table) -> None:
    """A thousand, and the same work by the raw loop."""
    used = await _converge(on, table, 1000)
    requests = used.of_single_objects
    for what, number in sorted(requests.items()):
        if number >= 10:
            table.add(f"first issue: {what}", number / 1000, "each")
    table.add("first issue: API requests", round(requests.total() / 1000, 1), "each", at_most=4)
    table.add("first issue: AWS calls", used.calls / 1000, "each", exactly=1)
    rehearses = requests["APPLY secrets dry run"] > 500
    on.operator.stop()
    raw = await _raw(on, rehearses=rehearses)
    table.add("converge 1000: raw loop", raw, "s")
    table.add("converge 1000: times the raw loop", used.at / raw, "", at_most=1.5)


async def restart_1000(on: Ground, table: Table) -> None:
    await _issued(on, 1000)
    await _restart(on, table, 1000, seconds=2, mib=110)


async def ten_thousand(on: Ground, table: Table) -> None:
    """Ten thousand: converge, idle, restart."""
    await _converge(on, table, 10000)
    await _quiet(on)
    table.add("idle with 10000: operator memory", on.memory(), "MiB")
    before = usage.cpu_seconds(on.operator.process.pid)
    await asyncio.sleep(_IDLE_SECONDS)
    spent = usage.cpu_seconds(on.operator.process.pid) - before
    table.add("idle with 10000: operator CPU", spent / _IDLE_SECONDS * 100, "% of core", at_most=1)
    await _restart(on, table, 10000, seconds=10, mib=200)


async def _issued(on: Ground, number: int) -> Usage:
    """Create first, then start the operator; what was used from its exec to the last Ready."""
    await on.create(range(number))
    before = on.used()
    on.start_operator()
    await on.called(number, _LIMIT_SECONDS)
    await on.all_ready(_LIMIT_SECONDS)
    return on.used() - before


async def _converge(on: Ground, table: Table, number: int) -> Usage:
    used = await _issued(on, number)
    name = f"converge {number}"
    table.add(f"{name}: to the last Ready", used.at, "s", at_most=_SECONDS.get(number))
    table.add_cpu(name, used, number)
    table.add(f"{name}: peak memory", on.memory(peak=True), "MiB", at_most=_MIB.get(number))
    table.add(f"{name}: connections to AWS", on.connections(), "", at_most=16)
    return used


async def _restart(on: Ground, table: Table, number: int, *, seconds: float, mib: float) -> None:
    """Stop as Kubernetes does and start again: nothing is due, so nothing may be exchanged or written."""
    on.operator.stop()
    await asyncio.sleep(1)
    before = on.used()
    started = time.monotonic()
    on.operator.start()
    quiet = await _quiet(on) - started
    used, name = on.used() - before, f"restart with {number}"
    table.add(f"{name}: leading and quiet after", quiet, "s", at_most=seconds)
    table.add(f"{name}: AWS calls", used.calls, "", exactly=0)
    table.add(f"{name}: reads and writes of single objects", used.of_single_objects.total(), "", exactly=0)
    table.add(f"{name}: lists and watches", used.requests.total() - used.of_single_objects.total(), "")
    table.add(f"{name}: peak memory", on.memory(peak=True), "MiB", at_most=mib)


async def _quiet(on: Ground) -> float:
    """Wait until the operator holds the Lease and has had nothing to do for a second; returns since when."""
    await until(lambda: _holds_lease(on), 60)
    pid = on.operator.process.pid
    marks = [(time.monotonic(), usage.cpu_seconds(pid))]
    async with asyncio.timeout(_LIMIT_SECONDS):
        while True:
            await asyncio.sleep(0.05)
            marks.append((time.monotonic(), usage.cpu_seconds(pid)))
            while marks[-1][0] - marks[0][0] > 1:
                since, spent = marks.pop(0)
                if marks[-1][1] - spent <= _QUIET_SHARE:
                    return since


async def _holds_lease(on: Ground) -> bool:
    return "this process holds the Lease" in on.operator.log().rpartition("listening on")[2]


async def _raw(on: Ground, *, rehearses: bool) -> float:
    """Time the raw loop on as many new requests, with bodies like those of the operator's first one."""
    sample = (await on.client.requests())[0]
    on.plane.kubectl("create", "-f", "-", stdin=json.dumps(namespaces("raw")))
    places: list[tuple[str, str, str]] = []

    async def create(number: int) -> None:
        made = await on.client.ask("POST", collection(number, "raw"), token_request(number))
        places.append((made["metadata"]["namespace"], made["metadata"]["name"], made["metadata"]["uid"]))

    await all_of(create(number) for number in range(1000))
    told = await _bodies(on, sample) | {
        "kubeconfig": str(on.plane.service_account_kubeconfig("keyturn", "keyturn")),
        "aws": on.aws.url,
        "key_id": USER_KEY_ID,
        "secret_key": USER_SECRET_KEY,
        "rehearses": rehearses,
        "places": places,
    }
    called, started = on.aws.calls(OPERATION), time.monotonic()
    command = die_with_parent([sys.executable, "-m", "tools.bench.raw"])
    subprocess.run(command, input=json.dumps(told), text=True, check=True, timeout=_LIMIT_SECONDS)  # noqa: ASYNC221
    spent = time.monotonic() - started
    if on.aws.calls(OPERATION) - called != len(places):
        raise RuntimeError("the raw loop did not do the same work")
    return spent


async def _bodies(on: Ground, sample: dict[str, Any]) -> dict[str, Any]:
    """What the operator sent for one request, with its name and uid left open."""
    meta = sample["metadata"]
    core = f"/api/v1/namespaces/{meta['namespace']}"
    secret = await on.client.ask("GET", f"{core}/secrets/{meta['name']}")
    about = f"involvedObject.name={meta['name']}"
    event = (await on.client.ask("GET", f"{core}/events?fieldSelector={about}"))["items"][0]
    told = ("labels", "annotations", "ownerReferences")
    bodies = {
        "secret": {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": meta["name"], **{key: secret["metadata"][key] for key in told}},
            "data": secret["data"],
        },
        "status": {
            "metadata": {"uid": meta["uid"]},
            "status": {key: sample["status"].get(key) for key in Status.__struct_encode_fields__},
        },
        "event": {key: value for key, value in event.items() if key not in ("metadata", "apiVersion", "kind")}
        | {"metadata": {"generateName": f"{meta['name']}."}},
    }
    text = json.dumps(bodies).replace(meta["uid"], "SAMPLE-UID").replace(meta["name"], "SAMPLE-NAME")
    opened: dict[str, Any] = json.loads(text)
    return opened
