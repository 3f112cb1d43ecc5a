"""A TokenRequest that is being deleted, or its namespace: nothing is renewed, and the status stays truthful."""

from typing import Any

import pytest

from keyturn.controller.api_client import ApiResponse
from tests.support.controller import ChangesFirst, Operator, issued
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, manifest
from tests.support.secret_store import SECRETS, SOURCE, TARGET, TOKEN_REQUEST

TERMINATING = ApiResponse(403, {"message": "no", "details": {"causes": [{"reason": "NamespaceTerminating"}]}})


async def delete(operator: Operator, **spec: Any) -> None:
    """Deliver the event after the deletion."""
    body = manifest(**spec) | {"status": operator.status()}
    body["metadata"] |= {"generation": 2, "deletionTimestamp": "2026-01-02T03:05:05Z"}
    await operator.controller.on_request(body, alive=True)


def ready(operator: Operator) -> tuple[str, str]:
    condition = next(it for it in operator.status()["conditions"] if it["type"] == "Ready")
    return condition["status"], condition["reason"]


def events(operator: Operator) -> list[str]:
    return [body["reason"] for path, body in operator.server.objects.items() if "/events/" in path]


@pytest.mark.parametrize("restarts", [False, True], ids=["operator runs", "operator restarts"])
async def test_expiry_is_reported_and_nothing_renewed(*, restarts: bool) -> None:
    operator = await issued()
    await delete(operator)
    await operator.reconcile_due(NOW + SECOND)
    assert ready(operator) == ("True", "Deleting")
    if restarts:
        operator.start()
        operator.controller.on_secret(operator.server.meta(TARGET), alive=True)
        await delete(operator)
    writes = operator.server.requests.count(f"PATCH {TOKEN_REQUEST}")

    assert (await operator.reconcile_due(), operator.work_queue.next_due()) == (0, NOW + HOUR)
    assert operator.server.requests.count(f"PATCH {TOKEN_REQUEST}") == writes
    await operator.reconcile_due(NOW + HOUR)
    assert ready(operator) == ("False", "Deleting")
    assert operator.aws.calls == []


async def test_deletion_of_the_secret_is_reported_without_event() -> None:
    operator = await issued()
    await delete(operator)
    meta = operator.server.meta(TARGET)
    operator.server.delete(TARGET)
    operator.controller.on_secret(meta, alive=False)
    await operator.reconcile_due(NOW + MINUTE)

    assert ready(operator) == ("False", "Deleting")
    assert (TARGET in operator.server.objects, events(operator)) == (False, ["Issued"])


@pytest.mark.parametrize("region", ["us-east-1", "-"], ids=["valid spec", "invalid spec"])
async def test_metrics_end_with_the_deletion(region: str) -> None:
    operator = await issued()
    await delete(operator, region=region)
    await operator.reconcile_due()

    assert list(operator.controller.series()) == []


async def test_deletion_of_the_secret_in_a_terminating_namespace_is_reported() -> None:
    operator = await issued()
    meta = operator.server.meta(TARGET)
    operator.server.delete(TARGET)
    operator.server.responses[f"POST {SECRETS}"] = TERMINATING
    operator.controller.on_secret(meta, alive=False)
    await operator.reconcile_due(NOW + MINUTE)

    assert ready(operator) == ("False", "Deleting")
    assert operator.work_queue.next_due() == NOW + 6 * MINUTE
    assert operator.aws.calls == []


async def test_expiry_in_a_terminating_namespace_is_reported() -> None:
    operator = await issued()
    operator.server.responses[f"GET {SOURCE}"] = TERMINATING
    await operator.reconcile_due(NOW + 57 * MINUTE)
    assert ready(operator) == ("True", "Deleting")

    assert operator.work_queue.next_due() == NOW + HOUR
    await operator.reconcile_due(NOW + HOUR)
    assert ready(operator) == ("False", "Deleting")


async def test_renewal_is_not_late_if_the_status_cannot_be_found() -> None:
    operator = Operator()
    operator.aws.life = 4 * MINUTE
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = ApiResponse(404, {"message": "not found"})
    await operator.deliver()
    await operator.reconcile_due()
    due = operator.work_queue.next_due()

    assert due is not None
    assert due < NOW + operator.aws.life
    await operator.reconcile_due(due)
    assert len(operator.aws.calls) == 4


async def test_orphaned_secret_gets_no_owner_again() -> None:
    """The request is deleted with --cascade=orphan during a renewal."""
    operator = await issued()

    async def orphan() -> None:
        operator.server.put(TARGET, metadata={"ownerReferences": []})
        await delete(operator)

    operator.outside.aws = ChangesFirst(orphan)
    operator.start()
    await operator.deliver(annotations={"keyturn.dev/renew-requested-at": "now"})
    await operator.reconcile_due(NOW + MINUTE)
    await operator.reconcile_due(NOW + 2 * MINUTE)

    assert operator.aws.calls != []
    assert operator.server.meta(TARGET).owner_references == ()
    assert ready(operator) == ("True", "Deleting")
