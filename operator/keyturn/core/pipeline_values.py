"""What travels the pipeline: named values, each with its own expiry. A step overwrites only what it gives."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

from keyturn.api.times import Moment
from keyturn.core.errors import RefusedError

# RFC 6749 appendix A: VSCHAR, here without quote and backslash (and so a superset of RFC 6750's b64token):
# what no file format, header or shell can misread.
_SAFE = re.compile(r"[!#-\[\]-~]+")


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token. `expires_at` is None where nobody says when it ends."""

    value: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials; long-lived ones have neither session token nor expiry."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False, default=None)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SourceValues:
    """What a renewal starts from, as it was read: as far as the spec names it.

    `proof` is what one of the steps is given that works only once, such as an authorization code.
    """

    token: str | None = field(repr=False, default=None)
    credentials: Credentials | None = None
    proof: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """User name and password of a container registry; `host` is the one that images are named by."""

    host: str
    username: str
    password: str = field(repr=False)
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PackageEndpoint:
    """Where a package manager finds a repository; `format` is CodeArtifact's word for its kind, such as pypi."""

    format: str
    repository: str
    url: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A token of License Manager that was followed by another one, and when: it may still be in use."""

    token_id: str
    at: Moment


@dataclass(frozen=True, slots=True)
class PipelineValues:
    """What is held at one point of the pipeline.

    `refresh_token` is the one that the issuer answered, if it did; to a step with a `proof`, which works only
    once, it is the one to use in its place. `ends`: nothing is left to renew with. `identity_context` is AWS's
    signed word for whom a role is assumed. The access token is the password of the `package_endpoints`.
    `principal` is whose credentials they are (an ARN), `token_id` License Manager's name of the token that it
    made, `superseded` those of before that are not revoked, `identity_id` Cognito's of an identity; `request_id`
    is the one of AWS's last answer. `revision` counts the issues: a try that is made again has the same.
    """

    source_token: Token | None = None
    access_token: Token | None = None
    id_token: Token | None = None
    refresh_token: str | None = field(repr=False, default=None)
    proof: str | None = field(repr=False, default=None)
    ends: bool = False
    identity_context: str | None = field(repr=False, default=None)
    credentials: Credentials | None = None
    registry_logins: tuple[RegistryLogin, ...] = ()
    package_endpoints: tuple[PackageEndpoint, ...] = ()
    principal: str = ""
    token_id: str = ""
    identity_id: str = ""
    request_id: str = ""
    superseded: tuple[Superseded, ...] = ()
    revision: int = 0

    @property
    def own_credentials(self) -> Credentials:
        """The credentials that the next step signs with. The API's rules see to it that there are some."""
        if self.credentials is None:
            raise RefusedError("InvalidSpec", "an exchange needs credentials, and nothing gives them")
        return self.credentials

    @property
    def newest_token(self) -> Token:
        """The token that the next step reads. The API's rules see to it that there is one."""
        token = self.access_token or self.source_token
        if token is None:
            raise RefusedError("InvalidSpec", "an exchange needs a token, and nothing gives one")
        return token

    def token_to_read(self, which: str | None) -> Token:
        """The token that a step chose to read; raises RefusedError (InvalidSpec) where no issuer gave it."""
        if which != "idToken":
            return self.newest_token
        if self.id_token is None:
            raise RefusedError(
                "InvalidSpec", "an idToken is wanted, and no issuer answered one; is openid in its scope?"
            )
        return self.id_token


def safe(value: str, what: str) -> str:
    """Return `value`; raises RefusedError (SourceInvalid) naming `what` where it could break a file."""
    if not _SAFE.fullmatch(value):
        raise RefusedError("SourceInvalid", f"{what} is empty or holds characters that no token has")
    return value


def sized(value: str, what: str, least: int, most: int) -> str:
    """Return `value`; raises RefusedError (SourceInvalid) naming `what` where AWS takes none of that length.

    AWS would say ValidationError, as it does of much else, and botocore checks no maximum.
    """
    if not least <= len(value) <= most:
        raise RefusedError("SourceInvalid", f"{what} has {len(value)} characters; AWS takes {least} to {most}")
    return value


def unwrapped(value: str, what: str) -> str:
    """Return a token as people store it, without the newline of `echo` and the quotes of `jq`."""
    return safe(value.strip().strip("\"'").strip(), what)


def parse_source(token: str | None, keys: Mapping[str, str] | None, proof: str | None = None) -> SourceValues:
    """Read a source as people store it. Raises SourceNotFound or SourceInvalid."""
    return SourceValues(
        token=None if token is None else unwrapped(token, "the source token"),
        credentials=None if keys is None else _credentials(keys),
        proof=None if proof is None else unwrapped(proof, "what the exchange is given to use once"),
    )


def _credentials(keys: Mapping[str, str]) -> Credentials:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        if not keys.get(name):
            raise RefusedError("SourceNotFound", f"the Secret of source.credentials has no key {name}")
    session_token = keys.get("AWS_SESSION_TOKEN")
    return Credentials(
        access_key_id=unwrapped(keys["AWS_ACCESS_KEY_ID"], "AWS_ACCESS_KEY_ID"),
        secret_access_key=unwrapped(keys["AWS_SECRET_ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY"),
        session_token=unwrapped(session_token, "AWS_SESSION_TOKEN") if session_token else None,
    )


def jwt_times(token: str) -> tuple[datetime | None, datetime | None]:
    """Read `iat` and `exp` (RFC 7519 section 4.1) of a token without trusting it; None for what is not there."""
    claims = jwt_claims(token) or {}
    return _moment(claims.get("iat")), _moment(claims.get("exp"))


def jwt_claims(token: str) -> dict[str, Any] | None:
    """Read the claims of a JWT (RFC 7519 section 4) without trusting them; None where it is none."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError, ValueError):
        return None
    return claims


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(value), UTC)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
