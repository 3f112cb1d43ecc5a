from dataclasses import replace
from typing import Any

import pytest

from keyturn.core.errors import KeyturnError, RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, REFRESH, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, OTHER_POOL_ROLE_ARN, POOL_ID, POOL_ROLE_ARN
from tests.support.exchange_steps import step

CREDENTIALS, TOKEN = "GetCredentialsForIdentity", "GetOpenIdToken"


def provider(emulator: Emulator) -> str:
    return emulator.issuer_url.removeprefix("https://")


def pool_step(emulator: Emulator, operation: str = "cognitoGetCredentials", **more: Any) -> dict[str, Any]:
    return {operation: {"identityPoolId": POOL_ID, "logins": {provider(emulator): "accessToken"}} | more}


async def run_steps(client: Aws, values: PipelineValues, *steps: dict[str, Any]) -> PipelineValues:
    token_request = request(exchanges=list(steps))
    for number in range(len(steps)):
        values = await step(client, values, token_request, number)
    return values


async def fail_step(client: Aws, values: PipelineValues, step_spec: dict[str, Any]) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await run_steps(client, values, step_spec)
    return raised.value


@pytest.fixture
def values(emulator: Emulator) -> PipelineValues:
    """The token of a user who has signed in."""
    emulator.control("DELETE", "identities")
    return PipelineValues(Token(emulator.id_token()))


async def test_login_token_is_exchanged_for_credentials(
    values: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    result = await run_steps(client, values, pool_step(emulator))

    assert result.credentials
    assert result.credentials.expires_at
    assert abs(result.credentials.expires_at - real_now() - HOUR) < MINUTE
    assert {result.credentials.secret_access_key, result.credentials.session_token} <= {*emulator.secrets()}
    assert (result.identity_id.partition(":")[0], result.principal) == ("us-east-1", result.identity_id)


async def test_identity_is_requested_once(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    first = await run_steps(client, values, pool_step(emulator))
    second = await run_steps(client, first, pool_step(emulator))

    assert (emulator.calls("GetId"), emulator.calls(CREDENTIALS)) == (1, 2)
    assert second.identity_id == first.identity_id


async def test_deleted_identity_is_requested_again(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    first = await run_steps(client, values, pool_step(emulator))
    emulator.control("DELETE", "identities")
    second = await run_steps(client, first, pool_step(emulator))

    assert second.credentials
    assert second.identity_id != first.identity_id


async def test_another_user_gets_another_identity(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    first = await run_steps(client, values, pool_step(emulator))
    other = replace(first, source_token=Token(emulator.id_token("another-user")))

    assert (await run_steps(client, other, pool_step(emulator))).identity_id != first.identity_id


async def test_token_refused_for_the_same_identity_is_not_sent_again(
    values: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    first = await run_steps(client, values, pool_step(emulator))
    emulator.fault(CREDENTIALS, code="NotAuthorizedException")
    await fail_step(client, first, pool_step(emulator))

    assert (emulator.calls("GetId"), emulator.calls(CREDENTIALS)) == (2, 2)


async def test_custom_role_is_sent(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    await run_steps(client, values, pool_step(emulator, customRoleArn=OTHER_POOL_ROLE_ARN))
    error = await fail_step(client, values, pool_step(emulator, customRoleArn=f"{OTHER_POOL_ROLE_ARN}-not"))

    assert error.reason == "SourceInvalid"


@pytest.mark.parametrize(("account", "reason"), [(ACCOUNT, ""), ("444455556666", "SourceInvalid")])
async def test_account_id_is_sent(
    account: str, reason: str, values: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    step_spec = pool_step(emulator, accountId=account)

    assert reason == ((await fail_step(client, values, step_spec)).reason if reason else "")
    assert reason or (await run_steps(client, values, step_spec)).credentials


async def test_basic_flow_takes_two_exchanges(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": POOL_ROLE_ARN, "durationSeconds": 43200}}
    token = await run_steps(client, values, pool_step(emulator, "cognitoGetOpenIdToken"))
    result = await run_steps(client, values, pool_step(emulator, "cognitoGetOpenIdToken"), role)

    assert token.access_token
    assert token.access_token.expires_at
    assert abs(token.access_token.expires_at - real_now() - 10 * MINUTE) < MINUTE
    assert result.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/PoolConsumer/billing.acme"


async def test_id_token_of_an_earlier_exchange_is_sent(values: PipelineValues, client: Aws, emulator: Emulator) -> None:
    token_request = request(exchanges=[REFRESH, pool_step(emulator, logins={provider(emulator): "idToken"})])
    signed_in = PipelineValues(Token("refresh"), access_token=Token("opaque"), id_token=values.source_token)

    assert (await step(client, signed_in, token_request, 1)).credentials
    with pytest.raises(RefusedError, match="an exchange needs an idToken, but the issuer returned none"):
        await step(client, values, token_request, 1)


@pytest.mark.parametrize("operation", ["GetId", CREDENTIALS, TOKEN])
async def test_failing_operation_is_named(
    operation: str, values: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(operation, times=None, code="LimitExceededException", message="planted")
    step_spec = pool_step(emulator, "cognitoGetOpenIdToken" if operation == TOKEN else "cognitoGetCredentials")
    error = await fail_step(client, values, step_spec)

    assert error.message.startswith(f"Cognito {operation}: LimitExceededException; the pool")
    assert "planted" not in error.message


@pytest.mark.parametrize(
    "token",
    [
        pytest.param({"expires_in": -1}, id="expired"),
        pytest.param({"audience": "another-client"}, id="for another client"),
    ],
)
async def test_invalid_login_is_refused(token: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await fail_step(client, PipelineValues(Token(emulator.id_token(**token))), pool_step(emulator))

    assert (error.reason, "still valid" in error.message) == ("SourceInvalid", True)
