"""Credentials that expire during an attempt are reported as expired at once, and not when the attempt ends."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import pytest

from keyturn.core.errors import LeaseLostError, UnavailableError
from tests.support.controller import Operator, issued
from tests.support.dependencies import HOUR, NOW, SECOND
from tests.support.secret_store import TOKEN_REQUEST
from tests.support.virtual_time import in_virtual_time

EXPIRY = NOW + HOUR
UNREACHABLE = UnavailableError("Unreachable", "STS did not respond")
WRITE_STATUS = f"PATCH {TOKEN_REQUEST}"


class SlowAttempt:
    """An attempt that starts before the expiry, and hangs at AWS. `ready` is the condition Ready by the second."""

    def __init__(self, operator: Operator, *, hangs: int) -> None:
        self.operator, self._hangs = operator, hangs
        self.ready: dict[int, str] = {}
        self.at_second = dict[int, Callable[[], object]]()
        operator.outside.watch(self._hang)

    async def _hang(self, point: str) -> None:
        if not point.startswith("before License"):
            return
        for second in range(self._hangs):
            self.at_second.get(second, lambda: None)()
            self.operator.outside.now += SECOND
            await asyncio.sleep(1)
            self.ready[second + 1] = self.condition()[1]

    async def run(self, start: datetime = EXPIRY - 4 * SECOND) -> None:
        await self.operator.reconcile_due(start)

    def condition(self, name: str = "Ready") -> tuple[str, str, str]:
        """The status, reason and transition time of a condition."""
        condition = next(each for each in self.operator.status()["conditions"] if each["type"] == name)
        return condition["status"], condition["reason"], condition["lastTransitionTime"]

    def events(self) -> list[str]:
        objects = self.operator.server.objects
        reasons = [body["reason"] for path, body in objects.items() if "/events/" in path]
        assert reasons.pop(0) == "Issued"
        return reasons

    def status_writes(self) -> int:
        return self.operator.server.requests.count(WRITE_STATUS)


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


@in_virtual_time
async def test_expiry_during_a_failing_attempt_is_reported_at_once() -> None:
    attempt = SlowAttempt(await issued(), hangs=24)
    attempt.operator.aws.failures.append(UNREACHABLE)
    await attempt.run()

    assert [attempt.ready[second] for second in (3, 5, 24)] == ["Issued", "Expired", "Expired"]
    assert attempt.condition() == ("False", "Expired", text(EXPIRY))
    assert attempt.operator.status()["lastAttemptTime"] == text(EXPIRY - 4 * SECOND)
    assert attempt.condition("Renewed")[:2] == ("False", "Unreachable")
    assert attempt.events() == ["Expired", "RenewalFailed"]


@in_virtual_time
async def test_expiry_late_in_an_attempt_is_reported_at_once() -> None:
    attempt = SlowAttempt(await issued(), hangs=60)
    await attempt.run(EXPIRY - 40 * SECOND)

    assert [attempt.ready[second] for second in (39, 41)] == ["Issued", "Expired"]


@in_virtual_time
async def test_expiry_during_a_successful_attempt_is_reported_until_it_ends() -> None:
    attempt = SlowAttempt(await issued(), hangs=24)
    await attempt.run()

    assert attempt.ready[24] == "Expired"
    assert attempt.condition() == ("True", "Renewed", text(EXPIRY + 20 * SECOND))
    assert attempt.events() == ["Expired"]


@pytest.mark.parametrize(
    ("start", "hangs"),
    [
        pytest.param(EXPIRY - 30 * SECOND, 24, id="it ends before the expiry"),
        pytest.param(EXPIRY + HOUR, 0, id="it ends soon, after no operator ran"),
    ],
)
@in_virtual_time
async def test_attempt_that_needs_no_report_writes_one_status(start: datetime, hangs: int) -> None:
    attempt = SlowAttempt(await issued(), hangs=hangs)
    await attempt.run(start)

    assert attempt.condition()[:2] == ("True", "Renewed")
    assert attempt.status_writes() == 1


@pytest.mark.parametrize("error", [UNREACHABLE, LeaseLostError(), KeyError("a bug")], ids=repr)
@in_virtual_time
async def test_report_that_fails_is_repeated_and_ends_no_attempt(error: Exception) -> None:
    attempt = SlowAttempt(await issued(), hangs=24)
    responses = attempt.operator.server.responses
    responses[WRITE_STATUS] = error
    attempt.at_second[15] = responses.clear
    await attempt.run()

    assert [attempt.ready[second] for second in (10, 24)] == ["Issued", "Expired"]
    assert attempt.condition()[:2] == ("True", "Renewed")


@in_virtual_time
async def test_shutdown_during_an_attempt_ends_it() -> None:
    attempt = SlowAttempt(await issued(), hangs=24)
    task = asyncio.create_task(attempt.run())
    await asyncio.sleep(10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert attempt.condition()[1] == "Expired"
