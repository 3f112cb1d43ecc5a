"""When to renew, and when to try again after a failure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from keyturn.api.target import RenewalSpec
from keyturn.api.times import whole_seconds
from keyturn.api.token_request import Request
from keyturn.core.errors import (
    ONLY_NEW_SOURCE_HELPS,
    REASONS,
    KeyturnError,
    RefusedError,
    ThrottledError,
    TransientRefusalError,
    UnavailableError,
)
from keyturn.core.issuance import Issuance

# How many seconds an operator must observe another operator's intent unchanged before it makes the final attempt.
INTENT_SECONDS = 30
LONGEST_RETRY_AFTER = timedelta(hours=1)
# A refusal that usually passes is reported as Unavailable until it has lasted this long.
TRANSIENT_LIMIT = timedelta(minutes=5)
_AFTER_INTENT = timedelta(seconds=INTENT_SECONDS + 2)
_IAM_PROPAGATION = timedelta(minutes=2)
_SHORTEST_LIMIT, _EXPIRED_LIMIT, _LONGEST_LIMIT = timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5)


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


@dataclass(frozen=True, slots=True)
class RetryContext:
    """What the time of the next attempt depends on, besides the error.

    `remaining_lifetime` is that of the credentials in the Secret, or of the refresh token if it expires first; zero or
    negative if the credentials have expired. `token_lifetime` is that of the refresh token, None if it is unknown.
    `consumed`: the failed attempt consumed a token, and so would the next one. `worked_before`: the same exchanges were
    successful with the same source.
    """

    remaining_lifetime: timedelta
    token_lifetime: timedelta | None = None
    consumed: bool = False
    worked_before: bool = False


def next_attempt_time(
    request: Request, error: KeyturnError, failed_attempts: int, context: RetryContext, now: datetime, rand: float
) -> datetime:
    """Return the time of the next attempt after consecutive failures, rounded up to whole seconds.

    Exponential backoff with full jitter (`rand` in [0, 1)). Its limit is a quarter of the remaining lifetime,
    between 5 s and 5 min. After the expiry it is 1 min: shorter waits gain nothing then, and many requests may be
    waiting for the same service. If the reason has a `retry_after`, that is used instead, limited to the same quarter
    if an attempt consumes nothing; with `retries_early`, the waits before it are 1, 2, 4 s and so on. A throttled call
    waits at least as long as the service requires, but not until the credentials have expired (see
    _longest_throttling). After a call with an unknown outcome, the wait is half of the remaining lifetime, between 32 s
    and an hour, or shorter if the final attempt of another request is sooner.
    """
    policy = REASONS[error.reason]
    wait = policy.retry_after
    if wait and policy.retries_early:
        wait = min(wait, timedelta(seconds=1) * 2 ** min(failed_attempts - 1, 10))
    if isinstance(error, UnavailableError) and error.reason == "RefreshOutcomeUnknown":
        # The token is sent only once more. If this attempt sent it, an outage of the issuer should end before that.
        longer = min(context.remaining_lifetime / 2, LONGEST_RETRY_AFTER) if error.outcome_unknown else _AFTER_INTENT
        wait = max(_AFTER_INTENT, longer)
    is_new = now - (request.created_at or now) < _IAM_PROPAGATION
    if isinstance(error, RefusedError) and error.eventually_consistent and is_new and not request.spec.consumption:
        # IAM is eventually consistent: a new role is refused for some seconds. An early retry consumes nothing.
        wait = timedelta(seconds=5)
    if wait is None:
        limit = (
            _EXPIRED_LIMIT
            if context.remaining_lifetime <= timedelta()
            else min(_quarter(context.remaining_lifetime), _LONGEST_LIMIT)
        )
        wait = max(timedelta(seconds=1), rand * min(limit, timedelta(seconds=2) * 2 ** min(failed_attempts, 10)))
    else:
        wait = min(wait, _limit_after_refusal(request, error, context))
    if isinstance(error, ThrottledError):
        wait = max(wait, min(error.retry_after, _longest_throttling(context.remaining_lifetime)))
    moment = whole_seconds(now + wait + timedelta(milliseconds=999))
    latest = error.final_attempt_after if isinstance(error, UnavailableError) else None
    return min(moment, latest) if latest else moment


def longest_wait(request: Request, reason: str, remaining_lifetime: timedelta) -> timedelta:
    """Return the longest time between two attempts after a failure of which only the reason is known."""
    if reason == "Throttled":
        return _longest_throttling(remaining_lifetime)
    longest = REASONS[reason].retry_after or _LONGEST_LIMIT
    if request.spec.consumption or remaining_lifetime <= timedelta():
        return longest
    return min(longest, _quarter(remaining_lifetime))


def _longest_throttling(remaining_lifetime: timedelta) -> timedelta:
    """Return the longest wait that a service may require: half of the remaining lifetime, between 1 min and 1 hour.

    After the expiry it is 5 min. Some issuers state Retry-After in milliseconds, which reads as a much longer wait.
    """
    if remaining_lifetime <= timedelta():
        return _LONGEST_LIMIT
    return min(max(remaining_lifetime / 2, timedelta(minutes=1)), LONGEST_RETRY_AFTER)


def _quarter(remaining_lifetime: timedelta) -> timedelta:
    """The longest wait that leaves several attempts before the expiry."""
    return max(remaining_lifetime / 4, _SHORTEST_LIMIT)


def _limit_after_refusal(request: Request, error: KeyturnError, context: RetryContext) -> timedelta:
    """Return the longest wait after an error whose reason has a `retry_after`."""
    if error.reason in ONLY_NEW_SOURCE_HELPS:
        return timedelta.max
    # Only its use replaces a refresh token. If it expired during the wait, a person would have to sign in again.
    longest = max(context.token_lifetime / 2, timedelta(minutes=1)) if context.token_lifetime else timedelta.max
    if context.consumed:
        return longest
    limit = _quarter(context.remaining_lifetime) if context.remaining_lifetime > timedelta() else longest
    # A refresh token that was refused is usually revoked. It may be sent again while the credentials are still valid,
    # but not again and again: issuers take that for an attack.
    is_revoked = request.spec.consumption is not None and error.reason == "SourceInvalid"
    may_work_again = context.worked_before and error.reason != "SourceExpired" and not is_revoked
    return min(limit, _LONGEST_LIMIT) if may_work_again or isinstance(error, TransientRefusalError) else limit
