import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import RENEW_REQUESTED
from keyturn.controller.api_client import ApiResponse
from keyturn.controller.controller import Controller
from keyturn.controller.secret_store import SecretStore
from keyturn.controller.status_writer import StatusWriter
from keyturn.controller.work_queue import WorkQueue
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues
from tests.support.api_server import ApiServer
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, Issuer, Outside, manifest
from tests.unit.controller.test_secret_store import SOURCE, TARGET, TOKEN_REQUEST


@dataclass(slots=True)
class Operator:
    """An operator without its watches: a test tells it what they would show."""

    server: ApiServer = field(default_factory=ApiServer)
    outside: Outside = field(default_factory=Outside)
    controller: Controller = field(init=False)
    work_queue: WorkQueue = field(init=False)
    store: SecretStore = field(init=False)

    def __post_init__(self) -> None:
        self.server.put(SOURCE, data={"license_token": "cmVmcmVzaA=="})
        self.start()

    def start(self, *, watched: bool = True) -> None:
        """Start anew: all that a process knows is forgotten."""
        self.work_queue, self.store = WorkQueue(4), SecretStore(self.server, watched=watched)
        deps = replace(self.outside.deps, store=self.store)
        self.controller = Controller(deps, self.store, self.work_queue, StatusWriter(self.server, deps.now, "pod-1"))

    @property
    def aws(self) -> Issuer:
        return self.outside.aws

    async def see(self, *, alive: bool = True, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """The watch shows the TokenRequest; another spec is another generation."""
        body = manifest(**spec)
        body["metadata"] |= {"generation": 2 if spec else 1, "annotations": annotations or {}}
        status = self.server.objects.get(TOKEN_REQUEST, {}).get("status")
        self.server.put(TOKEN_REQUEST, metadata=body["metadata"])
        await self.controller.on_request(body | ({"status": status} if status else {}), alive=alive)

    async def work(self, until: datetime | None = None) -> int:
        """Look at all that is due; returns how many looks that were."""
        self.outside.now, reconciliations = until or self.outside.now, 0
        while uid := self.work_queue.get(self.outside.now):
            await self.controller.run_one(uid)
            self.work_queue.done(uid)
            reconciliations += 1
        return reconciliations

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.objects[TOKEN_REQUEST]["status"]
        return found


async def issued(*, watched: bool = True) -> Operator:
    operator = Operator()
    operator.start(watched=watched)
    await operator.see()
    await operator.work()
    operator.server.asked.clear()
    operator.aws.calls.clear()
    return operator


async def test_a_new_request_is_looked_at_at_once_and_told() -> None:
    operator = Operator()
    await operator.see()

    assert await operator.work() == 1
    assert (operator.status()["conditions"][0]["reason"], operator.work_queue.next_due()) == (
        "Issued",
        NOW + 40 * MINUTE,
    )
    assert operator.server.count("POST") == 1


async def test_a_routine_renewal_is_one_write_of_the_secret_and_one_of_the_status() -> None:
    operator = await issued()
    await operator.work(NOW + 40 * MINUTE)

    assert operator.server.asked == [f"GET {SOURCE}", f"PATCH {TARGET}", f"PATCH {TOKEN_REQUEST}"]
    assert operator.status()["revision"] == 2


async def test_a_restart_reads_and_writes_nothing() -> None:
    operator = await issued()
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.see()

    assert (await operator.work(), operator.server.asked, operator.aws.calls) == (0, [], [])
    assert operator.work_queue.next_due() == NOW + 40 * MINUTE


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"data": {"AWS_REGION": "eA=="}}, id="edited while nobody looked"),
        pytest.param({"metadata": {"annotations": {"keyturn.dev/issuance": "{}"}}}, id="its marks edited"),
    ],
)
async def test_after_a_restart_a_secret_that_was_touched_is_looked_at(edit: dict[str, Any]) -> None:
    operator = await issued()
    operator.server.put(TARGET, **edit)
    operator.start()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.see()

    assert await operator.work() == 1
    assert len(operator.aws.calls) == 2


async def test_after_a_restart_a_secret_without_its_label_costs_no_exchange() -> None:
    operator = await issued()
    operator.start()
    await operator.see()
    await operator.work()

    assert operator.aws.calls == []
    assert operator.status()["conditions"][0]["status"] == "True"


async def test_after_a_restart_the_next_try_keeps_its_time() -> None:
    operator = Operator()
    operator.outside.rand = 0.9
    operator.aws.failures = [UnavailableError("Unreachable", "no answer")]
    await operator.see()
    await operator.work()
    due = operator.work_queue.next_due()
    operator.start()
    await operator.see()

    assert operator.work_queue.next_due() == due == NOW + 4 * SECOND


async def test_a_status_of_our_own_is_no_news() -> None:
    operator = await issued()
    await operator.see()

    assert await operator.work() == 0


async def test_a_change_of_the_spec_is_looked_at_at_once() -> None:
    operator = await issued()
    await operator.see(region="eu-west-1")
    await operator.work(NOW + MINUTE)

    assert operator.status()["conditions"][1]["message"].startswith("issued because of SpecChanged")
    assert operator.status()["observedGeneration"] == 2


async def test_a_renewal_that_is_asked_for_is_looked_at_at_once() -> None:
    operator = await issued()
    await operator.see(annotations={RENEW_REQUESTED: "now"})
    await operator.work(NOW + MINUTE)

    assert (operator.status()["revision"], operator.status()["lastHandledRenewRequest"]) == (2, "now")


async def test_an_edited_secret_is_healed() -> None:
    operator = await issued()
    meta = operator.server.put(TARGET, data={"AWS_REGION": "eA=="})
    operator.controller.on_secret(meta, alive=True)
    await operator.work(NOW + SECOND)

    assert operator.status()["conditions"][1]["reason"] == "DriftCorrected"


async def edit_the_secret(operator: Operator, number: int) -> None:
    meta = operator.server.put(TARGET, metadata={"labels": {"note": str(number)}})
    operator.controller.on_secret(meta, alive=True)


async def edit_the_spec(operator: Operator, number: int) -> None:
    body = manifest(region=f"eu-west-{number}")
    body["metadata"]["generation"] = 2 + number
    await operator.controller.on_request(body, alive=True)


@pytest.mark.parametrize("edit", [edit_the_secret, edit_the_spec])
async def test_edits_in_a_loop_are_looked_at_once_a_second(
    edit: Callable[[Operator, int], Awaitable[None]],
) -> None:
    operator = await issued()
    reconciliations = 0
    for tenth in range(20):
        await edit(operator, tenth)
        reconciliations += await operator.work(NOW + tenth * SECOND / 10)

    assert reconciliations == 1


async def test_suspended_without_our_label_it_is_not_read_again_and_again() -> None:
    operator = await issued()
    await operator.see(suspend=True)
    meta = operator.server.put(TARGET, metadata={"labels": {"app.kubernetes.io/managed-by": "Helm"}})
    operator.controller.on_secret(meta, alive=False)
    await operator.work(NOW + SECOND)

    assert await operator.work(NOW + MINUTE) == 0


async def test_a_spec_that_cannot_be_read_is_told_until_it_is_told() -> None:
    operator = Operator()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = UnavailableError("Unreachable", "away")
    await operator.see(region="-")
    await operator.work()
    operator.server.responses.clear()
    await operator.work(NOW + 10 * SECOND)

    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"


async def test_the_echo_of_our_own_write_is_not_looked_at() -> None:
    operator = await issued()
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)

    assert await operator.work() == 0


async def test_a_labelled_source_that_changed_is_looked_at() -> None:
    operator = await issued()
    meta = operator.server.put(SOURCE, data={"license_token": "bmV3"})
    operator.controller.on_source_secret(meta, _alive=True)
    await operator.work(NOW + MINUTE)

    assert operator.status()["revision"] == 2


async def test_a_deleted_request_leaves_the_agenda() -> None:
    operator = await issued()
    await operator.see(alive=False)

    assert (operator.work_queue.next_due(), list(operator.controller.index.series())) == (None, [])


@pytest.mark.parametrize(
    ("uids", "namespace", "left"),
    [
        pytest.param({"acme-0001"}, "", 1, id="it is listed"),
        pytest.param({"other"}, "", 0, id="another is listed"),
        pytest.param(set(), "billing", 0, id="its namespace is empty"),
        pytest.param(set(), "elsewhere", 1, id="the list is of another namespace"),
    ],
)
async def test_who_is_listed_no_more_leaves_the_agenda(uids: set[str], namespace: str, left: int) -> None:
    operator = await issued()
    operator.controller.on_request_list(uids, namespace)

    assert (operator.work_queue.counts()["delayed"], len(operator.controller.index.entries)) == (left, left)


async def test_a_spec_that_cannot_be_read_is_told_once_and_not_looked_at() -> None:
    operator = Operator()
    for _ in range(2):
        await operator.see(region="-")
        await operator.work()

    assert operator.server.count("PATCH") == 1
    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"
    assert await operator.work(NOW + 24 * HOUR) == 0


async def listed_no_more(operator: Operator) -> None:
    operator.controller.on_request_list(set(), "billing")


@pytest.mark.parametrize(
    "ends",
    [
        pytest.param(lambda operator: operator.see(), id="mended"),
        pytest.param(lambda operator: operator.see(alive=False), id="deleted"),
        pytest.param(listed_no_more, id="deleted unseen"),
    ],
)
async def test_a_spec_that_cannot_be_read_is_exported_while_it_is_so(
    ends: Callable[[Operator], Awaitable[None]],
) -> None:
    operator = Operator()
    await operator.see(region="-")
    await operator.work()
    (series,) = operator.controller.index.series()
    await ends(operator)
    await operator.work()
    after = [one.conditions for one in operator.controller.index.series()]

    assert (series.namespace, series.name, ("Stalled", "True") in series.conditions) == ("billing", "acme", True)
    assert [conditions for conditions in after if ("Stalled", "True") in conditions] == []


async def test_a_status_that_cannot_be_told_is_told_later() -> None:
    operator = Operator()
    await operator.see()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = ApiResponse(403, {"message": "no"})
    await operator.work()
    operator.server.responses.clear()
    await operator.work(NOW + 10 * SECOND)

    assert (operator.status()["revision"], len(operator.aws.calls)) == (1, 2)


async def test_a_bug_that_one_request_meets_is_met_again_later_without_an_end() -> None:
    operator = Operator()
    operator.server.responses[f"GET {SOURCE}"] = ZeroDivisionError("planted")
    await operator.see()

    assert await operator.work() == 1
    assert operator.work_queue.next_due()


async def test_a_request_that_went_during_its_look_does_not_come_back() -> None:
    operator = await issued()
    del operator.server.objects[TOKEN_REQUEST]
    await operator.work(NOW + HOUR)
    await operator.see(alive=False)

    assert operator.work_queue.next_due() is None


def away(system: str) -> UnavailableError:
    return UnavailableError("Unreachable", f"{system} did not answer", service=system)


@pytest.mark.parametrize(
    ("failure", "system", "reconciliations"),
    [
        pytest.param(away("sts"), "sts", 1, id="what it waits for works again"),
        pytest.param(away("sts"), "other", 0, id="something else works again"),
        pytest.param(RefusedError("AccessDenied", "no"), "sts", 0, id="it waits for a person"),
    ],
)
async def test_when_an_outage_is_over_who_waits_is_looked_at_at_once(
    failure: KeyturnError, system: str, reconciliations: int
) -> None:
    operator = Operator()
    operator.outside.rand = 0.9
    operator.aws.failures = [failure]
    await operator.see()
    await operator.work()
    operator.controller.on_service_recovered(system)

    assert await operator.work(NOW + SECOND) == reconciliations
    assert operator.status()["revision" if reconciliations else "failedAttempts"] == 1


async def test_the_end_of_an_outage_does_not_disturb_who_did_not_fail() -> None:
    operator = await issued()
    operator.controller.on_service_recovered("sts")

    assert await operator.work(NOW + SECOND) == 0


async def test_a_change_of_the_spec_during_a_look_is_looked_at_next() -> None:
    operator = await issued()

    class Meanwhile(Issuer):
        async def exchange(self, step: StepSpec, values: PipelineValues, now: datetime) -> PipelineValues:
            await operator.see(region="eu-west-1")
            return await super().exchange(step, values, now)

    operator.outside.aws = Meanwhile()

    assert await operator.work(NOW + 40 * MINUTE) == 1
    assert await operator.work(NOW + 40 * MINUTE + SECOND) == 1


async def test_invalid_spec_is_not_overwritten_by_a_stale_reconciliation() -> None:
    operator = await issued()

    class Meanwhile(Issuer):
        async def exchange(self, step: StepSpec, values: PipelineValues, now: datetime) -> PipelineValues:
            await operator.see(region="-")
            return await super().exchange(step, values, now)

    operator.outside.aws = Meanwhile()
    await operator.work(NOW + 40 * MINUTE)
    await operator.work(NOW + 40 * MINUTE + SECOND)

    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"
    assert operator.status()["observedGeneration"] == 2
    assert await operator.work(NOW + 24 * HOUR) == 0


async def test_deleted_invalid_request_leaves_no_metrics_and_no_queue_entry() -> None:
    operator = Operator()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = UnavailableError("Unreachable", "away")
    await operator.see(region="-")
    await operator.work()
    operator.server.responses.clear()

    # The DELETED event arrives while the status is written again, and that finds nothing.
    writing = asyncio.create_task(operator.work(NOW + 10 * SECOND))
    await asyncio.sleep(0)
    await operator.see(alive=False, region="-")
    del operator.server.objects[TOKEN_REQUEST]
    await writing

    assert list(operator.controller.index.series()) == []
    assert operator.work_queue.next_due() is None
    assert operator.work_queue.counts() == {"delayed": 0, "ready": 0, "in_progress": 0}
