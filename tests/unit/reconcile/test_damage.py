"""A Secret that was edited or deleted: while it is not repaired, the request is not Ready."""

from collections.abc import Callable

import pytest

from keyturn.core.errors import UnavailableError
from keyturn.core.issuance import ISSUANCE_ANNOTATION
from tests.support.dependencies import MINUTE, SECOND, Attempt, FakeEnvironment, issued, request
from tests.support.status import conditions

REQUEST = request()


def edit(env: FakeEnvironment) -> None:
    env.secrets.put("acme", data={"AWS_REGION": "edited"})


def delete(env: FakeEnvironment) -> None:
    env.secrets.delete("acme")


def remove_record(env: FakeEnvironment) -> None:
    env.secrets.put("acme", annotations={ISSUANCE_ANNOTATION: None})


DAMAGES = pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(edit, "DriftDetected", id="edited"),
        pytest.param(delete, "SecretDeleted", id="deleted"),
        pytest.param(remove_record, "DriftDetected", id="issuance record removed"),
    ],
)
Damage = Callable[[FakeEnvironment], None]


def ready(done: Attempt) -> str:
    return conditions(done.status)["Ready"]


def event_reasons(done: Attempt) -> list[str]:
    return [event.reason for event in done.reconciled.events]


@DAMAGES
async def test_second_damage_is_reported_until_it_is_repaired(damage: Damage, reason: str) -> None:
    env = await issued()
    damage(env)
    assert ready(await env.reconcile(REQUEST, MINUTE)) == "True Renewed"

    damage(env)
    waiting = await env.reconcile(REQUEST, SECOND)
    assert (ready(waiting), env.exchanges) == (f"False {reason}", 2)
    condition, due = waiting.status.condition("Ready"), waiting.reconciled.requeue_at
    assert condition
    assert due
    assert condition.message.endswith(f"at {due:%Y-%m-%dT%H:%M:%SZ}")

    assert ready(await env.reconcile(REQUEST, due - env.now)) == "True Renewed"


@DAMAGES
async def test_damage_that_cannot_be_repaired_is_not_ready(damage: Damage, reason: str) -> None:
    env = await issued()
    env.aws.failures = [UnavailableError("Unreachable", "no response")]
    damage(env)
    done = await env.reconcile(REQUEST, MINUTE)

    assert ready(done) == ("False DriftDetected" if damage is edit else "False Unreachable"), reason


@DAMAGES
async def test_damage_is_reported_while_the_own_limit_delays_its_repair(damage: Damage, reason: str) -> None:
    env = await issued()
    env.aws.busy["LicenseManagerGetAccessToken"] = [SECOND]
    damage(env)
    done = await env.reconcile(REQUEST, MINUTE)

    assert ready(done) == ("False DriftDetected" if damage is edit else "False Pending")
    assert event_reasons(done) == (["SecretDeleted"] if reason == "SecretDeleted" else [])


async def test_edit_is_not_ready_if_the_source_is_missing() -> None:
    env = await issued()
    edit(env)
    env.secrets.delete("license")

    assert ready(await env.reconcile(REQUEST, MINUTE)) == "False DriftDetected"


async def test_edit_that_is_reverted_is_ready_again() -> None:
    env = await issued()
    edit(env)
    await env.reconcile(REQUEST, MINUTE)
    valid = env.secrets.data("acme")
    edit(env)
    assert ready(await env.reconcile(REQUEST, SECOND)) == "False DriftDetected"

    env.secrets.put("acme", data=valid)
    assert ready(await env.reconcile(REQUEST, SECOND)) == "True Renewed"


async def test_each_deletion_records_an_event_once() -> None:
    env = await issued()
    delete(env)
    first = await env.reconcile(REQUEST, MINUTE)
    delete(env)
    second = await env.reconcile(REQUEST, SECOND)
    again = await env.reconcile(REQUEST, SECOND)
    recreated = await env.reconcile(REQUEST, MINUTE)

    assert [event_reasons(done) for done in (first, second, again, recreated)] == [
        ["SecretDeleted"], ["SecretDeleted"], [], [],
    ]  # fmt: skip
    assert ready(recreated) == "True Renewed"


async def test_deletion_while_the_operator_was_down_records_an_event() -> None:
    env = await issued()
    delete(env)
    env.restart()

    assert event_reasons(await env.reconcile(REQUEST, MINUTE)) == ["SecretDeleted"]


async def test_suspended_request_reads_its_secret_again_after_a_failure() -> None:
    env, suspended = await issued(), request(suspend=True)
    await env.reconcile(suspended, SECOND)
    delete(env)
    env.store.failures["read_target"] = [UnavailableError("Unavailable", "HTTP 500")]
    failed = await env.reconcile(suspended, SECOND)
    due = failed.reconciled.requeue_at
    assert due
    assert due - env.now <= MINUTE

    assert ready(await env.reconcile(suspended, due - env.now)) == "False Suspended"
