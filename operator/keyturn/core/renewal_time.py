"""When to renew: the time that the spec asks for, and the limits of the credentials and of the refresh token."""

from datetime import datetime, timedelta

from keyturn.api.target import RenewalSpec
from keyturn.api.times import whole_seconds
from keyturn.api.token_request import Request
from keyturn.core.issuance import Issuance


def renewal_time(issued_at: datetime, expires_at: datetime, renew_before: timedelta, jitter: float) -> datetime:
    """Return when to renew, truncated to whole seconds: not in the first twentieth of the lifetime.

    `jitter` in [0, 1) moves the time earlier by up to a tenth of the lifetime, so that credentials issued together are
    not renewed together. The result is stored in the issuance record: drawing it again on each reconciliation would
    keep moving it.
    """
    lifetime = expires_at - issued_at
    wait = lifetime - possible_renew_before(renew_before, lifetime)
    return whole_seconds(issued_at + wait - min(lifetime / 10, wait - lifetime / 20) * jitter)


def possible_renew_before(renew_before: timedelta, lifetime: timedelta) -> timedelta:
    """Return how long before the expiry to renew: at most 95% of the lifetime, as exchange_interval() allows.

    A value that is as long as the lifetime or longer was meant for longer lifetimes. Half of the lifetime is used
    instead: otherwise an issuer that shortened its lifetimes would receive many times as many requests.
    """
    return lifetime / 2 if renew_before >= lifetime else min(renew_before, lifetime * 19 / 20)


def renew_before(renewal: RenewalSpec | None, lifetime: timedelta) -> timedelta:
    """Return how long before the expiry to renew: the value in the spec, or a third of the actual lifetime."""
    if renewal and renewal.before is not None:
        return renewal.before
    if renewal and renewal.renew_before_percentage is not None:
        return lifetime * renewal.renew_before_percentage / 100
    return lifetime / 3


def when_to_renew(
    request: Request, issued_at: datetime, expirations: tuple[datetime, datetime | None], jitter: float
) -> datetime:
    """Return when to renew. `expirations` are those of the issued credentials and of the source, if it is known.

    A refresh token is replaced only when it is used, and it may expire before the credentials (Keycloak: after 30
    minutes without use), which would make a renewal impossible. Using any other source does not extend its life.
    """
    expires_at, source_expiry = expirations
    moment = renewal_time(issued_at, expires_at, renew_before(request.spec.renewal, expires_at - issued_at), jitter)
    unused = _refresh_token_lifetime(request, issued_at, source_expiry)
    return min(moment, renewal_time(issued_at, issued_at + unused, unused / 3, jitter)) if unused else moment


def shortest_lifetime(request: Request, issuance: Issuance) -> timedelta:
    """Return the lifetime of the credentials, or of the refresh token if it expires first."""
    lifetime = issuance.expires - issuance.issued
    return min(lifetime, _refresh_token_lifetime(request, issuance.issued, issuance.source_expires) or lifetime)


def _refresh_token_lifetime(request: Request, issued_at: datetime, source_expiry: datetime | None) -> timedelta | None:
    """Return how long an unused refresh token is valid; None if that is unknown or the source is not consumed."""
    if request.spec.consumption is None or source_expiry is None or source_expiry <= issued_at:
        return None
    return source_expiry - issued_at


def source_warning(issued_at: datetime | None, expires_at: datetime | None) -> datetime | None:
    """Return when to warn that the source expires: 14 days before, or in the last tenth of a shorter lifetime."""
    if expires_at is None:
        return None
    notice = timedelta(days=14)
    return expires_at - (min(notice, (expires_at - issued_at) / 10) if issued_at else notice)
