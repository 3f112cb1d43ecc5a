"""Requests in a namespace where another installation renews."""

from datetime import timedelta
from typing import Any

from keyturn.controller.api_client import ApiResponse
from tests.support.controller import Operator, issued
from tests.support.dependencies import MINUTE, NOW, SECOND
from tests.support.scope import FakeScope
from tests.support.secret_store import TARGET, TOKEN_REQUEST

NAMESPACE = TOKEN_REQUEST.split("/")[5]
HELD = {NAMESPACE: "other/keyturn"}
CONFLICT = f"installation other/keyturn renews in namespace {NAMESPACE}; this one does not"
QUOTA = "the Lease could not be written: exceeded quota"


async def yielding_operator() -> Operator:
    operator = Operator()
    await operator.scope.set(**HELD)
    return operator


def posted(operator: Operator) -> list[dict[str, Any]]:
    return [body for path, body in operator.server.objects.items() if "/events/" in path]


async def pass_time(operator: Operator, length: timedelta) -> None:
    end = operator.outside.now + length
    while operator.outside.now < end:
        await operator.reconcile_due(operator.outside.now + SECOND)


async def test_request_of_another_installation_gets_one_event() -> None:
    operator = await yielding_operator()
    operator.server.put(TOKEN_REQUEST, status={"observedGeneration": 1})
    await operator.deliver()
    await pass_time(operator, 5 * MINUTE)

    assert [(event["reason"], event["type"], event["message"]) for event in posted(operator)] == [
        ("ScopeConflict", "Warning", CONFLICT)
    ]
    assert (operator.aws.calls, operator.server.count("PATCH")) == ([], 0)


async def test_status_that_nobody_writes_reports_the_conflict_after_a_minute() -> None:
    operator = await yielding_operator()
    await operator.deliver()
    await pass_time(operator, MINUTE - SECOND)
    assert operator.server.count("PATCH") == 0

    await pass_time(operator, 2 * SECOND)
    renewed = operator.status()["conditions"][1]
    assert (renewed["type"], renewed["status"], renewed["reason"]) == ("Renewed", "False", "ScopeConflict")
    assert renewed["message"].startswith(CONFLICT)
    await operator.deliver()
    await pass_time(operator, 5 * MINUTE)
    assert operator.server.count("PATCH") == 1
    assert operator.aws.calls == []


async def test_status_written_by_the_other_installation_is_not_overwritten() -> None:
    operator = await yielding_operator()
    await operator.deliver()
    operator.server.put(TOKEN_REQUEST, status={"observedGeneration": 1, "revision": 1})
    await pass_time(operator, 5 * MINUTE)

    assert operator.status() == {"observedGeneration": 1, "revision": 1}


async def test_no_change_is_known_while_another_installation_renews() -> None:
    operator = await issued()
    metadata = {"name": "acme", "namespace": NAMESPACE, "uid": "acme-0001", "generation": 1}
    assert operator.controller.is_known(metadata)
    await operator.scope.set(**HELD)

    assert not operator.controller.is_known(metadata)


async def test_takeover_reads_and_writes_nothing_that_is_not_due() -> None:
    other = await issued()
    operator = Operator(server=other.server, outside=other.outside)
    await operator.scope.set(**HELD)
    operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
    await operator.deliver()
    await operator.reconcile_due()
    operator.server.requests.clear()
    await operator.scope.set()

    await operator.reconcile_due(NOW + 39 * MINUTE)
    assert (operator.server.requests, operator.aws.calls) == ([], [])
    await operator.reconcile_due(NOW + 40 * MINUTE)
    assert operator.status()["revision"] == 2


async def test_request_is_renewed_when_the_other_installation_has_ended() -> None:
    operator = await yielding_operator()
    await operator.deliver()
    await pass_time(operator, 30 * SECOND)
    await operator.scope.set()
    await operator.reconcile_due()

    assert operator.status()["revision"] == 1


async def test_only_the_installation_that_renews_exports_a_request() -> None:
    operator = await issued()
    assert [series.name for series in operator.controller.series()] == [TOKEN_REQUEST.rpartition("/")[2]]
    await operator.scope.set(**HELD)

    assert list(operator.controller.series()) == []


async def test_event_that_is_refused_does_not_stop_the_queue() -> None:
    operator = await yielding_operator()
    operator.server.responses[f"POST /api/v1/namespaces/{NAMESPACE}/events"] = ApiResponse(403, {"message": "no"})
    await operator.deliver()

    assert await operator.reconcile_due() == 1


async def test_request_deleted_while_its_namespace_is_claimed_is_not_renewed() -> None:
    class SlowScope(FakeScope):
        async def claim(self, namespace: str) -> str:
            await operator.deliver(alive=False)
            return await super().claim(namespace)

    operator = Operator(scope=SlowScope())
    await operator.deliver()
    await operator.reconcile_due()

    assert (operator.aws.calls, operator.server.requests, operator.work_queue.next_due()) == ([], [], None)


def ready(operator: Operator) -> tuple[str, str]:
    condition = operator.status()["conditions"][0]
    return condition["status"], condition["reason"]


async def test_expiry_is_reported_if_the_other_installation_does_not() -> None:
    operator = await issued()
    await operator.scope.set(**HELD)
    await operator.deliver()
    await operator.reconcile_due(NOW + 59 * MINUTE)
    assert ready(operator) == ("True", "Issued")

    await pass_time(operator, 3 * MINUTE)
    assert ready(operator) == ("False", "Expired")
    assert operator.status()["conditions"][0]["message"].endswith(CONFLICT)
    assert (operator.aws.calls, operator.server.count("PATCH")) == ([], 1)


async def test_expiry_is_reported_if_the_namespace_cannot_be_claimed() -> None:
    operator = await issued()
    operator.scope.refusal = QUOTA
    await operator.reconcile_due(NOW + 59 * MINUTE)
    await pass_time(operator, 70 * SECOND)

    assert ready(operator) == ("False", "Expired")
    assert QUOTA in operator.status()["conditions"][0]["message"]
    assert operator.server.count("PATCH") == 1
    operator.scope.refusal = ""
    await pass_time(operator, 10 * SECOND)
    assert ready(operator) == ("True", "Renewed")


async def test_new_request_in_a_namespace_that_cannot_be_claimed_has_a_status() -> None:
    operator = Operator()
    operator.scope.refusal = QUOTA
    await operator.deliver()
    await pass_time(operator, 5 * MINUTE)

    assert ready(operator) == ("False", "ScopeConflict")
    assert QUOTA in operator.status()["conditions"][1]["message"]
    assert operator.server.count("PATCH") == 1


async def test_frozen_process_does_not_overwrite_the_status_of_another_one() -> None:
    operator = await issued()
    operator.scope.refusal = QUOTA
    newer = operator.status() | {"expirationTime": "2026-01-02T09:00:00Z"}
    operator.server.objects[TOKEN_REQUEST]["status"] = newer
    await operator.reconcile_due(NOW + 61 * MINUTE)
    await pass_time(operator, 3 * MINUTE)

    assert operator.status() == newer
