"""AWS is unavailable for ten minutes while 200 requests become due, in virtual time."""

import asyncio
import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.controller.controller import Controller
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue, run
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.core.service_health import ServiceHealth
from tests.support.api_server import ApiServer
from tests.support.dependencies import ASSUME_ROLE, NOW, FakeEnvironment, manifest
from tests.support.virtual_time import VirtualTime

NUMBER, WORKERS, NAMESPACES = 200, 3, 10
BEGINS, ENDS = 1000.0, 1600.0
LATENCY_SECONDS = 0.1
# All become due during the outage, or soon after it; the first expires with its end.
LIVES = range(1600, 2600, 5)
STS = "sts us-east-1"


@dataclass(frozen=True, slots=True)
class Renewal:
    """When it was, in seconds, and when the credentials before it end."""

    at: float
    ended: float


@dataclass(slots=True)
class Story:
    """The operator without its watches, and an AWS that is away for a while."""

    failing_takes: float
    service_health: ServiceHealth = field(default_factory=ServiceHealth)
    calls: list[float] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    renewals: list[Renewal] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    async def exchange(self, request: Request, _: StepSpec, values: PipelineValues) -> PipelineValues:
        """Give credentials that live as long as those before, and note it."""
        self.calls.append(self.seconds)
        if BEGINS <= self.seconds < ENDS:
            await asyncio.sleep(self.failing_takes)
            self.service_health.failed(STS)
            raise UnavailableError("Unreachable", "STS did not answer", service=STS)
        await asyncio.sleep(LATENCY_SECONDS)
        self.service_health.worked(STS, self.seconds)
        if request.name in self.ends:
            self.renewals.append(Renewal(self.seconds, self.ends[request.name]))
        life = LIVES[int(request.name)]
        self.ends[request.name] = self.seconds + life
        expires = self.now() + timedelta(seconds=life)
        return replace(values, credentials=Credentials("ASIA", "secret", "session", expires))

    async def tell(self, until: float) -> int:
        """Let it all happen, up to this second; returns how many have failed and not been renewed since."""
        server, work_queue, outside = ApiServer(), WorkQueue(WORKERS), FakeEnvironment()
        dice = itertools.cycle(number * 37 % 101 / 101 for number in range(101))
        store = SecretStore(server)
        deps = replace(outside.deps, store=store, exchange=self.exchange, now=self.now, rand=lambda: next(dice))
        controller = Controller(deps, store, work_queue, StatusWriter(server, self.now, "pod-1"))
        self.service_health.on_recovery(controller.on_service_recovered)
        for number in range(NUMBER):
            body = manifest(str(number), f"team-{number % NAMESPACES}", exchanges=[ASSUME_ROLE])
            namespace = body["metadata"]["namespace"]
            server.put(f"/api/v1/namespaces/{namespace}/secrets/license", data={"license_token": "cmVmcmVzaA=="})
            path = f"/apis/keyturn.dev/v1alpha1/namespaces/{namespace}/tokenrequests/{number}"
            server.put(path, metadata=body["metadata"])
            await controller.on_request(body, alive=True)
        running = asyncio.create_task(run(work_queue, controller.run_one, self.now, lambda: None))
        await asyncio.sleep(until)
        running.cancel()
        return sum(entry.state.failure is not None for entry in controller.index.entries.values())


@pytest.mark.parametrize(
    ("failing_takes", "calls", "in_flight"),
    [
        pytest.param(0.05, 12 * NUMBER, 1.0, id="refused at once"),
        pytest.param(10.0, NUMBER, 11.0, id="no answer for 10 s: every worker is in a call that hangs at its end"),
    ],
)
def test_after_an_outage_the_soonest_to_expire_go_first_and_none_is_lost(
    failing_takes: float, calls: int, in_flight: float
) -> None:
    story = Story(failing_takes)
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        left = runner.run(story.tell(ENDS + 15))
    after = [it for it in story.renewals if it.at >= ENDS]
    urgent = sorted(it.ended for it in after)[NUMBER // 10 - 1]

    assert sum(BEGINS <= at < ENDS for at in story.calls) <= calls
    assert left == 0
    assert len(after) > 0.9 * NUMBER
    assert sum(it.ended <= urgent for it in after[: NUMBER // 10]) >= 0.8 * NUMBER // 10
    assert [it for it in after if it.at > it.ended > ENDS + in_flight] == []
