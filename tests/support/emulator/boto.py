"""boto3 clients that call the emulator once, without retries."""

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.emulator.constants import USER_KEY_ID, USER_SECRET_KEY

USER: dict[str, Any] = {"aws_access_key_id": USER_KEY_ID, "aws_secret_access_key": USER_SECRET_KEY}
_SESSION = boto3.Session()


class Boto:
    """Creates clients of one emulator. Without keys they do not sign."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._clients: list[Any] = []

    def __call__(self, service: str, *, read_timeout: float = 10, region: str = "us-east-1", **keys: str) -> Any:
        config = Config(read_timeout=read_timeout, retries={"mode": "standard", "total_max_attempts": 1})
        if not keys:
            config = config.merge(Config(signature_version=UNSIGNED))
        client = _SESSION.client(service, region, endpoint_url=self._url, config=config, **keys)  # type: ignore[call-overload]
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


def as_keys(credentials: dict[str, str]) -> dict[str, Any]:
    """Convert credentials of STS into the arguments of a client."""
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def aws_error(call: Callable[..., Any], *args: Any, **params: Any) -> tuple[str, int]:
    """Make a call that AWS refuses, and return the error code and the HTTP status."""
    with pytest.raises(ClientError) as caught:
        call(*args, **params)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
