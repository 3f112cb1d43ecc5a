"""The operator without permission to list and watch Secrets: it reads the target in each reconciliation."""

from typing import Any

import pytest

from keyturn.core.errors import UnavailableError
from tests.support.controller import issued
from tests.support.dependencies import MINUTE, NOW, SECOND
from tests.support.secret_store import SOURCE, TARGET, TOKEN_REQUEST

DUE = NOW + 40 * MINUTE
READ = [f"GET {TARGET}", f"GET {SOURCE}"]


async def test_renewal_reads_the_target_first() -> None:
    operator = await issued(watched=False)

    assert await operator.reconcile_due(DUE) == 1
    assert operator.server.requests == [*READ, f"PATCH {TARGET}", f"PATCH {TOKEN_REQUEST}"]


async def test_restart_reads_once_and_writes_nothing() -> None:
    operator = await issued(watched=False)
    operator.start(watched=False)
    await operator.deliver()

    assert (await operator.reconcile_due(), operator.server.requests, operator.aws.calls) == (1, READ, [])
    assert operator.work_queue.next_due() == DUE


async def test_restart_keeps_the_time_of_the_next_attempt() -> None:
    operator = await issued(watched=False)
    operator.outside.rand = 0.9
    operator.aws.failures = [UnavailableError("Unreachable", "no response")]
    await operator.reconcile_due(DUE)
    operator.start(watched=False)
    operator.aws.calls.clear()
    await operator.deliver()
    await operator.reconcile_due()

    assert operator.aws.calls == []
    assert operator.work_queue.next_due() == DUE + 4 * SECOND
    assert operator.status()["conditions"][0]["status"] == "True"
    [series] = operator.controller.index.series()
    assert series.expires == NOW + 60 * MINUTE


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param({"data": {"AWS_REGION": "eA=="}}, "DriftCorrected", id="edited"),
        pytest.param(None, "Renewed", id="deleted"),
    ],
)
async def test_drift_is_corrected_at_the_next_reconciliation(edit: dict[str, Any] | None, reason: str) -> None:
    operator = await issued(watched=False)
    if edit:
        operator.server.put(TARGET, **edit)
    else:
        del operator.server.objects[TARGET]
    await operator.deliver(annotations={"keyturn.dev/renew-requested-at": "now"})
    await operator.reconcile_due(NOW + MINUTE)

    assert [condition["reason"] for condition in operator.status()["conditions"][:2]] == ["Renewed", reason]
    assert operator.server.data(TARGET)["AWS_REGION"] == "us-east-1"


async def test_secret_deleted_with_its_request_is_not_recreated() -> None:
    operator = await issued(watched=False)
    del operator.server.objects[TARGET]
    del operator.server.objects[TOKEN_REQUEST]
    await operator.reconcile_due(DUE)

    assert operator.server.requests == [*READ, f"GET {TOKEN_REQUEST}"]
    assert operator.aws.calls == []
