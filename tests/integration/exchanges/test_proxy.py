"""Calls to AWS through a corporate proxy that terminates TLS with certificates of its own CA."""

import asyncio
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from keyturn.core.errors import UnavailableError
from keyturn.core.pipeline_values import Credentials, PipelineValues, Token
from keyturn.core.proxies import Proxies
from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.aws_clients import ambient_session
from keyturn.exchanges.registry import prepare
from keyturn.exchanges.transmission import Transmission
from tests.support.dependencies import ROLE, request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import APPLICATION_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.exchange_steps import assume_role, aws, context, emulator_settings, get_access_token
from tests.support.manifests.tokens import TOKEN_AND_KEYS, center
from tests.support.proxy import Proxy, running_proxy
from tests.support.tls import CERTIFICATE, SERVER_CONTEXT

# Only the proxy forwards these to the emulator.
HOSTS = dict.fromkeys(("sts", "license-manager"), "https://localhost:9")


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    """The path of a file with the corporate CA."""
    path = tmp_path / "ca.pem"
    path.write_text(CERTIFICATE.ca)
    return str(path)


async def test_proxy_with_its_own_ca(emulator: Emulator, bundle: str) -> None:
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT) as proxy:
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url, ca_bundle=bundle)
        with closing(aws(settings)) as client:
            values = await get_access_token(client, emulator.refresh_token())
            values = await assume_role(client, values.current_token.value)

    assert values.credentials
    assert set(proxy.hosts) == {"localhost:9"}


async def test_each_token_is_sent_on_a_new_connection_through_the_proxy(emulator: Emulator, bundle: str) -> None:
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT, credentials="user:password") as proxy:
        settings = AwsSettings(endpoints={"sso-oidc": HOSTS["sts"]}, ca_bundle=bundle)
        with closing(aws(settings, proxies=environment(proxy))) as client:
            first = await refresh(client, emulator.identity_center_token(refresh=True))
            second = await refresh(client, first.refresh_token or "")

    assert len({first.refresh_token, second.refresh_token, None}) == 3
    assert proxy.hosts == ["localhost:9"] * 2


@pytest.mark.parametrize("drop", ["before", "after"])
async def test_lost_response_leaves_the_outcome_unknown(drop: str, emulator: Emulator, bundle: str) -> None:
    emulator.fault("CreateTokenWithIAM", drop=drop)
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT) as proxy:
        settings, transmission = AwsSettings(endpoints={"sso-oidc": HOSTS["sts"]}, ca_bundle=bundle), Transmission()
        with closing(aws(settings, proxies=environment(proxy))) as client, pytest.raises(UnavailableError) as raised:
            await refresh(client, emulator.identity_center_token(refresh=True), transmission)

    assert (transmission.has_begun, raised.value.outcome_unknown) == (True, True)


@pytest.mark.parametrize("status", [0, 502])
async def test_transmission_does_not_begin_if_the_proxy_fails(status: int) -> None:
    async with running_proxy(status) as proxy:
        settings, transmission = AwsSettings(endpoints={"sso-oidc": HOSTS["sts"]}), Transmission()
        with closing(aws(settings, proxies=environment(proxy))) as client, pytest.raises(UnavailableError):
            await refresh(client, "planted", transmission)

    assert (transmission.has_begun, proxy.hosts) == (False, ["localhost:9"])


async def refresh(client: Aws, token: str, transmission: Transmission | None = None) -> PipelineValues:
    """Exchange a refresh token at Identity Center."""
    steps = center(clientId=APPLICATION_ARN, grantType="refresh_token", redirectUri=None, codeFrom=None)
    token_request = request(source=TOKEN_AND_KEYS["source"], **steps)
    values = PipelineValues(Token(token), credentials=Credentials(USER_KEY_ID, USER_SECRET_KEY))
    send = await prepare(context(client), token_request, token_request.spec.exchanges[0], values)
    return await send(transmission or Transmission())


def environment(proxy: Proxy, no_proxy: str = "") -> Proxies:
    return Proxies.from_environment({"HTTPS_PROXY": proxy.url, "HTTP_PROXY": proxy.url, "NO_PROXY": no_proxy})


async def test_proxy_of_the_environment_with_credentials(emulator: Emulator, bundle: str) -> None:
    credentials = "us@er:p:/#?%@ wä"
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT, credentials=credentials) as proxy:
        with closing(aws(AwsSettings(endpoints=HOSTS, ca_bundle=bundle), proxies=environment(proxy))) as client:
            await get_access_token(client, emulator.refresh_token())

    assert set(proxy.hosts) == {"localhost:9"}


@pytest.mark.parametrize("no_proxy", ["127.0.0.0/8", "10.0.0.0/8, 127.0.0.1", "*"])
async def test_host_in_no_proxy_is_called_directly(emulator: Emulator, no_proxy: str) -> None:
    async with running_proxy(502) as proxy:
        with closing(aws(emulator_settings(emulator), proxies=environment(proxy, no_proxy))) as client:
            await get_access_token(client, emulator.refresh_token())
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url)
        with closing(aws(settings, proxies=environment(proxy, no_proxy))) as client, pytest.raises(UnavailableError):
            await get_access_token(client, emulator.refresh_token())

    assert proxy.hosts == ([] if no_proxy == "*" else ["localhost:9"] * 3)


async def test_credential_chain_uses_the_proxy(
    emulator: Emulator, bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("invalid")
    variables = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_CA_BUNDLE": bundle}
    for name, value in (variables | {"AWS_ENDPOINT_URL_STS": HOSTS["sts"], "AWS_REGION": "eu-west-1"}).items():
        monkeypatch.setenv(name, value)
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT, credentials="user:password") as proxy:
        session = ambient_session(environment(proxy), is_allowed=True)
        with pytest.raises(ClientError):
            await asyncio.to_thread(session.client("sts").get_caller_identity)

    assert set(proxy.hosts) == {"localhost:9"}
    assert emulator.calls("AssumeRoleWithWebIdentity")


async def test_refused_credentials_of_a_proxy_are_not_shown(emulator: Emulator) -> None:
    # botocore replaces the first occurrence of the password in the URL of the proxy, which is not the password here.
    async with running_proxy(credentials="user:right") as proxy:
        wrong = environment(Proxy(proxy.url.replace("right", "http")))
        settings = AwsSettings(endpoints=HOSTS)
        with closing(aws(settings, proxies=wrong)) as client, pytest.raises(UnavailableError) as raised:
            await get_access_token(client, emulator.refresh_token())

    assert "ProxyConnectionError" in raised.value.message
    assert ":http@" not in "".join(traceback.format_exception(raised.value))


async def test_nothing_is_sent_without_the_ca_of_the_proxy(emulator: Emulator) -> None:
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT) as proxy:
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url)
        with closing(aws(settings)) as client, pytest.raises(UnavailableError) as raised:
            await get_access_token(client, emulator.refresh_token())

    assert raised.value.reason == "Unreachable"
    assert "SSLError" in raised.value.message
    assert emulator.calls("GetAccessToken") == 0
