"""Who may ask: clients and their authentication (RFC 6749 section 2.3)."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from urllib.parse import unquote_plus

import msgspec

from tests.support.emulator.constants import AUDIENCE, CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.emulator.oauth.assertions import Shown, of_client
from tests.support.emulator.oauth.refusal import OAuthError

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client: with a secret, with a public key (PEM) for its assertions, or public with neither.

    One that does not rotate keeps its refresh token for ever.
    """

    client_id: str
    client_secret: str
    rotates: bool = True
    audience: str = AUDIENCE
    public_key: str = ""


SEEDED = (Client(CLIENT_ID, CLIENT_SECRET), Client(NON_ROTATING_CLIENT_ID, CLIENT_SECRET, rotates=False))


@dataclass(frozen=True, slots=True)
class Desk:
    """Where clients show who they are: those that are known, how the endpoint is called, and the time."""

    clients: Mapping[str, Client]
    audiences: set[str]
    shown: Shown
    now: datetime


def authenticated(desk: Desk, authorization: str, form: Mapping[str, str]) -> Client:
    """Find the client that asks, by basic, post, private_key_jwt or none, one of them."""
    ways = [bool(authorization), "client_secret" in form, "client_assertion" in form]
    if sum(ways) > 1 or (authorization and not authorization.lower().startswith("basic ")):
        raise OAuthError("invalid_request", "one way of client authentication: basic, post or private_key_jwt")
    if "client_assertion" in form:
        return _asserted(desk, form)
    client_id, secret = _basic(authorization) if authorization else _posted(form)
    client = desk.clients.get(client_id)
    if client is None or client.public_key or not compare_digest(client.client_secret.encode(), secret.encode()):
        raise OAuthError("invalid_client", "client authentication failed", 401)
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id is not the one that authenticated")
    return client


def _asserted(desk: Desk, form: Mapping[str, str]) -> Client:
    client = desk.clients.get(form.get("client_id", ""))
    if client is None or form.get("client_assertion_type") != ASSERTION_TYPE:
        raise OAuthError("invalid_client", "client authentication failed", 401)
    subject = of_client(form["client_assertion"], client.public_key, desk.audiences, desk.now, desk.shown)
    if subject != client.client_id:
        raise OAuthError("invalid_client", "client authentication failed", 401)
    return client


def _posted(form: Mapping[str, str]) -> tuple[str, str]:
    return form.get("client_id", ""), form.get("client_secret", "")


def _basic(authorization: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(authorization[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
