"""When tokens expire, as their issuers state it: in a response, or in the claims of a JWT.

Values that cannot be true are ignored: no number or time, zero, negative, before the token was issued, or already past
when the token is received. Issuers use 0 and -1 for "does not expire".
"""

import base64
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from keyturn.api.times import whole_seconds
from keyturn.core.bounded_json import decode_object
from keyturn.core.pipeline_values import MAX_VALUE_LENGTH

_LONGEST_LIFETIME = timedelta(days=366)
# A larger number is a time, which some issuers state in place of a lifetime.
_LARGEST_LIFETIME_SECONDS = timedelta(days=20 * 366).total_seconds()
_FIRST_YEAR = 2000
# A number of seconds since 1970 that is later than the year 9999 is a number of milliseconds.
_LAST_SECOND = datetime.max.replace(tzinfo=UTC).timestamp()
_NO_MEMBERS: Mapping[str, Any] = MappingProxyType({})


class _Members(NamedTuple):
    """Names of the members with a lifetime in seconds, and of those with a time.

    A lifetime of more than `most_seconds` is in milliseconds.
    """

    lifetimes: tuple[str, ...]
    times: tuple[str, ...]
    most_seconds: float = _LARGEST_LIFETIME_SECONDS


class JwtTimes(NamedTuple):
    """`iat` and `exp` (RFC 7519 section 4.1); None for each that is absent or cannot be true."""

    issued_at: datetime | None
    expires_at: datetime | None


# The lifetimes: Zoho, together with an expires_in in milliseconds; RFC 6749 section 5.1, and Adobe (in milliseconds).
# The times: Square, Entra ID and Squarespace.
_ACCESS_TOKEN = _Members(
    ("expires_in_sec", "expires_in"),
    ("expires_at", "expires_on", "access_token_expires_at"),
    most_seconds=_LONGEST_LIFETIME.total_seconds(),
)
# The lifetimes: Keycloak; Google, GitHub, Azure AD B2C, AD FS and Apigee; Intuit. The time: Square and Squarespace.
_REFRESH_TOKEN = _Members(
    ("refresh_expires_in", "refresh_token_expires_in", "x_refresh_token_expires_in"), ("refresh_token_expires_at",)
)


def token_expiry(
    token: str,
    requested_at: datetime,
    members: Mapping[str, Any] = _NO_MEMBERS,
    assumed_lifetime: timedelta | None = None,
) -> datetime | None:
    """Return when an access token expires: by its response (within 366 days), else the `exp` of a JWT, else as assumed.

    A JWT is not valid for longer than from `iat` to `exp`, whatever the response and the local clock say.
    An `exp` that is already past is returned only if nothing else is known: the most likely cause is a wrong clock.
    """
    issued_at, expires_at = jwt_times(token)
    if stated := _stated(_ACCESS_TOKEN, members, requested_at):
        longest = expires_at - issued_at if issued_at and expires_at else _LONGEST_LIFETIME
        return min(stated, requested_at + min(longest, _LONGEST_LIFETIME))
    if expires_at and expires_at > requested_at:
        # Not requested_at plus the lifetime, which would be after the year 9999 for a token that "does not expire".
        return expires_at - max(issued_at - requested_at, timedelta()) if issued_at else expires_at
    return requested_at + assumed_lifetime if assumed_lifetime else expires_at


def refresh_token_expiry(token: str | None, requested_at: datetime, members: Mapping[str, Any]) -> datetime | None:
    """Return when a refresh token expires: by its response, else the `exp` of a JWT, else None.

    `token` is None if the response contains none, so that the one that was sent stays valid.
    """
    if stated := _stated(_REFRESH_TOKEN, members, requested_at):
        return stated
    expires_at = jwt_times(token or "").expires_at
    return expires_at if expires_at and expires_at > requested_at else None


def jwt_times(token: str) -> JwtTimes:
    """Return the times that a token states, without verifying it."""
    claims = jwt_claims(token) or {}
    issued_at, expires_at = parse_time(claims.get("iat")), parse_time(claims.get("exp"))
    return JwtTimes(issued_at, None if issued_at and expires_at and expires_at <= issued_at else expires_at)


def jwt_claims(token: str) -> dict[str, Any] | None:
    """Return the claims of a JWT (RFC 7519 section 4) without verifying it; None if it is not a JWT, or too long.

    Not by PyJWT, which also decodes and checks the header: any service may have issued the token.
    """
    parts = token.split(".", 3) if len(token) <= MAX_VALUE_LENGTH else []
    if len(parts) != 3:  # noqa: PLR2004 - header, payload and signature
        return None
    try:
        return decode_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None


def parse_time(value: object) -> datetime | None:
    """Parse a time from 2000 on, truncated to seconds: a `datetime`, a number, or ISO 8601 with a time zone, else None.

    A number counts seconds since 1970; it may be a string.
    """
    try:
        if isinstance(value, datetime):
            moment = value
        elif (number := _number(value)) is not None:
            moment = datetime.fromtimestamp(int(number / 1000 if number > _LAST_SECOND else number), UTC)
        else:
            moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        # A time without a zone may be hours off.
        return whole_seconds(moment) if moment.tzinfo and moment.year >= _FIRST_YEAR else None
    except (ValueError, OverflowError, OSError):
        return None


def _stated(names: _Members, members: Mapping[str, Any], requested_at: datetime) -> datetime | None:
    for name in names.lifetimes:
        number = _number(members.get(name))
        if number and 1 <= number <= _LARGEST_LIFETIME_SECONDS:
            return requested_at + timedelta(seconds=int(number if number <= names.most_seconds else number / 1000))
    times = (parse_time(members.get(name)) for name in (*names.times, *names.lifetimes))
    return next((moment for moment in times if moment and moment > requested_at), None)


def _number(value: object) -> float | None:
    """Parse a finite number, also from a string: many issuers quote it, as the examples in RFC 6749 seem to."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
