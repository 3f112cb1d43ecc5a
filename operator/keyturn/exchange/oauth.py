"""OAuth 2.0: a token endpoint at any issuer."""

import base64
import ssl
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.holding import Holding, Token, jwt_times
from keyturn.core.model.exchanges import OauthToken
from keyturn.exchange.systems import Call
from keyturn.exchange.web import Form, WebAnswer

_REDIRECTS, _CLIENT_ERRORS = range(300, 400), range(400, 500)
_TOKENS = ("access_token", "refresh_token")
_LONGEST_LIFE = timedelta(days=366)

# RFC 6749 section 5.2, RFC 8628 section 3.5 (slow_down), RFC 6749 section 4.1.2.1 (the last two).
_ERRORS = {
    "invalid_request": ("SpecInvalid", "the issuer misses or refuses a parameter"),
    "invalid_client": ("AccessDenied", "are clientId, clientSecretFrom and clientAuthentication right?"),
    "invalid_grant": ("SourceInvalid", "the token is expired, revoked, spent, or another client's; sign in again"),
    "unauthorized_client": ("AccessDenied", "the client may not use this grant"),
    "unsupported_grant_type": ("SpecInvalid", "the issuer does not know this grant"),
    "invalid_scope": ("SpecInvalid", "the issuer refuses the scope"),
    "slow_down": ("Throttled", ""),
    "temporarily_unavailable": ("Unavailable", ""),
    "server_error": ("Unavailable", ""),
}


async def token(call: Call, wanted: OauthToken, held: Holding) -> Holding:
    """Ask a token endpoint with the refresh_token grant (RFC 6749 section 6), once.

    An answer without a refresh_token leaves the old one valid. The expiry is `expires_in` from the moment of the
    request (section 5.1), else the `exp` of a JWT.
    """
    fields = {"grant_type": wanted.grant_type, "refresh_token": held.newest_token.value}
    if wanted.scope:
        fields["scope"] = " ".join(wanted.scope)
    headers = await _authenticate(call, wanted, fields)
    form = Form(wanted.token_url, fields, headers, await _trusted(call, wanted))
    answer = await call.systems.web.post("oauthToken", form)
    return _given(held, answer, _members(answer))


async def _authenticate(call: Call, wanted: OauthToken, fields: dict[str, str]) -> dict[str, str]:
    """Add the client's authentication (RFC 6749 section 2.3.1) to the fields, or return it as headers."""
    if wanted.client_secret_from is None:
        fields["client_id"] = wanted.client_id
        return {}
    secret = await call.secret(wanted.client_secret_from.secret_key_ref)
    if wanted.client_authentication == "post":
        fields |= {"client_id": wanted.client_id, "client_secret": secret}
        return {}
    pair = f"{quote_plus(wanted.client_id)}:{quote_plus(secret)}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


async def _trusted(call: Call, wanted: OauthToken) -> ssl.SSLContext | None:
    if wanted.ca_bundle_from is None:
        return None
    bundle = await call.secret(wanted.ca_bundle_from.secret_key_ref)
    try:
        # Python takes an empty bundle for none, and would trust the usual certificates.
        return ssl.create_default_context(cadata=bundle or "none")
    except (ssl.SSLError, ValueError):
        raise RefusedError("SpecInvalid", "caBundleFrom holds no certificates in PEM") from None


def _members(answer: WebAnswer) -> dict[str, Any]:
    """The members of a good answer; raises what any other means, and whether the token may be spent."""
    members, status = answer.json or {}, answer.status
    code = members.get("error")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError(f"{answer.host} answered HTTP 429", retry_after=answer.retry_after)
    if isinstance(code, str) and (code in _ERRORS or status in _CLIENT_ERRORS):
        raise _refusal(answer, code)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        # RFC 9110 section 15.6.4: it was unable to handle the request.
        raise UnavailableError("Unavailable", f"{answer.host} answered HTTP 503")
    if status in _REDIRECTS or status in _CLIENT_ERRORS:
        hint = "is tokenUrl its token endpoint?"
        raise RefusedError("SpecInvalid", f"{answer.host} answered HTTP {status} without an OAuth error; {hint}")
    if status == HTTPStatus.OK and any(isinstance(members.get(name), str) for name in _TOKENS):
        return members
    sentence = f"{answer.host} answered HTTP {status}, and no token"
    raise UnavailableError("Unavailable", sentence, in_doubt=True)


def _refusal(answer: WebAnswer, code: str) -> KeyturnError:
    reason, hint = _ERRORS.get(code, ("SourceInvalid", ""))
    shown = code if code in _ERRORS else "an error of its own"
    sentence = f"{answer.host}: {shown}" + (f"; {hint}" if hint else "")
    if reason == "Throttled":
        return ThrottledError(sentence, retry_after=answer.retry_after)
    if reason == "Unavailable":
        return UnavailableError(reason, sentence, in_doubt=code == "server_error")
    return RefusedError(reason, sentence)


def _given(held: Holding, answer: WebAnswer, members: dict[str, Any]) -> Holding:
    """Take what was given. Nothing is refused here: a new refresh token must be saved, whatever else is odd."""
    access_token, id_token, refresh_token = (
        value if isinstance(value := members.get(name), str) and value else None
        for name in ("access_token", "id_token", "refresh_token")
    )
    return replace(
        held,
        refresh_token=refresh_token,
        access_token=Token(access_token, _expiry(access_token, members, answer.asked_at))
        if access_token
        else None,
        id_token=Token(id_token, jwt_times(id_token)[1]) if id_token else None,
    )


def _expiry(access_token: str, members: dict[str, Any], asked_at: datetime) -> datetime | None:
    try:
        life = timedelta(seconds=int(members.get("expires_in") or 0))
    except (TypeError, ValueError, OverflowError):
        life = timedelta()
    if life > timedelta():
        return asked_at + min(life, _LONGEST_LIFE)
    return jwt_times(access_token)[1]
