import pytest

from keyturn.api.exchanges.license_manager import LicenseManagerGetAccessTokenSpec
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges import license_manager
from keyturn.exchanges.aws import Aws, AwsResponse
from keyturn.exchanges.license_manager import get_access_token as operation
from tests.support.clock import real_now
from tests.support.dependencies import NOW, request
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import call, get_access_token

OPERATION = "GetAccessToken"


async def test_refresh_token_is_exchanged_for_an_access_token(client: Aws, emulator: Emulator) -> None:
    refresh_token = emulator.refresh_token()
    values = await get_access_token(client, refresh_token)

    assert values.access_token
    assert values.access_token.value in emulator.secrets()
    assert values.source_token == Token(refresh_token)
    assert (values.current_token, len(values.request_id)) == (values.access_token, 36)


async def test_expiry_is_read_from_the_token(client: Aws, emulator: Emulator) -> None:
    emulator.settings(access_token_seconds=7)
    values = await get_access_token(client, emulator.refresh_token())

    assert values.access_token
    assert values.access_token.expires_at
    assert 0 < (values.access_token.expires_at - real_now()).total_seconds() <= 7


async def test_token_properties_are_sent(client: Aws, emulator: Emulator) -> None:
    token_request = request(exchanges=[{"licenseManagerGetAccessToken": {"tokenProperties": ["on-prem"]}}])
    values = await get_access_token(client, emulator.refresh_token(["on-prem"]), token_request)

    assert values.access_token
    with pytest.raises(RefusedError, match="lacks a token property"):
        await get_access_token(client, emulator.refresh_token(["cloud"]), token_request)


class FakeAws(Aws):
    """Returns these members to every call."""

    def __init__(self, **members: str) -> None:
        self._members = members

    async def call(self, *_: object, **__: object) -> AwsResponse:
        return AwsResponse(dict(self._members), "id", NOW)


async def test_token_with_unsafe_characters_is_refused() -> None:
    with pytest.raises(RefusedError, match="License Manager's access token is empty or contains characters"):
        await _get_access_token(FakeAws(AccessToken="two\nlines"))


async def _get_access_token(aws: Aws) -> PipelineValues:
    return await operation(call(aws), LicenseManagerGetAccessTokenSpec(), PipelineValues(Token("refresh")))


@pytest.mark.parametrize("token", [pytest.param("garbage", id="no JWT"), pytest.param("{}", id="expired")])
async def test_refused_token_is_not_shown(token: str, client: Aws, emulator: Emulator) -> None:
    token = token.format(emulator.refresh_token(expires_in=-1))
    with pytest.raises(RefusedError) as raised:
        await get_access_token(client, token)

    assert raised.value.reason == "SourceInvalid"
    assert token not in f"{raised.value!r} {raised.value.__cause__!r}"


async def test_token_that_botocore_rejects_is_source_invalid(client: Aws, emulator: Emulator) -> None:
    with pytest.raises(RefusedError) as raised:
        await client.call(license_manager._GET_ACCESS_TOKEN, "us-east-1", {"Token": None})

    assert (raised.value.reason, emulator.calls(OPERATION)) == ("SourceInvalid", 0)
