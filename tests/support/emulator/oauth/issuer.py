"""The issuer's state: its clients and their authentication, its signing key and every refresh token."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from urllib.parse import unquote_plus

import msgspec

from tests.support.emulator.constants import AUDIENCE, CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.emulator.oauth import OAuthError
from tests.support.emulator.oauth.assertions import ReplayCache, TrustedKeys, verify_assertion, verify_client_assertion
from tests.support.emulator.oauth.token_families import TokenFamilies
from tests.support.emulator.tokens import SigningKey

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client with a secret, with a public key (PEM) for assertions, federated, or public with none of them.

    A federated client authenticates with JWTs of another issuer, whose `sub` is `federated_subject`. Without `rotates`,
    its refresh tokens stay valid when they are used.
    """

    client_id: str
    client_secret: str
    rotates: bool = True
    audience: str = AUDIENCE
    public_key: str = ""
    federated_subject: str = ""

    @property
    def is_public(self) -> bool:
        """Whether it has no credentials."""
        return not (self.client_secret or self.public_key or self.federated_subject)


def _initial_clients() -> dict[str, Client]:
    clients = (Client(CLIENT_ID, CLIENT_SECRET), Client(NON_ROTATING_CLIENT_ID, CLIENT_SECRET, rotates=False))
    return {client.client_id: client for client in clients}


@dataclass(frozen=True, slots=True)
class IssuerState:
    """An issuer whose server certificate is signed by `ca` (PEM).

    It listens at `address`, which is its `url` unless it stands for the issuers in `aliases`: URLs and audiences.
    """

    url: str
    ca: str = ""
    address: str = ""
    aliases: frozenset[str] = frozenset()
    key: SigningKey = field(default_factory=SigningKey)
    clients: dict[str, Client] = field(default_factory=_initial_clients)
    families: TokenFamilies = field(default_factory=TokenFamilies)
    replay_cache: ReplayCache = field(default_factory=ReplayCache)

    @property
    def audiences(self) -> set[str]:
        return {self.url, f"{self.url}/token", *self.aliases}

    def authenticate(
        self, now: datetime, authorization: str, form: Mapping[str, str], trusted_keys: TrustedKeys
    ) -> Client:
        """Return the client of a token request (RFC 6749 section 2.3); raises OAuthError.

        `trusted_keys` are those of other issuers by URL, for the assertions of federated clients.
        """
        methods = [bool(authorization), "client_secret" in form, "client_assertion" in form]
        if sum(methods) > 1 or (authorization and not authorization.lower().startswith("basic ")):
            message = "use one client authentication method: basic, post or private_key_jwt"
            raise OAuthError("invalid_request", message)
        if "client_assertion" in form:
            if form.get("client_assertion_type") != _ASSERTION_TYPE:
                raise OAuthError("invalid_client", "client authentication failed", 401)
            client = self.clients.get(form.get("client_id", ""))
            if client and client.public_key:
                return self._authenticate_by_key(now, form, client)
            return self._authenticate_by_federation(now, form, trusted_keys)
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        if authorization:
            client_id, secret = _decode_basic(authorization)
        client = self.clients.get(client_id)
        if (
            client is None
            or client.public_key
            or client.federated_subject
            or not compare_digest(client.client_secret.encode(), secret.encode())
        ):
            raise OAuthError("invalid_client", "client authentication failed", 401)
        if form.get("client_id", client_id) != client_id:
            raise OAuthError("invalid_request", "client_id is not the authenticated client")
        return client

    def _authenticate_by_key(self, now: datetime, form: Mapping[str, str], client: Client) -> Client:
        assertion = form["client_assertion"]
        subject = verify_client_assertion(assertion, client.public_key, self.audiences, now, self.replay_cache)
        if subject != client.client_id:
            raise OAuthError("invalid_client", "client authentication failed", 401)
        return client

    def _authenticate_by_federation(self, now: datetime, form: Mapping[str, str], trusted_keys: TrustedKeys) -> Client:
        """The subject identifies the client; `client_id` is optional (RFC 7521 section 4.2)."""
        try:
            claims = verify_assertion(trusted_keys, form["client_assertion"], now)
        except OAuthError:
            raise OAuthError("invalid_client", "no trusted issuer signed the assertion, or it expired", 401) from None
        client = next((it for it in self.clients.values() if it.federated_subject == claims["sub"]), None)
        audience = claims.get("aud")
        audiences = set(audience if isinstance(audience, list) else [audience])
        if (
            client is None
            or form.get("client_id", client.client_id) != client.client_id
            or not audiences & self.audiences
            or self.replay_cache.is_replay(claims)
        ):
            raise OAuthError("invalid_client", "the assertion has a wrong subject or audience, or is a replay", 401)
        return client


def _decode_basic(authorization: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(authorization[6:], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        text = ""
    client_id, _, secret = text.partition(":")
    return unquote_plus(client_id), unquote_plus(secret)
