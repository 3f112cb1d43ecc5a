from typing import Any

import pytest

from keyturn.api.exchanges.license_manager import LicenseManagerGetAccessTokenSpec
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges import license_manager
from keyturn.exchanges.aws import Aws, AwsResponse
from keyturn.exchanges.license_manager import get_access_token as operation
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, NOW, request
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import call, failing, get_access_token

OPERATION = "GetAccessToken"


async def test_a_refresh_token_becomes_an_access_token(client: Aws, emulator: Emulator) -> None:
    refresh = emulator.refresh_token()
    held = await get_access_token(client, refresh)

    assert held.access_token
    assert held.access_token.value in emulator.secrets()
    assert held.source_token == Token(refresh)
    assert (held.newest_token, len(held.request_id)) == (held.access_token, 36)


async def test_the_expiry_is_that_of_the_token(client: Aws, emulator: Emulator) -> None:
    emulator.settings(access_token_seconds=7)
    held = await get_access_token(client, emulator.refresh_token())

    assert held.access_token
    assert held.access_token.expires_at
    assert 0 < (held.access_token.expires_at - real_now()).total_seconds() <= 7


async def test_token_properties_are_asked_for(client: Aws, emulator: Emulator) -> None:
    wanted = request(exchanges=[{"licenseManagerGetAccessToken": {"tokenProperties": ["on-prem"]}}])
    held = await get_access_token(client, emulator.refresh_token(["on-prem"]), wanted)

    assert held.access_token
    with pytest.raises(RefusedError, match="lacks a token property"):
        await get_access_token(client, emulator.refresh_token(["cloud"]), wanted)


class Opaque(Aws):
    """An AWS whose token nobody can read."""

    def __init__(self, **members: str) -> None:
        self._members = members

    async def call(self, *_: object, **__: object) -> AwsResponse:
        return AwsResponse(dict(self._members), "id", NOW)


async def test_a_token_that_tells_no_expiry_lives_an_hour_from_the_question() -> None:
    held = await _asked(Opaque(AccessToken="opaque"))

    assert held.access_token == Token("opaque", NOW + HOUR)


async def test_a_token_that_could_break_a_file_is_refused() -> None:
    with pytest.raises(RefusedError, match="License Manager's access token is empty or holds characters"):
        await _asked(Opaque(AccessToken="two\nlines"))


async def _asked(aws: Aws) -> PipelineValues:
    return await operation(call(aws), LicenseManagerGetAccessTokenSpec(), PipelineValues(Token("refresh")))


@pytest.mark.parametrize(
    ("fault", "reason", "says"),
    [
        pytest.param({"code": "ValidationException"}, "SourceInvalid", "malformed, expired", id="no token"),
        pytest.param({"code": "AccessDeniedException"}, "AccessDenied", "may have been deleted", id="deleted"),
        pytest.param({"code": "AuthorizationException"}, "AccessDenied", "allowed in that", id="not onboarded"),
        pytest.param({"code": "RateLimitExceededException"}, "Throttled", "", id="throttled"),
        pytest.param({"code": "ServerInternalException", "status": 500}, "Unavailable", "", id="broken"),
    ],
)
async def test_each_error(fault: dict[str, Any], reason: str, says: str, client: Aws, emulator: Emulator) -> None:
    error = await failing(client, emulator, OPERATION, message="planted", **fault)

    assert (error.reason, len(error.request_id)) == (reason, 36)
    assert error.message.startswith(f"License Manager GetAccessToken: {fault['code']}")
    assert says in error.message
    assert "planted" not in error.message


@pytest.mark.parametrize("token", [pytest.param("garbage", id="no JWT"), pytest.param("{}", id="expired")])
async def test_a_token_that_is_refused_is_not_repeated(token: str, client: Aws, emulator: Emulator) -> None:
    token = token.format(emulator.refresh_token(expires_in=-1))
    with pytest.raises(RefusedError) as refused:
        await get_access_token(client, token)

    assert refused.value.reason == "SourceInvalid"
    assert token not in f"{refused.value!r} {refused.value.__cause__!r}"


async def test_a_token_that_botocore_will_not_send(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError) as refused:
        await client.call(license_manager._GET_ACCESS_TOKEN, "us-east-1", {"Token": None})

    assert (refused.value.reason, emulator.calls(OPERATION)) == ("SourceInvalid", 0)
