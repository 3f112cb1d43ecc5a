"""A bug of one request: it is reported, and stops neither that request nor the status at its expiry."""

import pytest

from keyturn.core.errors import UnavailableError
from tests.support.controller import Operator, issued
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND
from tests.support.scope import FakeScope
from tests.support.secret_store import SOURCE, TARGET, TOKEN_REQUEST

EVENTS = "POST /api/v1/namespaces/billing/events"
BUG = ZeroDivisionError("planted-secret")


def internal_errors(operator: Operator) -> float | None:
    registry = operator.outside.metrics.registry
    return registry.get_sample_value("keyturn_internal_errors_total", {"component": "reconcile"})


def event_reasons(operator: Operator) -> list[str]:
    return [body["reason"] for path, body in operator.server.objects.items() if "/events/" in path]


@pytest.mark.parametrize("call", [f"GET {SOURCE}", f"PATCH {TARGET}"])
async def test_bug_is_reported_in_status_event_and_metric(call: str) -> None:
    operator = await issued()
    operator.server.responses[call] = BUG
    await operator.reconcile_due(NOW + 40 * MINUTE)
    status = operator.status()

    assert [(each["status"], each["reason"]) for each in status["conditions"]] == [
        ("True", "Issued"),
        ("False", "InternalError"),
    ]
    assert "ZeroDivisionError in _respond api_server.py" in status["lastError"]["message"]
    assert event_reasons(operator) == ["Issued", "InternalError"]
    assert internal_errors(operator) == 1
    assert "planted" not in str(operator.server.objects)


@pytest.mark.parametrize("call", [f"GET {SOURCE}", f"PATCH {TARGET}"])
async def test_request_with_a_bug_is_not_ready_from_the_expiry_on(call: str) -> None:
    operator = await issued()
    operator.server.responses[call] = BUG
    operator.outside.rand = 0.9
    operator.outside.now = NOW + 40 * MINUTE
    while operator.outside.now < NOW + HOUR:
        await operator.reconcile_due()
        assert operator.status()["conditions"][0]["status"] == "True"
        operator.outside.now = operator.work_queue.next_due() or NOW + 2 * HOUR

    assert operator.outside.now == NOW + HOUR
    await operator.reconcile_due()
    assert operator.status()["conditions"][0]["reason"] == "Expired"


async def test_bug_while_the_status_is_written_delays_only_the_status() -> None:
    operator = await issued()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = BUG
    await operator.reconcile_due(NOW + 40 * MINUTE)
    assert operator.work_queue.next_due() == NOW + 40 * MINUTE + 10 * SECOND
    operator.server.responses.clear()
    await operator.reconcile_due(NOW + 41 * MINUTE)

    assert (operator.status()["revision"], len(operator.aws.calls), internal_errors(operator)) == (2, 2, 1)


async def test_bug_while_an_event_is_posted_delays_nothing() -> None:
    operator = Operator()
    operator.server.responses[EVENTS] = BUG
    await operator.deliver()
    await operator.reconcile_due()

    assert (operator.status()["revision"], internal_errors(operator)) == (1, 1)
    assert operator.work_queue.next_due() == NOW + 40 * MINUTE


@pytest.mark.parametrize("error", [BUG, UnavailableError("Unreachable", "no response")], ids=["a bug", "unreachable"])
async def test_invalid_spec_is_reported_again_after_an_error(error: Exception) -> None:
    operator = Operator()
    operator.server.responses[f"PATCH {TOKEN_REQUEST}"] = error
    await operator.deliver(region="-")
    await operator.reconcile_due()
    operator.server.responses.clear()
    await operator.reconcile_due(NOW + 10 * SECOND)

    assert operator.status()["conditions"][0]["reason"] == "InvalidSpec"


async def test_bug_while_a_namespace_is_claimed_is_retried() -> None:
    class BrokenScope(FakeScope):
        async def claim(self, namespace: str) -> str:  # noqa: ARG002 - any namespace
            raise OverflowError

    operator = Operator(scope=BrokenScope())
    await operator.deliver()
    await operator.reconcile_due()

    assert internal_errors(operator) == 1
    assert operator.work_queue.next_due() == NOW + 10 * SECOND
