"""What Identity Center refuses, and what is gone once it was used."""

from typing import Any

import pytest

from tests.integration.emulator.conftest import USER, Client, as_keys, refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    APPLICATION_ARN,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
    REDIRECT_URI,
)

CODE = "authorization_code"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


def create(aws: Emulator, client: Client, grant: str, **params: Any) -> Any:
    given = {"clientId": APPLICATION_ARN, "grantType": grant, **params}
    return client("sso-oidc", **USER).create_token_with_iam(**given)


def of_code(aws: Emulator, client: Client, code: str = "", **params: Any) -> Any:
    return create(
        aws, client, CODE, **({"code": code or aws.authorization_code(), "redirectUri": REDIRECT_URI} | params)
    )


def test_a_code_that_is_shown_again_ends_what_came_of_it(aws: Emulator, client: Client) -> None:
    code = aws.authorization_code()
    given = of_code(aws, client, code)
    assert refusal(of_code, aws=aws, client=client, code=code) == ("InvalidGrantException", 400)

    refreshed = refusal(create, aws=aws, client=client, grant="refresh_token", refreshToken=given["refreshToken"])

    assert refreshed == ("InvalidGrantException", 400)


def test_a_spent_refresh_token_ends_its_family(aws: Emulator, client: Client) -> None:
    first = aws.identity_center_token(refresh=True)
    second = create(aws, client, "refresh_token", refreshToken=first)["refreshToken"]
    tokens = [first, second]
    codes = [refusal(create, aws=aws, client=client, grant="refresh_token", refreshToken=one) for one in tokens]

    assert codes == [("InvalidGrantException", 400)] * 2
    assert aws.identity_center_family(first).reuses == 1


@pytest.mark.parametrize(
    ("params", "code", "status"),
    [
        pytest.param({"clientId": APPLICATION_ARN + "x"}, "InvalidClientException", 401, id="no application"),
        pytest.param({"grantType": "password"}, "UnsupportedGrantTypeException", 400, id="no grant"),
        pytest.param({"redirectUri": "http://127.0.0.1/"}, "InvalidGrantException", 400, id="another redirect"),
        pytest.param({"clientId": OTHER_APPLICATION_ARN}, "InvalidGrantException", 400, id="another's code"),
        pytest.param({"code": "x"}, "InvalidGrantException", 400, id="no code of ours"),
        pytest.param({"code": ""}, "InvalidRequestException", 400, id="an empty code"),
        pytest.param({"scope": ["admin"]}, "InvalidScopeException", 400, id="more than the application has"),
    ],
)
def test_a_code_is_refused(params: dict[str, Any], code: str, status: int, aws: Emulator, client: Client) -> None:
    given = {
        "grantType": CODE,
        "code": aws.authorization_code(),
        "redirectUri": REDIRECT_URI,
        "clientId": APPLICATION_ARN,
    }

    assert refusal(client("sso-oidc", **USER).create_token_with_iam, **(given | params)) == (code, status)


@pytest.mark.parametrize(
    ("verifier", "shown", "good"),
    [
        pytest.param("a" * 43, "a" * 43, True, id="the same"),
        pytest.param("a" * 43, "b" * 43, False, id="another"),
        pytest.param("a" * 43, "", False, id="none"),
        pytest.param("", "", True, id="none wanted"),
    ],
)
def test_the_code_verifier(verifier: str, shown: str, aws: Emulator, client: Client, *, good: bool) -> None:
    params = {"code": aws.authorization_code(verifier), **({"codeVerifier": shown} if shown else {})}
    if good:
        assert of_code(aws, client, **params)["accessToken"]
    else:
        assert refusal(of_code, aws=aws, client=client, **params) == ("InvalidGrantException", 400)


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        pytest.param({"audience": "somebody"}, "InvalidGrantException", id="for somebody else"),
        pytest.param({"expires_in": -1}, "InvalidGrantException", id="over"),
        pytest.param({"subject": "stranger"}, "AccessDeniedException", id="a user without an assignment"),
    ],
)
def test_an_assertion_is_refused(claims: dict[str, Any], code: str, aws: Emulator, client: Client) -> None:
    assertion = aws.jwt(**({"audience": APPLICATION_ARN} | claims))

    assert refusal(create, aws=aws, client=client, grant=BEARER, assertion=assertion) == (code, 400)


def test_a_grant_that_the_application_does_not_allow(aws: Emulator, client: Client) -> None:
    arn = APPLICATION_ARN[:-1] + "1"
    aws.control("POST", "identity-center-applications", arn=arn, grants=[CODE])
    params = {"clientId": arn, "grantType": BEARER, "assertion": aws.jwt(arn)}

    assert refusal(client("sso-oidc", **USER).create_token_with_iam, **params) == (
        "UnauthorizedClientException",
        400,
    )


def test_a_token_is_exchanged_only_by_whom_it_names(aws: Emulator, client: Client) -> None:
    good = {"subjectToken": aws.identity_center_token(OTHER_APPLICATION_ARN), "subjectTokenType": ACCESS}
    own = good | {"subjectToken": aws.identity_center_token()}
    other = good | {"clientId": OTHER_APPLICATION_ARN, "subjectToken": aws.identity_center_token()}

    assert create(aws, client, EXCHANGE, **good)["issuedTokenType"] == ACCESS
    for bad in (own, other):
        assert refusal(create, aws=aws, client=client, grant=EXCHANGE, **bad) == ("InvalidGrantException", 400)


def test_the_credentials_of_a_permission_set_are_its_users(aws: Emulator, client: Client) -> None:
    asked = {"roleName": PERMISSION_SET, "accountId": ACCOUNT, "accessToken": aws.identity_center_token()}
    given = client("sso").get_role_credentials(**asked)["roleCredentials"]
    keys = as_keys({name[0].upper() + name[1:]: value for name, value in given.items()})
    told = client("sts", **keys).get_caller_identity()["Arn"]
    refused = refusal(client("sso").get_role_credentials, **(asked | {"accessToken": "x"}))

    assert told == f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Reader_0123456789abcdef/demo-user"
    assert refused == ("UnauthorizedException", 401)


def test_create_token_is_signed(aws: Emulator, client: Client) -> None:
    call = client("sso-oidc").create_token_with_iam
    params = {"clientId": APPLICATION_ARN, "grantType": CODE, "code": "x", "redirectUri": REDIRECT_URI}

    assert refusal(call, **params) == ("MissingAuthenticationTokenException", 403)
