from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET, ROLE_ARN, USER_KEY_ID, USER_SECRET_KEY
from tests.support.emulator.fixtures import aws, shared_emulator
from tests.support.emulator.oauth.client import HttpResponse, basic_authorization, send

__all__ = ["aws", "shared_emulator"]

Client = Callable[..., Any]
USER = {"aws_access_key_id": USER_KEY_ID, "aws_secret_access_key": USER_SECRET_KEY}


@pytest.fixture(scope="session")
def client(shared_emulator: Emulator) -> Iterator[Client]:
    session, made = boto3.Session(), []

    def make(
        service: str, *, url: str = "", read_timeout: float = 10, region: str = "us-east-1", **keys: str
    ) -> Any:
        retries: Any = {"mode": "standard", "total_max_attempts": 1}
        config = Config(read_timeout=read_timeout, retries=retries)
        if not keys:
            config = config.merge(Config(signature_version=UNSIGNED))
        endpoint = url or shared_emulator.url
        made.append(session.client(service, region, endpoint_url=endpoint, config=config, **keys))  # type: ignore[call-overload]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def assume(aws: Emulator, client: Client) -> Callable[..., Any]:
    def assume(refresh_token: str = "", **changes: Any) -> Any:
        token = refresh_token or aws.refresh_token()
        access_token = client("license-manager").get_access_token(Token=token)["AccessToken"]
        asked = {"RoleArn": ROLE_ARN, "RoleSessionName": "demo", "WebIdentityToken": access_token, **changes}
        return client("sts").assume_role_with_web_identity(**asked)

    return assume


def as_keys(credentials: dict[str, str]) -> dict[str, str]:
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def refusal(call: Callable[..., Any], **params: Any) -> tuple[str, int]:
    """Make a call that AWS refuses, and tell the code and the HTTP status."""
    with pytest.raises(ClientError) as caught:
        call(**params)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def refresh(aws: Emulator, token: str, headers: dict[str, str] | None = None, **form: str) -> HttpResponse:
    """Ask the issuer for a refresh; without headers the seeded client shows its secret by basic_authorization."""
    asked = {"grant_type": "refresh_token", "refresh_token": token, **form}
    return send(
        f"{aws.issuer_url}/token",
        aws.ca,
        asked,
        basic_authorization(CLIENT_ID, CLIENT_SECRET) if headers is None else headers,
    )
