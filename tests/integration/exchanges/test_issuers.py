"""Responses of the token endpoints of known issuers that differ from RFC 6749.

The responses of Keycloak were recorded with version 26.4.2; those of others are from their documentation.
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
from tests.support.clock import real_now
from tests.support.dependencies import HOUR, MINUTE, SECOND, request, signed
from tests.support.exchange_steps import CA_FROM, context, issuer_client
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
REFRESH = {"grantType": "refresh_token"}
TYPE = "urn:ietf:params:oauth:token-type:"
EXCHANGE = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subjectTokenType": f"{TYPE}access_token",
}
JSON = "application/json"
BEARER = {"access_token": "access", "token_type": "Bearer"}
EXTRA_MEMBERS = {"refresh_expires_in": 0, "not-before-policy": 0, "session_state": "s", "scope": "openid"}


async def call(client: Aws, body: bytes, status: int = 200, content_type: str = JSON, **changes: Any) -> PipelineValues:
    """Run an exchange against an issuer that returns this body."""

    async def response(_: server.Request) -> server.Response:
        return server.Response(body=body, status=status, headers={"Content-Type": content_type})

    async with served(response) as issuer:
        step = {"tokenUrl": issuer.url(), "clientId": "acme", "caBundleFrom": CA_FROM, **(changes or REFRESH)}
        token_request = request(exchanges=[{"oauthToken": step}])
        exchange_context = context(client, issuer_client(), {"ca": CERTIFICATE.ca})
        return await exchange(
            exchange_context, token_request, token_request.spec.exchanges[0], PipelineValues(Token("token"))
        )


@pytest.mark.parametrize(
    ("members", "lifetime"),
    [
        pytest.param(BEARER | EXTRA_MEMBERS | {"expires_in": 300}, 5 * MINUTE, id="Keycloak: an offline token"),
        pytest.param(BEARER | {"expires_in": "3599", "ext_expires_in": "3599"}, 3599 * SECOND, id="Entra: strings"),
        pytest.param(BEARER | {"expires_in": 3599, "expires_on": "1"}, 3599 * SECOND, id="ADFS: expires_on"),
        pytest.param(BEARER | {"expires_in": 3599.9}, 3599 * SECOND, id="a fraction of a second"),
        pytest.param({"token_type": "Bearer"}, HOUR, id="no expires_in, but a JWT"),
        pytest.param(BEARER | {"expires_in": "soon"}, None, id="expires_in that is not a number"),
        pytest.param(BEARER, None, id="no expiry"),
    ],
)
async def test_lifetime_of_known_issuers(members: dict[str, Any], lifetime: timedelta | None, client: Aws) -> None:
    body = {"access_token": signed(expires=real_now() + HOUR)} | members
    values = await call(client, json.dumps(body).encode())

    assert values.access_token
    assert values.refresh_token is None
    expires_at = values.access_token.expires_at
    assert (expires_at is None) == (lifetime is None)
    assert expires_at is None or lifetime is None or abs(expires_at - real_now() - lifetime) < 5 * SECOND


@pytest.mark.parametrize(
    ("prefix", "content_type"),
    [
        pytest.param(b"", "text/plain; charset=utf-8", id="as plain text"),
        pytest.param(b"", "text/html", id="as HTML"),
        pytest.param(b"", "application/json;charset=ISO-8859-1", id="as JSON in another charset"),
        pytest.param(codecs.BOM_UTF8, JSON, id="after a byte order mark"),
        pytest.param(b"\r\n ", JSON, id="after white space"),
    ],
)
async def test_rotated_token_survives_unusual_encodings(prefix: bytes, content_type: str, client: Aws) -> None:
    members = BEARER | {"refresh_token": "next", "expires_in": 300}
    values = await call(client, prefix + json.dumps(members).encode(), content_type=content_type)

    assert values.refresh_token == "next"


async def test_requested_id_token_is_recognised(client: Aws) -> None:
    """RFC 8693 section 2.2.1: the ID token is in access_token, as Keycloak returns it."""
    token = signed(expires=real_now() + MINUTE)
    members = {
        "access_token": token,
        "token_type": "N_A",
        "issued_token_type": f"{TYPE}id_token",
        "expires_in": 60,
    }
    fields: dict[str, Any] = EXCHANGE | {"requestedTokenType": f"{TYPE}id_token"}
    values = await call(client, json.dumps(members).encode(), **fields)

    assert values.id_token
    assert values.access_token
    assert (values.id_token.value, values.access_token.value) == (token, token)


@pytest.mark.parametrize(
    ("status", "members", "reason", "expected_text"),
    [
        pytest.param(
            401, {"error": "unauthorized_client"}, "AccessDenied", "secret or key", id="Keycloak: wrong secret"
        ),
        pytest.param(400, {"error": "invalid_client"}, "AccessDenied", "audience", id="Keycloak: unknown audience"),
        pytest.param(403, {"error": "access_denied"}, "AccessDenied", "access_denied", id="Keycloak: not allowed"),
        pytest.param(400, {"error": "invalid_request"}, "InvalidSpec", "subject", id="Keycloak: invalid subject token"),
        pytest.param(404, {"error": "Realm does not exist"}, "InvalidSpec", "tokenUrl", id="Keycloak: unknown realm"),
        pytest.param(
            405, {"error": "HTTP 405 Method Not Allowed"}, "InvalidSpec", "tokenUrl", id="Keycloak: misspelled path"
        ),
        pytest.param(
            400, {"error": "Invalid Request"}, "SourceInvalid", "tokenUrl", id="Keycloak: authorization endpoint"
        ),
        pytest.param(403, {"error": "invalid_grant"}, "SourceInvalid", "sign in again", id="Auth0: 403"),
        pytest.param(401, {"error": "access_denied"}, "AccessDenied", "client", id="Auth0: wrong secret"),
        pytest.param(
            403, {"error": "too_many_attempts"}, "AccessDenied", "non-standard", id="403 with a non-standard code"
        ),
        pytest.param(401, {"errorCode": "invalid_client"}, "AccessDenied", "invalid_client", id="Okta: unknown client"),
        pytest.param(404, {"errorCode": "E0000022"}, "InvalidSpec", "tokenUrl", id="Okta: unknown server"),
        pytest.param(429, {"errorCode": "E0000047"}, "Throttled", "429", id="Okta: throttled"),
        pytest.param(
            400, {"error": "invalid_grant", "error_codes": [700082]}, "SourceInvalid", "sign", id="Entra: expired token"
        ),
        pytest.param(
            400,
            {"error": "interaction_required", "suberror": "x"},
            "SourceInvalid",
            "non-standard",
            id="Entra: sign-in required",
        ),
        pytest.param(
            400, {"error": {"code": 400, "message": "x"}}, "InvalidSpec", "tokenUrl", id="an error that is an object"
        ),
        pytest.param(503, {"error": "down"}, "Unavailable", "HTTP 503", id="503 with a non-standard code"),
        pytest.param(408, {"error": "too slow"}, "Unavailable", "HTTP 408", id="408 with a non-standard code"),
    ],
)
async def test_refusals_of_known_issuers(
    status: int, members: dict[str, Any], reason: str, expected_text: str, client: Aws
) -> None:
    body = members | {"error_description": "planted", "trace_id": "planted", "errorSummary": "planted"}
    with pytest.raises(KeyturnError) as raised:
        await call(client, json.dumps(body).encode(), status)
    error = raised.value

    assert (error.reason, isinstance(error, UnavailableError) and error.outcome_unknown) == (reason, False)
    assert expected_text in error.message
    assert "planted" not in error.message


@pytest.mark.parametrize(
    ("status", "code", "may_concern_token"),
    [
        pytest.param(401, "invalid_client", False, id="error of the client"),
        pytest.param(400, "invalid_scope", False, id="error of the request"),
        pytest.param(401, "token_reused", True, id="non-standard code"),
        pytest.param(403, "access_denied", True, id="access_denied"),
    ],
)
async def test_refusal_states_whether_it_may_concern_the_token(
    status: int, code: str, *, may_concern_token: bool, client: Aws
) -> None:
    with pytest.raises(RefusedError) as raised:
        await call(client, json.dumps({"error": code}).encode(), status)

    assert raised.value.may_concern_token is may_concern_token
