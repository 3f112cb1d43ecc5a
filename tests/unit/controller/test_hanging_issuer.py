"""An issuer does not respond: its requests neither prevent renewals in their namespace nor are they Ready for long."""

import asyncio
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.controller.controller import Controller
from keyturn.controller.scope import ConflictReporter
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue, run
from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from tests.support.api_server import ApiServer
from tests.support.dependencies import ASSUME_ROLE, NOW, FakeEnvironment, manifest, unprepared
from tests.support.issuance_keys import KEYS
from tests.support.scope import FakeScope
from tests.support.virtual_time import VirtualTime

WORKERS, NUMBER, HEALTHY = 4, 44, 4
BEGINS, ENDS, HANGS = 60.0, 3000.0, 10.0


@dataclass(slots=True)
class Simulation:
    """The operator without watches, and an issuer of all but the last requests that stops responding.

    `ready` is for how many seconds after its expiry a request was reported as Ready, `expired` are those that expired.
    """

    ready: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    expired: set[str] = field(default_factory=set)
    expires_at: dict[str, datetime] = field(default_factory=dict)

    def now(self) -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    def since_expiry(self, name: str) -> float:
        return (self.now() - self.expires_at.get(name, self.now())).total_seconds()

    async def exchange(self, request: Request, _: StepSpec, values: PipelineValues) -> PipelineValues:
        number = int(request.name)
        if self.now() > NOW + timedelta(seconds=BEGINS) and number < NUMBER - HEALTHY:
            await asyncio.sleep(HANGS)
            raise UnavailableError("Unreachable", "the issuer did not respond", service="issuer.example")
        await asyncio.sleep(0.1)
        # They do not expire together, because that many attempts would take longer than a minute.
        self.expires_at[request.name] = expires = self.now() + timedelta(minutes=15, seconds=20 * number)
        return replace(values, credentials=Credentials("ASIA", "secret", "session", expires))

    async def observe(self, controller: Controller) -> None:
        while True:
            for entry in controller.index.entries.values():
                name, ready = entry.request.name, entry.status.condition("Ready")
                if self.since_expiry(name) > 0:
                    self.expired.add(name)
                if ready and ready.status == "True":
                    self.ready[name] = max(self.ready[name], self.since_expiry(name))
            await asyncio.sleep(1)

    async def run(self) -> None:
        server, work_queue, outside = ApiServer(), WorkQueue(WORKERS), FakeEnvironment()
        store = SecretStore(server, KEYS)
        deps = replace(outside.deps, store=store, prepare=unprepared(self.exchange), now=self.now, rand=lambda: 0.5)
        status_writer = StatusWriter(server, self.now, "pod-1")
        controller = Controller(deps, store, work_queue, status_writer, ConflictReporter(FakeScope(), status_writer))
        server.put("/api/v1/namespaces/billing/secrets/license", data={"license_token": "cmVmcmVzaA=="})
        for number in range(NUMBER):
            body = manifest(str(number), exchanges=[ASSUME_ROLE])
            path = f"/apis/keyturn.dev/v1alpha1/namespaces/billing/tokenrequests/{number}"
            server.put(path, metadata=body["metadata"])
            await controller.on_request(body, alive=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDS), asyncio.TaskGroup() as tasks:
                tasks.create_task(run(work_queue, controller.run_one, self.now, lambda _: None))
                tasks.create_task(self.observe(controller))


def test_hanging_requests_do_not_starve_others_of_the_namespace() -> None:
    """To attempt each of those that hang once takes longer than the longest pause between two attempts of one."""
    simulation = Simulation()
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(simulation.run())

    assert simulation.expired == {str(number) for number in range(NUMBER - HEALTHY)}
    assert max(simulation.ready.values()) < 60
