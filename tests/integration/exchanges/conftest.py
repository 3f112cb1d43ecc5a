import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keyturn.core.settings import AwsSettings
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.rate_limit import RateLimiters
from tests.support.emulator.client import Emulator, endpoints
from tests.support.emulator.fixtures import shared_emulator
from tests.support.exchange_steps import aws

__all__ = ["shared_emulator"]


def settings(emulator: Emulator) -> AwsSettings:
    return AwsSettings(endpoints=endpoints(emulator.url))


@pytest.fixture
def emulator(shared_emulator: Emulator) -> Emulator:
    """AWS, with no faults and all counts at zero."""
    shared_emulator.reset()
    return shared_emulator


@pytest.fixture
async def all_closed() -> AsyncIterator[None]:
    """Do not end the loop before its sockets are closed: TLS says good-bye in its own time."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    before = len(selector.get_map())
    yield
    async with asyncio.timeout(5):
        while len(selector.get_map()) > before:  # noqa: ASYNC110 - nothing tells when a transport is closed
            await asyncio.sleep(0.001)


@pytest.fixture(scope="session")
def shared_client(shared_emulator: Emulator) -> Iterator[Aws]:
    """To make one costs a quarter of a second."""
    with closing(aws(settings(shared_emulator))) as made:
        yield made


@pytest.fixture
def client(shared_client: Aws) -> Aws:
    """Our client of AWS, as if no throttle had ever slowed it down."""
    shared_client._rate_limiters = RateLimiters()
    return shared_client


@pytest.fixture
def ambient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment full of credentials that are not ours to use."""
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
