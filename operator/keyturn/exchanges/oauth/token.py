"""OAuth 2.0: a token endpoint at any issuer, asked with one of four grants."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from keyturn.api.exchanges.base import (
    ID_TOKEN_TYPE,
    JWT_BEARER,
    REFRESH_TOKEN,
    REFRESH_TOKEN_TYPE,
    TOKEN_EXCHANGE,
)
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token, jwt_times
from keyturn.exchanges.context import Call
from keyturn.exchanges.issuer_http import Form, IssuerResponse
from keyturn.exchanges.oauth.client_authentication import Fields, authenticate, trusted

_REDIRECTS, _CLIENT_ERRORS = range(300, 400), range(400, 500)
# RFC 9110 sections 15.5.9 and 15.6.4, RFC 8470 section 5.2: it was unable to handle the request, or would not yet.
_NOT_HANDLED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.SERVICE_UNAVAILABLE)
# What is no word about the token, whatever `error` holds: Keycloak tells there of a realm that does not exist.
_NO_REFUSAL = (*_NOT_HANDLED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_TOKENS = ("access_token", "refresh_token")
# By grant, what the token that goes on is called: RFC 6749 section 6, RFC 8693 section 2.1, RFC 7523 section 2.1.
_TOKEN_OF = {REFRESH_TOKEN: "refresh_token", TOKEN_EXCHANGE: "subject_token", JWT_BEARER: "assertion"}
_LONGEST_LIFE = timedelta(days=366)

# RFC 6749 section 5.2, RFC 8693 section 2.2.2 (invalid_target, and invalid_request also of a bad subject token),
# RFC 8628 section 3.5 (slow_down), RFC 6749 section 4.1.2.1 (the last three). Keycloak says unauthorized_client of
# a wrong secret, and invalid_client of an audience that it does not know.
_ERRORS = {
    "invalid_request": (
        "InvalidSpec",
        "the issuer misses or refuses a parameter, or the subject token of a token exchange",
    ),
    "invalid_client": (
        "AccessDenied",
        "are clientId, its secret or key, clientAuthentication and audience right?",
    ),
    "invalid_grant": ("SourceInvalid", "the token is expired, revoked, spent, or another client's; sign in again"),
    "unauthorized_client": ("AccessDenied", "may the client use this grant, and is its secret or key right?"),
    "unsupported_grant_type": ("InvalidSpec", "the issuer does not know this grant"),
    "invalid_scope": ("InvalidSpec", "the issuer refuses the scope"),
    "invalid_target": ("InvalidSpec", "the issuer refuses the audience or the resource"),
    "slow_down": ("Throttled", ""),
    "access_denied": (
        "AccessDenied",
        "the issuer does not allow it; are the client, its rights and audience right?",
    ),
    "temporarily_unavailable": ("Unavailable", ""),
    "server_error": ("Unavailable", ""),
}


async def token(call: Call, wanted: OauthTokenSpec, held: PipelineValues) -> PipelineValues:
    """Ask a token endpoint, once, with the grant that is wanted.

    An answer to the refresh_token grant without a refresh_token leaves the old one valid. Where a subject token
    is used once, what it gave goes on: `held.refresh_token` is sent in its place; of other grants none is kept.
    The expiry is `expires_in` from the moment of the request (RFC 6749 section 5.1), else the `exp` of a JWT.
    """
    consumes = wanted.consumes_refresh_token or held.proof is not None or held.refresh_token is not None
    fields = await _fields(call, wanted, held)
    headers = await authenticate(call, wanted, fields, call.context.issuer_client.now())
    form = Form(wanted.token_url, fields, headers, await trusted(call, wanted), consumes)
    response = await call.context.issuer_client.post("oauthToken", form)
    try:
        given = _given(held, response, _members(response, consumes=consumes))
    except ThrottledError:
        call.context.issuer_client.throttled()
        raise
    if given.access_token is None and not consumes:
        # The next step would take the source token for what this one gave.
        raise UnavailableError("Unavailable", f"{response.host} answered no access token")
    return given if consumes else replace(given, refresh_token=None)


async def _fields(call: Call, wanted: OauthTokenSpec, held: PipelineValues) -> Fields:
    """Write what is asked for, but for who asks."""
    given = {
        **(await _grant(call, wanted, held)),
        "scope": " ".join(wanted.scope or ()),
        **(wanted.extra_parameters or {}),
    }
    fields: Fields = [(name, value) for name, value in given.items() if value]
    fields += [("audience", audience) for audience in wanted.audience or ()]
    return fields + [("resource", resource) for resource in wanted.resource or ()]


async def _grant(call: Call, wanted: OauthTokenSpec, held: PipelineValues) -> dict[str, str | None]:
    """What the grant sends, and its name; once there is one, the refresh token that was given."""
    if held.refresh_token:
        return {"grant_type": REFRESH_TOKEN, "refresh_token": held.refresh_token}
    sent: dict[str, str | None] = {"grant_type": wanted.grant_type}
    if "token" in wanted.required_kinds:
        sent[_TOKEN_OF[wanted.grant_type]] = held.proof or held.token_to_read(wanted.from_).value
    if wanted.grant_type != TOKEN_EXCHANGE:
        return sent
    actor = await call.secret(wanted.actor_token_from.secret_key_ref) if wanted.actor_token_from else None
    return sent | {
        "subject_token_type": wanted.subject_token_type,
        "requested_token_type": wanted.requested_token_type,
        "actor_token": actor,
        "actor_token_type": wanted.actor_token_type,
    }


def _members(response: IssuerResponse, *, consumes: bool) -> dict[str, Any]:
    """The members of a successful response; raises KeyturnError for any other."""
    members, status = response.json or {}, response.status
    # Okta has its own name for it, where it does not know the client.
    code = members.get("error", members.get("errorCode"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError(f"{response.host} answered HTTP 429", retry_after=response.retry_after)
    refused = status in _CLIENT_ERRORS and status not in _NO_REFUSAL
    if isinstance(code, str) and (code in _ERRORS or refused):
        raise _refusal(response, code, consumes=consumes)
    if status in _NOT_HANDLED:
        raise UnavailableError("Unavailable", f"{response.host} answered HTTP {status}")
    if status in _REDIRECTS or status in _CLIENT_ERRORS:
        hint = "is tokenUrl its token endpoint?"
        raise RefusedError("InvalidSpec", f"{response.host} answered HTTP {status} without an OAuth error; {hint}")
    if status == HTTPStatus.OK and any(_text(members, name) for name in _TOKENS):
        return members
    sentence = f"{response.host} answered HTTP {status}, and no token"
    raise UnavailableError("Unavailable", sentence, outcome_unknown=consumes)


def _refusal(response: IssuerResponse, code: str, *, consumes: bool) -> KeyturnError:
    denied = response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    reason, hint = _ERRORS.get(code, ("AccessDenied" if denied else "SourceInvalid", "is tokenUrl right?"))
    shown = code if code in _ERRORS else "an error of its own"
    sentence = f"{response.host}: {shown}" + (f"; {hint}" if hint else "")
    if reason == "Throttled":
        return ThrottledError(sentence, retry_after=response.retry_after)
    if reason == "Unavailable":
        return UnavailableError(reason, sentence, outcome_unknown=consumes and code == "server_error")
    # All other codes of RFC 6749 section 5.2 concern the client or the request, or name the token.
    return RefusedError(reason, sentence, may_concern_token=code not in _ERRORS or code == "access_denied")


def _given(held: PipelineValues, response: IssuerResponse, members: dict[str, Any]) -> PipelineValues:
    """Take what was given. Nothing is refused here: a new refresh token must be saved, whatever else is odd."""
    access_token, id_token, refresh_token = (
        _text(members, name) for name in ("access_token", "id_token", "refresh_token")
    )
    if refresh_token is None and members.get("issued_token_type") == REFRESH_TOKEN_TYPE:
        # RFC 8693 section 2.2.1: what was asked for is called access_token, whatever it is.
        access_token, refresh_token = None, access_token
    if id_token is None and members.get("issued_token_type") == ID_TOKEN_TYPE:
        id_token = access_token
    return replace(
        held,
        refresh_token=refresh_token,
        access_token=Token(access_token, _expiry(access_token, members, response.asked_at)) if access_token else None,
        id_token=Token(id_token, jwt_times(id_token)[1]) if id_token else None,
    )


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


def _expiry(access_token: str, members: dict[str, Any], asked_at: datetime) -> datetime | None:
    try:
        life = timedelta(seconds=int(members.get("expires_in") or 0))
    except (TypeError, ValueError, OverflowError):
        life = timedelta()
    if life > timedelta():
        return asked_at + min(life, _LONGEST_LIFE)
    return jwt_times(access_token)[1]
