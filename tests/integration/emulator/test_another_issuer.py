from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.emulator.conftest import refusal
from tests.support.emulator.client import Emulator
from tests.support.emulator.tokens import SigningKey

Assume = Callable[..., Any]
URL, AUDIENCE = "https://issuer.example", "sts.amazonaws.com"
KEY, OTHER = SigningKey(), SigningKey()


@pytest.fixture
def role(aws: Emulator) -> str:
    return aws.trust_issuer(URL, {"keys": [OTHER.jwk(), KEY.jwk()]}, AUDIENCE)


def token(key: SigningKey, **changes: Any) -> str:
    return key.sign({"iss": URL, "aud": AUDIENCE, "sub": "demo-user", "iat": 1, "exp": 9**10, **changes})


@pytest.mark.parametrize("key", [KEY, OTHER], ids=["one key", "the other key"])
def test_the_token_of_an_issuer_that_is_trusted(assume: Assume, role: str, key: SigningKey) -> None:
    answer = assume(RoleArn=role, WebIdentityToken=token(key))

    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"]) == ("demo-user", AUDIENCE)


def test_the_client_is_the_audience_where_the_token_tells_it(assume: Assume, role: str) -> None:
    shown = token(KEY, aud=["account", "other"], azp=AUDIENCE)

    assert assume(RoleArn=role, WebIdentityToken=shown)["Audience"] == AUDIENCE


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(token(SigningKey()), id="signed by a key that it does not have"),
        pytest.param(token(KEY, aud="another"), id="for another audience"),
        pytest.param(
            token(KEY, azp="another"), id="of another client, as Keycloak tells: for AWS that is the audience"
        ),
        pytest.param(token(KEY, iss="https://elsewhere.example"), id="of another issuer"),
    ],
)
def test_any_other_token_is_refused(assume: Assume, role: str, wrong: str) -> None:
    assert refusal(assume, RoleArn=role, WebIdentityToken=wrong) == ("InvalidIdentityToken", 400)
