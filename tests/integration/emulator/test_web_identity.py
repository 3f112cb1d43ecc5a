from collections.abc import Callable
from typing import Any

import pytest

from tests.support.cases import cases
from tests.support.emulator.boto import aws_error
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT, LICENSE_ARN, LICENSE_ISSUER
from tests.support.emulator.tokens import SigningKey

URL, AUDIENCE = "https://issuer.example", "sts.amazonaws.com"
KEY, OTHER_KEY, UNKNOWN_KEY = SigningKey(), SigningKey(), SigningKey()
Assume = Callable[..., Any]


def license_jwt(issuer: str = LICENSE_ISSUER) -> str:
    return UNKNOWN_KEY.sign({"iss": issuer, "aud": LICENSE_ARN, "sub": ACCOUNT, "iat": 1, "exp": 9**10})


def issuer_jwt(key: SigningKey = KEY, **changes: Any) -> str:
    return key.sign({"iss": URL, "aud": AUDIENCE, "sub": "demo-user", "iat": 1, "exp": 9**10, **changes})


@pytest.fixture
def issuer_role(aws: Emulator) -> str:
    """A role that trusts an issuer with two keys."""
    return aws.trust_issuer(URL, {"keys": [OTHER_KEY.jwk(), KEY.jwk()]}, AUDIENCE)


@cases("token", {"another key": license_jwt(), "unknown issuer": license_jwt("https://a.example")})
def test_foreign_token_is_refused(token: str, assume_with_token: Assume) -> None:
    assert aws_error(assume_with_token, WebIdentityToken=token) == ("InvalidIdentityToken", 400)


def test_unusable_license_token_is_refused(aws: Emulator, assume_with_token: Assume) -> None:
    unknown_license = aws_error(assume_with_token, aws.refresh_token(license_arn=LICENSE_ARN + "9"))
    refresh_token = aws_error(assume_with_token, WebIdentityToken=aws.refresh_token())
    aws.fault("GetAccessToken", expired=True)

    assert unknown_license == refresh_token == ("InvalidIdentityToken", 400)
    assert aws_error(assume_with_token) == ("ExpiredTokenException", 400)


@cases(
    "token, audience",
    {
        "the first key": (issuer_jwt(OTHER_KEY), AUDIENCE),
        "the second key": (issuer_jwt(), AUDIENCE),
        "audience in azp": (issuer_jwt(aud=["account", "other"], azp=AUDIENCE), AUDIENCE),
    },
)
def test_trusted_issuer_is_accepted(token: str, audience: str, assume_with_token: Assume, issuer_role: str) -> None:
    response = assume_with_token(RoleArn=issuer_role, WebIdentityToken=token)

    assert (response["SubjectFromWebIdentityToken"], response["Audience"]) == ("demo-user", audience)


@cases(
    "token",
    {
        "key is not in the JWKS": issuer_jwt(UNKNOWN_KEY),
        "another audience": issuer_jwt(aud="another"),
        "another client in azp, as Keycloak writes it": issuer_jwt(azp="another"),
        "another issuer": issuer_jwt(iss="https://elsewhere.example"),
    },
)
def test_token_of_a_trusted_issuer_is_refused(token: str, assume_with_token: Assume, issuer_role: str) -> None:
    error = aws_error(assume_with_token, RoleArn=issuer_role, WebIdentityToken=token)

    assert error == ("InvalidIdentityToken", 400)
