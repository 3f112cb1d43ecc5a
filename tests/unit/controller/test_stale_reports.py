"""A reconciliation that was overtaken by a change reports nothing about the changed request."""

from base64 import b64decode
from collections.abc import Awaitable, Callable
from datetime import datetime

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.core.errors import RefusedError
from keyturn.core.issuance import OWNER_UID
from keyturn.core.pipeline_values import PipelineValues
from tests.support.controller import ChangesFirst, Operator, issued
from tests.support.dependencies import MINUTE, NOW, Issuer, manifest
from tests.support.secret_store import TARGET, TOKEN_REQUEST

NEW_UID = "acme-0002"


class ChangesAndFails(Issuer):
    """Changes the TokenRequest during the first exchange, and refuses it."""

    def __init__(self, change: Callable[[], Awaitable[None]]) -> None:
        super().__init__(failures=[RefusedError("AccessDenied", "refused for the previous spec")])
        self.change = change

    async def exchange(self, step: StepSpec, values: PipelineValues, now: datetime) -> PipelineValues:
        if self.failures:
            await self.change()
        return await super().exchange(step, values, now)


async def edit(operator: Operator) -> None:
    await operator.deliver(region="eu-west-1")


async def suspend(operator: Operator) -> None:
    await operator.deliver(suspend=True)


async def invalidate(operator: Operator) -> None:
    await operator.deliver(region="-")


async def recreate_unseen(operator: Operator) -> None:
    """Delete the TokenRequest and create it again; the watch has not shown it yet."""
    del operator.server.objects[TOKEN_REQUEST]
    operator.server.put(TOKEN_REQUEST, metadata=manifest(uid=NEW_UID)["metadata"])


async def recreate(operator: Operator) -> None:
    await recreate_unseen(operator)
    await operator.controller.on_request(manifest(), alive=False)
    await operator.controller.on_request(manifest(uid=NEW_UID), alive=True)


def events(operator: Operator) -> list[tuple[str, str]]:
    posted = [body for path, body in operator.server.objects.items() if "/events/" in path]
    return [(body["involvedObject"]["uid"], body["reason"]) for body in posted]


@pytest.mark.parametrize("change", [edit, suspend, invalidate, recreate_unseen])
async def test_overtaken_failure_is_not_reported(change: Callable[[Operator], Awaitable[None]]) -> None:
    operator = await issued()
    operator.outside.aws = ChangesAndFails(lambda: change(operator))
    before = operator.status()
    await operator.reconcile_due(NOW + 40 * MINUTE)

    assert operator.server.objects[TOKEN_REQUEST].get("status") in (None, before)
    assert events(operator) == [("acme-0001", "Issued")]


@pytest.mark.parametrize("change", [edit, recreate], ids=["edited", "recreated"])
async def test_next_reconciliation_reports_the_new_spec(change: Callable[[Operator], Awaitable[None]]) -> None:
    operator = await issued()
    operator.outside.aws = ChangesAndFails(lambda: change(operator))
    await operator.reconcile_due(NOW + 40 * MINUTE)
    await operator.reconcile_due(NOW + 41 * MINUTE)

    uid, status = operator.server.objects[TOKEN_REQUEST]["metadata"]["uid"], operator.status()
    assert status["observedGeneration"] == operator.controller.index.entries[uid].request.generation
    assert "refused" not in str(status)
    assert "Stalled" not in [reason for _, reason in events(operator)]


async def test_recreated_request_has_the_series_of_one_object() -> None:
    operator = await issued()
    await recreate(operator)

    assert [entry.request.uid for entry in operator.controller.index.entries.values()] == [NEW_UID]
    assert len(list(operator.controller.index.series())) == 1


async def test_deleted_request_does_not_overwrite_the_secret_of_its_successor() -> None:
    operator, uid = await issued(), "successor"

    async def recreate_and_renew() -> None:
        del operator.server.objects[TOKEN_REQUEST]
        await operator.controller.on_request(manifest(), alive=False)
        body = manifest(uid=uid, region="eu-west-1")
        operator.server.put(TOKEN_REQUEST, metadata=body["metadata"])
        await operator.controller.on_request(body, alive=True)
        await operator.controller.run_one(uid)

    operator.outside.aws = ChangesFirst(recreate_and_renew)
    await operator.reconcile_due(NOW + 40 * MINUTE)

    secret = operator.server.objects[TARGET]
    assert b64decode(secret["data"]["AWS_REGION"]) == b"eu-west-1"
    assert secret["metadata"]["labels"][OWNER_UID] == uid
    assert [owner["uid"] for owner in secret["metadata"]["ownerReferences"]] == [uid]
