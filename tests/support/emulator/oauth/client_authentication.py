"""Client authentication (RFC 6749 section 2.3): basic, post, private_key_jwt or none."""

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from hmac import compare_digest
from urllib.parse import unquote_plus

from tests.support.emulator.oauth import OAuthError
from tests.support.emulator.oauth.assertions import verify_client_assertion
from tests.support.emulator.oauth.issuer import Client, IssuerState

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def authenticate(issuer: IssuerState, now: datetime, authorization: str, form: Mapping[str, str]) -> Client:
    """Return the client of a token request; raises OAuthError."""
    methods = [bool(authorization), "client_secret" in form, "client_assertion" in form]
    if sum(methods) > 1 or (authorization and not authorization.lower().startswith("basic ")):
        raise OAuthError("invalid_request", "use one client authentication method: basic, post or private_key_jwt")
    if "client_assertion" in form:
        return _authenticate_by_assertion(issuer, now, form)
    client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
    if authorization:
        client_id, secret = _decode_basic(authorization)
    client = issuer.clients.get(client_id)
    if client is None or client.public_key or not compare_digest(client.client_secret.encode(), secret.encode()):
        raise OAuthError("invalid_client", "client authentication failed", 401)
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id is not the authenticated client")
    return client


def _authenticate_by_assertion(issuer: IssuerState, now: datetime, form: Mapping[str, str]) -> Client:
    client = issuer.clients.get(form.get("client_id", ""))
    if client is None or form.get("client_assertion_type") != _ASSERTION_TYPE:
        raise OAuthError("invalid_client", "client authentication failed", 401)
    subject = verify_client_assertion(
        form["client_assertion"], client.public_key, issuer.audiences, now, issuer.replay_cache
    )
    if subject != client.client_id:
        raise OAuthError("invalid_client", "client authentication failed", 401)
    return client


def _decode_basic(authorization: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(authorization[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
