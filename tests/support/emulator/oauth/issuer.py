"""The issuer's state: its clients, its signing key and every refresh token."""

from dataclasses import dataclass, field

import msgspec

from tests.support.emulator.constants import AUDIENCE, CLIENT_ID, CLIENT_SECRET, NON_ROTATING_CLIENT_ID
from tests.support.emulator.oauth.assertions import ReplayCache
from tests.support.emulator.oauth.token_families import TokenFamilies
from tests.support.emulator.tokens import SigningKey


class Client(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client with a secret, with a public key (PEM) for assertions, or public with neither.

    Without `rotates`, its refresh tokens stay valid when they are used.
    """

    client_id: str
    client_secret: str
    rotates: bool = True
    audience: str = AUDIENCE
    public_key: str = ""


@dataclass(frozen=True, slots=True)
class IssuerState:
    """An issuer at `url` whose server certificate is signed by `ca` (PEM)."""

    url: str
    ca: str = ""
    key: SigningKey = field(default_factory=SigningKey)
    clients: dict[str, Client] = field(
        default_factory=lambda: {
            CLIENT_ID: Client(CLIENT_ID, CLIENT_SECRET),
            NON_ROTATING_CLIENT_ID: Client(NON_ROTATING_CLIENT_ID, CLIENT_SECRET, rotates=False),
        }
    )
    families: TokenFamilies = field(default_factory=TokenFamilies)
    replay_cache: ReplayCache = field(default_factory=ReplayCache)

    @property
    def audiences(self) -> set[str]:
        """The audiences of assertions for this issuer."""
        return {self.url, f"{self.url}/token"}
