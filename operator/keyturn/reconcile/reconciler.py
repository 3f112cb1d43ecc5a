"""The spine: read, decide, exchange, save a rotated token, write."""

import contextlib
import dataclasses
import time
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyturn.api.token_request import Exchange, Request, canonical_hash
from keyturn.core.errors import KeyturnError, LeavingError, RefusedError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret, is_ours, source_fingerprint, unchanged
from keyturn.core.pipeline_values import Holding, Source
from keyturn.core.renewal import (
    HEALED,
    reason_to_dress,
    reason_to_renew,
    when_to_renew,
)
from keyturn.core.status import Outcome
from keyturn.core.token_family import StoredToken, live_token, token_fingerprint
from keyturn.reconcile.dependencies import World, token_place
from keyturn.reconcile.issue import Circumstances, check_not_spent, issue, start
from keyturn.reconcile.state import Memory, failed, too_soon
from keyturn.reconcile.token_refresh import spend

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
        return Outcome(now, memory.issuance, setback=memory.setback)
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
    kept = await _live_token(world, request, source) if request.spec.spending else None
    fingerprint = kept.family.initial_tokens[-1] if kept and kept.family else source_fingerprint(source, request)
    memory.state = _state(request, fingerprint, found)

    reason = reason_to_renew(request, found, fingerprint, now, memory.last)
    if reason is None:
        return Outcome(now, await _dressed(world, request, memory, found))
    if too_soon(world, request, memory, reason, now):
        return Outcome(now, memory.issuance, setback=memory.setback)

    started = time.monotonic()
    await _rehearse(world, request, memory, found, kept)
    memory.exchanged = now
    given = Circumstances(fingerprint, memory.last, memory.revision + 1, world.chance(), now)
    holding = start(request, source, kept, given)
    for step in request.spec.exchanges:
        # A token that the issuer rotates is saved before the next exchange: that may fail, and the old is spent.
        holding = await _exchanged(world, request, kept, step, holding)

    issuance, data = issue(request, holding, given)
    await _write(world, request, memory, issuance, data)
    _count(world, memory, reason, now, started)
    return Outcome(now, issuance, reason, holding.request_id, tried=True)


async def _read_target(world: World, request: Request, memory: Memory) -> TargetSecret | None:
    found = await world.store.read_target(request)
    memory.saw(found.issuance if found and is_ours(request, found) else None)
    return found


async def _live_token(world: World, request: Request, source: Source) -> StoredToken:
    namespace, name = token_place(request)
    kept = await world.tokens.read(request)
    source_id = request.spec.spending.source_id if request.spec.spending else ""
    handed_in = source.token if source.proof is None else source.proof
    return live_token(
        handed_in or "", kept, lambda token: token_fingerprint(token, namespace, name), source_id, name
    )


async def _rehearse(
    world: World, request: Request, memory: Memory, found: TargetSecret | None, kept: StoredToken | None
) -> None:
    """Refuse what is used up already, and try the write of what could not be issued again."""
    check_not_spent(kept, memory.setback)
    if found is None or memory.unwritten or _works_once(request, kept):
        await world.store.rehearse(request)


def _works_once(request: Request, kept: StoredToken | None) -> bool:
    """Whether what is issued now cannot be issued again, should the write be refused."""
    spending = request.spec.spending
    return spending is not None and spending.once and kept is not None and kept.answered is None


async def _dressed(world: World, request: Request, memory: Memory, found: TargetSecret | None) -> Issuance | None:
    """Nothing is exchanged: only metadata, owner and renewal time are brought up to the spec."""
    issuance = found.issuance if found else None
    if issuance is None or found is None:
        memory.not_before = memory.last.renew if memory.last else None
        return None
    if not reason_to_dress(request, found) or not _may_dress(world, request, memory, issuance):
        return issuance
    memory.dressed = world.now()
    anew = replace(
        issuance,
        uid=request.uid,
        metadata_hash=request.metadata_hash,
        renew=when_to_renew(
            request, issuance.issued, (issuance.expires, issuance.source_expires), issuance.jitter
        ),
    )
    await world.store.dress(request, anew)
    return anew


def _may_dress(world: World, request: Request, memory: Memory, issuance: Issuance) -> bool:
    """Whether the data are those of the spec, and nobody undoes in a loop what we dress."""
    if not unchanged(request.request_hash, issuance.request_hash):
        return False
    asked = issuance.uid != request.uid or not unchanged(request.metadata_hash, issuance.metadata_hash)
    since = world.now() - memory.dressed if memory.dressed else _UNDRESSED
    if asked or not timedelta() <= since < _UNDRESSED:
        return True
    memory.not_before = min(world.now() + _UNDRESSED - since, issuance.renew)
    return False


async def _exchanged(
    world: World, request: Request, kept: StoredToken | None, step: Exchange, holding: Holding
) -> Holding:
    spending = request.spec.spending
    if kept and spending and step.operation is spending.step:
        given = await spend(world, request, kept, step, holding)
    else:
        given = await world.exchange(request, step, holding)
    # An answered refresh token is saved by now; a later step must not take it for its own.
    return dataclasses.replace(given, refresh_token=None)


async def _write(world: World, request: Request, memory: Memory, issuance: Issuance, data: dict[str, str]) -> None:
    memory.unwritten = True
    await world.store.write(request, issuance, data)
    memory.unwritten = False


def _state(request: Request, fingerprint: str, found: TargetSecret | None) -> str:
    # Not the version of the target: whoever touches it would have a failing renewal tried again each time.
    ours = found is not None and not found.immutable and is_ours(request, found)
    return canonical_hash([request.request_hash, fingerprint, found is None, ours])


def _count(world: World, memory: Memory, reason: str, now: datetime, started: float) -> None:
    memory.heals = memory.heals + 1 if reason in HEALED and memory.last else 0
    world.metrics.renewals.labels("success", reason).inc()
    world.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and memory.last:
        world.metrics.lateness.observe((now - memory.last.renew).total_seconds())
