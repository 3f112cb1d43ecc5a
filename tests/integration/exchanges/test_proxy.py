"""Calls to AWS through a corporate proxy that terminates TLS with certificates of its own CA."""

from contextlib import closing
from pathlib import Path

import pytest

from keyturn.core.errors import UnavailableError
from keyturn.core.settings import AwsSettings
from tests.support.emulator.client import Emulator
from tests.support.exchange_steps import assume_role, aws, get_access_token
from tests.support.proxy import running_proxy
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


async def test_proxy_from_the_environment(emulator: Emulator, bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with closing(aws(AwsSettings(endpoints=HOSTS, ca_bundle=bundle))) as client:
            await get_access_token(client, emulator.refresh_token())

    assert proxy.hosts


async def test_nothing_is_sent_without_the_ca_of_the_proxy(emulator: Emulator) -> None:
    async with running_proxy(upstream=emulator.url, tls=SERVER_CONTEXT) as proxy:
        settings = AwsSettings(endpoints=HOSTS, proxy=proxy.url)
        with closing(aws(settings)) as client, pytest.raises(UnavailableError) as raised:
            await get_access_token(client, emulator.refresh_token())

    assert raised.value.reason == "Unreachable"
    assert "SSLError" in raised.value.message
    assert emulator.calls("GetAccessToken") == 0
