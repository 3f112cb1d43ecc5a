"""Who may ask: clients and their authentication (RFC 6749 section 2.3)."""

import base64
import binascii
from collections.abc import Mapping
from hmac import compare_digest
from urllib.parse import unquote_plus

import msgspec

from tests.aws.oauth.refusal import OAuthError

AUDIENCE = "sts.amazonaws.com"
CLIENT_ID = "keyturn"
LASTING_CLIENT_ID = "keyturn-lasting"
# As awkward as one may be: client_secret_basic has it form-encoded first, client_secret_post once more.
CLIENT_SECRET = "pass/with+every%25kind:of=sign&more"


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A confidential client; one that does not rotate keeps its refresh token for ever."""

    client_id: str
    client_secret: str
    rotates: bool = True
    audience: str = AUDIENCE


SEEDED = (Client(CLIENT_ID, CLIENT_SECRET), Client(LASTING_CLIENT_ID, CLIENT_SECRET, rotates=False))


def authenticated(clients: Mapping[str, Client], authorization: str, form: Mapping[str, str]) -> Client:
    """Find the client that asks, by client_secret_basic or client_secret_post, one of them."""
    posted = "client_secret" in form
    if authorization and (posted or not authorization.lower().startswith("basic ")):
        raise OAuthError("invalid_request", "one way of client authentication, basic or post")
    client_id, secret = _basic(authorization) if authorization else _posted(form)
    client = clients.get(client_id)
    if client is None or not compare_digest(client.client_secret.encode(), secret.encode()):
        raise OAuthError("invalid_client", "client authentication failed", 401)
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id is not the one that authenticated")
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
