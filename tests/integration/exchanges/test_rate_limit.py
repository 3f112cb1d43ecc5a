from contextlib import closing

import pytest

from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.exchanges.aws import Aws
from tests.support.dependencies import SECOND, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, ACCOUNT_ROLE_ARN, ROLE_ARN
from tests.support.exchange_steps import assume_role, aws, emulator_settings, get_access_token, step

OPERATION = "GetAccessToken"
THROTTLED = {"code": "RateLimitExceededException", "headers": {"Retry-After": "30"}}


async def test_throttling_service_is_not_called(emulator: Emulator) -> None:
    with closing(aws(emulator_settings(emulator))) as client:
        emulator.fault(OPERATION, **THROTTLED)
        for _ in range(5):
            with pytest.raises(ThrottledError) as raised:
                await get_access_token(client, emulator.refresh_token())

    assert emulator.calls(OPERATION) == 1
    assert raised.value.message == "License Manager GetAccessToken has throttled recent calls; the next one is delayed"
    assert 25 * SECOND < raised.value.retry_after <= 30 * SECOND


async def test_call_waits_for_a_short_delay(emulator: Emulator) -> None:
    with closing(aws(emulator_settings(emulator))) as client:
        emulator.fault(OPERATION, code="RateLimitExceededException")
        with pytest.raises(ThrottledError):
            await get_access_token(client, emulator.refresh_token())
        await get_access_token(client, emulator.refresh_token())

    assert emulator.calls(OPERATION) == 2


async def test_rate_limit_applies_per_identity_and_region(emulator: Emulator) -> None:
    first, second = (Credentials(**emulator.control("POST", "users", name=name)) for name in ("one", "two"))
    emulator.fault("AssumeRole", code="NewlyInvented", status=429, headers={"Retry-After": "30"}, times=3)
    with closing(aws(emulator_settings(emulator))) as client:
        reasons = [
            await refusal_reason(client, keys, region)
            for keys, region in (
                (first, "us-east-1"),
                (first, "us-east-1"),
                (second, "us-east-1"),
                (first, "eu-west-1"),
            )
        ]

    assert reasons == ["Throttled", "Throttled", "", ""]
    # Three attempts by botocore, none for the delayed call, and one for each of the other two.
    assert emulator.calls("AssumeRole") == 3 + 0 + 1 + 1


@pytest.mark.parametrize(
    ("namespace", "role", "reason"),
    [
        pytest.param("orders", ROLE_ARN, "Throttled", id="the same account from another namespace"),
        pytest.param("orders", ROLE_ARN.replace(ACCOUNT, "444455556666"), "SourceInvalid", id="another account"),
    ],
)
async def test_throttling_of_an_account_delays_no_other(
    namespace: str, role: str, reason: str, emulator: Emulator
) -> None:
    emulator.fault("AssumeRoleWithWebIdentity", code="Throttling", headers={"Retry-After": "30"}, times=3)
    with closing(aws(emulator_settings(emulator))) as client:
        with pytest.raises(ThrottledError):
            await assume_role(client, "e30.e30.e30", request())
        calls = emulator.calls("AssumeRoleWithWebIdentity")
        exchange = {"assumeRoleWithWebIdentity": {"roleArn": role}}
        exchanges = [{"licenseManagerGetAccessToken": {}}, exchange]
        with pytest.raises(KeyturnError) as raised:
            await assume_role(client, "e30.e30.e30", request(namespace=namespace, exchanges=exchanges))

    assert raised.value.reason == reason
    assert (emulator.calls("AssumeRoleWithWebIdentity") > calls) == (reason != "Throttled")


async def test_throttling_without_an_account_delays_no_other_namespace(emulator: Emulator) -> None:
    emulator.fault(OPERATION, **THROTTLED)
    with closing(aws(emulator_settings(emulator))) as client:
        with pytest.raises(ThrottledError):
            await get_access_token(client, emulator.refresh_token(), request())
        values = await get_access_token(client, emulator.refresh_token(), request(namespace="orders"))

    assert values.access_token is not None


async def refusal_reason(client: Aws, keys: Credentials, region: str) -> str:
    """Assume the role with these keys. Return the reason of the error, or an empty string."""
    role = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
    token_request = request(source={"credentials": {"secretRef": {"name": "base"}}}, exchanges=[role], region=region)
    try:
        await step(client, PipelineValues(credentials=keys), token_request)
    except KeyturnError as error:
        return error.reason
    return ""
