"""What the token endpoints of known issuers answer, beyond what RFC 6749 asks for.

Keycloak's are of 26.4.2, as it answered here. Those of others are as their documentation has them.
"""

import codecs
import json
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web as server

from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from keyturn.exchanges.registry import exchange
from tests.integration.exchanges.test_oauth import CA_FROM
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, SECOND, request, signed
from tests.support.exchange_steps import context, issuer_client
from tests.support.tls import CERTIFIED, served

pytestmark = pytest.mark.usefixtures("all_closed")
REFRESH = {"grantType": "refresh_token"}
TYPE = "urn:ietf:params:oauth:token-type:"
EXCHANGE = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subjectTokenType": f"{TYPE}access_token",
}
JSON = "application/json"
BEARER = {"access_token": "access", "token_type": "Bearer"}
MORE = {"refresh_expires_in": 0, "not-before-policy": 0, "session_state": "s", "scope": "openid"}


async def call(client: Aws, body: bytes, status: int = 200, kind: str = JSON, **changes: Any) -> PipelineValues:
    """Take a step at an issuer that answers this."""

    async def answer(_: server.Request) -> server.Response:
        return server.Response(body=body, status=status, headers={"Content-Type": kind})

    async with served(answer) as issuer:
        step = {"tokenUrl": issuer.url(), "clientId": "acme", "caBundleFrom": CA_FROM, **(changes or REFRESH)}
        wanted = request(exchanges=[{"oauthToken": step}])
        outside = context(client, issuer_client(), {"ca": CERTIFIED.ca})
        return await exchange(outside, wanted, wanted.spec.exchanges[0], PipelineValues(Token("token")))


@pytest.mark.parametrize(
    ("members", "life"),
    [
        pytest.param(BEARER | MORE | {"expires_in": 300}, 5 * MINUTE, id="Keycloak: an offline token"),
        pytest.param(BEARER | {"expires_in": "3599", "ext_expires_in": "3599"}, 3599 * SECOND, id="Entra: strings"),
        pytest.param(BEARER | {"expires_in": 3599, "expires_on": "1"}, 3599 * SECOND, id="ADFS: expires_on"),
        pytest.param(BEARER | {"expires_in": 3599.9}, 3599 * SECOND, id="a fraction"),
        pytest.param({"token_type": "Bearer"}, HOUR, id="none, and a JWT"),
        pytest.param(BEARER | {"expires_in": "soon"}, None, id="what is no number"),
        pytest.param(BEARER, None, id="none at all"),
    ],
)
async def test_for_how_long(members: dict[str, Any], life: timedelta | None, client: Aws) -> None:
    body = {"access_token": signed(expires=real_now() + HOUR)} | members
    held = await call(client, json.dumps(body).encode())

    assert held.access_token
    assert held.refresh_token is None
    expires_at = held.access_token.expires_at
    assert (expires_at is None) == (life is None)
    assert expires_at is None or life is None or abs(expires_at - real_now() - life) < 5 * SECOND


@pytest.mark.parametrize(
    ("before", "kind"),
    [
        pytest.param(b"", "text/plain; charset=utf-8", id="as plain text"),
        pytest.param(b"", "text/html", id="as a page"),
        pytest.param(b"", "application/json;charset=ISO-8859-1", id="as JSON of another charset"),
        pytest.param(codecs.BOM_UTF8, JSON, id="after a byte order mark"),
        pytest.param(b"\r\n ", JSON, id="after white space"),
    ],
)
async def test_a_rotated_token_is_not_lost_for_how_it_is_written(before: bytes, kind: str, client: Aws) -> None:
    members = BEARER | {"refresh_token": "next", "expires_in": 300}
    held = await call(client, before + json.dumps(members).encode(), kind=kind)

    assert held.refresh_token == "next"


async def test_an_id_token_that_was_asked_for_is_one(client: Aws) -> None:
    """RFC 8693 section 2.2.1: it is called access_token, as Keycloak does."""
    token = signed(expires=real_now() + MINUTE)
    members = {
        "access_token": token,
        "token_type": "N_A",
        "issued_token_type": f"{TYPE}id_token",
        "expires_in": 60,
    }
    asked: dict[str, Any] = EXCHANGE | {"requestedTokenType": f"{TYPE}id_token"}
    held = await call(client, json.dumps(members).encode(), **asked)

    assert held.id_token
    assert held.access_token
    assert (held.id_token.value, held.access_token.value) == (token, token)


@pytest.mark.parametrize(
    ("status", "members", "reason", "says"),
    [
        pytest.param(401, {"error": "unauthorized_client"}, "AccessDenied", "key right", id="Keycloak: its secret"),
        pytest.param(400, {"error": "invalid_client"}, "AccessDenied", "audience", id="Keycloak: the audience"),
        pytest.param(403, {"error": "access_denied"}, "AccessDenied", "access_denied", id="Keycloak: not for it"),
        pytest.param(400, {"error": "invalid_request"}, "InvalidSpec", "subject", id="Keycloak: the subject token"),
        pytest.param(404, {"error": "Realm does not exist"}, "InvalidSpec", "tokenUrl", id="Keycloak: no realm"),
        pytest.param(405, {"error": "HTTP 405 Method Not Allowed"}, "InvalidSpec", "tokenUrl", id="Keycloak: /tokn"),
        pytest.param(400, {"error": "Invalid Request"}, "SourceInvalid", "tokenUrl", id="Keycloak: its /auth"),
        pytest.param(403, {"error": "invalid_grant"}, "SourceInvalid", "sign in again", id="Auth0: 403"),
        pytest.param(401, {"error": "access_denied"}, "AccessDenied", "client", id="Auth0: the secret"),
        pytest.param(403, {"error": "too_many_attempts"}, "AccessDenied", "its own", id="403 with an own code"),
        pytest.param(401, {"errorCode": "invalid_client"}, "AccessDenied", "invalid_client", id="Okta: the client"),
        pytest.param(404, {"errorCode": "E0000022"}, "InvalidSpec", "tokenUrl", id="Okta: no such server"),
        pytest.param(429, {"errorCode": "E0000047"}, "Throttled", "429", id="Okta: too often"),
        pytest.param(400, {"error": "invalid_grant", "error_codes": [700082]}, "SourceInvalid", "sign", id="Entra"),
        pytest.param(
            400,
            {"error": "interaction_required", "suberror": "x"},
            "SourceInvalid",
            "its own",
            id="Entra: by hand",
        ),
        pytest.param(400, {"error": {"code": 400, "message": "x"}}, "InvalidSpec", "tokenUrl", id="an object"),
        pytest.param(503, {"error": "away"}, "Unavailable", "HTTP 503", id="503 with an own code"),
        pytest.param(408, {"error": "too slow"}, "Unavailable", "HTTP 408", id="408 with an own code"),
    ],
)
async def test_what_a_refusal_means(status: int, members: dict[str, Any], reason: str, says: str, client: Aws) -> None:
    told = members | {"error_description": "planted", "trace_id": "planted", "errorSummary": "planted"}
    with pytest.raises(KeyturnError) as raised:
        await call(client, json.dumps(told).encode(), status)
    error = raised.value

    assert (error.reason, isinstance(error, UnavailableError) and error.outcome_unknown) == (reason, False)
    assert says in error.message
    assert "planted" not in error.message


@pytest.mark.parametrize(
    ("status", "code", "may_concern_token"),
    [
        pytest.param(401, "invalid_client", False, id="of the client"),
        pytest.param(400, "invalid_scope", False, id="of the request"),
        pytest.param(401, "token_reused", True, id="one of its own"),
        pytest.param(403, "access_denied", True, id="of anything"),
    ],
)
async def test_whether_the_token_is_refused(status: int, code: str, *, may_concern_token: bool, client: Aws) -> None:
    with pytest.raises(RefusedError) as raised:
        await call(client, json.dumps({"error": code}).encode(), status)

    assert raised.value.may_concern_token is may_concern_token
