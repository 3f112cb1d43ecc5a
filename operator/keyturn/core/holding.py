"""What travels the pipeline: named values, each with its own expiry. A step overwrites only what it gives."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt

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
class Holding:
    """What is held at one point of the pipeline.

    `principal` is whose credentials they are (an ARN); `request_id` the one of AWS's last answer.
    """

    source_token: Token | None = None
    access_token: Token | None = None
    credentials: Credentials | None = None
    principal: str = ""
    request_id: str = ""

    @property
    def newest_token(self) -> Token:
        """The token that the next step reads. The API's rules see to it that there is one."""
        token = self.access_token or self.source_token
        if token is None:
            raise RefusedError("SpecInvalid", "an exchange needs a token, and nothing gives one")
        return token


def safe(value: str, what: str) -> str:
    """Return `value`; raises RefusedError (SourceInvalid) naming `what` where it could break a file."""
    if not _SAFE.fullmatch(value):
        raise RefusedError("SourceInvalid", f"{what} is empty or holds characters that no token has")
    return value


def unwrapped(value: str, what: str) -> str:
    """Return a token as people store it, without the newline of `echo` and the quotes of `jq`."""
    return safe(value.strip().strip("\"'").strip(), what)


def jwt_times(token: str) -> tuple[datetime | None, datetime | None]:
    """Read `iat` and `exp` (RFC 7519 section 4.1) of a token without trusting it; None for what is not there."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None, None
    return _moment(claims.get("iat")), _moment(claims.get("exp"))


def _moment(value: object) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(value), UTC)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
