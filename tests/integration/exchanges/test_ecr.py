from typing import Any

import pytest

from keyturn.api.exchanges.ecr import EcrGetAuthorizationTokenSpec
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import Credentials, PipelineValues
from keyturn.exchanges.aws import Aws, AwsResponse
from keyturn.exchanges.ecr import get_authorization_token
from tests.integration.exchanges.test_codeartifact import USER, basic, opens, refused, taken
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, NOW
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, USER_KEY_ID
from tests.support.exchange_steps import call

PRIVATE: dict[str, Any] = {"ecrGetAuthorizationToken": {}}
PUBLIC: dict[str, Any] = {"ecrGetAuthorizationToken": {"public": True}}
BOTH = pytest.mark.parametrize(("wanted", "service"), [(PRIVATE, "ecr"), (PUBLIC, "ecr-public")])


@BOTH
async def test_the_password_opens_the_registry(
    wanted: dict[str, Any], service: str, client: Aws, emulator: Emulator
) -> None:
    (login,) = (await taken(client, wanted)).registry_logins

    assert opens(f"{emulator.url}/v2/", basic(login.username, login.password))
    assert not opens(f"{emulator.url}/v2/", basic(login.username, login.password[1:]))
    assert (login.username, emulator.calls(f"{service}:GetAuthorizationToken")) == ("AWS", 1)
    assert login.expires_at
    assert abs(login.expires_at - real_now() - 12 * HOUR) < MINUTE


@pytest.mark.parametrize(
    ("steps", "hosts"),
    [
        pytest.param([PRIVATE], [f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"], id="the caller's own"),
        pytest.param([PUBLIC], ["public.ecr.aws"], id="the public one"),
        pytest.param(
            [{"ecrGetAuthorizationToken": {"registryIds": ["444455556666", ACCOUNT]}}],
            ["444455556666.dkr.ecr.us-east-1.amazonaws.com", f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"],
            id="those that are named",
        ),
        pytest.param(
            [PRIVATE, PUBLIC, PRIVATE],
            [f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "public.ecr.aws"],
            id="several, each once",
        ),
    ],
)
async def test_the_hosts(steps: list[dict[str, Any]], hosts: list[str], client: Aws, emulator: Emulator) -> None:
    held = await taken(client, *steps)

    assert [login.host for login in held.registry_logins] == hosts


async def test_the_public_registry_is_asked_in_its_only_region(client: Aws, emulator: Emulator) -> None:
    elsewhere = {"ecrGetAuthorizationToken": {"public": True, "region": "eu-west-1"}}

    # The emulator takes signatures for us-east-1 only.
    assert (await taken(client, elsewhere)).registry_logins


@BOTH
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"code": "AccessDeniedException"}, "AccessDenied", id="denied"),
        pytest.param({"code": "ExpiredTokenException"}, "SourceExpired", id="expired"),
        pytest.param({"code": "InvalidParameterException"}, "InvalidSpec", id="invalid"),
        pytest.param({"code": "ServerException", "status": 500}, "Unavailable", id="broken"),
        pytest.param({"code": "UnsupportedCommandException"}, "InvalidSpec", id="elsewhere"),
        pytest.param({"code": "ThrottlingException"}, "Throttled", id="throttled"),
    ],
)
async def test_each_error(
    wanted: dict[str, Any], service: str, fault: dict[str, Any], reason: str, client: Aws, emulator: Emulator
) -> None:
    emulator.fault(f"{service}:GetAuthorizationToken", times=None, message="planted", **fault)
    error = await refused(client, wanted)

    assert (error.reason, "planted" in error.message) == (reason, False)
    assert f"GetAuthorizationToken: {fault['code']}" in error.message


@BOTH
async def test_wrong_keys(wanted: dict[str, Any], service: str, client: Aws, emulator: Emulator) -> None:
    unknown = await refused(client, wanted, keys=Credentials("AKIANOTTHERE", "key"))
    wrong = await refused(client, wanted, keys=Credentials(USER_KEY_ID, "wrong"))

    assert (unknown.reason, wrong.reason) == ("SourceInvalid", "SourceInvalid")


class Odd(Aws):
    """An ECR that answers something else."""

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
async def test_an_odd_token(token: str, reason: str) -> None:
    with pytest.raises(KeyturnError) as raised:
        await get_authorization_token(
            call(Odd(token)), EcrGetAuthorizationTokenSpec(), PipelineValues(credentials=USER)
        )

    assert raised.value.reason == reason
    assert token not in raised.value.message
