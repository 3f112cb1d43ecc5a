from typing import Any

from tests.support.cases import cases
from tests.support.emulator.boto import USER, Boto, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import APPLICATION_ARN, OTHER_APPLICATION_ARN, REDIRECT_URI

CODE = "authorization_code"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
INVALID_GRANT = ("InvalidGrantException", 400)


def create(boto: Boto, grant: str, **params: Any) -> Any:
    params = {"clientId": APPLICATION_ARN, "grantType": grant, **params}
    if grant == CODE:
        params = {"redirectUri": REDIRECT_URI, **params}
    return boto("sso-oidc", **USER).create_token_with_iam(**params)


def test_reuse_of_a_code_revokes_its_tokens(aws: Emulator, boto: Boto) -> None:
    code = aws.authorization_code()
    refresh_token = create(boto, CODE, code=code)["refreshToken"]

    assert aws_error(create, boto, CODE, code=code) == INVALID_GRANT
    assert aws_error(create, boto, "refresh_token", refreshToken=refresh_token) == INVALID_GRANT


def test_reuse_of_a_refresh_token_revokes_its_family(aws: Emulator, boto: Boto) -> None:
    first = aws.identity_center_token(refresh=True)
    second = create(boto, "refresh_token", refreshToken=first)["refreshToken"]
    errors = [aws_error(create, boto, "refresh_token", refreshToken=token) for token in (first, second)]

    assert errors == [INVALID_GRANT] * 2
    assert aws.identity_center_family(first).reuses == 1


@cases(
    "params, error",
    {
        "application does not exist": ({"clientId": APPLICATION_ARN + "x"}, ("InvalidClientException", 401)),
        "unknown grant": ({"grantType": "password"}, ("UnsupportedGrantTypeException", 400)),
        "another redirect URI": ({"redirectUri": "http://127.0.0.1/"}, INVALID_GRANT),
        "code of another application": ({"clientId": OTHER_APPLICATION_ARN}, INVALID_GRANT),
        "unknown code": ({"code": "x"}, INVALID_GRANT),
        "empty code": ({"code": ""}, ("InvalidRequestException", 400)),
        "scope exceeds the application's": ({"scope": ["admin"]}, ("InvalidScopeException", 400)),
    },
)
def test_code_is_refused(params: dict[str, Any], error: tuple[str, int], aws: Emulator, boto: Boto) -> None:
    assert aws_error(create, boto, CODE, **({"code": aws.authorization_code()} | params)) == error


@cases("claims", {"another audience": {"audience": "somebody"}, "expired": {"expires_in": -1}})
def test_assertion_is_refused(claims: dict[str, Any], aws: Emulator, boto: Boto) -> None:
    assertion = aws.jwt(**({"audience": APPLICATION_ARN} | claims))

    assert aws_error(create, boto, BEARER, assertion=assertion) == INVALID_GRANT


def test_grant_must_be_allowed_by_the_application(aws: Emulator, boto: Boto) -> None:
    arn = APPLICATION_ARN[:-1] + "1"
    aws.control("POST", "identity-center-applications", arn=arn, grants=[CODE])
    error = aws_error(create, boto, BEARER, clientId=arn, assertion=aws.jwt(arn))

    assert error == ("UnauthorizedClientException", 400)
