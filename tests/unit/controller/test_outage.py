"""Simulates ten minutes without AWS while 200 requests become due."""

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.controller.controller import Controller
from keyturn.controller.scope import ConflictReporter
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue, run
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.core.service_health import ServiceHealth
from tests.support.api_server import ApiServer
from tests.support.dependencies import ASSUME_ROLE, NOW, FakeEnvironment, manifest, unprepared
from tests.support.issuance_keys import KEYS
from tests.support.scope import FakeScope
from tests.support.virtual_time import VirtualTime

NUMBER, WORKERS, NAMESPACES = 200, 4, 10
BEGINS, ENDS = 1000.0, 1600.0
LATENCY_SECONDS = 0.1
# All requests become due during the outage or soon after it; the first expires when it ends.
LIVES = range(1600, 2600, 5)
STS = "sts us-east-1"


@dataclass(frozen=True, slots=True)
class Renewal:
    """When a renewal happened, and when the previous credentials expire, in seconds."""

    at: float
    previous_expires: float


@dataclass(slots=True)
class Simulation:
    """The operator without watches, and AWS with an outage."""

    failure_seconds: float
    service_health: ServiceHealth = field(default_factory=ServiceHealth)
    calls: list[float] = field(default_factory=list)
    expires_at: dict[str, float] = field(default_factory=dict)
    renewals: list[Renewal] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    async def exchange(self, request: Request, _: StepSpec, values: PipelineValues) -> PipelineValues:
        """Issue credentials with the same lifetime as the previous ones, and record the renewal."""
        self.calls.append(self.seconds)
        if BEGINS <= self.seconds < ENDS:
            await asyncio.sleep(self.failure_seconds)
            self.service_health.failed(STS)
            raise UnavailableError("Unreachable", "STS did not respond", service=STS)
        await asyncio.sleep(LATENCY_SECONDS)
        self.service_health.worked(STS, self.seconds)
        if request.name in self.expires_at:
            self.renewals.append(Renewal(self.seconds, self.expires_at[request.name]))
        lifetime = LIVES[int(request.name)]
        self.expires_at[request.name] = self.seconds + lifetime
        expires = self.now() + timedelta(seconds=lifetime)
        return replace(values, credentials=Credentials("ASIA", "secret", "session", expires))

    async def run(self, until: float) -> int:
        """Run until this second; return how many requests have failed and not been renewed since."""
        server, work_queue, outside = ApiServer(), WorkQueue(WORKERS), FakeEnvironment()
        rand = itertools.cycle(number * 37 % 101 / 101 for number in range(101))
        store = SecretStore(server, KEYS)
        deps = replace(
            outside.deps, store=store, prepare=unprepared(self.exchange), now=self.now, rand=lambda: next(rand)
        )
        status_writer = StatusWriter(server, self.now, "pod-1")
        controller = Controller(deps, store, work_queue, status_writer, ConflictReporter(FakeScope(), status_writer))
        self.service_health.on_recovery(controller.on_service_recovered)
        for number in range(NUMBER):
            body = manifest(str(number), f"team-{number % NAMESPACES}", exchanges=[ASSUME_ROLE])
            namespace = body["metadata"]["namespace"]
            server.put(f"/api/v1/namespaces/{namespace}/secrets/license", data={"license_token": "cmVmcmVzaA=="})
            path = f"/apis/keyturn.dev/v1alpha1/namespaces/{namespace}/tokenrequests/{number}"
            server.put(path, metadata=body["metadata"])
            await controller.on_request(body, alive=True)
        running = asyncio.gather(
            run(work_queue, controller.run_one, self.now, lambda _: None), controller.batches.run()
        )
        await asyncio.sleep(until)
        running.cancel()
        return sum(entry.state.failure is not None for entry in controller.index.entries.values())


@pytest.mark.parametrize(
    ("failure_seconds", "calls", "in_flight", "first"),
    [
        pytest.param(0.05, 12 * NUMBER, 1.0, NUMBER // 10, id="fails immediately"),
        # Most namespaces have a call in progress, which must end first, in any order. So the first renewals are random.
        pytest.param(10.0, 3 * NUMBER, 11.0, NUMBER // 2, id="hangs for 10 s: every worker is busy when it ends"),
    ],
)
def test_recovery_renews_the_soonest_to_expire_first_and_loses_none(
    failure_seconds: float, calls: int, in_flight: float, first: int
) -> None:
    simulation = Simulation(failure_seconds)
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        failed = runner.run(simulation.run(ENDS + 15))
    after = [renewal for renewal in simulation.renewals if renewal.at >= ENDS]
    urgent = sorted(renewal.previous_expires for renewal in after)[first - 1]

    assert sum(BEGINS <= at < ENDS for at in simulation.calls) <= calls
    assert failed == 0
    assert len(after) > 0.9 * NUMBER
    assert sum(renewal.previous_expires <= urgent for renewal in after[:first]) > 0.6 * first
    assert [renewal for renewal in after if renewal.at > renewal.previous_expires > ENDS + in_flight] == []
