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


def of_pool(emulator: Emulator, operation: str = "cognitoGetCredentials", **more: Any) -> dict[str, Any]:
    return {operation: {"identityPoolId": POOL_ID, "logins": {provider(emulator): "accessToken"}} | more}


async def taken(client: Aws, held: PipelineValues, *steps: dict[str, Any]) -> PipelineValues:
    wanted = request(exchanges=list(steps))
    for number in range(len(steps)):
        held = await step(client, held, wanted, number)
    return held


async def refused(client: Aws, held: PipelineValues, wanted: dict[str, Any]) -> KeyturnError:
    with pytest.raises(KeyturnError) as raised:
        await taken(client, held, wanted)
    return raised.value


@pytest.fixture
def held(emulator: Emulator) -> PipelineValues:
    """Who has signed in."""
    emulator.control("DELETE", "identities")
    return PipelineValues(Token(emulator.id_token()))


async def test_a_login_becomes_credentials(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    given = await taken(client, held, of_pool(emulator))

    assert given.credentials
    assert given.credentials.expires_at
    assert abs(given.credentials.expires_at - real_now() - HOUR) < MINUTE
    assert {given.credentials.secret_access_key, given.credentials.session_token} <= {*emulator.secrets()}
    assert (given.identity_id.partition(":")[0], given.principal) == ("us-east-1", given.identity_id)


async def test_the_identity_is_asked_for_once(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    first = await taken(client, held, of_pool(emulator))
    again = await taken(client, first, of_pool(emulator))

    assert (emulator.calls("GetId"), emulator.calls(CREDENTIALS)) == (1, 2)
    assert again.identity_id == first.identity_id


async def test_an_identity_that_is_gone_is_asked_for_anew(
    held: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    first = await taken(client, held, of_pool(emulator))
    emulator.control("DELETE", "identities")
    again = await taken(client, first, of_pool(emulator))

    assert again.credentials
    assert again.identity_id != first.identity_id


async def test_another_user_gets_his_own_identity(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    first = await taken(client, held, of_pool(emulator))
    other = replace(first, source_token=Token(emulator.id_token("another-user")))

    assert (await taken(client, other, of_pool(emulator))).identity_id != first.identity_id


async def test_a_token_that_is_refused_for_the_same_identity_is_not_tried_again(
    held: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    first = await taken(client, held, of_pool(emulator))
    emulator.fault(CREDENTIALS, code="NotAuthorizedException")
    await refused(client, first, of_pool(emulator))

    assert (emulator.calls("GetId"), emulator.calls(CREDENTIALS)) == (2, 2)


async def test_the_role_that_is_asked_for(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    await taken(client, held, of_pool(emulator, customRoleArn=OTHER_POOL_ROLE_ARN))
    error = await refused(client, held, of_pool(emulator, customRoleArn=f"{OTHER_POOL_ROLE_ARN}-not"))

    assert error.reason == "SourceInvalid"


@pytest.mark.parametrize(("account", "reason"), [(ACCOUNT, ""), ("444455556666", "SourceInvalid")])
async def test_the_account_is_sent(
    account: str, reason: str, held: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    wanted = of_pool(emulator, accountId=account)

    assert reason == ((await refused(client, held, wanted)).reason if reason else "")
    assert reason or (await taken(client, held, wanted)).credentials


async def test_the_basic_flow_is_two_steps(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    role = {"assumeRoleWithWebIdentity": {"roleArn": POOL_ROLE_ARN, "durationSeconds": 43200}}
    token = await taken(client, held, of_pool(emulator, "cognitoGetOpenIdToken"))
    given = await taken(client, held, of_pool(emulator, "cognitoGetOpenIdToken"), role)

    assert token.access_token
    assert token.access_token.expires_at
    assert abs(token.access_token.expires_at - real_now() - 10 * MINUTE) < MINUTE
    assert given.principal == f"arn:aws:sts::{ACCOUNT}:assumed-role/PoolConsumer/billing.acme"


async def test_an_id_token_of_a_step_before(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    wanted = request(exchanges=[REFRESH, of_pool(emulator, logins={provider(emulator): "idToken"})])
    signed_in = PipelineValues(Token("refresh"), access_token=Token("opaque"), id_token=held.source_token)

    assert (await step(client, signed_in, wanted, 1)).credentials
    with pytest.raises(RefusedError, match="an idToken is wanted, and no issuer answered one"):
        await step(client, held, wanted, 1)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param({"expires_in": -1}, id="expired"),
        pytest.param({"audience": "somebody-else"}, id="for somebody else"),
    ],
)
async def test_a_bad_login(token: dict[str, Any], client: Aws, emulator: Emulator) -> None:
    error = await refused(client, PipelineValues(Token(emulator.id_token(**token))), of_pool(emulator))

    assert (error.reason, "still valid" in error.message) == ("SourceInvalid", True)


@pytest.mark.parametrize("operation", ["GetId", CREDENTIALS, TOKEN])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"code": "ExternalServiceException"}, "Unavailable", id="the provider is away"),
        pytest.param({"code": "InternalErrorException", "status": 500}, "Unavailable", id="broken"),
        pytest.param({"code": "InvalidIdentityPoolConfigurationException"}, "AccessDenied", id="no role"),
        pytest.param({"code": "InvalidParameterException"}, "InvalidSpec", id="a bad parameter"),
        pytest.param({"code": "LimitExceededException"}, "AccessDenied", id="a full pool"),
        pytest.param({"code": "NotAuthorizedException"}, "SourceInvalid", id="a bad login"),
        pytest.param({"code": "ResourceConflictException"}, "SourceInvalid", id="a conflict"),
        pytest.param({"code": "ResourceNotFoundException"}, "InvalidSpec", id="no pool"),
        pytest.param({"code": "TooManyRequestsException"}, "Throttled", id="throttled"),
    ],
)
async def test_each_error(
    operation: str, fault: dict[str, Any], reason: str, held: PipelineValues, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(operation, times=None, message="planted", **fault)
    wanted = of_pool(emulator, "cognitoGetOpenIdToken" if operation == TOKEN else "cognitoGetCredentials")
    error = await refused(client, held, wanted)

    assert (error.reason, len(error.request_id)) == (reason, 36)
    assert error.message.startswith(f"Cognito {operation}: {fault['code']}")
    assert "planted" not in error.message


async def test_a_pool_whose_role_trusts_nobody_may_soon(held: PipelineValues, client: Aws, emulator: Emulator) -> None:
    emulator.fault(CREDENTIALS, code="InvalidIdentityPoolConfigurationException")
    error = await refused(client, held, of_pool(emulator))

    assert isinstance(error, RefusedError)
    assert error.eventually_consistent
