"""What this issuer knows: its name, its key, its clients and every refresh token."""

from dataclasses import dataclass, field

from tests.support.emulator.constants import AUDIENCE, CLIENT_ID
from tests.support.emulator.oauth.assertions import Shown
from tests.support.emulator.oauth.client_authentication import SEEDED, Client
from tests.support.emulator.oauth.token_families import Families
from tests.support.emulator.tokens import SigningKey


@dataclass(frozen=True, slots=True)
class Issuer:
    """An issuer at `url`, whose server shows a certificate of the CA `ca` (PEM)."""

    url: str
    ca: str = ""
    key: SigningKey = field(default_factory=SigningKey)
    clients: dict[str, Client] = field(default_factory=lambda: {client.client_id: client for client in SEEDED})
    families: Families = field(default_factory=Families)
    shown: Shown = field(default_factory=Shown)

    def audiences(self) -> frozenset[str]:
        """Tell whom AWS takes tokens of this issuer for: of access tokens and of ID tokens."""
        return frozenset({AUDIENCE, CLIENT_ID})
