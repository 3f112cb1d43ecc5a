"""When to try again after a failure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

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

# How many seconds an operator must observe another operator's intent unchanged before it makes the final attempt.
INTENT_SECONDS = 30
LONGEST_RETRY_AFTER = timedelta(hours=1)
# A refusal that usually passes is reported as Unavailable until it has lasted this long.
TRANSIENT_LIMIT = timedelta(minutes=5)
_AFTER_INTENT = timedelta(seconds=INTENT_SECONDS + 2)
_IAM_PROPAGATION = timedelta(minutes=2)
_SHORTEST_LIMIT, _EXPIRED_LIMIT, _LONGEST_LIMIT = timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class RetryContext:
    """What the next attempt can still save, and what it costs.

    `remaining_lifetime` is that of the credentials in the Secret, zero or negative if they have expired.
    `consumed`: the failed attempt consumed a token, and so would the next one. `worked_before`: the same exchanges were
    successful with the same source.
    """

    remaining_lifetime: timedelta
    consumed: bool = False
    worked_before: bool = False


def next_attempt_time(
    request: Request, error: KeyturnError, failed_attempts: int, context: RetryContext, now: datetime, rand: float
) -> datetime:
    """Return the time of the next attempt after consecutive failures, rounded up to whole seconds.

    Exponential backoff with full jitter (`rand` in [0, 1)). Its limit is a quarter of the remaining lifetime,
    between 5 s and 5 min. After the expiry it is 1 min: shorter waits gain nothing then, and many requests may be
    waiting for the same service. If the reason has a `retry_after`, that is used instead, limited to the same quarter
    if an attempt consumes nothing. A throttled call waits at least as long as the service requires.
    """
    wait = REASONS[error.reason].retry_after
    if isinstance(error, UnavailableError) and error.outcome_unknown and request.spec.consumption:
        wait = _AFTER_INTENT
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
        wait = max(wait, error.retry_after)
    return whole_seconds(now + wait + timedelta(milliseconds=999))


def longest_wait(request: Request, reason: str, remaining_lifetime: timedelta) -> timedelta:
    """Return the longest time between two attempts after a failure of which only the reason is known."""
    longest = REASONS[reason].retry_after or (LONGEST_RETRY_AFTER if reason == "Throttled" else _LONGEST_LIMIT)
    if request.spec.consumption or reason == "Throttled" or remaining_lifetime <= timedelta():
        return longest
    return min(longest, _quarter(remaining_lifetime))


def _quarter(remaining_lifetime: timedelta) -> timedelta:
    """The longest wait that leaves several attempts before the expiry."""
    return max(remaining_lifetime / 4, _SHORTEST_LIMIT)


def _limit_after_refusal(request: Request, error: KeyturnError, context: RetryContext) -> timedelta:
    """Return the longest wait after an error whose reason has a `retry_after`."""
    if context.consumed or error.reason in ONLY_NEW_SOURCE_HELPS:
        return timedelta.max
    limit = _quarter(context.remaining_lifetime) if context.remaining_lifetime > timedelta() else timedelta.max
    # A refresh token that was refused is usually revoked. It may be sent again while the credentials are still valid,
    # but not again and again: issuers take that for an attack.
    is_revoked = request.spec.consumption is not None and error.reason == "SourceInvalid"
    may_work_again = context.worked_before and error.reason != "SourceExpired" and not is_revoked
    return min(limit, _LONGEST_LIMIT) if may_work_again or isinstance(error, TransientRefusalError) else limit
