"""What is remembered of a request between two looks, and what that holds back."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import REPAIR_REASONS, Failure, least_interval, life, next_try
from keyturn.core.status import Outcome
from keyturn.reconcile.dependencies import Dependencies


@dataclass(slots=True)
class ReconcileState:
    """What the process remembers of a request between two looks. Losing it costs a delay, never an exchange.

    `marks` are those on the target now, `last` those of the last issue, `revision` counts the issues, `heals`
    the repairs of late. `exchanged` is when the last try reached the exchanges, `dressed` when the Secret was
    dressed. `inputs` is what the last look saw of spec, source and target; `not_before` is when a reason that came
    too soon is due. `unwritten`: the last exchange was in vain, its write failed.
    """

    issuance: Issuance | None = None
    last: Issuance | None = None
    revision: int = 0
    failure: Failure | None = None
    repairs: int = 0
    exchanged: datetime | None = None
    metadata_applied: datetime | None = None
    inputs: str = ""
    not_before: datetime | None = None
    unwritten: bool = False

    def saw(self, issuance: Issuance | None) -> None:
        """Take note of the marks that are on the target now."""
        self.issuance = issuance
        if issuance:
            self.last, self.revision = issuance, issuance.revision

    def after(self, outcome: Outcome) -> None:
        """Take note of how a look ended."""
        self.saw(outcome.issuance)
        self.failure = outcome.failure


def should_wait(deps: Dependencies, request: Request, state: ReconcileState, reason: str, now: datetime) -> bool:
    """Whether the last failure holds back, or the last issue is too young for another exchange."""
    if state.failure:
        if state.failure.waits_for is None:
            state.failure = dataclasses.replace(state.failure, waits_for=state.inputs)
        return state.failure.holds_back(request, state.inputs, now) or _edited_too_soon(deps, state, now)
    if state.last is None or now < state.last.issued:  # by a clock that was set back since
        return False
    least = least_interval(reason, life(request, state.last), deps.least_interval, state.repairs)
    earliest = state.last.issued + least
    if reason in REPAIR_REASONS:
        # However often it is broken, it is renewed before it expires.
        earliest = min(earliest, max(state.last.renew, state.last.issued + deps.least_interval))
    if now < earliest:
        state.not_before = earliest
    return now < earliest


def _edited_too_soon(deps: Dependencies, state: ReconcileState, now: datetime) -> bool:
    """Whether somebody's change comes before its time: edits in a loop must not become calls in a loop."""
    if state.failure is None or state.exchanged is None or now < state.exchanged:
        return False
    earliest = min(state.exchanged + deps.least_interval, state.failure.next_attempt_time)
    if now < earliest:
        state.not_before = earliest
    return now < earliest


def failed(deps: Dependencies, request: Request, state: ReconcileState, error: KeyturnError, now: datetime) -> Outcome:
    """Take note of a failure, and tell it as an outcome."""
    if state.failure and state.exchanged != now and state.failure.is_still(error, now):
        state.failure = dataclasses.replace(state.failure, **_seen(request, state))
        return Outcome(now, state.issuance, failure=state.failure)
    state.failure = _failure(deps, request, state, error, now)
    deps.metrics.renewals.labels("failure", error.reason).inc()
    return Outcome(now, state.issuance, failure=state.failure, tried=True)


def _failure(
    deps: Dependencies, request: Request, state: ReconcileState, error: KeyturnError, now: datetime
) -> Failure:
    # That we hold ourselves back is no news of AWS, and must not make the wait after it longer.
    before = state.failure.failed_attempts if state.failure else 0
    failures = max(before, 1) if isinstance(error, ThrottledError) and error.nothing_sent else before + 1
    life_left = _life_left(request, state.issuance, now) if state.issuance else timedelta()
    # It is kept for long, and its frames would keep tokens alive with it.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    next_attempt_time = next_try(request, error, failures, life_left, now, deps.rand())
    return Failure(error, failures, next_attempt_time, failed_at=now, **_seen(request, state))


def _life_left(request: Request, issuance: Issuance, now: datetime) -> timedelta:
    """How long a renewal can still be made; of a refresh token that has ended since, nothing is to be hoped."""
    left = issuance.issued + life(request, issuance) - now
    return left if left > timedelta() else issuance.expires - now


def _seen(request: Request, state: ReconcileState) -> dict[str, Any]:
    """What a try has taken note of, so that only a change causes another before its time."""
    return {
        "generation": request.generation,
        "handled_renew_request": request.renew_requested,
        "waits_for": state.inputs,
    }
