"""OAuth 2.0: requests tokens from any issuer, with one of four grants and any of four client authentications."""

import base64
import secrets
import ssl
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

import jwt
from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyturn.api.exchanges.base import (
    ID_TOKEN_TYPE,
    JWT_BEARER,
    REFRESH_TOKEN,
    REFRESH_TOKEN_TYPE,
    TOKEN_EXCHANGE,
)
from keyturn.api.exchanges.oauth import OauthTokenSpec
from keyturn.api.source import SecretValue
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token, jwt_times, token_expiry
from keyturn.exchanges import clock_skew
from keyturn.exchanges.context import Call
from keyturn.exchanges.issuer_http import Form, IssuerResponse
from keyturn.exchanges.transmission import Send, Transmission

_REDIRECTS, _CLIENT_ERRORS = range(300, 400), range(400, 500)
# RFC 9110 sections 15.5.9 and 15.6.4, RFC 8470 section 5.2: the request was not processed.
_NOT_HANDLED = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.SERVICE_UNAVAILABLE)
# These do not concern the token, even with an `error`: Keycloak returns 404 if the realm does not exist.
_NOT_ABOUT_TOKEN = (*_NOT_HANDLED, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
_TOKENS = ("access_token", "refresh_token")
# The parameter for the token, by grant: RFC 6749 section 6, RFC 8693 section 2.1, RFC 7523 section 2.1.
_TOKEN_PARAMETERS = {REFRESH_TOKEN: "refresh_token", TOKEN_EXCHANGE: "subject_token", JWT_BEARER: "assertion"}
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFETIME = timedelta(seconds=60)
_MAX_PEM_LENGTH, _MAX_KEY_BITS = 8192, 4096
# The bundle of all public authorities, as Mozilla and AWS publish it, has 220 KB.
_MAX_BUNDLE_LENGTH = 512 * 1024
Fields = list[tuple[str, str]]

# RFC 6749 section 5.2, RFC 8693 section 2.2.2 (invalid_target, and invalid_request also of a bad subject token),
# RFC 8628 section 3.5 (slow_down), RFC 6749 section 4.1.2.1 (the last three). Keycloak returns unauthorized_client
# for a wrong secret, and invalid_client for an unknown audience.
_ERRORS = {
    "invalid_request": (
        "InvalidSpec",
        "a parameter is missing or invalid, or the issuer refuses the subject token of a token exchange",
    ),
    "invalid_client": (
        "AccessDenied",
        "check clientId, its secret or key, clientAuthentication and audience",
    ),
    "invalid_grant": (
        "SourceInvalid",
        "the token has expired, has been revoked or consumed, or belongs to another client; sign in again",
    ),
    "unauthorized_client": ("AccessDenied", "check that the client may use this grant, and its secret or key"),
    "unsupported_grant_type": ("InvalidSpec", "the issuer does not support this grant"),
    "invalid_scope": ("InvalidSpec", "the issuer refuses the scope"),
    "invalid_target": ("InvalidSpec", "the issuer refuses the audience or the resource"),
    "slow_down": ("Throttled", ""),
    "access_denied": (
        "AccessDenied",
        "the issuer denies access: check the client, its permissions and the audience",
    ),
    "temporarily_unavailable": ("Unavailable", ""),
    "server_error": ("Unavailable", ""),
}


async def prepare_token(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Send:
    """Build one request to a token endpoint, and return the call that sends it.

    A response to the refresh_token grant without a refresh_token leaves the old one valid. A single-use subject
    token is sent only until it has yielded a refresh token, which is sent from then on; a refresh token from other
    grants is dropped. The expiry is `expires_in` from the time of the request (RFC 6749 section 5.1),
    else the `exp` of a JWT.
    """
    fields = await _form_fields(call, spec, values)
    headers, client_fields = await _client_authentication(call, spec)
    trusted = await _trusted_certificates(call, spec)
    issuer_client, consumes = call.context.issuer_client, call.consumes
    request = issuer_client.prepare(Form(spec.token_url, fields + client_fields, headers, trusted, consumes))

    async def send(transmission: Transmission) -> PipelineValues:
        response = await issuer_client.post("oauthToken", request, transmission)
        try:
            results = _with_tokens(values, response, _members(response, consumes=consumes))
        except ThrottledError:
            issuer_client.throttled()
            raise
        except RefusedError as error:
            # Issuers check `iat` and `exp` of a client assertion, and return the same code as for a wrong key.
            is_signed = spec.authentication == "private_key_jwt" and error.reason == "AccessDenied"
            if is_signed and abs(response.skew) >= clock_skew.REPORTED:
                raise clock_skew.clock_skew_error(error.message, response.skew, "the issuer") from None
            raise
        if results.access_token is None and not consumes:
            # The next exchange would use the source token instead.
            raise UnavailableError("Unavailable", f"{response.host} returned no access token")
        return results if consumes else replace(results, refresh_token=None)

    return send


async def _form_fields(call: Call, spec: OauthTokenSpec, values: PipelineValues) -> Fields:
    """The fields of the form without those of the client authentication. A refresh token replaces the spec's grant."""
    grant: dict[str, str | None] = {"grant_type": spec.grant_type}
    if values.refresh_token:
        grant = {"grant_type": REFRESH_TOKEN, "refresh_token": values.refresh_token}
    elif "token" in spec.required_kinds:
        token = values.single_use_credential or values.input_token(spec.from_).value
        grant[_TOKEN_PARAMETERS[spec.grant_type]] = token
    if grant["grant_type"] == TOKEN_EXCHANGE:
        actor = await call.secret(spec.actor_token_from.secret_key_ref) if spec.actor_token_from else None
        grant |= {
            "subject_token_type": spec.subject_token_type,
            "requested_token_type": spec.requested_token_type,
            "actor_token": actor,
            "actor_token_type": spec.actor_token_type,
        }
    parameters = grant | {"scope": " ".join(spec.scope or ())} | (spec.extra_parameters or {})
    fields: Fields = [(name, value) for name, value in parameters.items() if value]
    fields += [("audience", audience) for audience in spec.audience or ()]
    return fields + [("resource", resource) for resource in spec.resource or ()]


def _members(response: IssuerResponse, *, consumes: bool) -> dict[str, Any]:
    """The members of a successful response; raises KeyturnError for any other."""
    members, status = response.json or {}, response.status
    # Okta uses this name if the client is unknown.
    code = members.get("error", members.get("errorCode"))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError(f"{response.host} returned HTTP 429", retry_after=response.retry_after)
    is_refused = status in _CLIENT_ERRORS and status not in _NOT_ABOUT_TOKEN
    if isinstance(code, str) and (code in _ERRORS or is_refused):
        raise _refusal(response, code, consumes=consumes)
    if status in _NOT_HANDLED:
        raise UnavailableError("Unavailable", f"{response.host} returned HTTP {status}")
    if status in _REDIRECTS or status in _CLIENT_ERRORS:
        hint = "check that tokenUrl is its token endpoint"
        raise RefusedError("InvalidSpec", f"{response.host} returned HTTP {status} without an OAuth error; {hint}")
    if status == HTTPStatus.OK and any(_text(members, name) for name in _TOKENS):
        return members
    message = f"{response.host} returned HTTP {status} without a token"
    raise UnavailableError("Unavailable", message, outcome_unknown=consumes)


def _refusal(response: IssuerResponse, code: str, *, consumes: bool) -> KeyturnError:
    is_denied = response.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    reason, hint = _ERRORS.get(code, ("AccessDenied" if is_denied else "SourceInvalid", "check tokenUrl"))
    shown_code = code if code in _ERRORS else "non-standard error"
    message = f"{response.host}: {shown_code}" + (f"; {hint}" if hint else "")
    if reason == "Throttled":
        return ThrottledError(message, retry_after=response.retry_after)
    if reason == "Unavailable":
        return UnavailableError(reason, message, outcome_unknown=consumes and code == "server_error")
    # All other codes of RFC 6749 section 5.2 concern the client or the request, or name the token.
    return RefusedError(reason, message, may_concern_token=code not in _ERRORS or code == "access_denied")


def _with_tokens(values: PipelineValues, response: IssuerResponse, members: dict[str, Any]) -> PipelineValues:
    """Add the tokens of the response. Never fails: a new refresh token must be saved even if the rest is invalid."""
    access_token, id_token, refresh_token = (
        _text(members, name) for name in ("access_token", "id_token", "refresh_token")
    )
    if refresh_token is None and members.get("issued_token_type") == REFRESH_TOKEN_TYPE:
        # RFC 8693 section 2.2.1: the issued token is in access_token, whatever its type.
        access_token, refresh_token = None, access_token
    if id_token is None and members.get("issued_token_type") == ID_TOKEN_TYPE:
        id_token = access_token
    expires_at = token_expiry(access_token, members.get("expires_in"), response.requested_at)
    return replace(
        values,
        refresh_token=refresh_token,
        access_token=Token(access_token, expires_at) if access_token else None,
        id_token=Token(id_token, jwt_times(id_token)[1]) if id_token else None,
    )


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    return value if isinstance(value, str) and value else None


async def _client_authentication(call: Call, spec: OauthTokenSpec) -> tuple[dict[str, str], Fields]:
    """Return the headers and the fields with which the client authenticates.

    RFC 6749 section 2.3.1 for basic and post, RFC 7523 section 2.2 for private_key_jwt.
    """
    method, client_id = spec.authentication, spec.client_id or ""
    if method == "client_secret_basic":
        pair = f"{quote_plus(client_id)}:{quote_plus(await _secret(call, spec.client_secret_from))}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}, []
    fields: Fields = [("client_id", client_id)] if client_id else []
    if method == "client_secret_post":
        fields.append(("client_secret", await _secret(call, spec.client_secret_from)))
    if method == "private_key_jwt":
        key = await _secret(call, spec.client_key_from)
        assertion = _client_assertion(spec, key, call.context.issuer_client.now())
        fields += [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", assertion)]
    return {}, fields


async def _trusted_certificates(call: Call, spec: OauthTokenSpec) -> ssl.SSLContext | None:
    """Read the certificates that replace the default ones; None if the spec names none."""
    ref = spec.ca_bundle_from.ref if spec.ca_bundle_from else None
    if ref is None:
        return None
    # Comments between the certificates may have any characters, but Python accepts only ASCII. Python also treats an
    # empty bundle as none, and would trust the default certificates.
    bundle = (await call.secret(ref, _MAX_BUNDLE_LENGTH)).encode("ascii", "replace").decode() or "none"
    try:
        context = ssl.create_default_context(cadata=bundle)
    except (ssl.SSLError, ValueError):
        raise RefusedError("InvalidSpec", "caBundleFrom contains no certificates in PEM") from None
    # Python 3.13 requires extensions that the certificates of many private CAs lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _secret(call: Call, value: SecretValue | None) -> str:
    if value is None:
        raise RefusedError(
            "InvalidSpec", "clientAuthentication requires a secret or key that the spec does not reference"
        )
    return await call.secret(value.secret_key_ref)


def _client_assertion(spec: OauthTokenSpec, key: str, now: datetime) -> str:
    """Sign an assertion (RFC 7523 section 3) for this endpoint, valid once and for a minute."""
    algorithm, headers = spec.algorithm or "RS256", {"kid": spec.key_id} if spec.key_id else None
    claims = {
        "iss": spec.client_id,
        "sub": spec.client_id,
        "aud": spec.token_url,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _ASSERTION_LIFETIME,
    }
    try:
        return jwt.encode(claims, load_key(key), algorithm, headers)  # type: ignore[arg-type]
    except (jwt.PyJWTError, UnsupportedAlgorithm, InternalError, ValueError, TypeError, AttributeError):
        # Not "from error": it may show a line of the key. AttributeError: a public key has no `sign`.
        raise RefusedError(
            "InvalidSpec", f"clientKeyFrom contains no PEM private key for {algorithm} (RSA: at most 4096 bits)"
        ) from None


def load_key(pem: str) -> PrivateKeyTypes:
    """Load a private key; raises ValueError if it is too large.

    PyJWT would check the primes of an RSA key, which takes 5 s for 8192 bits and minutes for a crafted key: the event
    loop would be blocked and the Lease lost. Without the check, the issuer refuses signatures of an invalid key.
    """
    if len(pem) > _MAX_PEM_LENGTH:
        raise ValueError
    key = load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    if isinstance(key, RSAPrivateKey):
        private = key.private_numbers()
        numbers = (private.p, private.q, private.d, private.dmp1, private.dmq1, private.iqmp)
        if max(key.key_size, *(number.bit_length() for number in numbers)) > _MAX_KEY_BITS:
            raise ValueError
    return key
