"""The environment of a measurement: a control plane, an AWS emulator, an operator and the TokenRequests."""

import asyncio
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.support.cluster.chart import RIGHTS, chart_objects
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, running_emulator
from tools.bench import usage as process_usage
from tools.bench.client import API, Client, run_all
from tools.bench.usage import Usage

OPERATION = "GetSessionToken"
_NAMESPACES = 10
_NOTHING: Mapping[str, Sequence[str]] = {}
T = TypeVar("T")
_SPEC = {
    "source": KEYS_SOURCE,
    "region": "us-east-1",
    "exchanges": [{"getSessionToken": {}}],
    "target": {"formats": [{"env": {}}]},
}


@dataclass(slots=True)
class Environment:
    """A fresh cluster and AWS. The operator runs with default flags and the chart's service account."""

    plane: ControlPlane
    aws: Emulator
    client: Client
    directory: Path
    stack: AsyncExitStack
    namespaces: int = _NAMESPACES
    _operator: Operator | None = None

    @property
    def operator(self) -> Operator:
        if self._operator is None:
            raise RuntimeError("the operator was not started")
        return self._operator

    def start_operator(self) -> None:
        """Start the operator for the first time; use `operator.start` to restart it."""
        self._operator = self.stack.enter_context(
            running_operator(
                self.plane,
                self.aws,
                self.directory,
                flags=("--log-level=info", "--log-format=text"),
                settings={"renewal": {}},
            )
        )

    async def create(self, numbers: Iterable[int]) -> None:
        """Create the TokenRequests with these numbers, 16 at a time."""
        await run_all(self.create_one(number) for number in numbers)

    async def create_one(self, number: int) -> None:
        """Create a TokenRequest; the numbers are spread over the namespaces."""
        await self.client.request("POST", collection(number, count=self.namespaces), token_request(number))

    async def wait_for_calls(self, count: int, seconds: float) -> None:
        """Wait until AWS has received this many calls."""

        async def has_calls() -> bool:
            return self.aws.calls(OPERATION) >= count

        await until(has_calls, seconds)

    async def wait_until_ready(self, seconds: float) -> list[dict[str, Any]]:
        """Wait until every TokenRequest is Ready, and list them."""

        async def ready() -> list[dict[str, Any]]:
            requests = await self.client.requests()
            return requests if all(is_ready(request) for request in requests) else []

        return await until(ready, seconds)

    def pids(self) -> dict[str, int]:
        """Return the processes whose CPU time is reported."""
        servers = {"API server": "kube-apiserver", "etcd": "etcd"}
        pids = {name: self.plane.pid(server) for name, server in servers.items()}
        running = self._operator and self._operator.process.poll() is None
        operator = {"operator": self.operator.process.pid} if running else {}
        return pids | operator | {"emulator": self.aws.pid}

    def usage(self, *, counts: bool = True) -> Usage:
        """Return the resources used so far, without the requests of this benchmark.

        Without `counts`, the API server and the emulator need not be asked, which costs them CPU.
        """
        cpu = {name: process_usage.cpu_seconds(pid) for name, pid in self.pids().items()}
        others = process_usage.machine_cpu_seconds() - process_usage.cpu_seconds(os.getpid()) - sum(cpu.values())
        if not counts:
            return Usage(time.monotonic(), cpu, others, Counter(), 0)
        requests = process_usage.api_requests(self.plane.metrics())
        requests.subtract(self.client.sent)
        return Usage(time.monotonic(), cpu, others, requests, self.aws.calls(OPERATION))

    def memory(self, *, peak: bool = False) -> float:
        """Return the operator's memory in MiB."""
        return process_usage.memory_mib(self.operator.process.pid, peak=peak)

    def peak_memories(self) -> dict[str, float]:
        """Return the peak memory in MiB of each process so far."""
        pids = self.pids() | {"controller manager": self.plane.pid("kube-controller-manager")}
        return {name: process_usage.memory_mib(pid, peak=True) for name, pid in pids.items()}

    def connections(self) -> int:
        """Count the open connections to the emulator."""
        return process_usage.connections(int(self.aws.url.rpartition(":")[2]))


@asynccontextmanager
async def running_environment(
    count: int = _NAMESPACES, flags: Mapping[str, Sequence[str]] = _NOTHING
) -> AsyncIterator[Environment]:
    """Start a fresh environment with `count` namespaces, and stop it at the end; `flags` are those of its servers."""
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyturn-bench-")))
        (directory / "plane").mkdir()
        plane = stack.enter_context(ControlPlane.started(directory / "plane", flags))
        aws = stack.enter_context(running_emulator())
        plane.kubectl("create", "namespace", "keyturn")
        plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=RIGHTS))
        plane.kubectl("wait", "--for=condition=Established", "crd/tokenrequests.keyturn.dev", "--timeout=30s")
        plane.kubectl("create", "-f", "-", stdin=json.dumps(namespaces("bench", count)))
        # Before that, the collector reads the owner of each new Secret, which would count as the operator's request.
        await until(lambda: _collector_watches(plane), 60)
        client = await stack.enter_async_context(Client.connect(plane.kubeconfig))
        yield Environment(plane, aws, client, directory, stack, count)


def namespaces(prefix: str, count: int = _NAMESPACES) -> dict[str, Any]:
    """Return namespaces that contain a Secret with AWS keys."""
    names = [f"{prefix}-{number}" for number in range(count)]
    about = {"apiVersion": "v1"}
    items = [about | {"kind": "Namespace", "metadata": {"name": name}} for name in names]
    keys = about | {"kind": "Secret", "stringData": USER_KEYS}
    items += [keys | {"metadata": {"name": "keys", "namespace": name}} for name in names]
    return about | {"kind": "List", "items": items}


def token_request(number: int) -> dict[str, Any]:
    """Return the measured TokenRequest: static keys, one getSessionToken, format env."""
    about = {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequest"}
    return about | {"metadata": {"name": f"request-{number:05}"}, "spec": _SPEC}


def collection(number: int, prefix: str = "bench", count: int = _NAMESPACES) -> str:
    """Return the path at which a TokenRequest is created."""
    return f"{API}/namespaces/{prefix}-{number % count}/tokenrequests"


def is_ready(request: dict[str, Any]) -> bool:
    """Whether a TokenRequest is Ready."""
    conditions = request.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def _collector_watches(plane: ControlPlane) -> bool:
    """Whether the garbage collector watches TokenRequests: it discovers new kinds every 30 s."""
    watches = re.findall(
        r'^apiserver_longrunning_requests\{.*resource="tokenrequests".* (\d+)$', plane.metrics(), re.MULTILINE
    )
    return sum(map(int, watches)) > 0


async def until(condition: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Wait until the condition is true, and return its value."""
    async with asyncio.timeout(seconds):
        while not (value := await condition()):  # noqa: ASYNC110 - other processes have no event to wait for
            await asyncio.sleep(0.1)
        return value
