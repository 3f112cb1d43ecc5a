"""Decisions about renewals: whether, when and why to renew."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyturn.api.token_request import OPAQUE, Request
from keyturn.core.errors import (
    REASONS,
    TOO_MANY_FIELDS,
    KeyturnError,
    RefusedError,
    TransientRefusalError,
    UnavailableError,
)
from keyturn.core.issuance import Issuance, TargetSecret, has_current_metadata, is_ours, is_unchanged, may_delete
from keyturn.core.renewal_time import (
    TRANSIENT_LIMIT,
    RetryContext,
    longest_wait,
    next_attempt_time,
    shortest_lifetime,
    when_to_renew,
)
from keyturn.core.state import Failure, ReconcileState

WAITING_FOR_RENEWAL = "WaitingForRenewal"
REPAIR_REASONS = frozenset({"SecretMissing", "IssuanceUnreadable", "IssuanceUnverified", "DriftDetected"})
_METADATA_INTERVAL = timedelta(minutes=1)


def renewal_reason(
    request: Request, target: TargetSecret | None, source: str | None, now: datetime, last: Issuance | None = None
) -> str | None:
    """Return the first reason to renew, or None if there is none.

    `source` is the fingerprint of the source, None if it was not read. `last` is the last issuance, wherever it was
    written. `target` is None or a Secret that the request may write.
    """
    if target is None:
        if last is None or is_unchanged(request.request_hash, last.request_hash):
            return "SecretMissing"
        # Not a repair reason, whose interval grows: a user who changed secretName did not damage anything.
        if not _should_defer(request, last):
            return "SpecChanged"
        if request.renew_requested not in ("", last.handled_renew_request):
            return "RenewalRequested"
        return None if now < last.renew else "Due"
    issuance = target.issuance
    if issuance is None:
        return "IssuanceUnverified" if target.unverified else "IssuanceUnreadable"
    checks = (
        (
            "SpecChanged",
            not is_unchanged(request.request_hash, issuance.request_hash) and not _should_defer(request, issuance),
        ),
        ("SourceChanged", source is not None and source != issuance.source),
        ("DriftDetected", target.data_hash is not None and not is_unchanged(target.data_hash, issuance.data_hash)),
        ("RenewalRequested", request.renew_requested not in ("", issuance.handled_renew_request)),
        ("Due", now >= issuance.renew),
    )
    return next((reason for reason, is_met in checks if is_met), None)


def _should_defer(request: Request, issuance: Issuance) -> bool:
    """Whether a change affects only formats or secretName, for which no token is consumed before a renewal is due.

    A single-use source cannot be renewed: waiting would only delay the report that a new credential is needed.
    """
    is_renewable = request.spec.consumption is not None and not issuance.once
    return is_renewable and is_unchanged(request.exchange_hash, issuance.exchange_hash)


def target_conflict(request: Request, target: TargetSecret) -> RefusedError | None:
    """Return why the request may not write this Secret, or None if it may."""
    name, advice = request.secret_name, "choose another spec.target.secretName"
    if target.immutable:
        conflict = "is immutable and cannot be renewed"
    elif target.has_too_many_fields:
        conflict = f"{TOO_MANY_FIELDS}; delete the Secret, or {advice}"
    elif is_ours(request, target):
        # A Secret that Keyturn created is replaced by one of the new type; any other must keep its type.
        required_type = request.spec.secret_type
        if may_delete(request, target) or required_type == OPAQUE or target.type in ("", required_type):
            return None
        conflict = f"has type {target.type}, but its formats need {required_type}; {advice}"
    elif target.issuance:
        conflict = f"belongs to TokenRequest {target.issuance.request}; {advice}"
    else:
        origin = "has an issuance record that was not verified" if target.unverified else "was not created by Keyturn"
        consent = f"set the annotation keyturn.dev/adoptable-by: {request.name} on the Secret"
        conflict = f"{origin}; {advice}, or {consent}"
    return RefusedError("TargetConflict", f"Secret {name} {conflict}")


def check_ours(request: Request, target: TargetSecret) -> None:
    """Raise RefusedError (TargetConflict) unless the request may write this Secret."""
    if error := target_conflict(request, target):
        raise error


def should_apply_metadata(request: Request, target: TargetSecret) -> bool:
    """Whether metadata, owner or renewal time in the Secret differ from the spec."""
    issuance = target.issuance
    return issuance is not None and not (
        has_current_metadata(request, target)
        and issuance.uid == request.uid
        and is_unchanged(request.metadata_hash, issuance.metadata_hash)
    )


def remaining_lifetime(request: Request, issuance: Issuance | None, now: datetime) -> timedelta:
    """Return how long the credentials, or the refresh token if it expires first, are still valid; zero if not at all.

    Without a verified record, nothing valid is known.
    """
    if issuance is None:
        return timedelta()
    left = issuance.issued + shortest_lifetime(request, issuance) - now
    # The refresh token has expired, but the credentials may still be valid.
    return max(timedelta(), left if left > timedelta() else issuance.expires - now)


def exchange_interval(reason: str, lifetime: timedelta, min_interval: timedelta, repairs: int) -> timedelta:
    """Return the minimum time between two exchanges of a request.

    After a user's change it is `min_interval` (10 s by default). For a renewal that is due it is at least a twentieth
    of the lifetime, so that neither a wrong clock nor an issuer can cause a loop. The first repair is immediate. Then
    the interval doubles with each of the `repairs` in a row, from one minute to half an hour: a client that keeps
    damaging the Secret must not cause an exchange each time.
    """
    if reason in REPAIR_REASONS:
        doubled = timedelta(minutes=1) * 2 ** min(max(repairs - 1, 0), 5)
        return min(doubled, timedelta(minutes=30)) if repairs else timedelta()
    return max(min_interval, lifetime / 20) if reason == "Due" else min_interval


def next_reconcile(
    request: Request, issuance: Issuance | None, failure: Failure | None, now: datetime
) -> datetime | None:
    """Return when to reconcile the request again; None if only a change requires it.

    The time of an action may be in the past, which means now. A time at which only the status changes (the expiry, the
    warning that the source expires) counts only while it is in the future.
    """
    reports = [issuance.expires] if issuance and (failure or request.is_paused) else []
    actions: list[datetime] = []
    if failure and not request.is_paused:
        recheck = REASONS[failure.error.reason].recheck_interval
        actions = [failure.next_attempt_time, *([now + recheck] if recheck else [])]
    elif not request.is_paused:
        actions = [issuance.due if issuance else now]
        reports = [issuance.source_warns] if issuance and issuance.source_warns else []
    moments = [max(now, moment) for moment in actions] + [moment for moment in reports if moment > now]
    return min(moments, default=None)


@dataclass(frozen=True, slots=True)
class Renew:
    """Run the exchanges and write the Secret, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class ApplyMetadata:
    """Write metadata, owner and this issuance record; the data of the target stays unchanged."""

    issuance: Issuance


@dataclass(frozen=True, slots=True)
class Wait:
    """The last attempt failed, and the next one is not due; reconcile again at `requeue_at`."""

    requeue_at: datetime
    failure: Failure


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request must not be renewed."""

    error: RefusedError


@dataclass(frozen=True, slots=True)
class Postponed:
    """A renewal that is needed but postponed to `until`, to limit how often a request runs its exchanges.

    `reason` is why it is needed, or WaitingForRenewal if a change waits for the next renewal of a rotating source.
    """

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Idle:
    """There is nothing to do now; reconcile again at `requeue_at`, or only after a change if it is None."""

    requeue_at: datetime | None
    postponed: Postponed | None = None


Decision = Renew | ApplyMetadata | Wait | Refuse | Idle


def decide(
    request: Request,
    target: TargetSecret | None,
    source_fingerprint: str | None,
    state: ReconcileState,
    now: datetime,
    min_interval: timedelta,
) -> Decision:
    """Decide what to do about a request.

    `source_fingerprint` is None if the source was not read. `min_interval` is the configured minimum time between two
    exchanges of a request.
    """
    if target and (error := target_conflict(request, target)):
        return Refuse(error)
    reason = renewal_reason(request, target, source_fingerprint, now, state.last)
    if reason is None:
        return _decide_metadata(request, target, state, now)
    if target and state.has_newer_than(target):
        # An earlier version of the Secret was restored. Its record is genuine, but restoring it repeatedly must not
        # cause more exchanges than other edits do.
        reason = "DriftDetected"
    if state.failure:
        decision = _decide_retry(request, state, state.failure, reason, now, min_interval)
        if isinstance(decision, Wait) or reason not in REPAIR_REASONS:
            return decision
        # Anyone who may damage the Secret can also cause a failure, which must not end the interval between repairs.
    earliest = _earliest_renewal(request, state, reason, now, min_interval)
    if earliest and now < earliest:
        if failure := state.failure:
            failure = dataclasses.replace(failure, next_attempt_time=max(failure.next_attempt_time, earliest))
            return Wait(before_expiry(earliest, state, now), failure)
        return Idle(before_expiry(earliest, state, now), Postponed(reason, earliest))
    return Renew(reason)


def _decide_metadata(
    request: Request, target: TargetSecret | None, state: ReconcileState, now: datetime
) -> ApplyMetadata | Idle:
    if target is None or target.issuance is None:
        # Only formats or secretName of a rotating source changed: the new Secret is written when the old one is due.
        renew = state.last.renew if state.last else now
        return Idle(renew, Postponed(WAITING_FOR_RENEWAL, renew))
    issuance = target.issuance
    idle = Idle(next_reconcile(request, issuance, None, now))
    if not is_unchanged(request.request_hash, issuance.request_hash):
        # The data does not match the spec yet, and the metadata must not claim that it does.
        return dataclasses.replace(idle, postponed=Postponed(WAITING_FOR_RENEWAL, issuance.renew))
    if not should_apply_metadata(request, target):
        return idle
    is_requested = issuance.uid != request.uid or not is_unchanged(request.metadata_hash, issuance.metadata_hash)
    since = now - state.metadata_applied_at if state.metadata_applied_at else _METADATA_INTERVAL
    if not is_requested and timedelta() <= since < _METADATA_INTERVAL:
        # Another client reverts the metadata that Keyturn applies: do not compete with it in a loop.
        return Idle(before_expiry(min(now + _METADATA_INTERVAL - since, issuance.renew), state, now))
    return ApplyMetadata(
        replace(
            issuance,
            uid=request.uid,
            metadata_hash=request.metadata_hash,
            renew=when_to_renew(request, issuance.issued, (issuance.expires, issuance.source_expires), issuance.jitter),
        )
    )


def _decide_retry(
    request: Request, state: ReconcileState, failure: Failure, reason: str, now: datetime, min_interval: timedelta
) -> Renew | Wait:
    # The target and the source were read now.
    if failure.inputs is None:
        # After a restart, the current inputs count as those of the failed attempt.
        failure = dataclasses.replace(bounded(failure, request, state.issuance, now), inputs=state.inputs)
    # After an unknown outcome, the intent in the token Secret decides when the token may be sent. Another request may
    # have sent it already.
    if failure.error.reason != "RefreshOutcomeUnknown" and failure.should_wait(request, state.inputs, now):
        return Wait(next_reconcile(request, state.issuance, failure, now) or failure.next_attempt_time, failure)
    if state.exchanged_at and state.exchanged_at <= now:
        # Something has changed, but changes in a loop must not become exchanges in a loop.
        earliest = min(state.exchanged_at + min_interval, failure.next_attempt_time)
        if now < earliest:
            return Wait(before_expiry(earliest, state, now), failure)
    return Renew(reason)


def bounded(failure: Failure, request: Request, issuance: Issuance | None, now: datetime) -> Failure:
    """Return a failure from a status, whose wait is limited to the longest one after a failure with this reason."""
    longest = longest_wait(request, failure.error.reason, remaining_lifetime(request, issuance, now))
    return dataclasses.replace(failure, next_attempt_time=min(failure.next_attempt_time, now + longest))


def _earliest_renewal(
    request: Request, state: ReconcileState, reason: str, now: datetime, min_interval: timedelta
) -> datetime | None:
    last, is_repair = state.last, reason in REPAIR_REASONS
    if is_repair and state.unwritten and state.exchanged_at and state.exchanged_at <= now:
        # The repair was issued but not written. The first one is repeated as soon as the failure allows it.
        interval = exchange_interval(reason, timedelta(), min_interval, max(state.repairs - 1, 0))
        return state.exchanged_at + (min(interval, last.renew - last.issued) if last else interval)
    if last is None or now < last.issued:  # the clock was set back
        return None
    earliest = last.issued + exchange_interval(reason, shortest_lifetime(request, last), min_interval, state.repairs)
    if is_repair:
        # No matter how often the Secret is damaged, it is renewed before it expires.
        earliest = min(earliest, max(last.renew, last.issued + min_interval))
    return earliest


def before_expiry(moment: datetime, state: ReconcileState, now: datetime) -> datetime:
    """Return a time of the next reconciliation that does not miss the expiry, which changes the status."""
    return min(moment, state.issuance.expires) if state.issuance and now < state.issuance.expires else moment


def _retry_context(request: Request, state: ReconcileState, started: datetime, now: datetime) -> RetryContext:
    left, token_expiry = remaining_lifetime(request, state.issuance, now), state.token_expires_at
    token_left = token_expiry - now if token_expiry and token_expiry > now else None
    return RetryContext(
        min(left, token_left) if token_left else left,
        token_left,
        consumed=state.consumed_at == started,
        worked_before=state.exchanged_at == started and state.has_worked(request),
    )


def after_failure(  # noqa: PLR0913 - they are independent
    request: Request, state: ReconcileState, error: KeyturnError, started: datetime, now: datetime, *, rand: float,
    field: str = "",
) -> tuple[ReconcileState, bool]:  # fmt: skip
    """Return the state after an error, and whether it counts as an attempt. `field`: see Failure.

    The attempt began at `started`. The wait begins `now`, after it has failed: otherwise a slow attempt would be
    followed by the next one, which may be the final attempt, at once.

    The same refusal again, before the time of the next attempt and without an exchange, does not count. A refusal that
    usually passes counts as an outage until it has lasted for some minutes.
    """
    before = state.failure
    if before and state.exchanged_at != started and before.is_repeated_by(error, now):
        failure = dataclasses.replace(
            before, generation=request.generation, handled_renew_request=request.renew_requested, inputs=state.inputs
        )
        return dataclasses.replace(state, failure=failure), False
    failed_attempts, transient_since = before.failed_attempts + 1 if before else 1, None
    if isinstance(error, TransientRefusalError):
        transient_since = min(now, (before.transient_since if before else None) or now)
        is_reported = before is not None and before.error.reason == error.reason
        if now - transient_since < TRANSIENT_LIMIT and not is_reported:
            error = UnavailableError("Unavailable", error.message, request_id=error.request_id)
    context = _retry_context(request, state, started, now)
    failure = Failure(
        error,
        failed_attempts,
        next_attempt_time(request, error, failed_attempts, context, now, rand),
        generation=request.generation,
        handled_renew_request=request.renew_requested,
        inputs=state.inputs,
        failed_at=now,
        transient_since=transient_since,
        field=field,
    )
    return dataclasses.replace(state, failure=failure), True
