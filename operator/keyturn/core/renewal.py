"""When and why credentials are renewed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from keyturn.api.target import RenewalSpec
from keyturn.api.times import whole
from keyturn.api.token_request import OPAQUE, Request
from keyturn.core.errors import REASONS, KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret, has_current_metadata, is_adopted, is_ours, unchanged

REPAIR_REASONS = frozenset({"SecretMissing", "IssuanceUnreadable", "DriftDetected"})
_IAM_SETTLES = timedelta(minutes=2)
_LEAST_LIMIT, _NO_LIFE_LIMIT, _LONGEST_LIMIT = timedelta(seconds=5), timedelta(minutes=1), timedelta(minutes=5)
_UNTIL_GIVEN_UP = timedelta(seconds=32)  # a little more than spend.GIVE_UP_SECONDS


def renewal_reason(
    request: Request, found: TargetSecret | None, source: str | None, now: datetime, last: Issuance | None = None
) -> str | None:
    """Find the first reason to renew, or None; raises RefusedError (TargetConflict) for a Secret of another.

    `source` is the fingerprint of the source, None where it was not read. `last` are the marks of the last issue,
    wherever it was written.
    """
    if found is None:
        return _reason_without(request, last, now)
    check_ours(request, found)
    issuance = found.issuance
    if issuance is None:
        return "IssuanceUnreadable"
    checks = (
        (
            "SpecChanged",
            not unchanged(request.request_hash, issuance.request_hash) and not _only_moved(request, issuance),
        ),
        ("SourceChanged", source is not None and source != issuance.source),
        ("DriftDetected", found.data_hash is not None and not unchanged(found.data_hash, issuance.data_hash)),
        ("RenewalRequested", request.renew_requested not in ("", issuance.handled_renew_request)),
        ("Due", now >= issuance.renew),
    )
    return next((reason for reason, holds in checks if holds), None)


def _reason_without(request: Request, last: Issuance | None, now: datetime) -> str | None:
    """Why to issue where there is no Secret: what a person moved is no healing, which waits ever longer."""
    if last is None or unchanged(request.request_hash, last.request_hash):
        return "SecretMissing"
    if _only_moved(request, last):
        return None if now < last.renew else "Due"
    return "SpecChanged"


def _only_moved(request: Request, issuance: Issuance) -> bool:
    """Whether only formats or secretName changed and the source is spent by use: that waits for its time."""
    return (
        request.spec.consumption is not None
        and not unchanged(request.request_hash, issuance.request_hash)
        and unchanged(request.exchange_hash, issuance.exchange_hash)
    )


def check_ours(request: Request, found: TargetSecret) -> None:
    """Raise RefusedError (TargetConflict) unless the request may write this Secret."""
    if found.immutable:
        raise RefusedError("TargetConflict", f"Secret {request.secret_name} is immutable; nothing can renew it")
    advice = "choose another spec.target.secretName"
    if is_ours(request, found):
        _check_type(request, found, advice)
        return
    if found.issuance:
        whose = f"belongs to TokenRequest {found.issuance.request}; {advice}"
    else:
        consent = f"consent by the annotation keyturn.dev/adoptable-by: {request.name} on the Secret"
        whose = f"was not made by Keyturn; {advice}, or {consent}"
    raise RefusedError("TargetConflict", f"Secret {request.secret_name} {whose}")


def _check_type(request: Request, found: TargetSecret, advice: str) -> None:
    # One of ours is made anew with another type; one that somebody else made stays as it is.
    wanted = request.spec.secret_type
    if is_adopted(request, found) and wanted != OPAQUE and found.type not in ("", wanted):
        says = f"Secret {request.secret_name} is of type {found.type}, and its formats need {wanted}; {advice}"
        raise RefusedError("TargetConflict", says)


def needs_metadata(request: Request, found: TargetSecret) -> bool:
    """Whether the Secret must be applied again, with the data it has: metadata, owner or renewal changed."""
    issuance = found.issuance
    return issuance is not None and not (
        has_current_metadata(request, found)
        and issuance.uid == request.uid
        and unchanged(request.metadata_hash, issuance.metadata_hash)
    )


def renewal_time(issued_at: datetime, expires_at: datetime, renew_before: timedelta, jitter: float) -> datetime:
    """Pick the moment of the next renewal, once per issue, in whole seconds.

    `spread` in [0, 1) moves it earlier by up to a tenth of the lifetime, so that requests issued together do
    not renew together. The result is stored, never computed again: a fresh draw on each look would keep
    moving the moment away.
    """
    lifetime = expires_at - issued_at
    latest = expires_at - min(renew_before, lifetime / 2)
    return whole(latest - lifetime / 10 * jitter)


def renew_before(renewal: RenewalSpec | None, lifetime: timedelta) -> timedelta:
    """How long before the expiry to renew: as asked for, else a third of the real lifetime."""
    if renewal and renewal.before is not None:
        return renewal.before
    if renewal and renewal.renew_before_percentage is not None:
        return lifetime * renewal.renew_before_percentage / 100
    return lifetime / 3


def when_to_renew(
    request: Request, issued_at: datetime, ends: tuple[datetime, datetime | None], jitter: float
) -> datetime:
    """Pick the moment by the life of what was issued, and of the source: `ends` of both, where they are known.

    A refresh token is replaced by its use only, and may end before what it gave does (Keycloak's, after half an
    hour of disuse): then nothing could be renewed. Any other source ends when it ends.
    """
    expires_at, source_ends_at = ends
    moment = renewal_time(issued_at, expires_at, renew_before(request.spec.renewal, expires_at - issued_at), jitter)
    unused = _life_unused(request, issued_at, source_ends_at)
    return min(moment, renewal_time(issued_at, issued_at + unused, unused / 3, jitter)) if unused else moment


def life(request: Request, issuance: Issuance) -> timedelta:
    """The life that decides when it is due: of what was issued, or of a refresh token that ends before."""
    lifetime = issuance.expires - issuance.issued
    return min(lifetime, _life_unused(request, issuance.issued, issuance.source_expires) or lifetime)


def _life_unused(request: Request, issued_at: datetime, source_ends_at: datetime | None) -> timedelta | None:
    """How long a refresh token lives that is not used, where it says so."""
    if request.spec.consumption is None or source_ends_at is None or source_ends_at <= issued_at:
        return None
    return source_ends_at - issued_at


def least_interval(reason: str, lifetime: timedelta, least: timedelta, heals: int) -> timedelta:
    """The least time between two exchanges of a request.

    What a person changed is worth an exchange after `least` (10 s by default). What merely became due has a
    twentieth of the lifetime, so that no clock or issuer can make a loop of it. Healing doubles from a minute
    to half an hour with the `heals` of late: whoever keeps breaking a Secret would keep us exchanging.
    """
    if reason in REPAIR_REASONS:
        doubled = timedelta(minutes=1) * 2 ** min(max(heals - 1, 0), 5)
        return min(doubled, timedelta(minutes=30)) if heals else timedelta()
    return max(least, lifetime / 20) if reason == "Due" else least


@dataclass(frozen=True, slots=True)
class Failure:
    """The last try failed: why, how often in a row, when it is tried again, and what would change that.

    `waits_for` names the state that was refused (the hashes of spec, source and Secret); None after a restart.
    `failed_at` is when it failed: a clock that shows less than that was set back, and the time of the next try
    was reckoned by another.
    """

    error: KeyturnError
    failed_attempts: int
    next_attempt_time: datetime
    generation: int
    handled_renew_request: str = ""
    waits_for: str | None = None
    failed_at: datetime | None = None

    def is_still(self, error: KeyturnError, now: datetime) -> bool:
        """Whether a look found only what is known: the same refusal, before its time."""
        return self.error.message == error.message and self._waits(now)

    def holds_back(self, request: Request, state: str, now: datetime) -> bool:
        """Whether it is too early to try again: neither the time has come nor has anything changed."""
        asked = request.renew_requested not in ("", self.handled_renew_request)
        changed = request.generation != self.generation or self.waits_for not in (None, state)
        return self._waits(now) and not asked and not changed

    def _waits(self, now: datetime) -> bool:
        return (self.failed_at is None or self.failed_at <= now) and now < self.next_attempt_time


def next_try(
    request: Request, error: KeyturnError, failed: int, life_left: timedelta, now: datetime, rand: float
) -> datetime:
    """When to try again after the `failed`th failure in a row, in whole seconds.

    Exponential with full jitter (`chance` in [0, 1)), at most a quarter of the life that is left, between 5 s
    and 5 min, or a minute where none is left: there is nothing to save, and many may wait for the same system.
    Reasons with a wait of their own keep it. A throttled call waits at least as long as it was told.
    """
    wait = REASONS[error.reason].retry_after
    if isinstance(error, UnavailableError) and error.outcome_unknown:
        wait = _UNTIL_GIVEN_UP
    if _may_become_consistent(request, error, now):
        wait = timedelta(seconds=5)
    if wait is None:
        limit = min(max(life_left / 4, _LEAST_LIMIT), _LONGEST_LIMIT) if life_left > timedelta() else _NO_LIFE_LIMIT
        wait = max(timedelta(seconds=1), rand * min(limit, timedelta(seconds=2) * 2 ** min(failed, 10)))
    if isinstance(error, ThrottledError):
        wait = max(wait, error.retry_after)
    return whole(now + wait + timedelta(milliseconds=999))


def _may_become_consistent(request: Request, error: KeyturnError, now: datetime) -> bool:
    # IAM is eventually consistent: a role that was just made is refused for some seconds. To try again at once is
    # for those who use nothing up by it.
    young = now - (request.created_at or now) < _IAM_SETTLES
    return isinstance(error, RefusedError) and error.eventually_consistent and young and not request.spec.consumption


def source_warning(issued_at: datetime | None, expires_at: datetime | None) -> datetime | None:
    """When to warn that the source ends: 14 days before, or in the last tenth of a life that is shorter."""
    if expires_at is None:
        return None
    notice = timedelta(days=14)
    return expires_at - (min(notice, (expires_at - issued_at) / 10) if issued_at else notice)


def next_reconcile(
    request: Request, issuance: Issuance | None, failure: Failure | None, now: datetime
) -> datetime | None:
    """When to look at the request again; None where only a change can bring news.

    A time to act that is past already means now. A time that only changes what is told (the expiry, the warning
    that the source ends) counts while it is to come.
    """
    told = [issuance.expires] if issuance and (failure or request.spec.suspend) else []
    act: list[datetime] = []
    if failure and not request.spec.suspend:
        recheck = REASONS[failure.error.reason].recheck_interval
        act = [failure.next_attempt_time, *([now + recheck] if recheck else [])]
    elif not request.spec.suspend:
        act = [issuance.renew if issuance else now]
        told = [issuance.source_warns] if issuance and issuance.source_warns else []
    moments = [max(now, moment) for moment in act] + [moment for moment in told if moment > now]
    return min(moments, default=None)
