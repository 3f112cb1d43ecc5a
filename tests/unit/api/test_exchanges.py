from typing import Any

import pytest

from keyturn.api.exchanges.base import SINGLE_USE_FIELDS
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.rules.consumption import HAS_SINGLE_USE_CREDENTIAL
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, request
from tests.support.manifests.parts import assume, refresh, secret_at, with_user_keys
from tests.support.manifests.sessions import MFA
from tests.support.manifests.sources import account
from tests.support.manifests.tokens import BEARER, EXCHANGE, TOKEN_AND_KEYS, center, center_grant, create, roles

_SERVICE_ACCOUNT = TOKEN_AND_KEYS["source"] | account()["source"]
_ASSERTION_FROM = center_grant(BEARER, assertionFrom=secret_at("jwt", "token"))["exchanges"]


@pytest.mark.parametrize(
    ("spec", "consumed"),
    [
        pytest.param({}, None, id="default manifest"),
        pytest.param(create(), None, id="CreateToken"),
        pytest.param(refresh(), "0: license, stored in license-keyturn", id="refresh token"),
        pytest.param(
            TOKEN_AND_KEYS | {"exchanges": [assume(), REFRESH]},
            "1: license, stored in license-keyturn",
            id="refresh token after a role",
        ),
        pytest.param(
            center_grant("refresh_token"),
            "0: license, stored in license-keyturn",
            id="refresh token of Identity Center",
        ),
        pytest.param(
            with_user_keys(*center()["exchanges"]),
            "0: sign-in, stored in sign-in-keyturn, single use",
            id="authorization code",
        ),
        pytest.param(with_user_keys(*_ASSERTION_FROM), "0: jwt, stored in jwt-keyturn, single use", id="assertionFrom"),
        pytest.param(
            center_grant(BEARER), "0: license, stored in license-keyturn, single use", id="source token as assertion"
        ),
        pytest.param(
            TOKEN_AND_KEYS | {"exchanges": [ASSUME_ROLE, *center_grant(BEARER)["exchanges"]]},
            "1: license, stored in license-keyturn, single use",
            id="source token as assertion after a role",
        ),
        pytest.param(
            TOKEN_AND_KEYS | {"exchanges": [ACCESS_TOKEN, *center_grant(BEARER)["exchanges"]]},
            None,
            id="token of an earlier exchange as assertion",
        ),
        pytest.param(center_grant(BEARER) | {"source": _SERVICE_ACCOUNT}, None, id="ServiceAccount token as assertion"),
        pytest.param(
            with_user_keys({"getSessionToken": MFA}), "0: mfa, stored in mfa-keyturn, single use", id="MFA code"
        ),
        pytest.param(
            with_user_keys(assume(**MFA), assume()),
            "0: mfa, stored in mfa-keyturn, single use",
            id="MFA code for a role",
        ),
        pytest.param(center_grant(EXCHANGE), None, id="token-exchange grant"),
        pytest.param(roles(), None, id="access token"),
    ],
)
def test_consumption_is_that_of_the_first_exchange_that_consumes(spec: dict[str, Any], consumed: str | None) -> None:
    parsed = request(**spec).spec
    consumption = parsed.consumption
    description = None
    if consumption:
        index = [step.exchange for step in parsed.exchanges].index(consumption.step)
        description = f"{index}: {consumption.ref.name}, stored in {consumption.secret}"
        description += ", single use" if consumption.is_single_use else ""

    assert description == consumed
    assert consumption is None or {consumption.ref.name, consumption.secret} <= parsed.secrets_read


def test_cel_knows_every_single_use_credential() -> None:
    fields = {
        (name, field)
        for name, exchange in EXCHANGES.items()
        for field in exchange.__struct_encode_fields__
        if field in SINGLE_USE_FIELDS
    }

    assert len(fields) == HAS_SINGLE_USE_CREDENTIAL.count("has(")
    assert all(f"has(self.exchanges[i].{name}.{field})" in HAS_SINGLE_USE_CREDENTIAL for name, field in fields)
