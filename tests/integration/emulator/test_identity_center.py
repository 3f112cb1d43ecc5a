from typing import Any

from tests.support.emulator.boto import USER, Boto, aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import APPLICATION_ARN, REDIRECT_URI

CODE = "authorization_code"
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
