"""An operator that becomes the leader observes the intents of others from that moment on."""

from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import structs

from keyturn.controller.request_index import restored_failure
from keyturn.controller.token_secrets import TokenSecrets
from keyturn.core.state import ReconcileState
from keyturn.core.token_family import Intent, token_fingerprint
from tests.support.controller import Operator
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, FakeEnvironment, environment, rotating

PLACE = ("billing", "license-keyturn")
REQUEST = rotating()


async def with_foreign_intent(*, final_attempt: bool = False) -> tuple[FakeEnvironment, Intent]:
    """An environment in which another operator died before it sent the token."""
    env = environment("seed")
    await env.reconcile(REQUEST)
    tokens = TokenSecrets(env.secrets.server)
    stored = await tokens.read(REQUEST)
    assert stored
    assert stored.family
    intent = Intent(holder="pod-1", consumes=stored.family.live, start=NOW, give_up_seconds=30)
    intent = structs.replace(intent, final_attempt=final_attempt)
    await tokens.update(REQUEST, replace(stored, family=stored.family.with_intent(intent)))
    env.now += HOUR
    return env, intent


async def lead(env: FakeEnvironment, duration: timedelta) -> None:
    """Run a new leader, which restores its state from the status."""
    env.restart()
    env.states[REQUEST.uid] = ReconcileState(failure=restored_failure(env.statuses[REQUEST.uid]))
    end = env.now + duration
    while env.now < end:
        outcome = await env.reconcile(REQUEST)
        env.now = min(end, outcome.reconciled.requeue_at or end)


async def test_final_attempt_is_made_although_the_leader_changes_often() -> None:
    env, _ = await with_foreign_intent()
    for seconds in (10, 35, 35, 35, 35):
        await lead(env, seconds * SECOND)

    assert env.issuance().revision == 2
    assert env.aws.issuer.reuses == 0


@pytest.mark.parametrize("is_late", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("is_saved", [True, False], ids=["saves the new token", "withdraws its intent"])
async def test_final_attempt_that_another_operator_still_makes_is_awaited(*, is_saved: bool, is_late: bool) -> None:
    env, intent = await with_foreign_intent(final_attempt=True)
    intent = structs.replace(intent, start=env.now)
    await change(env, intent)
    for after in (0, 40) if is_late else (0,):
        outcome = await env.reconcile(REQUEST, after * SECOND)
    assert outcome.failure_reason == "RefreshOutcomeUnknown"
    assert (outcome.status.condition("Stalled") is not None) is is_late

    if is_saved:
        new = env.aws.issuer.refresh(env.stored_token().value, env.now).refresh_token or ""
        await change(env, None, new)
    else:
        await change(env, structs.replace(intent, final_attempt=False))
    for _ in range(3):
        await env.reconcile(REQUEST, MINUTE)

    assert env.issuance().revision == 2
    assert env.aws.issuer.reuses == 0


async def test_final_attempt_whose_operator_has_died_is_not_repeated() -> None:
    env, intent = await with_foreign_intent(final_attempt=True)
    for start, after in ((env.now - HOUR, SECOND), (env.now, MINUTE)):
        await change(env, structs.replace(intent, start=start))
        await env.reconcile(REQUEST)
        await lead(env, after)

        assert env.statuses[REQUEST.uid].condition("Stalled")
    assert env.aws.issuer.requests == 1


async def change(env: FakeEnvironment, intent: Intent | None, token: str = "") -> None:
    """Write the token Secret as another operator: its intent, or the token that it received."""
    stored = env.stored_token()
    assert stored.family
    family = stored.family.with_intent(intent)
    if token:
        family = family.rotated(token_fingerprint(token, *PLACE))
    await TokenSecrets(env.secrets.server).update(REQUEST, replace(stored, value=token or stored.value, family=family))


async def test_first_list_starts_the_observation_of_an_intent() -> None:
    env, intent = await with_foreign_intent()
    operator = Operator(outside=env)
    operator.controller.on_secret(env.secrets.meta("license-keyturn"), alive=True)
    env.now += 30 * SECOND

    assert env.token_locks.observe(PLACE, intent) == 30


async def test_intent_that_is_gone_is_forgotten() -> None:
    env, intent = await with_foreign_intent()
    operator, meta = Operator(outside=env), env.secrets.meta("license-keyturn")
    for alive, changed in ((False, meta), (True, structs.replace(meta, annotations={}))):
        operator.controller.on_secret(meta, alive=True)
        env.now += SECOND
        operator.controller.on_secret(changed, alive=alive)
        env.now += SECOND

        assert env.token_locks.observe(PLACE, intent) == 0
        env.token_locks.observe(PLACE, None)
