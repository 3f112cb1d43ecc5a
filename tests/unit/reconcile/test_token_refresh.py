import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.token_family import StoredToken
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, FakeEnvironment, environment, rotating
from tests.support.rotation import RotatingIssuer

GIVE_UP_TIME = 31 * SECOND
DUE = 45 * MINUTE


def stored_token(env: FakeEnvironment) -> StoredToken:
    return env.tokens.stored["billing", "license-keyturn"]


async def consumed(times: int = 1) -> FakeEnvironment:
    """An environment after `times` renewals with a rotated source token."""
    env = environment("seed")
    for _ in range(times):
        outcome = await env.reconcile(rotating(), DUE)
        assert outcome.failure is None
    return env


async def test_new_token_is_saved_and_the_source_unchanged() -> None:
    env = await consumed()

    assert stored_token(env).value == env.aws.issuer.live == "refresh-1"
    assert env.secrets.get("license").data == {"license_token": "seed"}


async def test_intent_is_removed_by_the_save() -> None:
    env = await consumed(2)

    family = stored_token(env).family
    assert family
    assert family.intent is None
    assert env.tokens.calls == {"read": 2, "create": 1, "dry_run": 2, "keep": 2, "save": 2}


async def test_twenty_renewals_consume_twenty_tokens_in_order() -> None:
    env = await consumed(20)

    assert env.aws.issuer.consumed == ["seed", *(f"refresh-{n}" for n in range(1, 20))]
    assert env.aws.issuer.reuses == 0


@pytest.mark.parametrize("life", [HOUR, 12 * HOUR], ids=str)
async def test_source_expiry_is_that_of_the_stored_token(life: timedelta) -> None:
    """Keycloak's refresh token is a JWT that is valid for half an hour, less than the credentials."""
    env = environment("seed")
    env.aws.life, env.aws.issuer.refresh_life = life, 30 * MINUTE
    for _ in range(4):
        outcome = await env.reconcile(rotating())

        assert (outcome.failure, outcome.reason == "") == (None, False)
        assert env.issuance().source_expires == env.now + 30 * MINUTE
        assert env.issuance().renew == env.now + 20 * MINUTE
        env.now += 20 * MINUTE


async def test_failure_is_retried_before_the_token_expires() -> None:
    env = environment("seed")
    env.aws.issuer.refresh_life, env.rand = 30 * MINUTE, 0.999
    await env.reconcile(rotating())
    env.now = env.issuance().renew
    while env.now < NOW + 29 * MINUTE:
        env.aws.failures = [UnavailableError("Unreachable", "no response")]
        failure = (await env.reconcile(rotating())).failure

        assert failure
        env.now = failure.next_attempt_time

    assert env.now < NOW + 30 * MINUTE


async def test_new_renewal_time_is_before_the_token_expires() -> None:
    env = environment("seed")
    env.aws.issuer.refresh_life = 30 * MINUTE
    await env.reconcile(rotating())
    await env.reconcile(rotating(renewal={"renewBefore": "5m"}))

    assert (env.issuance().revision, env.issuance().renew) == (1, NOW + 20 * MINUTE)


async def test_three_requests_with_one_source_consume_in_order() -> None:
    env = environment("seed")
    requests = [rotating(name) for name in ("a", "b", "c")]
    for _ in range(20):
        env.now += DUE
        waiting = requests
        while waiting:
            # A request that finds the token in use is reconciled again after a second.
            env.now += SECOND
            done = await asyncio.gather(*(env.reconcile(request) for request in waiting))
            waiting = [request for request, attempt in zip(waiting, done, strict=True) if not attempt.tried]

    assert len(env.aws.issuer.consumed) == 60
    assert env.aws.issuer.reuses == 0


async def test_token_of_an_issuer_that_does_not_rotate_is_kept() -> None:
    env = environment("seed")
    env.aws.issuer.rotates = False
    for _ in range(3):
        await env.reconcile(rotating(), DUE)

    assert stored_token(env).value == "seed"
    assert env.issuance().revision == 3


@pytest.mark.parametrize(
    "restored",
    [
        pytest.param("seed", id="GitOps restores the initial token"),
        pytest.param("refresh-3", id="a user stores a consumed token"),
    ],
)
async def test_source_with_a_token_of_the_family_is_ignored(restored: str) -> None:
    env = await consumed(5)
    env.secrets.put("license", data={"license_token": restored})

    outcome = await env.reconcile(rotating(), MINUTE)

    assert outcome.reason == ""
    assert len(env.aws.issuer.consumed) == 5


async def test_new_token_in_the_source_starts_a_new_family() -> None:
    env = await consumed(3)
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})

    outcome = await env.reconcile(rotating(), MINUTE)

    assert outcome.reason == "SourceChanged"
    assert stored_token(env).value == env.aws.issuer.live


async def test_consumed_token_restored_in_the_token_secret_is_not_sent() -> None:
    env = await consumed(3)
    old = StoredToken("refresh-1", stored_token(env).family, uid=stored_token(env).uid, version="9999")
    env.tokens.stored["billing", "license-keyturn"] = old

    outcome = await env.reconcile(rotating(), DUE)

    assert outcome.failure
    assert outcome.failure.error.reason == "StaleTokenRestored"
    assert (len(env.aws.issuer.consumed), env.aws.issuer.reuses) == (3, 0)


async def test_foreign_token_secret_is_not_written() -> None:
    env = environment("seed")
    env.tokens.stored["billing", "license-keyturn"] = StoredToken("theirs", None, uid="u", version="1")

    outcome = await env.reconcile(rotating())

    assert outcome.failure
    assert outcome.failure.error.reason == "TargetConflict"
    assert env.aws.issuer.consumed == []


async def test_recreated_target_is_issued_with_the_live_token() -> None:
    env = await consumed(3)
    env.secrets.delete("acme")
    env.restart()

    outcome = await env.reconcile(rotating(), MINUTE)

    assert outcome.failure is None
    assert env.aws.issuer.reuses == 0


async def test_save_is_retried_until_it_succeeds() -> None:
    env = environment("seed")
    env.tokens.failures["save"] = [UnavailableError("Unreachable", "no response")] * 7

    outcome = await env.reconcile(rotating())

    assert outcome.failure is None
    assert stored_token(env).value == env.aws.issuer.live


async def test_cancelled_renewal_saves_the_received_token() -> None:
    env = environment("seed")
    called, released = asyncio.Event(), asyncio.Event()

    async def wait_after_exchange(point: str) -> None:
        if point == "after OauthToken":
            called.set()
            await released.wait()

    env.checkpoint = wait_after_exchange
    task = asyncio.create_task(env.reconcile(rotating()))
    await called.wait()
    task.cancel()
    await asyncio.sleep(0)
    released.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stored_token(env).value == env.aws.issuer.live


async def test_token_is_not_consumed_if_the_dry_run_is_refused() -> None:
    env = await consumed()
    env.tokens.failures["dry_run"] = [RefusedError("WriteDenied", "a policy")]

    outcome = await env.reconcile(rotating(), DUE)

    assert outcome.failure
    assert outcome.failure.error.reason == "WriteDenied"
    assert len(env.aws.issuer.consumed) == 1


async def test_new_token_is_saved_if_the_access_token_is_too_long() -> None:
    class VerboseIssuer(RotatingIssuer):
        def refresh(self, token: str, now: datetime) -> PipelineValues:
            return replace(super().refresh(token, now), access_token=Token("x" * 16385))

    env = environment("seed")
    env.aws.issuer = VerboseIssuer()
    outcome = await env.reconcile(rotating())

    assert outcome.failure
    assert outcome.failure.error.reason == "InvalidSpec"
    assert stored_token(env).value == env.aws.issuer.live == "refresh-1"


async def test_unreachable_issuer_leaves_no_intent() -> None:
    env = await consumed()
    env.aws.issuer.unavailable = 1
    await env.reconcile(rotating(), DUE)

    family = stored_token(env).family
    assert family
    assert family.intent is None


def lose_response(env: FakeEnvironment) -> None:
    env.aws.issuer.lost = 1


def die_after_intent(env: FakeEnvironment) -> None:
    async def die(point: str) -> None:
        if point == "before OauthToken":
            raise asyncio.CancelledError

    env.checkpoint = die


@pytest.mark.parametrize(
    ("failure", "is_live"),
    [
        pytest.param(lose_response, False, id="response lost: the final attempt is refused"),
        pytest.param(die_after_intent, True, id="died before sending: the final attempt succeeds"),
    ],
)
async def test_unknown_outcome_leads_to_a_final_attempt(
    failure: Callable[[FakeEnvironment], None], *, is_live: bool
) -> None:
    env = await consumed()
    failure(env)
    try:
        await env.reconcile(rotating(), DUE)
    except asyncio.CancelledError:
        env.restart()
        env.__post_init__()
        env.checkpoint = type(env)().checkpoint
    reasons = [await reason(env, rotating(), after) for after in (SECOND, GIVE_UP_TIME, GIVE_UP_TIME)]

    assert reasons[0] == "RefreshOutcomeUnknown"
    assert (reasons[2] == "") is is_live
    assert env.aws.issuer.reuses == (0 if is_live else 1)


async def test_after_the_final_attempt_the_token_is_never_sent_again() -> None:
    env = await consumed()
    env.aws.issuer.lost = 1
    for after in (DUE, GIVE_UP_TIME, GIVE_UP_TIME, HOUR, HOUR, HOUR):
        await env.reconcile(rotating(), after)

    assert env.aws.issuer.reuses == 1


@pytest.mark.parametrize(
    ("may_concern_token", "calls"),
    [
        pytest.param(False, 2, id="the client was refused: the token was not checked and is sent again"),
        pytest.param(True, 1, id="the error may concern the token: that was the final attempt"),
    ],
)
async def test_final_attempt_is_repeated_only_if_the_client_was_refused(*, may_concern_token: bool, calls: int) -> None:
    env, sent = await consumed(), []
    env.aws.issuer.lost = 1
    await env.reconcile(rotating(), DUE)

    async def refuse(point: str) -> None:
        if point == "before OauthToken":
            sent.append(point)
            error = RefusedError("AccessDenied", "refused", may_concern_token=may_concern_token)
            raise error

    env.watch(refuse)
    for _ in range(3):
        await env.reconcile(rotating(), HOUR)

    assert len(sent) == calls


async def test_new_token_is_used_after_an_unknown_outcome() -> None:
    env = await consumed()
    env.aws.issuer.lost = 1
    for after in (DUE, GIVE_UP_TIME, GIVE_UP_TIME):
        await env.reconcile(rotating(), after)
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})

    outcome = await env.reconcile(rotating(), MINUTE)

    assert outcome.failure is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"target": {"formats": [{"env": {}}]}}, id="other formats"),
        pytest.param({"target": {"secretName": "elsewhere"}}, id="another Secret"),
    ],
)
async def test_new_target_waits_for_the_next_renewal(change: dict[str, Any]) -> None:
    env = await consumed()

    await env.reconcile(rotating(**change), MINUTE)
    assert len(env.aws.issuer.consumed) == 1

    await env.reconcile(rotating(**change), DUE)
    assert len(env.aws.issuer.consumed) == 2


async def reason(env: FakeEnvironment, token_request: Request, after: timedelta) -> str:
    outcome = await env.reconcile(token_request, after)
    return outcome.failure.error.reason if outcome.failure else ""
