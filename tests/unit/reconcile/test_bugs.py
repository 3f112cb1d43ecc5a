"""A bug, at every await of a reconciliation: the status reports it and stays truthful."""

from datetime import timedelta
from typing import Any

import pytest

from keyturn.core.errors import NamespaceTerminatingError, UnavailableError
from keyturn.core.state import ReconcileState
from keyturn.reconcile.reconciler import reconcile
from tests.support.crash import bug, crash
from tests.support.dependencies import HOUR, MINUTE, NOW, FakeEnvironment, environment, issued, request
from tests.support.rotation import no_checkpoint
from tests.support.status import conditions, row

REQUEST = request()
DUE = 45 * MINUTE


def internal_errors(env: FakeEnvironment) -> float | None:
    return env.metrics.registry.get_sample_value("keyturn_internal_errors_total", {"component": "reconcile"})


async def fail(_: str) -> None:
    raise ZeroDivisionError("planted-secret")


@pytest.mark.parametrize("number", range(1, 11))
async def test_bug_in_a_renewal_is_reported_and_retried(number: int) -> None:
    env = await issued()
    env.now += DUE
    point = await crash(env, REQUEST, number, bug)
    status = env.statuses[REQUEST.uid]

    assert point
    assert conditions(status) == row("True Issued", "False InternalError")
    assert (status.failed_attempts, internal_errors(env)) == (1, 1)
    assert status.last_error
    assert "ZeroDivisionError in bug crash.py" in status.last_error.message
    assert "planted" not in repr(status)
    assert conditions((await env.reconcile(REQUEST, MINUTE)).status) == row("True Renewed", "True Renewed")


async def test_cases_cover_every_await_of_a_renewal() -> None:
    env = await issued()
    env.now += DUE

    assert await crash(env, REQUEST, 10, bug) == "after write"


@pytest.mark.parametrize("number", range(1, 12))
async def test_bug_in_the_first_issue_is_not_ready(number: int) -> None:
    env = environment()
    await crash(env, REQUEST, number, bug)

    assert conditions(env.statuses[REQUEST.uid])["Renewed"] == "False InternalError"
    assert conditions((await env.reconcile(REQUEST, MINUTE)).status) == row("True Issued", "True Issued")


@pytest.mark.parametrize("spec", [{}, {"suspend": True}], ids=["in a renewal", "while suspended"])
async def test_permanent_bug_is_not_ready_from_the_expiry_on(spec: dict[str, Any]) -> None:
    env, token_request = await issued(), request(**spec)
    expiry = env.issuance().expires
    await env.reconcile(token_request)
    env.watch(fail)
    env.now += DUE
    while env.now < expiry:
        done = await env.reconcile(token_request)
        assert done.status.condition("Ready").status == ("True" if env.now < expiry else "False")  # type: ignore[union-attr]
        assert done.reconciled.requeue_at
        assert env.now < done.reconciled.requeue_at <= max(expiry, env.now + MINUTE)
        env.now = done.reconciled.requeue_at

    assert env.now == expiry
    assert conditions((await env.reconcile(token_request)).status) == row("False Expired", "False InternalError")


async def test_bug_in_a_terminating_namespace_is_reported() -> None:
    env = await issued()
    env.store.failures["read_source"] = [NamespaceTerminatingError()]

    async def fail_later(point: str) -> None:
        if point == "before read_target" and env.store.calls["read_target"]:
            await fail(point)

    env.watch(fail_later)
    done = await env.reconcile(REQUEST, HOUR)

    assert conditions(done.status) == row("False Expired", "False InternalError")


async def test_bug_records_one_event_in_a_series() -> None:
    env = await issued()
    env.watch(fail)
    first = await env.reconcile(REQUEST, DUE)
    second = await env.reconcile(REQUEST, MINUTE)
    env.watch(no_checkpoint)
    third = await env.reconcile(REQUEST, MINUTE)

    events = [[event.reason for event in done.reconciled.events] for done in (first, second, third)]
    assert events == [["InternalError"], [], ["Recovered"]]


@pytest.mark.parametrize(
    ("after", "ready", "requeued"),
    [
        pytest.param(30 * MINUTE, "True Issued", 35 * MINUTE, id="valid"),
        pytest.param(58 * MINUTE, "True Issued", HOUR, id="expires before the next attempt"),
        pytest.param(HOUR, "False Expired", 65 * MINUTE, id="expired"),
    ],
)
async def test_bug_in_the_report_keeps_the_status_truthful(after: timedelta, ready: str, requeued: timedelta) -> None:
    env = await issued()
    env.now += after
    env.store.failures["read_target"] = [UnavailableError("Unavailable", "no response")]
    broken = ReconcileState(issuance=object())  # type: ignore[arg-type]
    done = await reconcile(env.deps, request(suspend=True), broken, env.statuses[REQUEST.uid])

    assert conditions(done.status) == row(ready, "False InternalError")
    assert (done.requeue_at, internal_errors(env)) == (NOW + requeued, 1)
