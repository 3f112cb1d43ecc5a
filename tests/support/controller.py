"""Controller, work queue and Secret store against an in-memory API server."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keyturn.api.exchanges.registry import StepSpec
from keyturn.controller.controller import Controller
from keyturn.controller.scope import ConflictReporter
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.issuance import IssuanceKeys
from keyturn.core.pipeline_values import PipelineValues
from tests.support.api_server import ApiServer
from tests.support.dependencies import FakeEnvironment, Issuer, manifest
from tests.support.issuance_keys import KEYS
from tests.support.scope import FakeScope
from tests.support.secret_store import SOURCE, TOKEN_REQUEST


@dataclass(slots=True)
class Operator:
    """An operator without watches: tests deliver the events."""

    server: ApiServer = field(default_factory=ApiServer)
    outside: FakeEnvironment = field(default_factory=FakeEnvironment)
    keys: IssuanceKeys = KEYS
    scope: FakeScope = field(default_factory=FakeScope)
    controller: Controller = field(init=False)
    work_queue: WorkQueue = field(init=False)
    store: SecretStore = field(init=False)

    def __post_init__(self) -> None:
        self.server.put(SOURCE, data={"license_token": "cmVmcmVzaA=="})
        self.start()

    def start(self, *, watched: bool = True) -> None:
        """Start a new process: nothing in memory survives."""
        self.work_queue = WorkQueue(4)
        self.store = SecretStore(self.server, self.keys, self.outside.monotonic, watched=watched)
        deps = replace(self.outside.deps, store=self.store)
        status_writer = StatusWriter(self.server, deps.now, "pod-1")
        conflict_reporter = ConflictReporter(self.scope, status_writer)
        self.controller = Controller(deps, self.store, self.work_queue, status_writer, conflict_reporter)

    @property
    def aws(self) -> Issuer:
        return self.outside.aws

    async def deliver(self, *, alive: bool = True, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Deliver a watch event for the TokenRequest; a changed `spec` has generation 2."""
        body = manifest(**spec)
        body["metadata"] |= {"generation": 2 if spec else 1, "annotations": annotations or {}}
        status = self.server.objects.get(TOKEN_REQUEST, {}).get("status")
        version = self.server.put(TOKEN_REQUEST, metadata=body["metadata"]).resource_version
        body["metadata"]["resourceVersion"] = version
        await self.controller.on_request(body | ({"status": status} if status else {}), alive=alive)

    async def reconcile_due(self, until: datetime | None = None) -> int:
        """Reconcile all due requests; return the number of reconciliations."""
        self.outside.now, reconciliations = until or self.outside.now, 0
        while uid := self.work_queue.get(self.outside.now):
            await self.controller.run_one(uid)
            self.work_queue.done(uid)
            reconciliations += 1
        return reconciliations

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.server.objects[TOKEN_REQUEST]["status"]
        return status


async def issued(*, watched: bool = True) -> Operator:
    operator = Operator()
    operator.start(watched=watched)
    await operator.deliver()
    await operator.reconcile_due()
    operator.server.requests.clear()
    operator.aws.calls.clear()
    return operator


class ChangesFirst(Issuer):
    """Changes the TokenRequest during the first exchange, which succeeds."""

    def __init__(self, change: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.changes = [change]

    async def exchange(self, step: StepSpec, values: PipelineValues, now: datetime) -> PipelineValues:
        if self.changes:
            await self.changes.pop()()
        return await super().exchange(step, values, now)
