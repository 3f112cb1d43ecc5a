"""The spine: read, decide, exchange, save a rotated token, write."""

import contextlib
import dataclasses
import functools
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from keyturn.core.errors import KeyturnError, LeavingError, RefusedError, UnavailableError
from keyturn.core.holding import Holding, Source, Token, jwt_times
from keyturn.core.lineage import KeptToken, live_token, token_fingerprint
from keyturn.core.marks import FoundSecret, Marks, data_hash, is_ours, kept_identity, source_fingerprint
from keyturn.core.model import Request, canonical_hash
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
from keyturn.renew.spend import spend
from keyturn.renew.world import World, token_place

_TURN = timedelta(seconds=1)


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

    def after(self, outcome: Outcome) -> None:
        """Take note of how a look ended."""
        self.saw(outcome.marks)
        self.setback = outcome.setback


async def look(world: World, request: Request, memory: Memory) -> Outcome:
    """Look at a request once: renew it if there is a reason to, and say how that ended.

    Failures end up in the outcome and in the memory. What is raised is LeavingError, or a bug.
    """
    now = world.now()
    # Another request of the same source spends its token: to wait for that here would cost a worker.
    taken = world.turns.is_taken(request)
    memory.not_before = now + _TURN if taken else None
    if request.spec.suspend:
        with contextlib.suppress(UnavailableError, RefusedError):
            await _read_target(world, request, memory)
    if request.spec.suspend or taken:
        return Outcome(now, memory.marks, setback=memory.setback)
    try:
        async with world.turns.turn(request):
            outcome = await renew(world, request, memory, now)
    except LeavingError:
        raise
    except KeyturnError as error:
        if memory.setback and memory.setback.is_still(error, now):
            memory.setback = dataclasses.replace(memory.setback, **_seen(request, memory))
            return Outcome(now, memory.marks, setback=memory.setback)
        memory.setback = _setback(world, request, memory, error, now)
        world.metrics.renewals.labels("failure", error.reason).inc()
        return Outcome(now, memory.marks, setback=memory.setback, tried=True)
    memory.after(outcome)
    return outcome


async def renew(world: World, request: Request, memory: Memory, now: datetime) -> Outcome:
    """Renew what a request holds, if there is a reason to. This is the one place where the order is decided."""
    found = await _read_target(world, request, memory)
    source = await world.store.read_source(request)
    kept = await _live_token(world, request, source) if request.spec.consumes else None
    proof = kept.lineage.seeds[-1] if kept and kept.lineage else source_fingerprint(source, request)
    memory.state = _state(request, proof, found)

    reason = reason_to_renew(request, found, proof, now, memory.last)
    if reason is None:
        return Outcome(now, await _kept_as_it_is(world, request, memory, found))
    if _too_soon(world, request, memory, reason, now):
        return Outcome(now, memory.marks, setback=memory.setback)

    started = time.monotonic()
    if found is None:
        await world.store.rehearse(request)
    holding = dataclasses.replace(_start(source, kept, now), identity_id=kept_identity(memory.last, request))
    for step in request.spec.exchanges:
        # A token that the issuer rotates is saved before the next exchange: that may fail, and the old is spent.
        run = functools.partial(spend, kept, world) if kept and step.operation.consumes else world.exchange
        holding = await run(request, step, holding)

    marks, data = _issue(world, request, holding, proof, memory.revision + 1, now)
    await world.store.write(request, marks, data)
    _count(world, memory, reason, now, started)
    return Outcome(now, marks, reason, holding.request_id, tried=True)


async def _read_target(world: World, request: Request, memory: Memory) -> FoundSecret | None:
    found = await world.store.read_target(request)
    memory.saw(found.marks if found and is_ours(request, found) else None)
    return found


async def _live_token(world: World, request: Request, source: Source) -> KeptToken:
    namespace, name = token_place(request)
    kept = await world.tokens.read(request)
    of = request.spec.source.token.place if request.spec.source.token else ""
    return live_token(source.token or "", kept, lambda token: token_fingerprint(token, namespace, name), of, name)


def _start(source: Source, kept: KeptToken | None, now: datetime) -> Holding:
    """What the pipeline starts with. A token whose own words say that it has expired is not sent anywhere."""
    value = kept.value if kept else source.token
    token = Token(value, jwt_times(value)[1]) if value else None
    if token and token.expires_at and token.expires_at <= now:
        raise RefusedError("SourceExpired", f"the source token expired at {rfc3339(token.expires_at)}")
    return Holding(source_token=token, credentials=source.credentials)


def _issue(
    world: World, request: Request, holding: Holding, proof: str, revision: int, now: datetime
) -> tuple[Marks, dict[str, str]]:
    """Render what is held, and pick the renewal time, once."""
    formats, issued, spread = request.spec.formats, whole(now), round(world.chance(), 3)
    expires = expiry(formats, holding)
    if expires is None:
        raise RefusedError(
            "SpecInvalid", "the issuer does not say when its token expires, so it can't be renewed in time"
        )
    if expires <= now:
        raise UnavailableError("Unavailable", "the issuer answered what has expired already; is this clock right?")
    data = render(formats, holding, request.spec.region)
    lasting = None if request.spec.source.service_account else holding.source_token
    source_issued, source_expires = jwt_times(lasting.value) if lasting else (None, None)
    marks = Marks(
        request=request.name,
        uid=request.uid,
        issued=issued,
        expires=expires,
        renew=renewal_time(issued, expires, renew_before(request.spec.renewal, expires - issued), spread),
        spread=spread,
        request_hash=request.request_hash,
        exchange_hash=request.exchange_hash,
        dress_hash=request.dress_hash,
        data_hash=data_hash(data, request),
        source=proof,
        revision=revision,
        keys=tuple(data),
        handled=request.renew_requested,
        principal=holding.principal,
        identity_id=holding.identity_id,
        source_expires=source_expires,
        source_warns=source_warning(source_issued, source_expires),
    )
    return marks, data


async def _kept_as_it_is(
    world: World, request: Request, memory: Memory, found: FoundSecret | None
) -> Marks | None:
    """Nothing is exchanged: only metadata, owner and renewal time are brought up to the spec."""
    marks = found.marks if found else None
    if marks is None or found is None:
        memory.not_before = memory.last.renew if memory.last else None
        return None
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


def _state(request: Request, proof: str, found: FoundSecret | None) -> str:
    # Not the version of the target: whoever touches it would have a failing renewal tried again each time.
    ours = found is not None and not found.immutable and is_ours(request, found)
    return canonical_hash([request.request_hash, proof, found is None, ours])


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
    if reason in HEALED:
        # However often it is broken, it is renewed before it expires.
        earliest = min(earliest, max(memory.last.renew, memory.last.issued + world.least_interval))
    if now < earliest:
        memory.not_before = earliest
    return now < earliest


def _setback(world: World, request: Request, memory: Memory, error: KeyturnError, now: datetime) -> Setback:
    failed = (memory.setback.failed_attempts if memory.setback else 0) + 1
    life_left = memory.marks.expires - now if memory.marks else timedelta()
    # It is kept for long, and its frames would keep tokens alive with it.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    next_attempt_at = next_try(request, error, failed, life_left, now, world.chance())
    return Setback(error, failed, next_attempt_at, **_seen(request, memory))


def _seen(request: Request, memory: Memory) -> dict[str, Any]:
    """What a try has taken note of, so that only a change causes another before its time."""
    return {"generation": request.generation, "handled": request.renew_requested, "waits_for": memory.state}


def _count(world: World, memory: Memory, reason: str, now: datetime, started: float) -> None:
    memory.heals = memory.heals + 1 if reason in HEALED and memory.last else 0
    world.metrics.renewals.labels("success", reason).inc()
    world.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and memory.last:
        world.metrics.lateness.observe((now - memory.last.renew).total_seconds())
