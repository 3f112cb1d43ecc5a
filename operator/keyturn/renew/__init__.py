"""The spine: read, decide, exchange, save a rotated token, write."""

import contextlib
import functools
import math
import time
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyturn.core.errors import KeyturnError, LeavingError, RefusedError, UnavailableError
from keyturn.core.holding import Holding, Source, Token, jwt_times
from keyturn.core.lineage import KeptToken, live_token, token_fingerprint
from keyturn.core.marks import FoundSecret, Marks, data_hash, is_ours, source_fingerprint, unchanged
from keyturn.core.model import Request, canonical_hash
from keyturn.core.render import expiry, render, rfc3339
from keyturn.core.renewal import (
    HEALED,
    reason_to_dress,
    reason_to_renew,
    renew_before,
    renewal_time,
    source_warning,
    whole,
)
from keyturn.core.status import Outcome
from keyturn.renew.memory import Memory, failed, too_soon
from keyturn.renew.spend import spend
from keyturn.renew.world import World, token_place

_TURN = timedelta(seconds=1)
_UNDRESSED = timedelta(minutes=1)


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
        return failed(world, request, memory, error, now)
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
        return Outcome(now, await _dressed(world, request, memory, found))
    if too_soon(world, request, memory, reason, now):
        return Outcome(now, memory.marks, setback=memory.setback)

    started = time.monotonic()
    if found is None or memory.unwritten:
        await world.store.rehearse(request)
    memory.exchanged = now
    holding = _start(source, kept, now)
    for step in request.spec.exchanges:
        # A token that the issuer rotates is saved before the next exchange: that may fail, and the old is spent.
        run = functools.partial(spend, kept, world) if kept and step.operation.consumes else world.exchange
        holding = await run(request, step, holding)

    marks, data = _issue(world, request, holding, proof, memory.revision + 1, now)
    await _write(world, request, memory, marks, data)
    _count(world, memory, reason, now, started)
    return Outcome(now, marks, reason, holding.request_id, tried=True)


async def _read_target(world: World, request: Request, memory: Memory) -> FoundSecret | None:
    found = await world.store.read_target(request)
    memory.saw(found.marks if found and is_ours(request, found) else None)
    return found


async def _live_token(world: World, request: Request, source: Source) -> KeptToken:
    namespace, name = token_place(request)
    kept = await world.tokens.read(request)
    source_of = request.spec.source.token
    of = f"{source_of.secret_key_ref.name}/{source_of.secret_key_ref.key}" if source_of else ""
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
    formats, issued, spread = request.spec.formats, whole(now), math.floor(world.chance() * 1000) / 1000
    expires = expiry(formats, holding)
    if expires is None:
        raise RefusedError(
            "SpecInvalid", "the issuer does not say when its token expires, so it can't be renewed in time"
        )
    if expires <= now:
        raise UnavailableError("Unavailable", "the issuer answered what has expired already; is this clock right?")
    data = render(request, holding)
    source_issued, source_expires = jwt_times(holding.source_token.value) if holding.source_token else (None, None)
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
        source_expires=source_expires,
        source_warns=source_warning(source_issued, source_expires),
    )
    return marks, data


async def _dressed(world: World, request: Request, memory: Memory, found: FoundSecret | None) -> Marks | None:
    """Nothing is exchanged: only metadata, owner and renewal time are brought up to the spec."""
    marks = found.marks if found else None
    if marks is None or found is None:
        memory.not_before = memory.last.renew if memory.last else None
        return None
    if not reason_to_dress(request, found) or not _may_dress(world, request, memory, marks):
        return marks
    memory.dressed = world.now()
    before = renew_before(request.spec.renewal, marks.expires - marks.issued)
    anew = replace(
        marks,
        uid=request.uid,
        dress_hash=request.dress_hash,
        renew=renewal_time(marks.issued, marks.expires, before, marks.spread),
    )
    await world.store.dress(request, anew)
    return anew


def _may_dress(world: World, request: Request, memory: Memory, marks: Marks) -> bool:
    """Whether the data are those of the spec, and nobody undoes in a loop what we dress."""
    if not unchanged(request.request_hash, marks.request_hash):
        return False
    asked = marks.uid != request.uid or not unchanged(request.dress_hash, marks.dress_hash)
    since = world.now() - memory.dressed if memory.dressed else _UNDRESSED
    if asked or not timedelta() <= since < _UNDRESSED:
        return True
    memory.not_before = min(world.now() + _UNDRESSED - since, marks.renew)
    return False


async def _write(world: World, request: Request, memory: Memory, marks: Marks, data: dict[str, str]) -> None:
    memory.unwritten = True
    await world.store.write(request, marks, data)
    memory.unwritten = False


def _state(request: Request, proof: str, found: FoundSecret | None) -> str:
    # Not the version of the target: whoever touches it would have a failing renewal tried again each time.
    ours = found is not None and not found.immutable and is_ours(request, found)
    return canonical_hash([request.request_hash, proof, found is None, ours])


def _count(world: World, memory: Memory, reason: str, now: datetime, started: float) -> None:
    memory.heals = memory.heals + 1 if reason in HEALED and memory.last else 0
    world.metrics.renewals.labels("success", reason).inc()
    world.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and memory.last:
        world.metrics.lateness.observe((now - memory.last.renew).total_seconds())
