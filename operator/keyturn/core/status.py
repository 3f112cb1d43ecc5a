"""Status, conditions and Events of a TokenRequest, computed from the outcome of a reconciliation."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from keyturn.api.status import Condition, LastError, Status
from keyturn.api.times import human_duration, rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, RefusedError
from keyturn.core.issuance import Issuance, is_unchanged
from keyturn.core.renewal import renew_before
from keyturn.core.state import Failure


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reconciliation ended.

    `issuance` is the issuance record on the Secret afterwards, if it belongs to the request. `reason` is why the
    credentials were renewed, empty if they were not. `failure` is the last failure, new or still pending. `tried`:
    a renewal was attempted. `unverified`: the Secret has an issuance record that is not verified.
    """

    at: datetime
    issuance: Issuance | None = None
    reason: str = ""
    request_id: str = ""
    failure: Failure | None = None
    tried: bool = False
    unverified: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a TokenRequest."""

    type: str
    reason: str
    message: str


_LONGEST_MESSAGE = 1024  # of a core/v1 Event, which repeats the message of its condition
_LONGEST_ERROR = 700  # of it; the request ID and the time of the next attempt follow
UNVERIFIED = "IssuanceUnverified"
_EVENT_TYPES = {"Issued": "Normal", "DriftCorrected": "Warning"}


def report(request: Request, previous: Status, outcome: Outcome) -> Status:
    """Return the status after a reconciliation: times come from the issuance record, errors from the failure."""
    issuance, failure = outcome.issuance, outcome.failure
    handled_renew_request = (
        failure.handled_renew_request if failure else issuance.handled_renew_request if issuance else ""
    )
    last_error = None
    if failure:
        reason, message, request_id = failure.error.reason, failure.error.message, failure.error.request_id
        last_error = LastError(reason=reason, message=message[:_LONGEST_MESSAGE], request_id=request_id[:256] or None)
    conditions = [_ready(request, outcome), _renewed(request, previous, outcome), _stalled(outcome)]
    status = Status(
        observed_generation=request.generation,
        conditions=tuple(_with_time(c, previous, request.generation, outcome.at) for c in conditions if c),
        secret_name=request.secret_name,
        last_attempt_time=rfc3339(outcome.at) if outcome.tried else previous.last_attempt_time,
        next_attempt_time=rfc3339(failure.next_attempt_time) if failure else None,
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
        _condition("Ready", "False", reason, message),
        _condition("Renewed", "False", reason, message),
        _condition("Stalled", "True", reason, message),
    )
    return msgspec.structs.replace(
        previous,
        observed_generation=generation,
        conditions=tuple(_with_time(condition, previous, generation, now) for condition in conditions),
        last_error=LastError(reason=reason, message=message[:_LONGEST_MESSAGE]),
        next_attempt_time=None,
    )


def events(previous: Status, now: Status) -> Iterator[Event]:
    """Return the Events for a change of the status: each once in a series, and none for a routine renewal."""
    before, renewed = previous.condition("Renewed"), now.condition("Renewed")
    if renewed and renewed.reason in REASONS and _event_reason(renewed) != (_event_reason(before) if before else ""):
        yield Event("Warning", _event_reason(renewed), renewed.message)
    if renewed and renewed.reason in _EVENT_TYPES and now.revision != previous.revision:
        yield Event(_EVENT_TYPES[renewed.reason], renewed.reason, renewed.message)
    before, ready = previous.condition("Ready"), now.condition("Ready")
    is_new = ready and (before is None or before.reason != ready.reason)
    if ready and is_new and ready.reason in ("Expired", "SourceExpiring", UNVERIFIED):
        yield Event("Warning", ready.reason, ready.message)


def _event_reason(condition: Condition) -> str:
    return REASONS[condition.reason].event if condition.reason in REASONS else ""


def _ready(request: Request, outcome: Outcome) -> Condition:
    issuance, failure, secret = outcome.issuance, outcome.failure, f"Secret {request.secret_name}"
    status = "False"
    if issuance is None and outcome.unverified:
        status, reason, message = "Unknown", UNVERIFIED, f"{_unverified(request)}; the next renewal replaces it"
    elif issuance is None or not is_unchanged(request.request_hash, issuance.request_hash):
        reason, message = "Pending", f"{secret} has not been written for the current spec"
        if failure:
            reason, message = failure.error.reason, failure.error.message
    elif outcome.at >= issuance.expires:
        reason, message = "Expired", f"credentials in {secret} expired at {rfc3339(issuance.expires)}"
    elif issuance.source_warns and issuance.source_expires and outcome.at >= issuance.source_warns:
        expiry = rfc3339(issuance.source_expires)
        status, reason = "True", "SourceExpiring"
        message = f"the source credential expires at {expiry}; replace it before then"
    else:
        status, reason = "True", "Issued" if issuance.revision == 1 else "Renewed"
        message = f"{secret} is valid until {rfc3339(issuance.expires)}"
    if request.spec.suspend:
        reason, message = "Suspended", f"spec.suspend is set: no renewal and no drift correction. {message}"
    return _condition("Ready", status, reason, message)


def _unverified(request: Request) -> str:
    return f"the issuance record on Secret {request.secret_name} is not signed with a key of this operator"


def _renewed(request: Request, previous: Status, outcome: Outcome) -> Condition:
    failure, issuance = outcome.failure, outcome.issuance
    if failure:
        error = failure.error
        status = "Unknown" if error.reason == "RefreshOutcomeUnknown" else "False"
        message = f"{error.message[:_LONGEST_ERROR]}{_with_id(error.request_id)}"
        next_attempt = f"next attempt at {rfc3339(failure.next_attempt_time)}"
        return _condition("Renewed", status, error.reason, f"{message}; {next_attempt}")
    if issuance is None and outcome.unverified:
        return _condition("Renewed", "Unknown", UNVERIFIED, _unverified(request))
    if issuance is None:
        return _condition("Renewed", "Unknown", "Pending", "no renewal has been attempted yet")
    before = previous.condition("Renewed")
    if not outcome.reason and before and before.status == "True" and previous.renewal_time == _renewal_time(issuance):
        return before
    reason = "Issued" if issuance.revision == 1 else "Renewed"
    if outcome.reason == "DriftDetected" and issuance.revision > 1:
        reason = "DriftCorrected"
    return _condition("Renewed", "True", reason, _success(request, outcome, issuance))


def _stalled(outcome: Outcome) -> Condition | None:
    failure = outcome.failure
    if failure is None:
        return None
    error = failure.error
    is_final = error.reason == "RefreshOutcomeUnknown" and isinstance(error, RefusedError)
    if not (REASONS[error.reason].stalled or is_final):
        return None
    return _condition("Stalled", "True", error.reason, error.message)


def _success(request: Request, outcome: Outcome, issuance: Issuance) -> str:
    is_routine = issuance.revision == 1 or outcome.reason in ("", "Due")
    cause = "" if is_routine else f" because of {outcome.reason}"
    lifetime = issuance.expires - issuance.issued
    is_limited = renew_before(request.spec.renewal, lifetime) > lifetime / 2
    limit = "; renewBefore is limited to half of the lifetime" if is_limited else ""
    prospect = f"next renewal at {rfc3339(issuance.renew)}"
    if issuance.once:
        prospect = "no renewal is possible, because the source credential is single-use"
    return f"issued{cause} for {human_duration(lifetime)}{limit}; {prospect}{_with_id(outcome.request_id)}"


def _with_id(request_id: str) -> str:
    return f" (AWS request ID {request_id})" if request_id else ""


def _renewal_time(issuance: Issuance) -> str | None:
    return None if issuance.once else rfc3339(issuance.renew)


def _condition(kind: str, status: str, reason: str, message: str) -> Condition:
    text = message[:_LONGEST_MESSAGE]
    return Condition(type=kind, status=status, reason=reason, message=text, last_transition_time="")  # type: ignore[arg-type]


def _with_time(condition: Condition, previous: Status, generation: int, now: datetime) -> Condition:
    before = previous.condition(condition.type)
    since = before.last_transition_time if before and before.status == condition.status else rfc3339(now)
    return msgspec.structs.replace(condition, last_transition_time=since, observed_generation=generation)
