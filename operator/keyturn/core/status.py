"""Status, conditions and Events of a TokenRequest, computed from the outcome of a reconciliation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec

from keyturn.api.status import Condition, ConditionStatus, ConditionType, LastError, Status
from keyturn.api.times import human_duration, read_time, rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, KeyturnError, RefusedError
from keyturn.core.issuance import Issuance, is_unchanged
from keyturn.core.renewal import WAITING_FOR_RENEWAL, Postponed
from keyturn.core.renewal_time import possible_renew_before, renew_before
from keyturn.core.state import Failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reconciliation ended.

    `issuance` is the issuance record on the Secret afterwards, if it belongs to the request. `reason` is why the
    credentials were renewed, empty if they were not. `failure` is the last failure, new or still pending. `tried`:
    a renewal was attempted. `damage` is what is still to be repaired (see ReconcileState), `postponed` the renewal that
    is needed and not due yet. `started` is when the reconciliation began, None if it took no time.
    """

    at: datetime
    issuance: Issuance | None = None
    reason: str = ""
    request_id: str = ""
    failure: Failure | None = None
    tried: bool = False
    damage: str = ""
    postponed: Postponed | None = None
    started: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a TokenRequest."""

    type: str
    reason: str
    message: str


_LONGEST_MESSAGE = 1024  # the limit of a core/v1 Event, which repeats the message of its condition
_LONGEST_ERROR = 700  # the part for the error, which the request ID and the time of the next attempt follow
_UNVERIFIED = "IssuanceUnverified"
# The status of Ready by its reason. For the reason of a failure it is False; Suspended and Deleting do not change it.
READY_STATUS: Mapping[str, ConditionStatus] = {
    "Issued": "True",
    "Renewed": "True",
    "SourceExpiring": "True",
    "Expired": "False",
    "DriftDetected": "False",
    "Pending": "False",
    WAITING_FOR_RENEWAL: "False",
    "SecretDeleted": "False",
    _UNVERIFIED: "Unknown",
}
# The status of Renewed by its reason. For the other reasons of failures it is False.
RENEWED_STATUS: Mapping[str, ConditionStatus] = {
    "Issued": "True",
    "Renewed": "True",
    "DriftCorrected": "True",
    "Pending": "Unknown",
    "RefreshOutcomeUnknown": "Unknown",
}
SUSPENDED, DELETING = "Suspended", "Deleting"
# The types of Events, by reason. The Events of failures, `ReasonPolicy.event`, are Warnings.
EVENT_TYPES = {
    "Issued": "Normal",
    "Recovered": "Normal",
    "DriftCorrected": "Warning",
    "SecretDeleted": "Warning",
    "Expired": "Warning",
    "SourceExpiring": "Warning",
    _UNVERIFIED: "Warning",
}
_EVENTS_AFTER_ISSUE, _EVENTS_OF_READY = ("Issued", "DriftCorrected"), ("Expired", "SourceExpiring", _UNVERIFIED)
# Reason and message of Ready while there is no Secret for the current spec, by the reason of the postponed renewal.
_POSTPONED = {
    WAITING_FOR_RENEWAL: (
        WAITING_FOR_RENEWAL,
        "will be written at {time}; to renew now, set the annotation keyturn.dev/renew-requested-at",
    ),
    "SecretMissing": ("SecretDeleted", "was deleted again; it will be recreated at {time}"),
    "IssuanceUnreadable": ("DriftDetected", "has lost its issuance record; it will be corrected at {time}"),
}
_NOT_WRITTEN = "has not been written for the current spec"


def report(request: Request, previous: Status, outcome: Outcome) -> Status:
    """Return the status after a reconciliation: times come from the issuance record, errors from the failure."""
    issuance, failure = outcome.issuance, outcome.failure
    handled_renew_request = (
        failure.handled_renew_request if failure else issuance.handled_renew_request if issuance else ""
    )
    last_error = None
    if failure:
        reason, message, request_id = failure.error.reason, failure.error.message, failure.error.request_id
        last_error = LastError(
            reason=reason,
            message=message[:_LONGEST_MESSAGE],
            field=failure.field or None,
            request_id=request_id[:256] or None,
        )
    conditions = [_ready(request, outcome), _renewed(request, previous, outcome), _stalled(outcome)]
    status = Status(
        observed_generation=request.generation,
        conditions=tuple(_with_time(c, previous, request.generation, outcome.at) for c in conditions if c),
        secret_name=request.secret_name,
        last_attempt_time=rfc3339(outcome.started or outcome.at) if outcome.tried else previous.last_attempt_time,
        next_attempt_time=rfc3339(failure.next_attempt_time) if failure and not request.is_paused else None,
        last_error=last_error,
        failed_attempts=failure.failed_attempts if failure else 0,
        revision=previous.revision,
        last_handled_renew_request=handled_renew_request or previous.last_handled_renew_request,
    )
    if issuance is None:
        return status
    return msgspec.structs.replace(
        status,
        issue_time=rfc3339(issuance.issued),
        expiration_time=rfc3339(issuance.expires),
        renewal_time=_renewal_time(issuance),
        revision=issuance.revision,
        principal=issuance.principal or None,
        source_expiration_time=rfc3339(issuance.source_expires) if issuance.source_expires else None,
    )


def invalid(previous: Status, generation: int, message: str, now: datetime) -> Status:
    """Return the status of a TokenRequest whose spec cannot be parsed."""
    reason = "InvalidSpec"
    conditions = (
        _condition("Ready", reason, message),
        _condition("Renewed", reason, message),
        _condition("Stalled", reason, message),
    )
    return msgspec.structs.replace(
        previous,
        observed_generation=generation,
        conditions=tuple(_with_time(condition, previous, generation, now) for condition in conditions),
        last_error=LastError(reason=reason, message=message[:_LONGEST_MESSAGE]),
        next_attempt_time=None,
    )


def expired(previous: Status, now: datetime, note: str = "they are being renewed") -> Status | None:
    """Return the status of credentials that expired before they were renewed. The message ends with `note`.

    None if they have not expired, or if the status does not report that they are usable.
    """
    expiry, ready = read_time(previous.expiration_time), previous.condition("Ready")
    if expiry is None or now < expiry or ready is None or ready.status != "True":
        return None
    message = f"credentials in Secret {previous.secret_name} expired at {rfc3339(expiry)}; {note}"
    condition = _condition("Ready", "Expired", message)
    conditions = tuple(
        _with_time(condition, previous, before.observed_generation, now) if before.type == "Ready" else before
        for before in previous.conditions
    )
    return msgspec.structs.replace(previous, conditions=conditions)


def unsaved(previous: Status, generation: int, error: KeyturnError, now: datetime) -> Status:
    """Return the status while a token that was received cannot be saved. `previous` may already report that."""
    previous = expired(previous, now) or previous
    ready, renewed = previous.condition("Ready"), previous.condition("Renewed")
    if previous.expiration_time is None or ready is None or previous.observed_generation != generation:
        ready = _condition("Ready", error.reason, error.message)
    conditions = (ready, *(_condition(kind, error.reason, error.message) for kind in ("Renewed", "Stalled")))
    is_first = renewed is None or renewed.reason != error.reason
    return msgspec.structs.replace(
        previous,
        observed_generation=generation,
        conditions=tuple(_with_time(condition, previous, generation, now) for condition in conditions),
        last_error=LastError(reason=error.reason, message=error.message[:_LONGEST_MESSAGE]),
        next_attempt_time=None,
        failed_attempts=previous.failed_attempts + is_first,
    )


def with_transition_times(status: Status, previous: Status, now: datetime) -> Status:
    """Return a status that follows `previous`, with the times at which its conditions changed."""
    conditions = tuple(_with_time(it, previous, it.observed_generation, now) for it in status.conditions)
    return msgspec.structs.replace(status, conditions=conditions)


def after_bug(previous: Status, generation: int, failure: Failure, now: datetime) -> Status:
    """Return the status after a bug outside a renewal, from the previous status alone: no other value is reliable."""
    expiry, ready = read_time(previous.expiration_time), previous.condition("Ready")
    reason, message = failure.error.reason, failure.error.message
    if expiry and now >= expiry:
        ready = _condition("Ready", "Expired", f"the credentials expired at {rfc3339(expiry)}")
    elif expiry is None or ready is None or ready.status != "True" or previous.observed_generation != generation:
        ready = _condition("Ready", reason, message)
    text = f"{message}; next attempt at {rfc3339(failure.next_attempt_time)}"
    conditions = (ready, _condition("Renewed", reason, text))
    return msgspec.structs.replace(
        previous,
        observed_generation=generation,
        conditions=tuple(_with_time(condition, previous, generation, now) for condition in conditions),
        last_error=LastError(reason=reason, message=message[:_LONGEST_MESSAGE]),
        next_attempt_time=rfc3339(failure.next_attempt_time),
        failed_attempts=failure.failed_attempts,
    )


def events(previous: Status, now: Status, outcome: Outcome) -> Iterator[Event]:
    """Return the Events for a change of the status: each once in a series, and none for a routine renewal."""
    renewed_before, renewed = previous.condition("Renewed"), now.condition("Renewed")
    ready_before, ready = previous.condition("Ready"), now.condition("Ready")
    if renewed is None or ready is None:
        return
    is_same_secret = previous.expiration_time is not None and previous.secret_name == now.secret_name
    if is_same_secret and "SecretMissing" in (outcome.damage, outcome.reason):
        text = f"Secret {now.secret_name} was deleted{' and recreated' if outcome.reason else ''}"
        yield _event("SecretDeleted", ready.message if ready.reason == "SecretDeleted" else text)
    if renewed.reason in REASONS and _event_reason(renewed) != _event_reason(renewed_before):
        yield Event("Warning", _event_reason(renewed), renewed.message)
    is_new = now.revision != previous.revision
    if is_new and renewed.reason in _EVENTS_AFTER_ISSUE:
        yield _event(renewed.reason, renewed.message)
    if previous.failed_attempts and renewed.status == "True" and not (is_new and renewed.reason == "Issued"):
        failures = "1 failure" if previous.failed_attempts == 1 else f"{previous.failed_attempts} failures"
        verb = "renewed" if is_new else "recovered"
        yield _event("Recovered", f"{verb} after {failures}: {renewed.message}")
    is_reported = ready_before is not None and ready_before.reason == ready.reason
    if ready.reason in _EVENTS_OF_READY and not is_reported:
        yield _event(ready.reason, ready.message)


def _event_reason(condition: Condition | None) -> str:
    return REASONS[condition.reason].event if condition and condition.reason in REASONS else ""


def _ready(request: Request, outcome: Outcome) -> Condition:
    issuance, secret = outcome.issuance, f"Secret {request.secret_name}"
    if outcome.damage == _UNVERIFIED:
        reason = _UNVERIFIED
        message = f"the issuance record on {secret} is not signed with a key of this operator; a renewal replaces it"
    elif issuance is None or not is_unchanged(request.request_hash, issuance.request_hash):
        reason, message = _not_written(outcome, secret)
    elif outcome.at >= issuance.expires:
        reason, message = "Expired", f"credentials in {secret} expired at {rfc3339(issuance.expires)}"
    elif outcome.damage == "DriftDetected":
        correction = "" if request.is_paused else _correction(outcome)
        reason, message = "DriftDetected", f"keys of {secret} were edited{correction}"
    elif issuance.source_warns and issuance.source_expires and outcome.at >= issuance.source_warns:
        expiry = rfc3339(issuance.source_expires)
        reason = "SourceExpiring"
        message = f"the source credential expires at {expiry}; replace it before then"
    else:
        reason = "Issued" if issuance.revision == 1 else "Renewed"
        message = f"{secret} is valid until {rfc3339(issuance.expires)}"
    condition = _condition("Ready", reason, message)
    if not request.is_paused:
        return condition
    reason, cause = SUSPENDED, "spec.suspend is set"
    if request.is_being_deleted:
        reason, cause = DELETING, "the TokenRequest or its namespace is being deleted"
    message = f"{cause}: no renewal and no drift correction. {message}"[:_LONGEST_MESSAGE]
    return msgspec.structs.replace(condition, reason=reason, message=message)


def _not_written(outcome: Outcome, secret: str) -> tuple[str, str]:
    """Return the reason and message of Ready while there is no Secret for the current spec."""
    if outcome.failure:
        return outcome.failure.error.reason, outcome.failure.error.message
    if outcome.postponed is None:
        return "Pending", f"{secret} {_NOT_WRITTEN}"
    default = ("Pending", f"{_NOT_WRITTEN}; it will be written at {{time}}")
    reason, text = _POSTPONED.get(outcome.postponed.reason, default)
    return reason, f"{secret} {text.format(time=rfc3339(outcome.postponed.until))}"


def _correction(outcome: Outcome) -> str:
    if outcome.failure:
        return f"; the next attempt to correct them is at {rfc3339(outcome.failure.next_attempt_time)}"
    return f"; they will be corrected at {rfc3339(outcome.postponed.until)}" if outcome.postponed else ""


def _renewed(request: Request, previous: Status, outcome: Outcome) -> Condition:
    failure, issuance = outcome.failure, outcome.issuance
    if failure:
        error = failure.error
        message = f"{error.message[:_LONGEST_ERROR]}{_with_id(error.request_id)}"
        if request.is_paused:
            return _condition("Renewed", error.reason, message)
        # Keyturn's own limits may delay an attempt beyond its time.
        is_due = failure.next_attempt_time <= outcome.at
        next_attempt = "the next attempt is due" if is_due else f"next attempt at {rfc3339(failure.next_attempt_time)}"
        return _condition("Renewed", error.reason, f"{message}; {next_attempt}")
    before = previous.condition("Renewed")
    is_same_issue = issuance is None or (not outcome.reason and previous.renewal_time == _renewal_time(issuance))
    if before and before.status == "True" and is_same_issue:
        return before
    if issuance is None:
        return _condition("Renewed", "Pending", "no renewal has been attempted yet")
    reason = "Issued" if issuance.revision == 1 else "Renewed"
    if outcome.reason == "DriftDetected" and issuance.revision > 1:
        reason = "DriftCorrected"
    return _condition("Renewed", reason, _success(request, outcome, issuance))


def _stalled(outcome: Outcome) -> Condition | None:
    failure = outcome.failure
    if failure is None:
        return None
    error = failure.error
    is_final = error.reason == "RefreshOutcomeUnknown" and isinstance(error, RefusedError)
    if not (REASONS[error.reason].stalled or is_final):
        return None
    return _condition("Stalled", error.reason, error.message)


def _success(request: Request, outcome: Outcome, issuance: Issuance) -> str:
    is_routine = issuance.revision == 1 or outcome.reason in ("", "Due")
    cause = "" if is_routine else f" because of {outcome.reason}"
    lifetime = issuance.expires - issuance.issued
    before = renew_before(request.spec.renewal, lifetime)
    possible = possible_renew_before(before, lifetime)
    limit = f"; renewBefore is limited to {human_duration(possible)}" if possible < before else ""
    prospect = f"next renewal at {rfc3339(issuance.renew)}"
    if issuance.once:
        prospect = "no renewal is possible, because the source credential is single-use"
    return f"issued{cause} for {human_duration(lifetime)}{limit}; {prospect}{_with_id(outcome.request_id)}"


def _with_id(request_id: str) -> str:
    return f" (AWS request ID {request_id})" if request_id else ""


def _renewal_time(issuance: Issuance) -> str | None:
    return None if issuance.once else rfc3339(issuance.renew)


def _condition(kind: ConditionType, reason: str, message: str) -> Condition:
    text, by_reason = message[:_LONGEST_MESSAGE], {"Ready": READY_STATUS, "Renewed": RENEWED_STATUS}
    status: ConditionStatus = by_reason[kind].get(reason, "False") if kind in by_reason else "True"
    return Condition(type=kind, status=status, reason=reason, message=text, last_transition_time="")


def _event(reason: str, message: str) -> Event:
    return Event(EVENT_TYPES[reason], reason, message)


def _with_time(condition: Condition, previous: Status, generation: int, now: datetime) -> Condition:
    before = previous.condition(condition.type)
    since = before.last_transition_time if before and before.status == condition.status else rfc3339(now)
    return msgspec.structs.replace(condition, last_transition_time=since, observed_generation=generation)
