"""What each exchange says of itself: what it needs, and what it uses up."""

from typing import Any

import pytest

from tests.support.dependencies import ACCESS_TOKEN, ASSUME_ROLE, REFRESH, request
from tests.support.manifests.parts import assume, of_user, refresh, secret_at
from tests.support.manifests.sessions import MFA
from tests.support.manifests.sources import account
from tests.support.manifests.tokens import BEARER, BOTH, EXCHANGE, center, create, of_center, roles

_ACCOUNT = BOTH["source"] | account()["source"]
_IN_SECRET = of_center(BEARER, assertionFrom=secret_at("jwt", "token"))["exchanges"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param(create(), None, id="nothing of a license"),
        pytest.param(refresh(), "0: license, kept in license-keyturn", id="a refresh token"),
        pytest.param(BOTH | {"exchanges": [assume(), REFRESH]}, "1: license, kept in license-keyturn", id="later"),
        pytest.param(of_center("refresh_token"), "0: license, kept in license-keyturn", id="of Identity Center"),
        pytest.param(of_user(*center()["exchanges"]), "0: sign-in, kept in sign-in-keyturn, once", id="a code"),
        pytest.param(of_user(*_IN_SECRET), "0: jwt, kept in jwt-keyturn, once", id="an assertion in a Secret"),
        pytest.param(
            of_center(BEARER), "0: license, kept in license-keyturn, once", id="an assertion that is the source"
        ),
        pytest.param(
            BOTH | {"exchanges": [ASSUME_ROLE, *of_center(BEARER)["exchanges"]]},
            "1: license, kept in license-keyturn, once",
            id="an assertion that is the source, after a role",
        ),
        pytest.param(
            BOTH | {"exchanges": [ACCESS_TOKEN, *of_center(BEARER)["exchanges"]]},
            None,
            id="an assertion that is made anew each time",
        ),
        pytest.param(of_center(BEARER) | {"source": _ACCOUNT}, None, id="an assertion of a service account"),
        pytest.param(of_user({"getSessionToken": MFA}), "0: mfa, kept in mfa-keyturn, once", id="an MFA code"),
        pytest.param(of_user(assume(**MFA), assume()), "0: mfa, kept in mfa-keyturn, once", id="for a role"),
        pytest.param(of_center(EXCHANGE), None, id="a token that is exchanged"),
        pytest.param(roles(), None, id="a token that is read"),
    ],
)
def test_what_a_renewal_uses_up(spec: dict[str, Any], where: str | None) -> None:
    wanted = request(**spec).spec
    found = wanted.consumption
    steps: list[Any] = [exchange.exchange for exchange in wanted.exchanges]
    once = ", once" if found and found.once else ""
    told = f"{steps.index(found.step)}: {found.ref.name}, kept in {found.secret}{once}" if found else None

    assert told == where
    assert found is None or {found.ref.name, found.secret} <= wanted.secrets_read
