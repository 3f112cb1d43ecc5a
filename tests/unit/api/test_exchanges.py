from typing import Any

import pytest

from keyturn.api.exchanges.base import ExchangeSpec
from keyturn.api.exchanges.registry import EXCHANGES
from tests.support.cases import cases
from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, request
from tests.support.manifests.clients import pipeline, with_assertion
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
        "refresh token after a token for the client": (
            pipeline("accessToken", *with_assertion()["exchanges"], grantType="refresh_token"),
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
        index = [step.exchange for step in parsed.exchanges].index(consumption.exchange)
        description = f"{index}: {consumption.ref.name}, stored in {consumption.secret}"
        description += ", single use" if consumption.is_single_use else ""

    assert description == consumed
    assert consumption is None or {consumption.ref.name, consumption.secret} <= parsed.secrets_read


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize(
    ("property_name", "cel_name"),
    [
        ("is_refresh_grant", "CEL_IS_REFRESH_GRANT"),
        ("is_token_single_use", "CEL_IS_TOKEN_SINGLE_USE"),
        ("required_kinds", "CEL_REQUIRES_TOKEN"),
    ],
)
def test_overridden_property_has_a_cel_condition(
    property_name: str, cel_name: str, exchange: type[ExchangeSpec]
) -> None:
    is_overridden = getattr(exchange, property_name) is not getattr(ExchangeSpec, property_name)

    assert bool(getattr(exchange, cel_name)) == is_overridden
