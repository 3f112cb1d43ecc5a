"""An operator that may neither list nor watch Secrets: it reads each target before it believes it."""

from typing import Any

import pytest

from keyturn.core.errors import UnavailableError
from tests.support.dependencies import MINUTE, NOW, SECOND
from tests.unit.controller.test_controller import issued
from tests.unit.controller.test_secret_store import SOURCE, TARGET, TOKEN_REQUEST

DUE = NOW + 40 * MINUTE
READ = [f"GET {TARGET}", f"GET {SOURCE}"]


async def test_a_first_issue_waits_for_its_own_time_like_any_other() -> None:
    operator = await issued(watched=False)

    assert (await operator.work(), operator.work_queue.next_due()) == (0, DUE)


async def test_a_renewal_reads_the_target_first() -> None:
    operator = await issued(watched=False)

    assert await operator.work(DUE) == 1
    assert operator.server.asked == [*READ, f"PATCH {TARGET}", f"PATCH {TOKEN_REQUEST}"]


async def test_a_restart_reads_once_and_writes_nothing() -> None:
    operator = await issued(watched=False)
    operator.start(watched=False)
    await operator.see()

    assert (await operator.work(), operator.server.asked, operator.aws.calls) == (1, READ, [])
    assert operator.work_queue.next_due() == DUE


async def test_after_a_restart_a_failure_keeps_the_time_of_its_next_try() -> None:
    operator = await issued(watched=False)
    operator.outside.rand = 0.9
    operator.aws.failures = [UnavailableError("Unreachable", "no answer")]
    await operator.work(DUE)
    operator.start(watched=False)
    operator.aws.calls.clear()
    await operator.see()
    await operator.work()

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
async def test_what_was_done_to_the_secret_is_healed_when_it_is_looked_at(
    edit: dict[str, Any] | None, reason: str
) -> None:
    operator = await issued(watched=False)
    if edit:
        operator.server.put(TARGET, **edit)
    else:
        del operator.server.objects[TARGET]
    await operator.see(annotations={"keyturn.dev/renew-requested-at": "now"})
    await operator.work(NOW + MINUTE)

    assert [it["reason"] for it in operator.status()["conditions"][:2]] == ["Renewed", reason]
    assert operator.server.data(TARGET)["AWS_REGION"] == "us-east-1"


async def test_a_secret_that_went_with_its_request_is_not_made_again() -> None:
    operator = await issued(watched=False)
    del operator.server.objects[TARGET]
    del operator.server.objects[TOKEN_REQUEST]
    await operator.work(DUE)

    assert operator.server.asked == [*READ, f"GET {TOKEN_REQUEST}"]
    assert operator.aws.calls == []
