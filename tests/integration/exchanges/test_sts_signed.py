import asyncio
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.integration.exchanges.conftest import settings
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import aws, step

USER = Credentials(USER_KEY_ID, USER_SECRET_KEY)
USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/keyturn"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/AccountConsumer"


def _role(**more: Any) -> dict[str, Any]:
    return {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | more}


ROLE_STEP = _role()
SESSION_STEP: dict[str, Any] = {"getSessionToken": {}}
GUEST_STEP: dict[str, Any] = {"getFederationToken": {}}
EXCHANGES = pytest.mark.parametrize(
    ("wanted", "operation"),
    [(ROLE_STEP, "AssumeRole"), (SESSION_STEP, "GetSessionToken"), (GUEST_STEP, "GetFederationToken")],
)


def signed_by_keys(*steps: dict[str, Any], **spec: Any) -> Request:
    """A request that starts from access keys."""
    source = {"credentials": {"secretRef": {"name": "base"}}}
    return request(source=source, exchanges=list(steps), **spec)


async def taken(client: Aws, wanted: dict[str, Any], keys: Credentials = USER) -> PipelineValues:
    """One signed step."""
    return await step(client, PipelineValues(credentials=keys), signed_by_keys(wanted))


async def refused(client: Aws, wanted: dict[str, Any], keys: Credentials = USER) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await taken(client, wanted, keys)
    return raised.value


def given(held: PipelineValues) -> Credentials:
    if held.credentials is None:
        raise AssertionError("no credentials")
    return held.credentials


@EXCHANGES
async def test_keys_become_credentials(wanted: dict[str, Any], operation: str, client: Aws, emulator: Emulator) -> None:
    held = await taken(client, wanted)

    assert given(held).access_key_id.startswith("ASIA")
    assert {given(held).secret_access_key, given(held).session_token} <= {*emulator.secrets()}
    assert len(held.request_id) == 36
    assert emulator.recent_calls()[-1]["principal"] == USER_ARN


async def test_the_session_is_named_after_the_request(client: Aws, emulator: Emulator) -> None:
    mine = _role(roleSessionName="mine")

    assert (await taken(client, ROLE_STEP)).principal == f"{SESSION}/billing.acme"
    assert (await taken(client, mine)).principal == f"{SESSION}/mine"


@pytest.mark.parametrize(
    ("wanted", "lifetime"),
    [
        pytest.param(ROLE_STEP, HOUR, id="a role, by default"),
        pytest.param({"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN, "durationSeconds": 43200}}, 12 * HOUR, id="a role"),
        pytest.param(SESSION_STEP, 12 * HOUR, id="a session, by default"),
        pytest.param({"getSessionToken": {"durationSeconds": 900}}, 15 * MINUTE, id="a session"),
        pytest.param(GUEST_STEP, 12 * HOUR, id="a guest, by default"),
        pytest.param({"getFederationToken": {"durationSeconds": 129600}}, 36 * HOUR, id="a guest"),
    ],
)
async def test_the_duration_is_asked_for(
    wanted: dict[str, Any], lifetime: timedelta, client: Aws, emulator: Emulator
) -> None:
    ends = given(await taken(client, wanted)).expires_at

    assert ends
    assert abs(ends - real_now() - lifetime) < MINUTE


async def test_a_role_is_chained_from_what_the_step_before_gave(client: Aws, emulator: Emulator) -> None:
    wanted = signed_by_keys(SESSION_STEP, ROLE_STEP, ROLE_STEP)
    held = PipelineValues(credentials=USER)
    for number in range(3):
        held = await step(client, held, wanted, number)

    assert [one["principal"] for one in emulator.recent_calls()] == [USER_ARN, USER_ARN, f"{SESSION}/billing.acme"]


async def test_a_user_operation_leaves_the_principal(client: Aws, emulator: Emulator) -> None:
    assert (await taken(client, SESSION_STEP)).principal == ""


async def test_without_credentials_nothing_is_asked(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError, match="needs credentials"):
        await step(client, PipelineValues(), signed_by_keys(ROLE_STEP))

    assert emulator.recent_calls() == []


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param(Credentials("AKIANOTTHERE", "key"), "InvalidClientTokenId; are", id="unknown"),
        pytest.param(Credentials(USER_KEY_ID, "wrong"), "SignatureDoesNotMatch; are", id="a wrong secret"),
        pytest.param(Credentials(USER_KEY_ID, USER_SECRET_KEY, "planted"), "", id="a session of nobody"),
    ],
)
@EXCHANGES
async def test_wrong_keys(
    wanted: dict[str, Any], operation: str, keys: Credentials, says: str, client: Aws, emulator: Emulator
) -> None:
    error = await refused(client, wanted, keys)

    assert (error.reason, emulator.calls(operation)) == ("SourceInvalid", 1)
    assert error.message.startswith(f"STS {operation}: ")
    assert says in error.message
    assert not any(value in error.message for value in ("planted", USER_SECRET_KEY))


@EXCHANGES
async def test_an_expired_session(wanted: dict[str, Any], operation: str, client: Aws, emulator: Emulator) -> None:
    emulator.fault("AssumeRole", expired=True)
    over = given(await taken(client, ROLE_STEP))
    error = await refused(client, wanted, over)

    assert (error.reason, "have expired" in error.message) == ("SourceExpired", True)


async def test_a_role_that_does_not_trust_may_soon(client: Aws, emulator: Emulator) -> None:
    error = await refused(client, {"assumeRole": {"roleArn": f"{ACCOUNT_ROLE_ARN}-not-there"}})

    assert isinstance(error, RefusedError)
    assert (error.reason, error.eventually_consistent) == ("AccessDenied", True)


@pytest.mark.parametrize("wanted", [SESSION_STEP, GUEST_STEP])
async def test_a_session_cannot_have_a_session(wanted: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await refused(client, wanted, given(await taken(client, ROLE_STEP)))

    assert isinstance(error, RefusedError)
    assert (error.reason, error.eventually_consistent) == ("AccessDenied", False)
    assert "an IAM user" in error.message


@EXCHANGES
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"code": "AccessDenied", "status": 403}, "AccessDenied", id="denied"),
        pytest.param({"code": "ExpiredToken", "status": 403}, "SourceExpired", id="expired"),
        pytest.param({"code": "ExpiredTokenException"}, "SourceExpired", id="expired by its other name"),
        pytest.param({"code": "InvalidParameterValue"}, "InvalidSpec", id="a tag against the rules"),
        pytest.param({"code": "MalformedPolicyDocument"}, "InvalidSpec", id="a malformed policy"),
        pytest.param({"code": "PackedPolicyTooLarge"}, "InvalidSpec", id="a policy that is too large"),
        pytest.param({"code": "RegionDisabledException", "status": 403}, "AccessDenied", id="a disabled region"),
        pytest.param({"code": "ValidationError"}, "InvalidSpec", id="a bad request"),
        pytest.param({"code": "InternalFailure", "status": 500}, "Unavailable", id="broken"),
    ],
)
async def test_each_error(
    wanted: dict[str, Any], operation: str, fault: dict[str, Any], reason: str, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(operation, times=None, message="planted", **fault)
    error = await refused(client, wanted)

    assert (error.reason, len(error.request_id)) == (reason, 36)
    assert error.message.startswith(f"STS {operation}: {fault['code']}")
    assert "planted" not in error.message


async def test_one_client_signs_for_many_at_once(emulator: Emulator) -> None:
    users = {name: emulator.control("POST", "users", name=name) for name in ("one", "two", "three", "four")}
    emulator.settings(latency_seconds=0.02)
    with closing(aws(settings(emulator))) as client:

        async def principal(name: str) -> str:
            wanted = _role(roleSessionName=name)
            return (await taken(client, wanted, Credentials(**users[name]))).principal

        names = [*users] * 10
        sessions = await asyncio.gather(*(principal(name) for name in names))
        made = len(client._clients)

    assert sessions == [f"{SESSION}/{name}" for name in names]
    signers = sorted(call["principal"] for call in emulator.recent_calls())
    assert signers == sorted(f"arn:aws:iam::{ACCOUNT}:user/{name}" for name in names)
    assert made == 1


@pytest.mark.usefixtures("ambient")
async def test_ambient_keys_sign_nothing(emulator: Emulator) -> None:
    with closing(aws(settings(emulator))) as client:
        await taken(client, ROLE_STEP)
        error = await refused(client, ROLE_STEP, Credentials("", ""))

    assert emulator.recent_calls()[0]["principal"] == USER_ARN
    assert error.reason != "AccessDenied"
    assert all("AKIAENV" not in call["principal"] for call in emulator.recent_calls())


async def test_the_signer_of_one_call_is_not_that_of_the_next(emulator: Emulator) -> None:
    with closing(aws(settings(emulator), threads=1)) as client:
        await taken(client, ROLE_STEP)
        await step(client, PipelineValues(Token(emulator.refresh_token())), request())
        error = await refused(client, ROLE_STEP, Credentials(USER_KEY_ID, "wrong"))

    assert [call["principal"] for call in emulator.recent_calls()][:2] == [USER_ARN, "anonymous"]
    assert "SignatureDoesNotMatch" in error.message
