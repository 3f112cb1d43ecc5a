"""What IAM Identity Center knows: applications, codes, sessions, and what it signed for whom."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from tests.support.emulator.constants import (
    APPLICATION_ARN,
    DEFAULT_SCOPES,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
    REDIRECT_URI,
)
from tests.support.emulator.oauth.assertions import Shown
from tests.support.emulator.oauth.token_families import Families
from tests.support.emulator.tokens import SigningKey

GRANTS = frozenset(
    {
        "authorization_code",
        "refresh_token",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    }
)
CODE_LIVES = timedelta(minutes=10)


class Application(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer managed application; without `refresh_token` among its grants it gives no refresh tokens."""

    arn: str
    grants: frozenset[str] = GRANTS
    scopes: frozenset[str] = DEFAULT_SCOPES
    redirect_uris: frozenset[str] = frozenset({REDIRECT_URI})
    audiences: frozenset[str] = frozenset({APPLICATION_ARN})
    users: frozenset[str] = frozenset({"demo-user"})


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code."""

    application: str
    user: str
    redirect_uri: str
    challenge: str
    issued_at: datetime

    def is_proved_by(self, verifier: str) -> bool:
        """Whether a code verifier is that of the challenge (RFC 7636 section 4.6)."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        return self.challenge in ("", digest)


@dataclass(frozen=True, slots=True)
class Session:
    """Whom an access token speaks for, to which application, until when."""

    user: str
    application: str
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(slots=True)
class Directory:
    """The instance of Identity Center."""

    applications: dict[str, Application] = field(
        default_factory=lambda: {
            APPLICATION_ARN: Application(APPLICATION_ARN),
            OTHER_APPLICATION_ARN: Application(
                OTHER_APPLICATION_ARN, scopes=DEFAULT_SCOPES | {APPLICATION_ARN}, audiences=frozenset()
            ),
        }
    )
    codes: dict[str, Code] = field(default_factory=dict)
    of_code: dict[str, str] = field(default_factory=dict)
    families: Families = field(default_factory=Families)
    sessions: dict[str, Session] = field(default_factory=dict)
    contexts: dict[str, datetime] = field(default_factory=dict)
    assignments: set[tuple[str, str, str]] = field(
        default_factory=lambda: {("demo-user", "111122223333", PERMISSION_SET)}
    )
    shown: Shown = field(default_factory=Shown)
    key: SigningKey = field(default_factory=SigningKey)

    def new_code(self, code: Code) -> str:
        """Give a code to somebody who has signed in."""
        text = secrets.token_urlsafe(32)
        self.codes[text] = code
        return text

    def new_session(self, session: Session) -> str:
        """Give an access token."""
        token = f"aoa{secrets.token_urlsafe(48)}"
        self.sessions[token] = session
        return token

    def new_context(self, ends: datetime) -> str:
        """Sign for whom a role may be assumed."""
        context = secrets.token_urlsafe(96)
        self.contexts[context] = ends
        return context
