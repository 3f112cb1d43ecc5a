"""Responses of the token endpoints of known issuers that differ from RFC 6749.

The responses of Keycloak were recorded with version 26.4.2; those of others are from their documentation.
"""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from aiohttp import web as server

from keyturn.core.errors import KeyturnError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.exchanges.aws import Aws
from tests.support.cases import cases
from tests.support.clock import real_now
from tests.support.dependencies import DAY, HOUR, MINUTE, SECOND, request, signed
from tests.support.exchange_steps import CA_FROM, context, exchange, issuer_client
from tests.support.tls import CERTIFICATE, served

pytestmark = pytest.mark.usefixtures("all_closed")
REFRESH = {"grantType": "refresh_token"}
ASSUMING: dict[str, Any] = REFRESH | {"assumedLifetime": "30m"}
TYPE = "urn:ietf:params:oauth:token-type:"
EXCHANGE = {
    "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subjectTokenType": f"{TYPE}access_token",
}
JSON = "application/json"
IN_TEN_DAYS = real_now() + 10 * DAY
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


@cases(
    "members, lifetime",
    {
        "Keycloak: an offline token": (BEARER | EXTRA_MEMBERS | {"expires_in": 300}, 5 * MINUTE),
        "Entra: strings": (BEARER | {"expires_in": "3599", "ext_expires_in": "3599"}, 3599 * SECOND),
        "ADFS: expires_on": (BEARER | {"expires_in": 3599, "expires_on": "1"}, 3599 * SECOND),
        "Azure: only expires_on, a string": (BEARER | {"expires_on": str(int(IN_TEN_DAYS.timestamp()))}, 10 * DAY),
        "Square: only expires_at, in ISO 8601": (BEARER | {"expires_at": IN_TEN_DAYS.isoformat()}, 10 * DAY),
        "a fraction of a second": (BEARER | {"expires_in": 3599.9}, 3599 * SECOND),
        "a decimal in a string": (BEARER | {"expires_in": "3600.0"}, HOUR),
        "no expires_in, but a JWT": ({"token_type": "Bearer"}, HOUR),
        "expires_in of 0, but a JWT": ({"token_type": "Bearer", "expires_in": 0}, HOUR),
        "expires_in that is not a number": (BEARER | {"expires_in": "soon"}, None),
        "Microsoft: 0 for a token that does not expire": (BEARER | {"expires_in": 0}, None),
        "Salesforce: only the time of issue": (BEARER | {"issued_at": "1726000000000"}, None),
    },
)
async def test_lifetime_of_known_issuers(members: dict[str, Any], lifetime: timedelta | None, client: Aws) -> None:
    body = {"access_token": signed(expires=real_now() + HOUR)} | members
    values = await call(client, json.dumps(body).encode())
    assuming = await call(client, json.dumps(body).encode(), **ASSUMING)

    assert values.access_token
    assert assuming.access_token
    assert (values.refresh_token, values.refresh_expires_at) == (None, None)
    assert is_about(values.access_token.expires_at, lifetime)
    assert is_about(assuming.access_token.expires_at, lifetime or 30 * MINUTE)


@cases(
    "members, lifetime",
    {
        "Keycloak": ({"refresh_expires_in": 1800}, 30 * MINUTE),
        "Keycloak: an offline token": ({"refresh_expires_in": 0, "refresh_token": signed(exp=0)}, None),
        "Google, GitHub, Azure AD B2C": ({"refresh_token_expires_in": 14400}, 4 * HOUR),
        "Apigee: a string": ({"refresh_token_expires_in": "14400"}, 4 * HOUR),
        "Apigee: 0 in a string": ({"refresh_token_expires_in": "0"}, None),
        "Intuit": ({"x_refresh_token_expires_in": 14400}, 4 * HOUR),
        "Square: a time": ({"refresh_token_expires_at": IN_TEN_DAYS.isoformat()}, 10 * DAY),
        "a JWT": ({"refresh_token": signed(expires=IN_TEN_DAYS)}, 10 * DAY),
        "the token that was sent stays valid": ({"refresh_token": None, "refresh_expires_in": 1800}, 30 * MINUTE),
        "an issued refresh token": (
            {"refresh_token": None, "issued_token_type": f"{TYPE}refresh_token", "expires_in": 600},
            10 * MINUTE,
        ),
        "nothing": ({}, None),
    },
)
async def test_stated_lifetime_of_a_refresh_token(
    members: dict[str, Any], lifetime: timedelta | None, client: Aws
) -> None:
    values = await call(client, json.dumps(BEARER | {"refresh_token": "next"} | members).encode())

    assert is_about(values.refresh_expires_at, lifetime)


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e400", b"9" * 5000, b"true", b"null", b"[1]", b"{}"])
async def test_odd_number_does_not_lose_the_rotated_token(number: bytes, client: Aws) -> None:
    lifetimes = b'"expires_in": %b, "expires_on": %b, "refresh_expires_in": %b' % (number, number, number)
    values = await call(client, b'{"access_token": "access", "refresh_token": "next", %b}' % lifetimes)

    assert values.access_token == Token("access")
    assert (values.refresh_token, values.refresh_expires_at) == ("next", None)


def is_about(expires_at: datetime | None, lifetime: timedelta | None) -> bool:
    if expires_at is None or lifetime is None:
        return (expires_at, lifetime) == (None, None)
    # The tests before this one may have taken minutes.
    return abs(expires_at - real_now() - lifetime) < max(5 * SECOND, lifetime / 100)


GOOGLE_PROVIDER = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/a/providers/b"
FEDERATED = EXCHANGE | {"subjectTokenType": f"{TYPE}jwt", "clientId": None}


@cases(
    "fields, expected",
    {
        "Google Cloud": (
            FEDERATED | {"requestedTokenType": f"{TYPE}access_token", "audience": [GOOGLE_PROVIDER]},
            {"requested_token_type": f"{TYPE}access_token", "audience": GOOGLE_PROVIDER},
        ),
        "Databricks": (FEDERATED | {"clientId": "sp", "scope": ["all-apis"]}, {"client_id": "sp", "scope": "all-apis"}),
        "Confluent Cloud": (
            FEDERATED | {"extraParameters": {"identity_pool_id": "pool", "expires_in": "900"}},
            {"identity_pool_id": "pool", "expires_in": "900"},
        ),
    },
)
async def test_federated_identity_is_exchanged_as_documented(
    fields: dict[str, Any], expected: dict[str, str], client: Aws
) -> None:
    """Without an Authorization header, which Google refuses."""
    requests: list[tuple[dict[str, str], bool]] = []

    async def response(http_request: server.Request) -> server.Response:
        form = {name: str(value) for name, value in (await http_request.post()).items()}
        requests.append((form, "Authorization" in http_request.headers))
        return server.json_response(BEARER | {"expires_in": 3600})

    async with served(response) as issuer:
        step = {"tokenUrl": issuer.url(), "caBundleFrom": CA_FROM} | {k: v for k, v in fields.items() if v is not None}
        token_request = request(exchanges=[{"oauthToken": step}])
        exchange_context = context(client, issuer_client(), {"ca": CERTIFICATE.ca})
        await exchange(exchange_context, token_request, token_request.spec.exchanges[0], PipelineValues(Token("token")))

    common = {
        "grant_type": fields["grantType"],
        "subject_token": "token",
        "subject_token_type": f"{TYPE}jwt",
    }
    assert requests == [(common | expected, False)]


async def test_github_form_is_read(client: Aws) -> None:
    """GitHub, without an Accept header that it knows."""
    body = b"access_token=gho_1&expires_in=28800&refresh_token=ghr_2&scope=&token_type=bearer"
    values = await call(client, body, content_type="application/x-www-form-urlencoded; charset=utf-8")

    assert values.access_token
    assert values.access_token.expires_at
    assert (values.access_token.value, values.refresh_token) == ("gho_1", "ghr_2")
    assert abs(values.access_token.expires_at - real_now() - 8 * HOUR) < 5 * SECOND


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


@cases(
    "status, members, reason, expected_text",
    {
        "Keycloak: wrong secret": (401, {"error": "unauthorized_client"}, "AccessDenied", "secret, key"),
        "Keycloak: unknown audience": (400, {"error": "invalid_client"}, "AccessDenied", "audience"),
        "Keycloak: not allowed": (403, {"error": "access_denied"}, "AccessDenied", "access_denied"),
        "Keycloak: invalid subject token": (400, {"error": "invalid_request"}, "InvalidSpec", "subject"),
        "Keycloak: unknown realm": (404, {"error": "Realm does not exist"}, "InvalidSpec", "tokenUrl"),
        "Keycloak: misspelled path": (405, {"error": "HTTP 405 Method Not Allowed"}, "InvalidSpec", "tokenUrl"),
        "Keycloak: authorization endpoint": (400, {"error": "Invalid Request"}, "SourceInvalid", "tokenUrl"),
        "Auth0: 403": (403, {"error": "invalid_grant"}, "SourceInvalid", "sign in again"),
        "Auth0: wrong secret": (401, {"error": "access_denied"}, "AccessDenied", "client"),
        "403 with a non-standard code": (403, {"error": "too_many_attempts"}, "AccessDenied", "non-standard"),
        "Okta: unknown client": (401, {"errorCode": "invalid_client"}, "AccessDenied", "invalid_client"),
        "Okta: unknown server": (404, {"errorCode": "E0000022"}, "InvalidSpec", "tokenUrl"),
        "Okta: throttled": (429, {"errorCode": "E0000047"}, "Throttled", "429"),
        "Entra: expired token": (400, {"error": "invalid_grant", "error_codes": [700082]}, "SourceInvalid", "sign"),
        "Entra: sign-in required": (
            400,
            {"error": "interaction_required", "suberror": "x"},
            "SourceInvalid",
            "non-standard",
        ),
        "Facebook: an object": (400, {"error": {"type": "OAuthException", "code": 190}}, "SourceInvalid", "HTTP 400"),
        "GitHub: wrong secret": (200, {"error": "incorrect_client_credentials"}, "AccessDenied", "secret"),
        "GitHub: revoked token": (200, {"error": "bad_refresh_token"}, "SourceInvalid", "HTTP 200"),
        "Slack: revoked token": (200, {"ok": False, "error": "invalid_refresh_token"}, "SourceInvalid", "HTTP 200"),
        "Zoho: revoked token": (200, {"error": "invalid_code"}, "SourceInvalid", "HTTP 200"),
        "HubSpot: revoked token": (400, {"status": "BAD_REFRESH_TOKEN"}, "SourceInvalid", "the token"),
        "Fitbit: revoked token": (
            400,
            {"errors": [{"errorType": "invalid_grant", "message": "planted"}], "success": False},
            "SourceInvalid",
            "the token",
        ),
        "WeChat: revoked token": (200, {"errcode": 40030, "errmsg": "planted"}, "SourceInvalid", "the token"),
        "Douyin: revoked token": (
            200,
            {"data": {"error_code": 10010}, "message": "error"},
            "SourceInvalid",
            "HTTP 200",
        ),
        "UPS: wrong secret": (401, {"response": {"errors": [{"code": "10401"}]}}, "AccessDenied", "secret"),
        "503 with a non-standard code": (503, {"error": "down"}, "Unavailable", "HTTP 503"),
        "408 with a non-standard code": (408, {"error": "too slow"}, "Unavailable", "HTTP 408"),
    },
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
