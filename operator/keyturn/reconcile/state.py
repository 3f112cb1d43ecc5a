"""What is remembered of a request between two looks, and what that holds back."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, ThrottledError
from keyturn.core.issuance import Issuance
from keyturn.core.renewal import HEALED, Setback, least_interval, life, next_try
from keyturn.core.status import Outcome
from keyturn.reconcile.dependencies import World


@dataclass(slots=True)
class Memory:
    """What the process remembers of a request between two looks. Losing it costs a delay, never an exchange.

    `marks` are those on the target now, `last` those of the last issue, `revision` counts the issues, `heals`
    the repairs of late. `exchanged` is when the last try reached the exchanges, `dressed` when the Secret was
    dressed. `state` is what the last look saw of spec, source and target; `not_before` is when a reason that came
    too soon is due. `unwritten`: the last exchange was in vain, its write failed.
    """

    issuance: Issuance | None = None
    last: Issuance | None = None
    revision: int = 0
    setback: Setback | None = None
    heals: int = 0
    exchanged: datetime | None = None
    dressed: datetime | None = None
    state: str = ""
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
        self.setback = outcome.setback


def too_soon(world: World, request: Request, memory: Memory, reason: str, now: datetime) -> bool:
    """Whether the last failure holds back, or the last issue is too young for another exchange."""
    if memory.setback:
        if memory.setback.waits_for is None:
            memory.setback = dataclasses.replace(memory.setback, waits_for=memory.state)
        return memory.setback.holds_back(request, memory.state, now) or _edited_too_soon(world, memory, now)
    if memory.last is None or now < memory.last.issued:  # by a clock that was set back since
        return False
    least = least_interval(reason, life(request, memory.last), world.least_interval, memory.heals)
    earliest = memory.last.issued + least
    if reason in HEALED:
        # However often it is broken, it is renewed before it expires.
        earliest = min(earliest, max(memory.last.renew, memory.last.issued + world.least_interval))
    if now < earliest:
        memory.not_before = earliest
    return now < earliest


def _edited_too_soon(world: World, memory: Memory, now: datetime) -> bool:
    """Whether somebody's change comes before its time: edits in a loop must not become calls in a loop."""
    if memory.setback is None or memory.exchanged is None or now < memory.exchanged:
        return False
    earliest = min(memory.exchanged + world.least_interval, memory.setback.next_attempt_time)
    if now < earliest:
        memory.not_before = earliest
    return now < earliest


def failed(world: World, request: Request, memory: Memory, error: KeyturnError, now: datetime) -> Outcome:
    """Take note of a failure, and tell it as an outcome."""
    if memory.setback and memory.exchanged != now and memory.setback.is_still(error, now):
        memory.setback = dataclasses.replace(memory.setback, **_seen(request, memory))
        return Outcome(now, memory.issuance, setback=memory.setback)
    memory.setback = _setback(world, request, memory, error, now)
    world.metrics.renewals.labels("failure", error.reason).inc()
    return Outcome(now, memory.issuance, setback=memory.setback, tried=True)


def _setback(world: World, request: Request, memory: Memory, error: KeyturnError, now: datetime) -> Setback:
    # That we hold ourselves back is no news of AWS, and must not make the wait after it longer.
    before = memory.setback.failed_attempts if memory.setback else 0
    failures = max(before, 1) if isinstance(error, ThrottledError) and error.unsent else before + 1
    life_left = _life_left(request, memory.issuance, now) if memory.issuance else timedelta()
    # It is kept for long, and its frames would keep tokens alive with it.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    next_attempt_time = next_try(request, error, failures, life_left, now, world.chance())
    return Setback(error, failures, next_attempt_time, failed_at=now, **_seen(request, memory))


def _life_left(request: Request, issuance: Issuance, now: datetime) -> timedelta:
    """How long a renewal can still be made; of a refresh token that has ended since, nothing is to be hoped."""
    left = issuance.issued + life(request, issuance) - now
    return left if left > timedelta() else issuance.expires - now


def _seen(request: Request, memory: Memory) -> dict[str, Any]:
    """What a try has taken note of, so that only a change causes another before its time."""
    return {
        "generation": request.generation,
        "handled_renew_request": request.renew_requested,
        "waits_for": memory.state,
    }
