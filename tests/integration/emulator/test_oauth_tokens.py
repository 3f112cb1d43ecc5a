import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from tests.integration.emulator.conftest import Client, as_keys, refresh, refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    AUDIENCE,
    CLIENT_ID,
    LICENSE_PROVIDER,
    OIDC_ROLE_ARN,
    WEB_IDENTITY_ACTION,
    trust_policy,
)
from tests.support.emulator.oauth.client import basic_authorization, send

SCOPES = "offline_access openid"


@pytest.mark.parametrize(
    ("asked", "scope", "id_token"),
    [
        pytest.param("", SCOPES, True, id="all that was granted if none is asked for"),
        pytest.param("openid", "openid", True, id="less"),
        pytest.param("offline_access", "offline_access", False, id="no ID token without openid"),
    ],
)
def test_scope(asked: str, scope: str, aws: Emulator, *, id_token: bool) -> None:
    answer = refresh(aws, aws.oauth_refresh_token(), scope=asked)

    assert (answer["scope"], "id_token" in answer.members) == (scope, id_token)


def test_less_scope_once_is_not_less_for_ever(aws: Emulator) -> None:
    second = refresh(aws, aws.oauth_refresh_token(), scope="openid")["refresh_token"]

    assert refresh(aws, second)["scope"] == SCOPES


def test_tokens_can_be_checked_from_the_issuers_name_alone(aws: Emulator) -> None:
    aws.settings(oauth_access_seconds=120)
    found = send(f"{aws.issuer_url}/.well-known/openid-configuration", aws.ca)
    keys = jwt.PyJWKSet.from_dict(json.loads(send(found["jwks_uri"], aws.ca).text))
    answer = refresh(aws, aws.oauth_refresh_token())

    assert (found.status, found["issuer"]) == (200, aws.issuer_url)
    assert (found["token_endpoint"], answer["expires_in"]) == (f"{aws.issuer_url}/token", 120)
    for name, audience in {"access_token": AUDIENCE, "id_token": CLIENT_ID}.items():
        key = keys[jwt.get_unverified_header(answer[name])["kid"]]
        claims = jwt.decode(answer[name], key, ["RS256"], audience=audience, issuer=aws.issuer_url)
        assert (claims["sub"], claims["exp"] - claims["iat"]) == ("demo-user", 120)


@pytest.fixture
def assume(aws: Emulator, client: Client) -> Callable[..., Any]:
    def assume(name: str = "access_token", **changes: str) -> Any:
        token = refresh(aws, aws.oauth_refresh_token())[name]
        asked = {"RoleArn": OIDC_ROLE_ARN, "RoleSessionName": "demo", "WebIdentityToken": token, **changes}
        return client("sts").assume_role_with_web_identity(**asked)

    return assume


@pytest.mark.parametrize("name", ["access_token", "id_token"])
def test_aws_takes_its_tokens_for_a_role(
    name: str, client: Client, assume: Callable[..., Any], aws: Emulator
) -> None:
    answer = assume(name)
    identity = client("sts", **as_keys(answer["Credentials"])).get_caller_identity()

    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/OidcConsumer/demo"
    assert answer["Provider"].endswith(aws.issuer_url.removeprefix("https://"))


def test_aws_takes_none_for_another_audience_or_role(
    aws: Emulator, client: Client, assume: Callable[..., Any]
) -> None:
    aws.control("POST", "oauth-clients", client_id="else", client_secret="else", audience="else")
    other = refresh(aws, aws.oauth_refresh_token("else"), basic_authorization("else", "else"))["access_token"]
    licensed = OIDC_ROLE_ARN + "Not"
    aws.control(
        "POST",
        "roles",
        arn=licensed,
        trust_policy=trust_policy({"Federated": LICENSE_PROVIDER}, WEB_IDENTITY_ACTION, {}),
    )

    assert refusal(assume, WebIdentityToken=other) == ("InvalidIdentityToken", 400)
    assert refusal(assume, RoleArn=licensed) == ("AccessDenied", 403)
