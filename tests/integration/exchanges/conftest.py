import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyturn.exchanges.aws import Aws
from keyturn.exchanges.rate_limit import RateLimiters
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.exchange_steps import OauthIssuer, aws, emulator_settings


@pytest.fixture(scope="session")
def running_aws() -> Iterator[Emulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture
def emulator(running_aws: Emulator) -> Emulator:
    """The emulator, without faults and with all counters at zero."""
    running_aws.reset()
    return running_aws


@pytest.fixture
async def all_closed() -> AsyncIterator[None]:
    """Wait until all sockets are closed: a TLS shutdown takes a moment."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    before = len(selector.get_map())
    yield
    async with asyncio.timeout(5):
        while len(selector.get_map()) > before:  # noqa: ASYNC110 - there is no event for a closed transport
            await asyncio.sleep(0.001)


@pytest.fixture(scope="session")
def shared_client(running_aws: Emulator) -> Iterator[Aws]:
    """One client for all tests: creating it takes a quarter of a second."""
    with closing(aws(emulator_settings(running_aws))) as client:
        yield client


@pytest.fixture
def client(shared_client: Aws) -> Aws:
    """The shared client, with its rate limits reset."""
    shared_client._rate_limiters = RateLimiters()
    return shared_client


@pytest.fixture
def issuer(client: Aws, emulator: Emulator, all_closed: None) -> OauthIssuer:
    return OauthIssuer(client, emulator)


@pytest.fixture
def ambient_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set environment variables and files with credentials that must not be used."""
    (tmp_path / ".aws").mkdir()
    keys = "aws_access_key_id = AKIAFILE\naws_secret_access_key = planted\n"
    (tmp_path / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-north-1\n[profile broken\n")
    for name, value in {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "AKIAENV",
        "AWS_SECRET_ACCESS_KEY": "planted",
        "AWS_SESSION_TOKEN": "planted",
        "AWS_PROFILE": "not-there",
        "AWS_DEFAULT_PROFILE": "not-there",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9",
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/ambient",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/not/there",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def no_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove every AWS identity from the environment."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
