"""What this AWS knows: accounts, roles, licenses, and everything it ever issued."""

import base64
import os
import secrets
import uuid
from collections import Counter, deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    ACCOUNT_TRUST_POLICY,
    COGNITO_PROVIDER,
    DOMAIN,
    LICENSE_ARN,
    LICENSE_ISSUER,
    LICENSE_PROVIDER,
    OIDC_ROLE_ARN,
    OTHER_POOL_ROLE_ARN,
    POOL_ID,
    POOL_ROLE_ARN,
    REPOSITORY,
    ROLE_ARN,
    TRUST_POLICY,
    USER_KEY_ID,
    USER_SECRET_KEY,
    WEB_IDENTITY_ACTION,
    trust_policy,
)
from tests.support.emulator.directory import Directory
from tests.support.emulator.faults import Faults
from tests.support.emulator.oauth.issuer import Issuer
from tests.support.emulator.pools import Identity, Pool
from tests.support.emulator.tokens import PublicKeys, SigningKey
from tests.support.emulator.trust_policy import TrustPolicy


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set at the start and changed while it runs; lifetimes are caps on what is asked for.

    With a `registry_url`, such as the emulator's own, the endpoints of registries are there and not AWS's.
    """

    region: str = "us-east-1"
    session_seconds: int = 129600
    access_token_seconds: int = 3600
    oauth_access_seconds: int = 3600
    identity_center_seconds: int = 3600
    oauth_grace_seconds: float = 0
    package_token_seconds: int = 43200
    registry_seconds: int = 43200
    registry_url: str = ""
    latency_seconds: float = 0
    clock_offset_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts: a user, or a session with what it hands on to the next role."""

    arn: str
    unique_id: str
    role_arn: str = ""
    source_identity: str = ""
    transitive_tags: dict[str, str] = field(default_factory=dict)
    mfa: bool = False

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key with its principal: of a user for ever, of a session until `expires_at`."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal: Principal
    session_token: str = field(default="", repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer whose tokens roles can trust, when they are for one of these audiences."""

    principal: str
    prefix: str
    audiences: AbstractSet[str]
    key: SigningKey | PublicKeys


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role."""

    arn: str
    trust_policy: TrustPolicy
    max_session_seconds: int
    role_id: str = field(default_factory=lambda: identifier("AROA"))


@dataclass(slots=True)
class RefreshToken:
    """What License Manager remembers of a refresh token."""

    account: str
    license_arn: str
    issued_at: datetime
    expires_at: datetime
    properties: list[str]
    asked: dict[str, Any] = field(default_factory=dict)
    token_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    token: str = field(default="", repr=False)
    deleted: bool = False


@dataclass(slots=True)
class Record:
    """One call, as the control endpoint tells it; never a secret."""

    operation: str
    at: str
    principal: str = ""
    outcome: str = ""


class State:
    """All state of the emulator; `clock` is the only time it knows."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], issuer: Issuer | None = None) -> None:
        self.settings, self._first_settings, self._clock = settings, settings, clock
        self.access_token_key, self.refresh_token_key, self.cognito_key = (SigningKey() for _ in range(3))
        self.access_keys: dict[str, AccessKey] = {}
        self.roles: dict[str, Role] = {}
        self.licenses = {LICENSE_ARN}
        license_manager = OidcProvider(LICENSE_PROVIDER, LICENSE_PROVIDER, self.licenses, self.access_token_key)
        self.oidc_providers = {LICENSE_ISSUER: license_manager}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.mfa_codes: dict[tuple[str, str], datetime] = {}
        self.domains = {DOMAIN: frozenset({REPOSITORY, "other"})}
        self.package_tokens, self.registry_passwords = dict[str, datetime](), dict[str, datetime]()
        self.pools, self.identities = dict[str, Pool](), dict[str, Identity]()
        self.secrets: list[str] = []
        self.faults = Faults()
        self.bugs = 0
        self.counts: Counter[str] = Counter()
        self.recent: deque[Record] = deque(maxlen=1000)
        self.issuer = issuer or Issuer("https://issuer.test")
        self.directory = Directory()
        self._seed()

    def _seed(self) -> None:
        user = Principal(f"arn:aws:iam::{ACCOUNT}:user/keyturn", identifier("AIDA"))
        self.keep(AccessKey(USER_KEY_ID, USER_SECRET_KEY, user))
        self._open_the_pool()
        self.remember(*(client.client_secret for client in self.issuer.clients.values()))
        self.add_role(ROLE_ARN, TRUST_POLICY)
        self.add_role(ACCOUNT_ROLE_ARN, ACCOUNT_TRUST_POLICY, 43200)
        self.trust(self.issuer.url, self.issuer.key, self.issuer.audiences(), OIDC_ROLE_ARN)

    def trust(self, url: str, key: SigningKey | PublicKeys, audiences: AbstractSet[str], role_arn: str) -> None:
        """Register an issuer, and a role for its tokens for any of these audiences."""
        host = url.removeprefix("https://")
        provider = OidcProvider(f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}", host, audiences, key)
        self.oidc_providers[url] = provider
        condition = {"StringEquals": {f"{host}:aud": sorted(audiences)}}
        self.add_role(role_arn, trust_policy({"Federated": provider.principal}, WEB_IDENTITY_ACTION, condition))

    def _open_the_pool(self) -> None:
        roles = POOL_ROLE_ARN, OTHER_POOL_ROLE_ARN
        self.pools[POOL_ID] = Pool(POOL_ID, ACCOUNT, frozenset({self.issuer.url}), roles)
        self.oidc_providers[f"https://{COGNITO_PROVIDER}"] = OidcProvider(
            COGNITO_PROVIDER, COGNITO_PROVIDER, {POOL_ID}, self.cognito_key
        )
        condition = {
            "StringEquals": {f"{COGNITO_PROVIDER}:aud": POOL_ID},
            "ForAnyValue:StringLike": {f"{COGNITO_PROVIDER}:amr": "authenticated"},
        }
        for arn in roles:
            self.add_role(
                arn, trust_policy({"Federated": COGNITO_PROVIDER}, WEB_IDENTITY_ACTION, condition), 43200
            )

    def add_role(self, arn: str, trust_policy: dict[str, Any], max_session_seconds: int = 3600) -> None:
        """Make a role; a policy with a part of the language that is not here raises ValueError."""
        self.roles[arn] = Role(arn, msgspec.convert(trust_policy, TrustPolicy), max_session_seconds)

    def now(self) -> datetime:
        return self._clock() + timedelta(seconds=self.settings.clock_offset_seconds)

    def forget_calls(self) -> None:
        """Start again with counts, faults and settings; what was issued stays valid and known."""
        self.counts.clear()
        self.recent.clear()
        self.faults.clear()
        self.settings = self._first_settings

    def keep(self, key: AccessKey) -> AccessKey:
        self.access_keys[key.access_key_id] = key
        self.remember(key.secret_access_key, key.session_token)
        return key

    def remember(self, *values: str) -> None:
        """Note secret values, so that a test can look for them where they must not be."""
        self.secrets.extend(value for value in values if value)


def identifier(prefix: str) -> str:
    """Make an identifier as IAM does: a prefix that tells the kind, and 20 characters in all."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
    return prefix + "".join(secrets.choice(alphabet) for _ in range(16))


def secret_text(size: int) -> str:
    """Make a secret of `size` random bytes, with the `+`, `/` and `=` that AWS's have."""
    return base64.b64encode(os.urandom(size)).decode()
