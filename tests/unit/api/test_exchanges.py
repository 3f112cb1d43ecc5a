from typing import Any

from keyturn.api.exchanges.base import SINGLE_USE_FIELDS
from keyturn.api.exchanges.registry import EXCHANGES
from keyturn.api.rules.consumption import HAS_SINGLE_USE_CREDENTIAL
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, request
from tests.support.manifests.parts import assume, refresh, secret_at, with_user_keys
from tests.support.manifests.sessions import MFA
from tests.support.manifests.sources import account
from tests.support.manifests.tokens import BEARER, EXCHANGE, TOKEN_AND_KEYS, center, center_grant, create, roles

_SERVICE_ACCOUNT = TOKEN_AND_KEYS["source"] | account()["source"]
_ASSERTION_FROM = center_grant(BEARER, assertionFrom=secret_at("jwt", "token"))["exchanges"]


@cases(
    "spec, consumed",
    {
        "default manifest": ({}, None),
        "CreateToken": (create(), None),
        "refresh token": (refresh(), "0: license, stored in license-keyturn"),
        "refresh token after a role": (
            TOKEN_AND_KEYS | {"exchanges": [assume(), REFRESH]},
            "1: license, stored in license-keyturn",
        ),
        "refresh token of Identity Center": (center_grant("refresh_token"), "0: license, stored in license-keyturn"),
        "authorization code": (
            with_user_keys(*center()["exchanges"]),
            "0: sign-in, stored in sign-in-keyturn, single use",
        ),
        "assertionFrom": (with_user_keys(*_ASSERTION_FROM), "0: jwt, stored in jwt-keyturn, single use"),
        "source token as assertion": (center_grant(BEARER), "0: license, stored in license-keyturn, single use"),
        "source token as assertion after a role": (
            TOKEN_AND_KEYS | {"exchanges": [ASSUME_ROLE, *center_grant(BEARER)["exchanges"]]},
            "1: license, stored in license-keyturn, single use",
        ),
        "token of an earlier exchange as assertion": (
            TOKEN_AND_KEYS | {"exchanges": [ACCESS_TOKEN, *center_grant(BEARER)["exchanges"]]},
            None,
        ),
        "ServiceAccount token as assertion": (center_grant(BEARER) | {"source": _SERVICE_ACCOUNT}, None),
        "MFA code": (with_user_keys({"getSessionToken": MFA}), "0: mfa, stored in mfa-keyturn, single use"),
        "MFA code for a role": (with_user_keys(assume(**MFA), assume()), "0: mfa, stored in mfa-keyturn, single use"),
        "token-exchange grant": (center_grant(EXCHANGE), None),
        "access token": (roles(), None),
    },
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
