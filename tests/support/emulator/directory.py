"""The state of IAM Identity Center: applications, authorization codes, sessions and identity contexts."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from tests.support.emulator.constants import (
    ACCOUNT,
    APPLICATION_ARN,
    DEFAULT_SCOPES,
    OTHER_APPLICATION_ARN,
    PERMISSION_SET,
)
from tests.support.emulator.oauth.assertions import ReplayCache
from tests.support.emulator.oauth.token_families import TokenFamilies
from tests.support.emulator.tokens import SigningKey

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:"
_GRANTS = frozenset({"authorization_code", "refresh_token", f"{GRANT_TYPE}jwt-bearer", f"{GRANT_TYPE}token-exchange"})


class Application(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A customer managed application; without the grant `refresh_token` it issues no refresh tokens."""

    arn: str
    grants: frozenset[str] = _GRANTS
    scopes: frozenset[str] = DEFAULT_SCOPES
    audiences: frozenset[str] = frozenset({APPLICATION_ARN})
    users: frozenset[str] = frozenset({"demo-user"})


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """An authorization code with its PKCE challenge, which may be empty."""

    application: str
    user: str
    redirect_uri: str
    challenge: str
    issued_at: datetime

    def matches_verifier(self, verifier: str) -> bool:
        """Whether the code verifier matches the challenge (RFC 7636 section 4.6)."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        return self.challenge in ("", digest)


@dataclass(frozen=True, slots=True)
class UserSession:
    """The user, application and scopes of an access token, and its expiry."""

    user: str
    application: str
    scopes: frozenset[str]
    expires_at: datetime


@dataclass(slots=True)
class Directory:
    """An Identity Center instance. `code_tokens` maps a consumed code to the refresh token issued for it."""

    applications: dict[str, Application] = field(
        default_factory=lambda: {
            APPLICATION_ARN: Application(APPLICATION_ARN),
            OTHER_APPLICATION_ARN: Application(
                OTHER_APPLICATION_ARN, scopes=DEFAULT_SCOPES | {APPLICATION_ARN}, audiences=frozenset()
            ),
        }
    )
    codes: dict[str, AuthorizationCode] = field(default_factory=dict)
    code_tokens: dict[str, str] = field(default_factory=dict)
    families: TokenFamilies = field(default_factory=TokenFamilies)
    sessions: dict[str, UserSession] = field(default_factory=dict)
    contexts: dict[str, datetime] = field(default_factory=dict)
    assignments: set[tuple[str, str, str]] = field(default_factory=lambda: {("demo-user", ACCOUNT, PERMISSION_SET)})
    replay_cache: ReplayCache = field(default_factory=ReplayCache)
    key: SigningKey = field(default_factory=SigningKey)

    def add_session(self, session: UserSession) -> str:
        """Store a session and return its access token."""
        token = f"aoa{secrets.token_urlsafe(48)}"
        self.sessions[token] = session
        return token

    def add_context(self, expires_at: datetime) -> str:
        """Issue a context assertion, with which a role can be assumed for the user."""
        context = secrets.token_urlsafe(96)
        self.contexts[context] = expires_at
        return context
