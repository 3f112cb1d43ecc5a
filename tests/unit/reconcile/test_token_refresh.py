import asyncio
import dataclasses
from datetime import datetime, timedelta
from typing import Any

import pytest

from keyturn.core.errors import RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from tests.support.cases import cases
from tests.support.dependencies import HOUR, MINUTE, NOW, SECOND, FakeEnvironment, environment, rotating
from tests.support.rotation import RotatingIssuer
from tests.support.status import conditions, row

GIVE_UP_TIME = 8 * MINUTE
DUE = 45 * MINUTE


async def consumed(times: int = 1) -> FakeEnvironment:
    """An environment after `times` renewals with a rotated source token."""
    env = environment("seed")
    for _ in range(times):
        outcome = await env.reconcile(rotating(), DUE)
        assert outcome.failure is None
    return env


async def test_twenty_renewals_consume_twenty_tokens_in_order() -> None:
    env = await consumed(20)
    stored_token, issuer = env.stored_token(), env.aws.issuer

    assert issuer.consumed == ["seed", *(f"refresh-{n}" for n in range(1, 20))]
    assert (stored_token.value, issuer.live, issuer.reuses) == ("refresh-20", "refresh-20", 0)
    assert stored_token.family
    assert stored_token.family.intent is None
    assert env.tokens.calls == {"read": 20, "find_families": 1, "create": 1, "dry_run": 20, "update": 20, "save": 20}
    assert env.secrets.data("license") == {"license_token": "seed"}


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

    assert env.stored_token().value == "seed"
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


async def test_consumed_token_restored_in_the_token_secret_is_not_sent() -> None:
    env = await consumed(3)
    env.secrets.put("license-keyturn", data={"license_token": "refresh-1"})

    outcome = await env.reconcile(rotating(), DUE)

    assert outcome.failure_reason == "StaleTokenRestored"
    assert (len(env.aws.issuer.consumed), env.aws.issuer.reuses) == (3, 0)


async def test_foreign_token_secret_is_not_written() -> None:
    env = environment("seed")
    env.secrets.put("license-keyturn", data={"license_token": "theirs"})

    outcome = await env.reconcile(rotating())

    assert outcome.failure_reason == "TargetConflict"
    assert env.aws.issuer.consumed == []


async def test_recreated_target_is_issued_with_the_live_token() -> None:
    env = await consumed(3)
    env.secrets.delete("acme")
    env.restart()

    outcome = await env.reconcile(rotating(), MINUTE)

    assert outcome.failure is None
    assert env.aws.issuer.reuses == 0


async def test_token_is_not_consumed_if_the_dry_run_is_refused() -> None:
    env = await consumed()
    env.tokens.failures["dry_run"] = [RefusedError("WriteDenied", "a policy")]

    outcome = await env.reconcile(rotating(), DUE)

    assert outcome.failure_reason == "WriteDenied"
    assert len(env.aws.issuer.consumed) == 1


async def test_full_issuer_queue_costs_neither_an_attempt_nor_a_write() -> None:
    env = await consumed()
    before = env.statuses[rotating().uid]
    env.aws.busy["OauthToken"] = [2 * SECOND]
    env.tokens.calls.clear()
    outcome = await env.reconcile(rotating(), DUE)

    assert (outcome.failure, outcome.tried, outcome.reconciled.events) == (None, False, ())
    assert outcome.status == before
    assert outcome.reconciled.requeue_at == env.now + 2 * SECOND
    assert env.tokens.calls == {"read": 1}
    assert (await env.reconcile(rotating(), 2 * SECOND)).reason == "Due"


async def test_issuer_is_not_busy_while_a_token_is_saved() -> None:
    env, reserved = await consumed(), list[str]()

    async def record(point: str) -> None:
        if "save" in point or "OauthToken" in point:
            reserved.append(f"{point}: {env.aws.reserved}")

    env.watch(record)
    await env.reconcile(rotating(), DUE)

    assert "before OauthToken: OauthToken" in reserved
    assert [text for text in reserved if "save" in text] == [text for text in reserved if text.endswith("save: ")]


async def test_new_token_is_saved_if_the_access_token_is_too_long() -> None:
    class VerboseIssuer(RotatingIssuer):
        def refresh(self, token: str, now: datetime) -> PipelineValues:
            return dataclasses.replace(super().refresh(token, now), access_token=Token("x" * 20_001))

    env = environment("seed")
    env.aws.issuer = VerboseIssuer()
    outcome = await env.reconcile(rotating())

    assert outcome.failure
    assert outcome.failure.error.reason == "InvalidSpec"
    assert env.stored_token().value == env.aws.issuer.live == "refresh-1"


@cases(
    "error, reason",
    {
        "reported by the issuer": (RefusedError("InvalidSpec", "invalid_scope"), "InvalidSpec"),
        "a bug in reading the response": (OverflowError("date value out of range"), "InternalError"),
    },
)
async def test_new_token_is_saved_before_the_error_beside_it_is_reported(error: Exception, reason: str) -> None:
    class NarrowingIssuer(RotatingIssuer):
        def refresh(self, token: str, now: datetime) -> PipelineValues:
            return dataclasses.replace(super().refresh(token, now), access_token=None, error=error)

    env = environment("seed")
    env.aws.issuer = NarrowingIssuer()
    outcome = await env.reconcile(rotating())
    stored = env.stored_token()

    assert outcome.failure
    assert outcome.failure.error.reason == reason
    assert stored.family
    assert (stored.value, stored.family.intent) == ("refresh-1", None)
    # The next attempt sends the token that was saved.
    env.aws.issuer = RotatingIssuer(live="refresh-1")
    assert (await env.reconcile(rotating(), HOUR)).failure is None


async def test_unreachable_issuer_leaves_no_intent() -> None:
    env = await consumed()
    env.aws.issuer.unavailable = 1
    await env.reconcile(rotating(), DUE)

    family = env.stored_token().family
    assert family
    assert family.intent is None


async def test_unknown_outcome_leads_to_one_final_attempt() -> None:
    env = await consumed()
    env.aws.issuer.lost = 1
    times = (DUE, SECOND, GIVE_UP_TIME, GIVE_UP_TIME, HOUR, HOUR)
    attempts = [await env.reconcile(rotating(), after) for after in times]

    assert {outcome.failure_reason for outcome in attempts} == {"RefreshOutcomeUnknown"}
    assert env.aws.issuer.reuses == 1


async def test_outage_that_ends_before_the_expiry_needs_no_sign_in() -> None:
    """A proxy whose issuer is down returns 502. That does not show whether the issuer received the token."""
    env, requests = await consumed(), (rotating(), rotating("other"))
    await env.reconcile(requests[1], MINUTE)
    env.aws.issuer.refusal = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)
    env.now += DUE - MINUTE
    for _ in range(5):
        outcomes = [await env.reconcile(it) for it in requests]
        env.now += MINUTE
    assert {outcome.failure_reason for outcome in outcomes} == {"RefreshOutcomeUnknown"}
    env.aws.issuer.refusal = None
    outcomes = [await env.reconcile(it, 5 * MINUTE) for it in requests]

    assert [outcome.failure for outcome in outcomes] == [None, None]


async def test_final_attempt_that_this_process_made_is_not_awaited() -> None:
    """Another process may still be making its own."""
    env = await consumed()
    env.aws.issuer.lost = 1
    for after in (DUE, 2 * GIVE_UP_TIME):
        await env.reconcile(rotating(), after)
    env.states.clear()
    outcome = await env.reconcile(rotating(), SECOND)

    assert outcome.status.condition("Stalled")


@pytest.mark.parametrize(
    ("may_concern_token", "calls"),
    [
        pytest.param(False, 3, id="the client was refused: the token was not checked and is sent again"),
        pytest.param(True, 1, id="the error may concern the token: that was the final attempt"),
    ],
)
async def test_final_attempt_is_repeated_only_if_the_client_was_refused(*, may_concern_token: bool, calls: int) -> None:
    env = await consumed()
    env.aws.issuer.lost = 1
    await env.reconcile(rotating(), DUE)
    requests = env.aws.issuer.requests
    env.aws.issuer.refusal = RefusedError("AccessDenied", "refused", may_concern_token=may_concern_token)
    for _ in range(3):
        await env.reconcile(rotating(), HOUR)

    assert env.aws.issuer.requests - requests == calls


@pytest.mark.parametrize("lost", [0, 1], ids=["after a success", "after an unknown outcome"])
async def test_new_token_in_the_source_starts_a_new_family(lost: int) -> None:
    env = await consumed()
    env.aws.issuer.lost = lost
    for after in (DUE, GIVE_UP_TIME, GIVE_UP_TIME):
        await env.reconcile(rotating(), after)
    env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})

    outcome = await env.reconcile(rotating(), MINUTE)

    assert (outcome.failure, outcome.reason) == (None, "SourceChanged")
    assert env.stored_token().value == env.aws.issuer.live


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"target": {"formats": [{"env": {}}]}}, id="other formats"),
        pytest.param({"target": {"secretName": "elsewhere"}}, id="another Secret"),
    ],
)
async def test_new_target_waits_for_the_next_renewal(change: dict[str, Any]) -> None:
    env = await consumed()

    waiting = await env.reconcile(rotating(**change), MINUTE)
    assert len(env.aws.issuer.consumed) == 1
    assert conditions(waiting.status) == row("False WaitingForRenewal", "True Issued")

    await env.reconcile(rotating(**change), DUE)
    assert len(env.aws.issuer.consumed) == 2


@pytest.mark.parametrize("change", [{"formats": [{"env": {}}]}, {"secretName": "elsewhere"}], ids=["formats", "name"])
async def test_new_target_is_written_at_once_if_requested(change: dict[str, Any]) -> None:
    env, token_request = await consumed(), rotating(target=change)
    await env.reconcile(token_request, MINUTE)

    outcome = await env.reconcile(dataclasses.replace(token_request, renew_requested="now"), MINUTE)

    assert (outcome.reason, len(env.aws.issuer.consumed)) == ("RenewalRequested", 2)
    assert conditions(outcome.status)["Ready"] == "True Renewed"
