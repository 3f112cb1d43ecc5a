"""What a look at a request means for its status, its conditions and its events: the state table."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from keyturn.api.status import Condition, Status
from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, RefusedError
from keyturn.core.issuance import Issuance, unchanged
from keyturn.core.renewal import Failure, renew_before


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a look at a request ended.

    `marks` are those on the Secret afterwards, if it is there and ours. `reason` is why it was renewed, empty
    where it was not. `setback` is the last failure, this one or one that still holds back.
    """

    at: datetime
    issuance: Issuance | None = None
    reason: str = ""
    request_id: str = ""
    failure: Failure | None = None
    tried: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes Event about a TokenRequest."""

    type: str
    reason: str
    message: str


_LONGEST = 1024  # of an Event of core/v1, which says what its condition says
_LONGEST_SAID = 700  # of it by whoever refused: the next try and where to read on come after it
_GOOD = ("Issued", "Renewed")
_EVENT_OF_ISSUE = {"Issued": "Normal", "DriftCorrected": "Warning"}


def report(request: Request, previous: Status, outcome: Outcome) -> Status:
    """Tell the status after a look. Nothing is invented: times come from the marks, failures from the setback."""
    issuance, failure = outcome.issuance, outcome.failure
    handled_renew_request = (
        failure.handled_renew_request if failure else issuance.handled_renew_request if issuance else ""
    )
    conditions = [_ready(request, outcome), _renewed(request, previous, outcome), _stalled(outcome)]
    told = Status(
        observed_generation=request.generation,
        conditions=tuple(_with_time(c, previous, request.generation, outcome.at) for c in conditions if c),
        secret_name=request.secret_name,
        last_attempt_time=rfc3339(outcome.at) if outcome.tried else previous.last_attempt_time,
        next_attempt_time=rfc3339(failure.next_attempt_time) if failure else None,
        failed_attempts=failure.failed_attempts if failure else 0,
        revision=previous.revision,
        last_handled_renew_request=handled_renew_request or previous.last_handled_renew_request,
    )
    if issuance is None:
        return told
    return msgspec.structs.replace(
        told,
        issue_time=rfc3339(issuance.issued),
        expiration_time=rfc3339(issuance.expires),
        renewal_time=_renew_at(issuance),
        revision=issuance.revision,
        principal=issuance.principal or None,
        source_expiration_time=rfc3339(issuance.source_expires) if issuance.source_expires else None,
    )


def events(previous: Status, now: Status) -> Iterator[Event]:
    """Tell what the change from one status to the next is worth: each once, a routine renewal not at all."""
    was, renewed = previous.condition("Renewed"), now.condition("Renewed")
    if renewed and renewed.reason in REASONS and _event_of(renewed.reason) != _event_of(was.reason if was else ""):
        yield Event("Warning", _event_of(renewed.reason), renewed.message)
    if renewed and renewed.reason in _EVENT_OF_ISSUE and now.revision != previous.revision:
        yield Event(_EVENT_OF_ISSUE[renewed.reason], renewed.reason, renewed.message)
    ready, was_ready = now.condition("Ready"), previous.condition("Ready")
    if (
        ready
        and ready.reason in ("Expired", "SourceExpiring")
        and (was_ready is None or was_ready.reason != ready.reason)
    ):
        yield Event("Warning", ready.reason, ready.message)


def invalid(previous: Status, generation: int, message: str, now: datetime) -> Status:
    """Tell the status of a TokenRequest whose spec cannot be read."""
    refused = {"status": "False", "reason": "InvalidSpec", "message": message}
    wanted = [
        _condition("Ready", **refused),
        _condition("Renewed", **refused),
        _condition("Stalled", "True", "InvalidSpec", message),
    ]
    dated = tuple(_with_time(condition, previous, generation, now) for condition in wanted)
    return msgspec.structs.replace(previous, observed_generation=generation, conditions=dated)


def page(reason: str) -> str:
    """Where a reason is explained, with what a person does about it."""
    return f"docs/operations/troubleshooting.md#{reason.lower()}"


def _event_of(reason: str) -> str:
    return REASONS[reason].event if reason in REASONS else ""


def _ready(request: Request, outcome: Outcome) -> Condition:
    status, reason, message = _life(request, outcome)
    if request.spec.suspend:
        reason, message = "Suspended", f"spec.suspend is set: no renewal and no healing. {message}"
    return _condition("Ready", status, reason, message)


def _life(request: Request, outcome: Outcome) -> tuple[str, str, str]:
    issuance, failure = outcome.issuance, outcome.failure
    if issuance is None or not unchanged(request.request_hash, issuance.request_hash):
        missing = f"Secret {request.secret_name} does not hold yet what the spec asks for"
        return ("False", failure.error.reason, failure.error.message) if failure else ("False", "Pending", missing)
    if outcome.at >= issuance.expires:
        return (
            "False",
            "Expired",
            f"what Secret {request.secret_name} holds has expired at {rfc3339(issuance.expires)}",
        )
    if issuance.source_warns and issuance.source_expires and outcome.at >= issuance.source_warns:
        ends = rfc3339(issuance.source_expires)
        return "True", "SourceExpiring", f"the source ends at {ends}; put a new one in its place before"
    reason = "Issued" if issuance.revision == 1 else "Renewed"
    return "True", reason, f"Secret {request.secret_name} is valid until {rfc3339(issuance.expires)}"


def _renewed(request: Request, previous: Status, outcome: Outcome) -> Condition:
    failure, issuance = outcome.failure, outcome.issuance
    if failure:
        status = "Unknown" if failure.error.reason == "RefreshOutcomeUnknown" else "False"
        return _condition("Renewed", status, failure.error.reason, _failure(failure))
    if outcome.reason and issuance:
        reason = (
            "Issued" if issuance.revision == 1 else "DriftCorrected" if outcome.reason == "DriftDetected" else "Renewed"
        )
        return _condition("Renewed", "True", reason, _success(request, outcome, issuance))
    was = previous.condition("Renewed")
    if was and was.status == "True" and issuance and previous.renewal_time == _renew_at(issuance):
        return was
    if issuance is None:
        return _condition("Renewed", "Unknown", "Pending", "not tried yet")
    return _condition(
        "Renewed", "True", "Issued" if issuance.revision == 1 else "Renewed", _success(request, outcome, issuance)
    )


def _stalled(outcome: Outcome) -> Condition | None:
    failure = outcome.failure
    if failure is None:
        return None
    given_up = failure.error.reason == "RefreshOutcomeUnknown" and isinstance(failure.error, RefusedError)
    if not (REASONS[failure.error.reason].stalled or given_up):
        return None
    return _condition("Stalled", "True", failure.error.reason, failure.error.message)


def _failure(failure: Failure) -> str:
    asked = f" (AWS request id {failure.error.request_id})" if failure.error.request_id else ""
    return f"{failure.error.message[:_LONGEST_SAID]}{asked}; next try at {rfc3339(failure.next_attempt_time)}"


def _success(request: Request, outcome: Outcome, issuance: Issuance) -> str:
    told = issuance.revision > 1 and outcome.reason not in ("", "Due")
    why = f" because of {outcome.reason}" if told else ""
    asked = f" (AWS request id {outcome.request_id})" if outcome.request_id else ""
    lifetime = issuance.expires - issuance.issued
    cut = "; renewBefore is cut to half of it" if renew_before(request.spec.renewal, lifetime) > lifetime / 2 else ""
    ahead = "and never renewed, for the source works once" if issuance.once else f"next at {rfc3339(issuance.renew)}"
    return f"issued{why} for {int(lifetime.total_seconds())} s{cut}, {ahead}{asked}"


def _renew_at(issuance: Issuance) -> str | None:
    return None if issuance.once else rfc3339(issuance.renew)


def _condition(kind: str, status: str, reason: str, message: str) -> Condition:
    more = "" if reason in _GOOD else f"; see {page(reason)}"
    said = message[: _LONGEST - len(more)] + more
    return Condition(type=kind, status=status, reason=reason, message=said, last_transition_time="")  # type: ignore[arg-type]


def _with_time(condition: Condition, previous: Status, generation: int, now: datetime) -> Condition:
    was = previous.condition(condition.type)
    since = was.last_transition_time if was and was.status == condition.status else rfc3339(now)
    return msgspec.structs.replace(condition, last_transition_time=since, observed_generation=generation)
