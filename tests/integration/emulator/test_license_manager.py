import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from tests.integration.emulator.conftest import USER, Client, refusal
from tests.support.emulator import license_manager
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import LICENSE_ARN, LICENSE_ISSUER, USER_KEY_ID
from tests.support.emulator.service import Call
from tests.support.emulator.state import Settings, State
from tests.support.emulator.tokens import SigningKey

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NEW = {"LicenseArn": LICENSE_ARN, "ClientToken": "one", "TokenProperties": ["on-prem"]}
ISSUED_BY = "aws:license-manager:token-issuer-account-id:111122223333"


def test_an_access_token_can_be_checked_with_the_published_keys(aws: Emulator, client: Client) -> None:
    refresh = client("license-manager", **USER).create_token(**NEW)
    access = client("license-manager").get_access_token(Token=refresh["Token"], TokenProperties=["on-prem"])
    with urllib.request.urlopen(f"{aws.url}/.well-known/jwks.json") as answer:  # noqa: S310 - our own server
        keys = jwt.PyJWKSet.from_dict(json.load(answer))
    key = keys[jwt.get_unverified_header(access["AccessToken"])["kid"]]
    claims = jwt.decode(access["AccessToken"], key, ["RS256"], audience=LICENSE_ARN, issuer=LICENSE_ISSUER)

    assert (claims["exp"] - claims["iat"], claims["amr"]) == (3600, ["on-prem", ISSUED_BY])
    assert refresh["TokenType"] == "REFRESH_TOKEN"


def test_an_access_token_is_capped_to_seconds(aws: Emulator, client: Client) -> None:
    aws.settings(access_token_seconds=7)
    access = client("license-manager").get_access_token(Token=aws.refresh_token())["AccessToken"]
    claims = jwt.decode(access, options={"verify_signature": False})

    assert claims["exp"] - claims["iat"] == 7


def test_get_access_token_may_be_signed(aws: Emulator, client: Client) -> None:
    client("license-manager", **USER).get_access_token(Token=aws.refresh_token())

    assert aws.recent_calls()[-1]["principal"] == "arn:aws:iam::111122223333:user/keyturn"


@pytest.mark.parametrize(
    ("later", "same"),
    [
        pytest.param(599, True, id="within ten minutes: the same token again"),
        pytest.param(600, False, id="after ten minutes: another token"),
    ],
)
def test_client_token_window(later: int, *, same: bool) -> None:
    world = State(Settings(), lambda: NOW)
    user = world.access_keys[USER_KEY_ID]
    first = license_manager.create_token(Call(world, NEW, user, NOW, "us-east-1"))
    second = license_manager.create_token(Call(world, NEW, user, NOW + timedelta(seconds=later), "us-east-1"))

    assert (first == second) is same


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param(
            {"LicenseArn": LICENSE_ARN + "0"},
            "ResourceNotFoundException",
            id="no such license",
        ),
        pytest.param({"ClientToken": "x" * 61}, "ValidationException", id="a ClientToken of 61 characters"),
        pytest.param({"ClientToken": "a b"}, "ValidationException", id="a ClientToken with a space"),
        pytest.param({"TokenProperties": list("abcd")}, "ValidationException", id="four properties"),
        pytest.param({"TokenProperties": ["x" * 4000]}, "ValidationException", id="a token over 4096 characters"),
        pytest.param(
            {"RoleArns": ["arn:aws-eu:iam::1:role/x"]}, "ValidationException", id="page stricter than model"
        ),
        pytest.param({"ExpirationInDays": 0}, "ValidationException", id="no days"),
        pytest.param(
            {"ClientToken": "used", "ExpirationInDays": 1}, "ValidationException", id="ClientToken used again"
        ),
    ],
)
def test_create_token_refuses(change: dict[str, Any], code: str, aws: Emulator, client: Client) -> None:
    create = client("license-manager", **USER).create_token
    create(**{**NEW, "ClientToken": "used"})

    assert refusal(create, **{**NEW, "ClientToken": "new", **change}) == (code, 400)


def _foreign() -> str:
    return SigningKey().sign({"iss": LICENSE_ISSUER, "exp": 4102444800, "token_id": "x"})


@pytest.mark.parametrize(
    ("token", "properties"),
    [
        pytest.param("garbage", [], id="no JWT"),
        pytest.param(_foreign(), [], id="signed by somebody else"),
        pytest.param("{token} ", [], id="a trailing space"),
        pytest.param('"{token}"', [], id="quoted by jq"),
        pytest.param("{expired}", [], id="expired"),
        pytest.param("{token}", ["cloud"], id="a property that the token does not have"),
        pytest.param("x" * 4097, [], id="too long"),
    ],
)
def test_get_access_token_refuses(token: str, properties: list[str], aws: Emulator, client: Client) -> None:
    real = {"token": aws.refresh_token(["on-prem"]), "expired": aws.refresh_token(expires_in=-1)}
    call = client("license-manager").get_access_token

    assert refusal(call, Token=token.format(**real), TokenProperties=properties) == ("ValidationException", 400)


def test_a_deleted_token_gives_nothing_more(aws: Emulator, client: Client) -> None:
    made = client("license-manager", **USER).create_token(**{**NEW, "ClientToken": "deleted"})
    client("license-manager", **USER).delete_token(TokenId=made["TokenId"])

    assert refusal(client("license-manager").get_access_token, Token=made["Token"]) == (
        "AccessDeniedException",
        400,
    )
    listed = client("license-manager", **USER).list_tokens(TokenIds=[made["TokenId"]])["Tokens"]
    assert [one["Status"] for one in listed] == ["DELETED"]


def test_list_tokens_goes_page_by_page(aws: Emulator, client: Client) -> None:
    arn = f"{LICENSE_ARN}/pages"
    aws.control("POST", "licenses", arn=arn)
    ids = [
        aws.control("POST", "refresh-tokens", license_arn=arn, properties=[], expires_in=9)["token_id"]
        for _ in range(5)
    ]
    aws.refresh_token(license_arn=arn, account="444455556666")
    filters = [{"Name": "LicenseArns", "Values": [arn]}]
    found, page = [], {"NextToken": ""}
    while "NextToken" in page:
        more = {"NextToken": page["NextToken"]} if page["NextToken"] else {}
        page = client("license-manager", **USER).list_tokens(Filters=filters, MaxResults=2, **more)
        found += [one["TokenId"] for one in page["Tokens"]]

    assert found == ids


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        pytest.param("list_tokens", {"NextToken": "no"}, "ValidationException", id="a made-up NextToken"),
        pytest.param("list_tokens", {"MaxResults": 101}, "ValidationException", id="a page over 100"),
        pytest.param(
            "list_tokens", {"Filters": [{"Name": "Other"}]}, "ValidationException", id="an unknown filter"
        ),
        pytest.param("delete_token", {"TokenId": "none"}, "ResourceNotFoundException", id="no such token"),
    ],
)
def test_the_others_refuse(
    operation: str, params: dict[str, Any], code: str, aws: Emulator, client: Client
) -> None:
    assert refusal(getattr(client("license-manager", **USER), operation), **params) == (code, 400)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({}, "MissingAuthenticationTokenException", id="unsigned"),
        pytest.param({**USER, "aws_secret_access_key": "x"}, "InvalidSignatureException", id="a wrong secret"),
        pytest.param({**USER, "aws_access_key_id": "AKIAX"}, "UnrecognizedClientException", id="an unknown key"),
    ],
)
def test_signed_operations_refuse(keys: dict[str, str], code: str, aws: Emulator, client: Client) -> None:
    assert refusal(client("license-manager", **keys).list_tokens) == (code, 400)
