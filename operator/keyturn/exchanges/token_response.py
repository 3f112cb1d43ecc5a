"""Reads the tokens or the error in a token endpoint's response. The content decides, not the HTTP status."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from keyturn.api.exchanges.base import ID_TOKEN_TYPE, REFRESH_TOKEN_TYPE
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token, with_new_tokens
from keyturn.core.token_times import jwt_times, refresh_token_expiry, token_expiry
from keyturn.exchanges.issuer_http import IssuerResponse
from keyturn.exchanges.transmission import NOT_PROCESSED

_SUCCESS, _REDIRECTS, _CLIENT_ERRORS = range(200, 300), range(300, 400), range(400, 500)
# With these statuses, an issuer's own code is not about the token: Keycloak returns 404 if the realm does not exist.
_NOT_ABOUT_TOKEN = (*NOT_PROCESSED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_DENIED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_TOKENS = ("access_token", "id_token", "refresh_token")
# Okta uses the second one if the client is unknown.
_ERROR_MEMBERS = ("error", "errorCode")

# RFC 6749 section 5.2, RFC 8693 section 2.2.2 (invalid_target, and invalid_request also of a bad subject token),
# RFC 8628 section 3.5 (slow_down), RFC 6749 section 4.1.2.1 (the last three). Keycloak returns unauthorized_client
# for a wrong secret, and invalid_client for an unknown audience.
_ERRORS = {
    "invalid_request": (
        "InvalidSpec",
        "a parameter is missing or invalid, or the issuer does not accept the subject token of a token exchange",
    ),
    "invalid_client": (
        "AccessDenied",
        "check clientId, its secret, key or assertion, clientAuthentication and audience",
    ),
    "invalid_grant": (
        "SourceInvalid",
        "the token is expired, revoked, consumed or belongs to another client; sign in again (kubectl keyturn login)",
    ),
    "unauthorized_client": (
        "AccessDenied",
        "check that the client may use this grant, and its secret, key or assertion",
    ),
    "unsupported_grant_type": ("InvalidSpec", "the issuer does not support this grant"),
    "invalid_scope": ("InvalidSpec", "the issuer does not allow the scope"),
    "invalid_target": ("InvalidSpec", "the issuer does not allow the audience or the resource"),
    "slow_down": ("Throttled", ""),
    "access_denied": (
        "AccessDenied",
        "the issuer denies access: check the client, its permissions and the audience",
    ),
    "temporarily_unavailable": ("Unavailable", ""),
    "server_error": ("Unavailable", ""),
}


def read_token_response(
    values: PipelineValues,
    response: IssuerResponse,
    assumed_lifetime: timedelta | None = None,
    *,
    sends_token: bool,
    consumes: bool,
) -> PipelineValues:
    """Add the tokens of a response to the values; raises the error that it contains.

    `assumed_lifetime` is that of an access token if the issuer states none.
    `sends_token`: the request contained a token, not only the client's credentials. `consumes`: the issuer may have
    consumed it. Then an error that comes with a new refresh token is not raised but returned in `error`, because the
    refresh token must be saved first. For the same reason, unusable tokens are not refused here but later.
    """
    members = _unwrapped(response)
    new_token = _refresh_token(members) if consumes else None

    def read() -> PipelineValues:
        results = _with_tokens(values, response, members, assumed_lifetime)
        error = _error(response, members, sends_token=sends_token, consumes=consumes and new_token is None)
        if error is None and results.access_token is None and not consumes:
            # The next exchange would use the source token instead.
            error = UnavailableError("Unavailable", f"{response.host} returned no access token")
        if error and new_token is None:
            raise error
        return replace(results, error=error)

    return with_new_tokens(values, new_token, read)


def _unwrapped(response: IssuerResponse) -> Mapping[str, Any]:
    """Return the members of a response. If they contain neither a token nor an error, the tokens may be one level down.

    Withings returns them in `body`, others in `data`. Tokens next to an error may only repeat what was sent.
    """
    members = response.members or {}
    if response.status in _SUCCESS and not any(members.get(name) for name in (*_TOKENS, *_ERROR_MEMBERS)):
        inner = [value for value in members.values() if isinstance(value, dict) and _text(value, "access_token")]
        return inner[0] if len(inner) == 1 else members
    return members


def _error(
    response: IssuerResponse, members: Mapping[str, Any], *, sends_token: bool, consumes: bool
) -> KeyturnError | None:
    """Return the error that a response reports, None if it reports success."""
    host, status, is_success = response.host, response.status, response.status in _SUCCESS
    has_token = any(_text(members, name) for name in _TOKENS)
    # Some issuers return an object instead of an error code.
    error = next((members[name] for name in _ERROR_MEMBERS if members.get(name)), None)
    code = error if isinstance(error, str) else ""
    # RFC 6749 defines the codes in lower case.
    code = code.lower() if code.lower() in _ERRORS else code
    if status == HTTPStatus.TOO_MANY_REQUESTS or (_is_overloaded(response) and code not in _ERRORS):
        return ThrottledError(f"{host} returned HTTP {status}", retry_after=response.retry_after)
    is_about_token = status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NOT_ABOUT_TOKEN
    # Some issuers return every error with status 200, and some report errors in non-standard members.
    is_own_error = is_about_token and not has_token and bool(error or _describes_error(members, status))
    if code in _ERRORS or (code and is_about_token) or is_own_error:
        return _refusal(response, code, sends_token=sends_token, consumes=consumes)
    if is_success and has_token:
        return None
    if status in NOT_PROCESSED:
        return UnavailableError("Unavailable", f"{host} returned HTTP {status}")
    if status in _REDIRECTS or status in _CLIENT_ERRORS:
        message = f"{host} returned HTTP {status} without an OAuth error; check that tokenUrl is its token endpoint"
        return RefusedError("InvalidSpec", message)
    return UnavailableError("Unavailable", f"{host} returned HTTP {status} without a token", outcome_unknown=consumes)


def _is_overloaded(response: IssuerResponse) -> bool:
    return response.status == HTTPStatus.SERVICE_UNAVAILABLE and response.retry_after > timedelta()


def _describes_error(members: Mapping[str, Any], status: int) -> bool:
    """Whether members without a token and without `error` report an error, as `errcode` of WeChat does.

    After a success they may contain a token by another name. Then it is unknown whether the one that was sent is valid.
    """
    if status in _SUCCESS:
        return bool(members) and not _mentions_token(members)
    return bool(members) and status in _CLIENT_ERRORS


def _mentions_token(value: object) -> bool:
    """Whether a JSON value contains a member with "token" in its name that is not empty."""
    if isinstance(value, Mapping):
        return any(("token" in name.lower() and child) or _mentions_token(child) for name, child in value.items())
    return isinstance(value, list) and any(map(_mentions_token, value))


def _refusal(response: IssuerResponse, code: str, *, sends_token: bool, consumes: bool) -> KeyturnError:
    own_reason = "AccessDenied" if response.status in _DENIED or "client" in code.lower() else "SourceInvalid"
    # A non-standard error code is not repeated, because it may contain what was sent.
    reason, hint = _ERRORS.get(
        code, (own_reason, "check the client, its secret, key or assertion, the token and tokenUrl")
    )
    if reason == "SourceInvalid" and not sends_token:
        # Without a token, only the client can have been refused.
        reason, hint = "AccessDenied", "check the client, its secret, key or assertion, and tokenUrl"
    shown_code = code if code in _ERRORS else f"HTTP {response.status} with a non-standard error"
    message = f"{response.host}: {shown_code}" + (f"; {hint}" if hint else "")
    if reason == "Throttled" or (reason == "Unavailable" and _is_overloaded(response)):
        return ThrottledError(message, retry_after=response.retry_after)
    if reason == "Unavailable":
        is_failure = code == "server_error" and response.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        is_unknown = consumes and is_failure and response.status not in NOT_PROCESSED
        return UnavailableError(reason, message, outcome_unknown=is_unknown)
    # The other codes of RFC 6749 section 5.2 are about the client or the request; invalid_grant is SourceInvalid.
    return RefusedError(reason, message, may_concern_token=code not in _ERRORS or code == "access_denied")


def _with_tokens(
    values: PipelineValues, response: IssuerResponse, members: Mapping[str, Any], assumed_lifetime: timedelta | None
) -> PipelineValues:
    """Add the tokens of the response. Never fails: a new refresh token must be saved even if the rest is invalid."""
    access_token, id_token = _text(members, "access_token"), _text(members, "id_token")
    refresh_token = _refresh_token(members)
    if refresh_token and members.get("refresh_token") != refresh_token:
        # Its lifetime is in expires_in, too.
        access_token, members = None, {"refresh_token_expires_in": members.get("expires_in"), **members}
    if id_token is None and members.get("issued_token_type") == ID_TOKEN_TYPE:
        id_token = access_token
    expires_at = token_expiry(access_token or "", response.requested_at, members, assumed_lifetime)
    return replace(
        values,
        refresh_token=refresh_token,
        refresh_expires_at=refresh_token_expiry(refresh_token, response.requested_at, members),
        access_token=Token(access_token, expires_at) if access_token else None,
        id_token=Token(id_token, jwt_times(id_token).expires_at) if id_token else None,
    )


def _refresh_token(members: Mapping[str, Any]) -> str | None:
    refresh_token = _text(members, "refresh_token")
    if refresh_token is None and members.get("issued_token_type") == REFRESH_TOKEN_TYPE:
        # RFC 8693 section 2.2.1: the issued token is in access_token, whatever its type.
        return _text(members, "access_token")
    return refresh_token


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None
