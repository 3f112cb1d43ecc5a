"""Single-use credentials: exchanged once, for a refresh token if the issuer returns one."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.state import ReconcileState
from keyturn.core.token_family import StoredToken
from tests.support.dependencies import (
    ASSUME_ROLE,
    CODE,
    DAY,
    HOUR,
    MINUTE,
    REFRESH,
    SECOND,
    Attempt,
    FakeEnvironment,
    attempt,
    environment,
    request,
    signed,
    single_use,
    unprepared,
    with_code,
)

DUE = 45 * MINUTE
BOTH = {
    "token": {"secretKeyRef": {"name": "license", "key": "license_token"}},
    "credentials": {"secretRef": {"name": "base"}},
}
TO_REFRESH = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subjectTokenType": "urn:ietf:params:oauth:token-type:access_token",
    "requestedTokenType": "urn:ietf:params:oauth:token-type:refresh_token",
}
APPLICATION = {"clientId": CODE["identityCenterCreateToken"]["clientId"]}
ASSERTION = APPLICATION | {"grantType": "urn:ietf:params:oauth:grant-type:jwt-bearer"}
SINGLE_USE_STEPS: dict[str, dict[str, Any]] = {
    "an assertion": {"identityCenterCreateToken": ASSERTION},
    "a subject token of Identity Center for a refresh token": {"identityCenterCreateToken": APPLICATION | TO_REFRESH},
    "a subject token of any issuer for a refresh token": {"oauthToken": REFRESH["oauthToken"] | TO_REFRESH},
}


def stored_token(env: FakeEnvironment) -> StoredToken:
    return env.stored_token("sign-in-keyturn")


async def issued_without_refresh_token() -> FakeEnvironment:
    env = with_code()
    env.aws.issuer.refreshes = False
    outcome = await env.reconcile(single_use())
    assert outcome.failure is None
    return env


async def reconcile_consumed(env: FakeEnvironment, after: timedelta) -> Attempt:
    outcome = await env.reconcile(single_use(), after)
    assert outcome.failure_reason == "SourceConsumed"
    return outcome


async def test_code_is_sent_once_and_then_its_refresh_tokens() -> None:
    env = with_code("seed")
    for _ in range(4):
        outcome = await env.reconcile(single_use(), DUE)
        assert outcome.failure is None

    assert env.aws.issuer.consumed == ["seed", "refresh-1", "refresh-2", "refresh-3"]
    assert stored_token(env).value == env.aws.issuer.live == "refresh-4"
    assert (env.aws.issuer.reuses, env.issuance().revision, env.issuance().once) == (0, 4, False)


async def test_refresh_token_of_a_code_may_stay_valid() -> None:
    env = with_code("seed")
    await env.reconcile(single_use())
    env.aws.issuer.rotates = False
    for _ in range(3):
        await env.reconcile(single_use(), DUE)

    assert (stored_token(env).value, env.issuance().revision) == ("refresh-1", 4)


async def test_code_without_refresh_token_stalls_before_the_expiry() -> None:
    env = await issued_without_refresh_token()
    first = await env.reconcile(single_use(), MINUTE)
    status = first.status
    later = (await reconcile_consumed(env, DUE)).status

    assert (status.renewal_time, stored_token(env).value, env.issuance().once) == (None, "", True)
    assert [(c.type, c.status, c.reason) for c in later.conditions] == [
        ("Ready", "True", "Issued"),
        ("Renewed", "False", "SourceConsumed"),
        ("Stalled", "True", "SourceConsumed"),
    ]
    assert env.now < env.issuance().expires


async def test_consumed_code_is_never_sent_again() -> None:
    env = await issued_without_refresh_token()
    calls = env.exchanges
    for _ in range(50):
        await reconcile_consumed(env, HOUR)
    env.restart()
    env.secrets.delete("acme")
    for _ in range(3):
        await reconcile_consumed(env, HOUR)

    assert env.aws.issuer.consumed == ["seed"]
    assert env.exchanges == calls


async def test_new_code_is_used_immediately() -> None:
    env = await issued_without_refresh_token()
    await reconcile_consumed(env, DUE)
    env.secrets.put("sign-in", data={"code": env.aws.issuer.sign_in()})
    outcome = await env.reconcile(single_use(), SECOND)

    assert (outcome.reason, outcome.failure, env.issuance().revision) == ("SourceChanged", None, 2)


async def test_refused_code_is_not_sent_again() -> None:
    env = with_code("another")
    first = await env.reconcile(single_use())
    later = await reconcile_consumed(env, HOUR)
    latest = await reconcile_consumed(env, HOUR)

    assert first.failure_reason == "SourceInvalid"
    assert later.failure
    assert later.failure.error.message.endswith("; the last attempt failed: invalid_grant")
    assert latest.failure
    assert latest.failure.error.message == later.failure.error.message
    assert stored_token(env).is_consumed


@pytest.mark.parametrize(
    ("may_concern_token", "sent"), [(True, 1), (False, 3)], ids=["may concern it", "of the client"]
)
async def test_code_is_sent_again_only_if_the_client_was_refused(*, may_concern_token: bool, sent: int) -> None:
    env = with_code("seed")
    env.aws.issuer.refusal = RefusedError("AccessDenied", "refused", may_concern_token=may_concern_token)
    for _ in range(3):
        await env.reconcile(single_use(), HOUR)

    assert env.aws.issuer.requests == sent


async def test_code_that_was_not_received_is_sent_again() -> None:
    env = with_code("seed")
    env.aws.issuer.unavailable = 1
    first = await env.reconcile(single_use())
    second = await env.reconcile(single_use(), 10 * MINUTE)

    assert first.failure
    assert second.failure is None
    assert env.aws.issuer.consumed == ["seed"]


async def test_failure_after_the_code_was_consumed_stays_in_the_message() -> None:
    env = with_code("seed")
    env.aws.issuer.refreshes = False
    env.aws.failures.append(RefusedError("AccessDenied", "a trust policy", eventually_consistent=True))
    first = await env.reconcile(single_use())
    assert first.failure
    later = await reconcile_consumed(env, HOUR)

    assert first.failure.error.reason == "AccessDenied"
    assert first.failure.failed_at
    wait = first.failure.next_attempt_time - first.failure.failed_at
    assert wait >= (REASONS["AccessDenied"].retry_after or timedelta())
    assert later.failure
    assert "a trust policy" in later.failure.error.message


async def test_new_code_is_not_sent_if_the_secret_is_not_writable() -> None:
    env = await issued_without_refresh_token()
    env.secrets.put("sign-in", data={"code": env.aws.issuer.sign_in()})
    env.store.failures["dry_run"] = [RefusedError("WriteDenied", "a quota")]
    outcome = await env.reconcile(single_use(), MINUTE)

    assert outcome.failure_reason == "WriteDenied"
    assert env.aws.issuer.consumed == []


async def test_refresh_token_of_one_step_is_not_passed_to_the_next() -> None:
    refresh_tokens: list[str | None] = []

    async def exchange(_: Request, step: StepSpec, values: PipelineValues) -> PipelineValues:
        refresh_tokens.append(values.refresh_token)
        response = dataclasses.replace(values, access_token=Token("token", env.now + HOUR), refresh_token="refresh")
        return response if step.oauth_token or step.identity_center_create_token else values

    env = with_code()
    steps = [REFRESH, *SINGLE_USE_STEPS.values()]
    token_request = request(source=BOTH, exchanges=steps, target={"formats": [{"token": {}}]})
    outcome = await attempt(
        dataclasses.replace(env.deps, prepare=unprepared(exchange)), token_request, ReconcileState()
    )

    assert outcome.failure is None
    assert refresh_tokens == [None, None, None, None]


async def test_new_formats_of_a_consumed_code_are_refused_at_once() -> None:
    env = with_code("seed")
    env.aws.issuer.refreshes = False
    await env.reconcile(single_use())
    outcome = await env.reconcile(single_use(target={"formats": [{"env": {}}]}), MINUTE)

    assert outcome.failure
    assert (outcome.failure.error.reason, env.aws.issuer.reuses) == ("SourceConsumed", 0)


@pytest.mark.parametrize("step", SINGLE_USE_STEPS.values(), ids=SINGLE_USE_STEPS)
async def test_single_use_source_token_is_exchanged_for_refresh_tokens(step: dict[str, Any]) -> None:
    env = with_code()
    jwt = env.aws.issuer.live = signed(env.now, env.now + DAY)
    env.secrets.put("license", data={"license_token": jwt})
    token_request = request(source=BOTH, exchanges=[step, ASSUME_ROLE])
    for _ in range(40):
        outcome = await env.reconcile(token_request, DUE)
        assert outcome.failure is None

    assert env.aws.issuer.consumed[:2] == [jwt, "refresh-1"]
    assert (env.issuance().source_expires, env.aws.issuer.reuses) == (None, 0)
    assert env.stored_token().value == env.aws.issuer.live


@pytest.mark.parametrize("step", SINGLE_USE_STEPS.values(), ids=SINGLE_USE_STEPS)
async def test_service_account_token_is_not_stored(step: dict[str, Any]) -> None:
    token_request = request(source=BOTH | {"token": {"serviceAccount": {"name": "app"}}}, exchanges=[step, ASSUME_ROLE])

    assert token_request.spec.consumption is None
    assert {"base"} <= token_request.spec.secrets_read <= {"base", "client"}


async def test_subject_token_is_sent_once_for_each_client() -> None:
    env, saved = environment("subject"), []
    for name in ("first", "second"):
        env.aws.issuer.live, env.aws.issuer.consumed = "subject", []
        token = BOTH["token"] | {"saveTo": {"secretName": f"{name}-token"}}
        step = {"oauthToken": REFRESH["oauthToken"] | TO_REFRESH | {"clientId": name}}
        outcome = await env.reconcile(request(name, source={"token": token}, exchanges=[step, ASSUME_ROLE]))
        assert outcome.failure is None
        saved.append(env.stored_token(f"{name}-token").value)

    assert saved == ["refresh-1", "refresh-2"]


async def test_stored_token_is_not_sent_to_another_application() -> None:
    env = with_code()
    jwt = env.aws.issuer.live = signed(env.now, env.now + DAY)
    env.secrets.put("license", data={"license_token": jwt})
    steps = ({"identityCenterCreateToken": ASSERTION | APPLICATION | {"clientId": f"{APPLICATION['clientId']}{n}"}}
             for n in (1, 2))  # fmt: skip
    first, second = (request(f"acme-{n}", source=BOTH, exchanges=[step, ASSUME_ROLE]) for n, step in enumerate(steps))
    assert (await env.reconcile(first)).failure is None
    refused = await env.reconcile(second, MINUTE)

    assert refused.failure_reason == "TargetConflict"
    assert env.aws.issuer.consumed == [jwt]
