"""The emulator's state: accounts, roles, licenses, and everything it has issued."""

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

from tests.support.emulator import constants
from tests.support.emulator.directory import Directory
from tests.support.emulator.faults import Fault
from tests.support.emulator.oauth.issuer import IssuerState
from tests.support.emulator.tokens import PublicKeys, SigningKey
from tests.support.emulator.trust_policy import TrustPolicy


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings, as flags or changed while it runs; the lifetimes are upper limits.

    With a `registry_url`, such as the emulator's own, registry endpoints are below it instead of at AWS.
    `issuer_aliases` (separated by commas) are URLs and audiences of issuers that the OAuth issuer stands for; the first
    is its own URL. They take effect at the start.
    """

    region: str = "us-east-1"
    session_seconds: int = 129600
    access_token_seconds: int = 3600
    oauth_access_seconds: int = 3600
    identity_center_seconds: int = 3600
    registry_url: str = ""
    issuer_aliases: str = ""
    latency_seconds: float = 0
    clock_offset_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Principal:
    """A user, or a session with what it passes on to the next role."""

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
    """The access key of a user, or of a session, which has a token and expires."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    principal: Principal
    session_token: str = field(default="", repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer that roles can trust, for tokens with one of these audiences."""

    principal: str
    prefix: str
    audiences: AbstractSet[str]
    key: SigningKey | PublicKeys


@dataclass(frozen=True, slots=True)
class Role:
    arn: str
    trust_policy: TrustPolicy
    max_session_seconds: int
    role_id: str = field(default_factory=lambda: iam_id("AROA"))

    def session(self, name: str, **passed_on: Any) -> Principal:
        account, path = self.arn.split(":", 5)[4:]
        arn = f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/{name}"
        return Principal(arn, f"{self.role_id}:{name}", self.arn, **passed_on)


class PodIdentityAssociation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    role_arn: str
    disable_session_tags: bool = False


@dataclass(slots=True)
class LicenseToken:
    """A refresh token of License Manager, with the parameters of the CreateToken call."""

    account: str
    license_arn: str
    issued_at: datetime
    expires_at: datetime
    properties: list[str]
    params: dict[str, Any] = field(default_factory=dict)
    token_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    token: str = field(default="", repr=False)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class IdentityPool:
    """A Cognito identity pool: the issuers that it accepts (URLs) and its roles, the default first."""

    pool_id: str
    account: str
    issuers: frozenset[str]
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """A Cognito identity and the login that it belongs to."""

    identity_id: str
    pool_id: str
    provider: str
    subject: str


@dataclass(slots=True)
class CallRecord:
    """One call, as the control endpoint reports it; it contains no secret."""

    operation: str
    at: str
    principal: str = ""
    outcome: str = ""
    user_agent: str = ""


class State:
    """Everything the emulator knows; `clock` is its only source of time."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime], issuer: IssuerState | None = None) -> None:
        self.settings, self._initial_settings, self._clock = settings, settings, clock
        self.license_key, self.license_token_key, self.cognito_key = (SigningKey() for _ in range(3))
        self.access_keys: dict[str, AccessKey] = {}
        self.roles: dict[str, Role] = {}
        self.licenses = {constants.LICENSE_ARN}
        self.license_tokens: dict[str, LicenseToken] = {}
        self.mfa_codes: dict[tuple[str, str], datetime] = {}
        self.pod_identity: PodIdentityAssociation | None = None
        self.instance_role = ""
        self.domains = {constants.DOMAIN: frozenset({constants.REPOSITORY, "other"})}
        self.package_tokens, self.registry_passwords = dict[str, datetime](), dict[str, datetime]()
        self.pools, self.identities = dict[str, IdentityPool](), dict[str, Identity]()
        self.secrets: list[str] = []
        self.faults = list[Fault]()
        self.bugs = 0
        self.counts: Counter[str] = Counter()
        self.recent_calls: deque[CallRecord] = deque(maxlen=1000)
        self.issuer = issuer or IssuerState("https://issuer.test")
        self.directory = Directory()
        self.oidc_providers = {
            constants.LICENSE_ISSUER: OidcProvider(
                constants.LICENSE_PROVIDER, constants.LICENSE_PROVIDER, self.licenses, self.license_key
            ),
            f"https://{constants.COGNITO_PROVIDER}": OidcProvider(
                constants.COGNITO_PROVIDER, constants.COGNITO_PROVIDER, {constants.POOL_ID}, self.cognito_key
            ),
        }
        self._add_initial_state()

    def _add_initial_state(self) -> None:
        user = Principal(f"arn:aws:iam::{constants.ACCOUNT}:user/keyturn", iam_id("AIDA"))
        self.add_access_key(AccessKey(constants.USER_KEY_ID, constants.USER_SECRET_KEY, user))
        self.record_secrets(*(client.client_secret for client in self.issuer.clients.values()))
        self.add_role(constants.ROLE_ARN, constants.TRUST_POLICY)
        self.add_role(constants.ACCOUNT_ROLE_ARN, constants.ACCOUNT_TRUST_POLICY, 43200)
        # The audiences of the issuer's access tokens and ID tokens.
        self.trust_issuer(
            self.issuer.url, self.issuer.key, {constants.AUDIENCE, constants.CLIENT_ID}, constants.OIDC_ROLE_ARN
        )
        roles = constants.POOL_ROLE_ARN, constants.OTHER_POOL_ROLE_ARN
        self.pools[constants.POOL_ID] = IdentityPool(
            constants.POOL_ID, constants.ACCOUNT, frozenset({self.issuer.url}), roles
        )
        condition = {
            "StringEquals": {f"{constants.COGNITO_PROVIDER}:aud": constants.POOL_ID},
            "ForAnyValue:StringLike": {f"{constants.COGNITO_PROVIDER}:amr": "authenticated"},
        }
        policy = constants.trust_policy(
            {"Federated": constants.COGNITO_PROVIDER}, constants.WEB_IDENTITY_ACTION, condition
        )
        for arn in roles:
            self.add_role(arn, policy, 43200)

    @property
    def trusted_keys(self) -> dict[str, SigningKey | PublicKeys]:
        """The keys of the issuers that roles and OAuth clients can trust, by URL."""
        return {issuer: provider.key for issuer, provider in self.oidc_providers.items()}

    def trust_issuer(self, url: str, key: SigningKey | PublicKeys, audiences: AbstractSet[str], role_arn: str) -> None:
        host = url.removeprefix("https://")
        provider = OidcProvider(f"arn:aws:iam::{constants.ACCOUNT}:oidc-provider/{host}", host, audiences, key)
        self.oidc_providers[url] = provider
        condition = {"StringEquals": {f"{host}:aud": sorted(audiences)}}
        self.add_role(
            role_arn,
            constants.trust_policy({"Federated": provider.principal}, constants.WEB_IDENTITY_ACTION, condition),
        )

    def add_role(self, arn: str, trust_policy: dict[str, Any], max_session_seconds: int = 3600) -> None:
        """Create a role; raises ValueError if the policy uses an element that the emulator does not implement."""
        self.roles[arn] = Role(arn, msgspec.convert(trust_policy, TrustPolicy), max_session_seconds)

    def add_access_key(self, key: AccessKey) -> AccessKey:
        self.access_keys[key.access_key_id] = key
        self.record_secrets(key.secret_access_key, key.session_token)
        return key

    def now(self) -> datetime:
        return self._clock() + timedelta(seconds=self.settings.clock_offset_seconds)

    def reset(self) -> None:
        """Clear counts, records, faults and changed settings; what was issued stays valid."""
        self.counts.clear()
        self.recent_calls.clear()
        self.faults.clear()
        self.settings = self._initial_settings

    def record_secrets(self, *values: str) -> None:
        """Record secret values, so that a test can search logs for them."""
        self.secrets.extend(value for value in values if value)


def iam_id(prefix: str) -> str:
    """Return a unique ID as IAM makes them: 20 characters, of which the prefix names the kind."""
    return prefix + "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))


def random_secret(size: int) -> str:
    """Return `size` random bytes in base64: like AWS's secrets it contains `+`, `/` and `=`."""
    return base64.b64encode(os.urandom(size)).decode()
