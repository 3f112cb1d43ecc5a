"""The spine: read, decide, exchange, write."""

import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from msgspec.structs import replace

from keyturn.core.errors import KeyturnError, LeavingError, RefusedError, UnavailableError
from keyturn.core.holding import Holding, Token, jwt_times, unwrapped
from keyturn.core.marks import FoundSecret, Marks, data_hash, fingerprint, is_ours
from keyturn.core.model import Exchange, Request, canonical_hash
from keyturn.core.render import expiry, render, rfc3339
from keyturn.core.renewal import (
    HEALED,
    Setback,
    least_interval,
    next_try,
    reason_to_dress,
    reason_to_renew,
    renew_before,
    renewal_time,
    source_warning,
    whole,
)
from keyturn.core.status import Outcome
from keyturn.metrics import Metrics


class Store(Protocol):
    """Where sources are read and targets are kept. All of it raises the errors of core.errors."""

    async def read_target(self, request: Request) -> FoundSecret | None:
        """Find the target as it is, or as a watch that is still true saw it; None where there is none."""

    async def read_source(self, request: Request) -> str:
        """Read the source token, fresh; SourceMissing where the Secret or the key is not there."""

    async def rehearse(self, request: Request) -> None:
        """Try the write without writing: TargetConflict or WriteRefused before anything is exchanged."""

    async def write(self, request: Request, marks: Marks, data: dict[str, str]) -> None:
        """Write the data and the marks at once, and let go of what the request wrote elsewhere before."""

    async def dress(self, request: Request, marks: Marks) -> None:
        """Write marks, labels, annotations and owner anew around the data that the target holds."""


@dataclass(frozen=True, slots=True)
class World:
    """All that is outside: the store, the exchanges, the clock and the dice (in [0, 1))."""

    store: Store
    exchange: Callable[[Request, Exchange, Holding], Awaitable[Holding]]
    now: Callable[[], datetime]
    chance: Callable[[], float]
    metrics: Metrics
    least_interval: timedelta = timedelta(seconds=10)


@dataclass(slots=True)
class Memory:
    """What the process remembers of a request between two looks. Losing it costs a delay, never an exchange.

    `marks` are those on the target now, `last` those of the last issue, `revision` counts the issues, `heals`
    the repairs of late. `state` is what the last look saw of spec, source and target; `not_before` is when a
    reason that came too soon is due.
    """

    marks: Marks | None = None
    last: Marks | None = None
    revision: int = 0
    setback: Setback | None = None
    heals: int = 0
    state: str = ""
    not_before: datetime | None = None

    def saw(self, marks: Marks | None) -> None:
        """Take note of the marks that are on the target now."""
        self.marks = marks
        if marks:
            self.last, self.revision = marks, marks.revision


async def look(world: World, request: Request, memory: Memory) -> Outcome:
    """Look at a request once: renew it if there is a reason to, and say how that ended.

    Failures end up in the outcome and in the memory. What is raised is LeavingError, or a bug.
    """
    now = world.now()
    memory.not_before = None
    if request.spec.suspend:
        await _read_target(world, request, memory)
        return Outcome(now, memory.marks, setback=memory.setback)
    try:
        outcome = await renew(world, request, memory, now)
    except LeavingError:
        raise
    except KeyturnError as error:
        memory.setback = _setback(world, request, memory, error, now)
        world.metrics.renewals.labels("failure", error.reason).inc()
        return Outcome(now, memory.marks, setback=memory.setback, tried=True)
    memory.saw(outcome.marks)
    memory.setback = outcome.setback
    return outcome


async def renew(world: World, request: Request, memory: Memory, now: datetime) -> Outcome:
    """Renew what a request holds, if there is a reason to. This is the one place where the order is decided."""
    found = await _read_target(world, request, memory)
    source = unwrapped(await world.store.read_source(request), "the source token")
    memory.state = _state(request, source, found)

    reason = reason_to_renew(request, found, source, now)
    if reason is None and found and found.marks:
        return Outcome(now, await _dressed(world, request, found, found.marks))
    if reason is None or _too_soon(world, request, memory, reason, now):
        return Outcome(now, memory.marks, setback=memory.setback)

    started = time.monotonic()
    source_issued, source_expires = jwt_times(source)
    if source_expires and source_expires <= now:
        raise RefusedError("SourceExpired", f"the source token expired at {rfc3339(source_expires)}")
    if found is None:
        await world.store.rehearse(request)
    holding = Holding(source_token=Token(source, source_expires))
    for step in request.spec.exchanges:
        holding = await world.exchange(request, step, holding)

    marks, data = _issue(request, holding, now, memory.revision + 1, world.chance())
    marks = replace(marks, source=fingerprint(source, request), source_expires=source_expires,
                    source_warns=source_warning(source_issued, source_expires))  # fmt: skip
    await world.store.write(request, marks, data)
    _count(world, memory, reason, now, started)
    return Outcome(now, marks, reason, holding.request_id, tried=True)


async def _read_target(world: World, request: Request, memory: Memory) -> FoundSecret | None:
    found = await world.store.read_target(request)
    memory.saw(found.marks if found and is_ours(request, found) else None)
    return found


def _issue(
    request: Request, holding: Holding, now: datetime, revision: int, spread: float
) -> tuple[Marks, dict[str, str]]:
    """Render what is held, and pick the renewal time, once."""
    # Cut before it is used: from what is stored, a dressing must find the same time again.
    spread = round(spread, 3)
    formats, issued = request.spec.formats, whole(now)
    expires = expiry(formats, holding)
    if expires is None or expires <= now:
        raise UnavailableError("Unavailable", "AWS answered what has expired already; is this clock right?")
    data = render(formats, holding, request.spec.region)
    marks = Marks(
        request=request.name,
        uid=request.uid,
        issued=issued,
        expires=expires,
        renew=renewal_time(issued, expires, renew_before(request.spec.renewal, expires - issued), spread),
        spread=spread,
        request_hash=request.request_hash,
        dress_hash=request.dress_hash,
        data_hash=data_hash(data, request),
        source="",
        revision=revision,
        keys=tuple(data),
        handled=request.renew_requested,
        principal=holding.principal,
    )
    return marks, data


async def _dressed(world: World, request: Request, found: FoundSecret, marks: Marks) -> Marks:
    """Bring metadata, owner and renewal time up to the spec, without an exchange."""
    if not reason_to_dress(request, found):
        return marks
    before = renew_before(request.spec.renewal, marks.expires - marks.issued)
    anew = replace(
        marks,
        uid=request.uid,
        dress_hash=request.dress_hash,
        renew=renewal_time(marks.issued, marks.expires, before, marks.spread),
    )
    await world.store.dress(request, anew)
    return anew


def _state(request: Request, source: str, found: FoundSecret | None) -> str:
    version = f"{found.uid}/{found.resource_version}" if found else ""
    return canonical_hash([request.request_hash, fingerprint(source, request), version])


def _too_soon(world: World, request: Request, memory: Memory, reason: str, now: datetime) -> bool:
    """Whether the last failure holds back, or the last issue is too young for another exchange."""
    if memory.setback:
        if memory.setback.waits_for is None:
            memory.setback = dataclasses.replace(memory.setback, waits_for=memory.state)
        return memory.setback.holds_back(request, memory.state, now)
    if memory.last is None:
        return False
    lifetime = memory.last.expires - memory.last.issued
    earliest = memory.last.issued + least_interval(reason, lifetime, world.least_interval, memory.heals)
    if now < earliest:
        memory.not_before = earliest
    return now < earliest


def _setback(world: World, request: Request, memory: Memory, error: KeyturnError, now: datetime) -> Setback:
    failed = (memory.setback.failed_attempts if memory.setback else 0) + 1
    life_left = memory.marks.expires - now if memory.marks else timedelta()
    return Setback(
        error=error,
        failed_attempts=failed,
        next_attempt_at=next_try(request, error, failed, life_left, now, world.chance()),
        generation=request.generation,
        handled=request.renew_requested,
        waits_for=memory.state,
    )


def _count(world: World, memory: Memory, reason: str, now: datetime, started: float) -> None:
    memory.heals = memory.heals + 1 if reason in HEALED and memory.last else 0
    world.metrics.renewals.labels("success", reason).inc()
    world.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and memory.last:
        world.metrics.lateness.observe((now - memory.last.renew).total_seconds())
