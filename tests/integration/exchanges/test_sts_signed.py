import asyncio
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import aws, emulator_settings, fail_signed, run_signed, step

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/keyturn"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer"


def _role(**more: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | more}


ROLE_STEP = _role()
SESSION_STEP: dict[str, Any] = {"getSessionToken": {}}
FEDERATION_STEP: dict[str, Any] = {"getFederationToken": {}}
EXCHANGES = pytest.mark.parametrize(
    ("step_spec", "operation"),
    [(ROLE_STEP, "AssumeRole"), (SESSION_STEP, "GetSessionToken"), (FEDERATION_STEP, "GetFederationToken")],
)


def credentials_in(values: PipelineValues) -> Credentials:
    if values.credentials is None:
        raise AssertionError("no credentials")
    return values.credentials


@EXCHANGES
async def test_keys_are_exchanged_for_credentials(
    step_spec: dict[str, Any], operation: str, client: Aws, emulator: Emulator
) -> None:
    values = await run_signed(client, step_spec)

    assert credentials_in(values).access_key_id.startswith("ASIA")
    assert {credentials_in(values).secret_access_key, credentials_in(values).session_token} <= {*emulator.secrets()}
    assert len(values.request_id) == 36
    assert emulator.recent_calls()[-1]["principal"] == USER_ARN


@pytest.mark.parametrize(
    ("step_spec", "lifetime"),
    [
        pytest.param(ROLE_STEP, HOUR, id="a role, by default"),
        pytest.param({"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "durationSeconds": 43200}}, 12 * HOUR, id="a role"),
        pytest.param(SESSION_STEP, 12 * HOUR, id="a session, by default"),
        pytest.param({"getSessionToken": {"durationSeconds": 900}}, 15 * MINUTE, id="a session"),
        pytest.param(FEDERATION_STEP, 12 * HOUR, id="a federated user, by default"),
        pytest.param({"getFederationToken": {"durationSeconds": 129600}}, 36 * HOUR, id="a federated user"),
    ],
)
async def test_duration_is_sent(
    step_spec: dict[str, Any], lifetime: timedelta, client: Aws, emulator: Emulator
) -> None:
    expires_at = credentials_in(await run_signed(client, step_spec)).expires_at

    assert expires_at
    assert abs(expires_at - real_now() - lifetime) < MINUTE


async def test_get_session_token_keeps_the_principal(client: Aws, emulator: Emulator) -> None:
    assert (await run_signed(client, SESSION_STEP)).principal == ""


async def test_no_call_without_credentials(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError, match="needs credentials"):
        await run_signed(client, ROLE_STEP, keys=None)  # type: ignore[arg-type]

    assert emulator.recent_calls() == []


@pytest.mark.parametrize(
    ("keys", "expected_text"),
    [
        pytest.param(Credentials("AKIANOTTHERE", "key"), "InvalidClientTokenId; check", id="unknown"),
        pytest.param(Credentials(USER_KEY_ID, "wrong"), "SignatureDoesNotMatch; check", id="a wrong secret"),
        pytest.param(Credentials(USER_KEY_ID, USER_SECRET_KEY, "planted"), "", id="an unknown session"),
    ],
)
@EXCHANGES
async def test_invalid_keys_are_refused(
    step_spec: dict[str, Any], operation: str, keys: Credentials, expected_text: str, client: Aws, emulator: Emulator
) -> None:
    error = await fail_signed(client, step_spec, keys=keys)

    assert (error.reason, emulator.calls(operation)) == ("SourceInvalid", 1)
    assert error.message.startswith(f"STS {operation}")
    assert expected_text in error.message
    assert not any(value in error.message for value in ("planted", USER_SECRET_KEY))


@EXCHANGES
async def test_expired_session_is_source_expired(
    step_spec: dict[str, Any], operation: str, client: Aws, emulator: Emulator
) -> None:
    emulator.settings(session_seconds=40)
    expired = credentials_in(await run_signed(client, ROLE_STEP))
    emulator.settings(clock_offset_seconds=50)  # too little to count as clock skew
    error = await fail_signed(client, step_spec, keys=expired)

    assert (error.reason, "have expired" in error.message) == ("SourceExpired", True)


async def test_untrusted_caller_is_eventually_consistent(client: Aws, emulator: Emulator) -> None:
    error = await fail_signed(client, {"assumeRole": {"roleArn": f"{ACCOUNT_ROLE_ARN}-not-there"}})

    assert isinstance(error, RefusedError)
    assert (error.reason, error.eventually_consistent) == ("AccessDenied", True)


@pytest.mark.parametrize("step_spec", [SESSION_STEP, FEDERATION_STEP])
async def test_session_cannot_call_get_session_token(
    step_spec: dict[str, Any], client: Aws, emulator: Emulator
) -> None:
    error = await fail_signed(client, step_spec, keys=credentials_in(await run_signed(client, ROLE_STEP)))

    assert isinstance(error, RefusedError)
    assert (error.reason, error.eventually_consistent) == ("AccessDenied", False)
    assert "an IAM user" in error.message


async def test_one_client_signs_for_many_identities(emulator: Emulator) -> None:
    users = {name: emulator.control("POST", "users", name=name) for name in ("one", "two", "three", "four")}
    emulator.settings(latency_seconds=0.02)
    with closing(aws(emulator_settings(emulator))) as client:

        async def principal(name: str) -> str:
            named = _role(roleSessionName=name)
            return (await run_signed(client, named, keys=Credentials(**users[name]))).principal

        names = [*users] * 10
        sessions = await asyncio.gather(*(principal(name) for name in names))
        client_count = len(client._clients._clients)

    assert sessions == [f"{SESSION}/{name}" for name in names]
    signers = sorted(call["principal"] for call in emulator.recent_calls())
    assert signers == sorted(f"arn:aws:iam::{ACCOUNT}:user/{name}" for name in names)
    assert client_count == 1


@pytest.mark.usefixtures("ambient_credentials")
async def test_ambient_keys_are_not_used_for_signing(emulator: Emulator) -> None:
    with closing(aws(emulator_settings(emulator))) as client:
        await run_signed(client, ROLE_STEP)
        error = await fail_signed(client, ROLE_STEP, keys=Credentials("", ""))

    assert emulator.recent_calls()[0]["principal"] == USER_ARN
    assert error.reason != "AccessDenied"
    assert all("AKIAENV" not in call["principal"] for call in emulator.recent_calls())


async def test_signer_does_not_leak_into_the_next_call(emulator: Emulator) -> None:
    with closing(aws(emulator_settings(emulator), threads=1)) as client:
        await run_signed(client, ROLE_STEP)
        await step(client, PipelineValues(Token(emulator.refresh_token())), request())
        error = await fail_signed(client, ROLE_STEP, keys=Credentials(USER_KEY_ID, "wrong"))

    assert [call["principal"] for call in emulator.recent_calls()][:2] == [USER_ARN, "anonymous"]
    assert "SignatureDoesNotMatch" in error.message
