"""Tokens whose issuer states a lifetime apart from the token, an impossible one, or none."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from keyturn.core.errors import RefusedError, UnavailableError
from tests.support.cases import cases
from tests.support.dependencies import (
    DAY,
    HOUR,
    MINUTE,
    NOW,
    REFRESH,
    SECOND,
    FakeEnvironment,
    environment,
    request,
    rotating,
    signed,
)

TOKEN_ONLY: dict[str, Any] = {"exchanges": [REFRESH]}
FIELD = "spec.exchanges[0].oauthToken.assumedLifetime"


def with_source(token: str) -> FakeEnvironment:
    env = environment(token)
    env.aws.issuer.live = token
    return env


@cases(
    "issuer",
    {
        "rotated": {"rotates": True},
        "kept: the response states the lifetime of the token that was sent": {"rotates": False},
        "a JWT with another exp: the response counts": {"rotates": True, "refresh_life": 9 * HOUR},
    },
)
async def test_refresh_token_is_used_within_its_stated_lifetime(issuer: dict[str, Any]) -> None:
    env = with_source("seed")
    env.aws.life, env.aws.issuer.stated_life = 12 * HOUR, 4 * HOUR
    for name, value in issuer.items():
        setattr(env.aws.issuer, name, value)
    for _ in range(3):
        outcome = await env.reconcile(rotating())
        expires = env.now + 4 * HOUR

        assert (outcome.failure, outcome.reason == "") == (None, False)
        assert env.stored_token().expires_at == env.issuance().source_expires == expires
        assert env.issuance().renew == env.now + 2 * HOUR + 40 * MINUTE
        env.restart()
        assert (await env.reconcile(rotating(), SECOND)).reason == ""
        env.now = env.issuance().renew


async def test_final_attempt_is_made_while_a_new_token_is_valid() -> None:
    """The credentials are valid for longer than the token, whose predecessor has expired."""
    env = environment("seed")
    env.aws.life, env.aws.issuer.refresh_life = 12 * HOUR, 30 * MINUTE
    await env.reconcile(rotating())
    env.now += HOUR
    env.secrets.put("license", data={"license_token": signed(env.now, env.now + 30 * MINUTE)})
    env.aws.issuer.refusal = UnavailableError("Unavailable", "HTTP 502", outcome_unknown=True)
    failure = (await env.reconcile(rotating())).failure

    assert failure
    assert (failure.error.reason, failure.next_attempt_time) == ("RefreshOutcomeUnknown", env.now + 15 * MINUTE)


@pytest.mark.parametrize("reason", ["SourceInvalid", "InvalidSpec"])
async def test_token_does_not_expire_while_a_later_exchange_fails(reason: str) -> None:
    """The issuance record does not contain the expiry of a token that replaced another one since."""
    env = environment("seed")
    env.aws.life, env.aws.issuer.refresh_life, env.rand = 12 * HOUR, 30 * MINUTE, 0.999
    await env.reconcile(rotating())
    env.now = env.issuance().renew
    for _ in range(20):
        env.aws.failures = [RefusedError(reason, "no keys of the issuer")]
        failure = (await env.reconcile(rotating())).failure
        expires = env.stored_token().expires_at

        assert failure
        assert expires
        assert failure.next_attempt_time < expires
        env.now = failure.next_attempt_time

    assert (await env.reconcile(rotating())).failure is None


async def test_stated_lifetime_survives_a_new_renewal_time() -> None:
    env = with_source("seed")
    env.aws.life, env.aws.issuer.stated_life = 12 * HOUR, 4 * HOUR
    await env.reconcile(rotating())
    env.restart()
    await env.reconcile(rotating(renewal={"renewBefore": "50m"}))

    assert (env.issuance().revision, env.issuance().renew) == (1, NOW + 2 * HOUR + 40 * MINUTE)


@cases(
    "later, expected",
    {
        "the same token: its expiry stays": (HOUR, NOW + 4 * HOUR),
        "accepted after its expiry: the statement was wrong": (5 * HOUR, None),
    },
)
async def test_lifetime_that_is_not_stated_again(later: timedelta, expected: object) -> None:
    env = with_source("seed")
    env.aws.issuer.rotates, env.aws.issuer.stated_life = False, 4 * HOUR
    await env.reconcile(rotating())
    env.aws.issuer.stated_life = None
    outcome = await env.reconcile(replace(rotating(), renew_requested="now"), later)

    assert outcome.reason == "RenewalRequested"
    assert env.stored_token().expires_at == env.issuance().source_expires == expected


async def test_new_token_without_a_stated_lifetime_has_none() -> None:
    env = with_source("seed")
    env.aws.issuer.stated_life = 4 * HOUR
    await env.reconcile(rotating())
    env.aws.issuer.stated_life = None
    await env.reconcile(rotating(), HOUR)

    assert env.stored_token().expires_at is env.issuance().source_expires is None


@cases(
    "token",
    {
        "exp 0": signed(exp=0),
        "exp -1": signed(exp=-1),
        "exp -1 as a string": signed(exp="-1"),
        "exp before iat": signed(NOW, NOW - DAY),
        "exp that is no number": signed(exp=float("nan")),
    },
)
async def test_token_with_an_impossible_exp_is_sent(token: str) -> None:
    env = with_source(token)
    outcome = await env.reconcile(rotating())

    assert (outcome.failure, env.aws.issuer.consumed) == (None, [token])
    assert env.issuance().source_expires is None


async def test_rotated_token_that_was_past_when_received_is_sent() -> None:
    """The clock of the node, or of the issuer, is wrong."""
    env = with_source("seed")
    env.aws.issuer.refresh_life = -HOUR
    for _ in range(3):
        outcome = await env.reconcile(rotating(), HOUR)
        assert outcome.failure is None

    assert (len(env.aws.issuer.consumed), env.issuance().source_expires) == (3, None)


@pytest.mark.parametrize("is_rotated", [False, True], ids=["the source's own token", "a rotated token"])
async def test_token_with_a_past_exp_is_not_sent(*, is_rotated: bool) -> None:
    env = with_source("seed" if is_rotated else signed(NOW, NOW + HOUR))
    env.aws.issuer.refresh_life = HOUR
    if is_rotated:
        await env.reconcile(rotating())
    outcome = await env.reconcile(rotating(), 2 * HOUR)

    assert (outcome.failure_reason, len(env.aws.issuer.consumed)) == ("SourceExpired", int(is_rotated))


async def test_token_with_a_past_exp_is_sent_within_its_stated_lifetime() -> None:
    env = with_source("seed")
    env.aws.issuer.refresh_life, env.aws.issuer.stated_life = 30 * MINUTE, 4 * HOUR
    await env.reconcile(rotating())
    outcome = await env.reconcile(rotating(), HOUR)

    assert (outcome.failure, len(env.aws.issuer.consumed)) == (None, 2)


async def test_opaque_token_past_its_stated_lifetime_is_sent() -> None:
    env = with_source("seed")
    env.aws.issuer.stated_life = HOUR
    await env.reconcile(rotating())
    outcome = await env.reconcile(rotating(), 2 * HOUR)

    assert (outcome.failure, outcome.reason, len(env.aws.issuer.consumed)) == (None, "Due", 2)


async def test_unknown_expiry_consumes_one_token() -> None:
    env = with_source("seed")
    env.aws.issuer.states_life = False
    outcomes = [await env.reconcile(request(**TOKEN_ONLY), HOUR) for _ in range(3)]
    env.restart()
    env.statuses.clear()
    outcomes.append(await env.reconcile(request(**TOKEN_ONLY), HOUR))

    assert {outcome.failure_reason for outcome in outcomes} == {"InvalidSpec"}
    assert all(outcome.failure and outcome.failure.error.message.endswith(f"; set {FIELD}") for outcome in outcomes)
    assert env.aws.issuer.consumed == ["seed"]
    assert env.stored_token().value == env.aws.issuer.live == "refresh-1"


async def test_expiry_that_one_response_omits_prevents_no_renewal() -> None:
    env = with_source("seed")
    await env.reconcile(request(**TOKEN_ONLY))
    env.aws.issuer.states_life = False
    failed = await env.reconcile(request(**TOKEN_ONLY), 45 * MINUTE)
    env.aws.issuer.states_life = True
    renewed = await env.reconcile(request(**TOKEN_ONLY), MINUTE)

    assert (failed.failure_reason, env.issuance().revision, renewed.failure) == ("Unavailable", 2, None)


async def test_expiry_that_all_responses_omit_leaves_the_credentials_valid() -> None:
    env = with_source("seed")
    await env.reconcile(request(**TOKEN_ONLY))
    env.aws.issuer.states_life = False
    outcomes = [await env.reconcile(request(**TOKEN_ONLY), 45 * MINUTE)]
    outcomes += [await env.reconcile(request(**TOKEN_ONLY), MINUTE) for _ in range(13)]

    assert outcomes[-1].failure
    assert outcomes[-1].failure.error.message.endswith(f"; set {FIELD}")
    assert (outcomes[-1].failure_reason, len(env.aws.issuer.consumed)) == ("InvalidSpec", 7)
    assert (env.issuance().revision, env.stored_token().value) == (1, "refresh-7")


@cases(
    "change",
    {
        "another spec": {"exchanges": [{"oauthToken": REFRESH["oauthToken"] | {"assumedLifetime": "30m"}}]},
        "a requested renewal": {"renew_requested": "now"},
        "a new sign-in": {"source": True},
    },
)
async def test_refused_attempt_is_repeated_after_a_change(change: dict[str, Any]) -> None:
    env = with_source("seed")
    env.aws.issuer.states_life = False
    await env.reconcile(request(**TOKEN_ONLY))
    env.aws.issuer.states_life = True
    if "source" in change:
        env.secrets.put("license", data={"license_token": env.aws.issuer.sign_in()})
    changed = request(**TOKEN_ONLY | {key: change[key] for key in change if key == "exchanges"})
    outcome = await env.reconcile(replace(changed, renew_requested=change.get("renew_requested", "")), HOUR)

    assert (outcome.failure, env.issuance().revision) == (None, 1)


async def test_refusal_concerns_only_the_request_that_needs_the_expiry() -> None:
    env = with_source("seed")
    env.aws.issuer.states_life = False
    await env.reconcile(request("first", **TOKEN_ONLY))
    other = await env.reconcile(rotating("second"))
    repeated = await env.reconcile(request("first", **TOKEN_ONLY), HOUR)

    assert (other.failure, repeated.failure_reason, len(env.aws.issuer.consumed)) == (None, "InvalidSpec", 2)


async def test_refusal_that_cannot_be_recorded_is_reported() -> None:
    env = with_source("seed")
    env.aws.issuer.states_life = False

    async def fail_after_save(point: str) -> None:
        if "save" in point:
            env.tokens.failures["update"] = [UnavailableError("Unreachable", "no response")]

    env.watch(fail_after_save)
    outcome = await env.reconcile(request(**TOKEN_ONLY))

    assert (outcome.failure_reason, env.stored_token().value) == ("InvalidSpec", "refresh-1")
