from typing import Any

import pytest

from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues
from keyturn.exchanges.aws import Aws, AwsResponse
from keyturn.exchanges.ecr import get_authorization_token
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, NOW
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT
from tests.support.exchange_steps import USER_CREDENTIALS, call, run_signed
from tests.support.registry_client import basic, is_authorized

PRIVATE: dict[str, Any] = {"ecrGetAuthorizationToken": {}}
PUBLIC: dict[str, Any] = {"ecrGetAuthorizationToken": {"public": True}}
PRIVATE_AND_PUBLIC = pytest.mark.parametrize(("step_spec", "service"), [(PRIVATE, "ecr"), (PUBLIC, "ecr-public")])


@PRIVATE_AND_PUBLIC
async def test_password_is_accepted_by_the_registry(
    step_spec: dict[str, Any], service: str, client: Aws, emulator: Emulator
) -> None:
    (login,) = (await run_signed(client, step_spec)).registry_logins

    assert is_authorized(f"{emulator.url}/v2/", basic(login.username, login.password))
    assert not is_authorized(f"{emulator.url}/v2/", basic(login.username, login.password[1:]))
    assert (login.username, emulator.calls(f"{service}:GetAuthorizationToken")) == ("AWS", 1)
    assert login.expires_at
    assert abs(login.expires_at - real_now() - 12 * HOUR) < MINUTE


@pytest.mark.parametrize(
    ("steps", "hosts"),
    [
        pytest.param([PRIVATE], [f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"], id="the caller's registry"),
        pytest.param([PUBLIC], ["public.ecr.aws"], id="the public registry"),
        pytest.param(
            [{"ecrGetAuthorizationToken": {"registryIds": ["444455556666", ACCOUNT]}}],
            ["444455556666.dkr.ecr.us-east-1.amazonaws.com", f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"],
            id="the registries in the spec",
        ),
        pytest.param(
            [PRIVATE, PUBLIC, PRIVATE],
            [f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "public.ecr.aws"],
            id="several, each once",
        ),
    ],
)
async def test_registry_hosts(steps: list[dict[str, Any]], hosts: list[str], client: Aws, emulator: Emulator) -> None:
    values = await run_signed(client, *steps)

    assert [login.host for login in values.registry_logins] == hosts


@PRIVATE_AND_PUBLIC
async def test_more_hosts_get_the_login(step_spec: dict[str, Any], service: str, client: Aws) -> None:
    hosts = ["a.example", "b.example"]
    (login,) = (
        await run_signed(client, {"ecrGetAuthorizationToken": step_spec["ecrGetAuthorizationToken"] | {"hosts": hosts}})
    ).registry_logins

    assert login.more_hosts == ("a.example", "b.example")


async def test_public_registry_is_called_in_us_east_1(client: Aws, emulator: Emulator) -> None:
    other_region = {"ecrGetAuthorizationToken": {"public": True, "region": "eu-west-1"}}

    # The emulator accepts signatures for us-east-1 only.
    assert (await run_signed(client, other_region)).registry_logins


class FakeEcr(Aws):
    def __init__(self, token: str) -> None:
        self._token = token

    async def call(self, *_: object, **__: object) -> AwsResponse:
        data = [{"authorizationToken": self._token, "proxyEndpoint": "https://one.example", "expiresAt": NOW}]
        return AwsResponse({"authorizationData": data}, "id", NOW)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        pytest.param("planted!", "Unavailable", id="no base64"),
        pytest.param("/////w==", "Unavailable", id="no text"),
        pytest.param("QVdT", "SourceInvalid", id="no password"),
        pytest.param("QVdTOmEgYg==", "SourceInvalid", id="a password with a space"),
    ],
)
async def test_malformed_token_is_unavailable(token: str, reason: str) -> None:
    with pytest.raises(KeyturnError) as raised:
        await get_authorization_token(
            call(FakeEcr(token)), EcrGetAuthorizationTokenSpec(), PipelineValues(credentials=USER_CREDENTIALS)
        )

    assert raised.value.reason == reason
    assert token not in raised.value.message
