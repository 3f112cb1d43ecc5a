"""The spine: read, decide, exchange, save a rotated token, write."""

import contextlib
import dataclasses
import time
from datetime import datetime, timedelta

from msgspec.structs import replace

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.token_request import Request, canonical_hash
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret, is_ours, source_fingerprint, unchanged
from keyturn.core.pipeline_values import PipelineValues, SourceValues
from keyturn.core.renewal import (
    REPAIR_REASONS,
    needs_metadata,
    renewal_reason,
    when_to_renew,
)
from keyturn.core.status import Outcome
from keyturn.core.token_family import StoredToken, live_token, token_fingerprint
from keyturn.reconcile.dependencies import Dependencies, token_place
from keyturn.reconcile.issue import Circumstances, check_not_spent, issue, start
from keyturn.reconcile.state import ReconcileState, failed, should_wait
from keyturn.reconcile.token_refresh import consume

_TURN = timedelta(seconds=1)
_UNDRESSED = timedelta(minutes=1)


async def reconcile(deps: Dependencies, request: Request, state: ReconcileState) -> Outcome:
    """Look at a request once: renew it if there is a reason to, and say how that ended.

    Failures end up in the outcome and in the memory. What is raised is LeavingError, or a bug.
    """
    now = deps.now()
    # Another request of the same source spends its token: to wait for that here would cost a worker.
    taken = deps.token_locks.is_taken(request)
    state.not_before = now + _TURN if taken else None
    if request.spec.suspend:
        with contextlib.suppress(UnavailableError, RefusedError):
            await _read_target(deps, request, state)
    if request.spec.suspend or taken:
        return Outcome(now, state.issuance, failure=state.failure)
    try:
        async with deps.token_locks.acquire(request):
            outcome = await renew(deps, request, state, now)
    except KeyturnError as error:
        return failed(deps, request, state, error, now)
    state.after(outcome)
    return outcome


async def renew(deps: Dependencies, request: Request, state: ReconcileState, now: datetime) -> Outcome:
    """Renew what a request holds, if there is a reason to. This is the one place where the order is decided."""
    found = await _read_target(deps, request, state)
    source = await deps.store.read_source(request)
    kept = await _live_token(deps, request, source) if request.spec.consumption else None
    fingerprint = kept.family.initial_tokens[-1] if kept and kept.family else source_fingerprint(source, request)
    state.inputs = _inputs(request, fingerprint, found)

    reason = renewal_reason(request, found, fingerprint, now, state.last)
    if reason is None:
        return Outcome(now, await _apply_metadata_if_due(deps, request, state, found))
    if should_wait(deps, request, state, reason, now):
        return Outcome(now, state.issuance, failure=state.failure)

    started = time.monotonic()
    await _dry_run(deps, request, state, found, kept)
    state.exchanged = now
    given = Circumstances(fingerprint, state.last, state.revision + 1, deps.rand(), now)
    values = start(request, source, kept, given)
    for step in request.spec.exchanges:
        # A token that the issuer rotates is saved before the next exchange: that may fail, and the old is spent.
        values = await _exchanged(deps, request, kept, step, values)

    issuance, data = issue(request, values, given)
    await _write(deps, request, state, issuance, data)
    _count(deps, state, reason, now, started)
    return Outcome(now, issuance, reason, values.request_id, tried=True)


async def _read_target(deps: Dependencies, request: Request, state: ReconcileState) -> TargetSecret | None:
    found = await deps.store.read_target(request)
    state.saw(found.issuance if found and is_ours(request, found) else None)
    return found


async def _live_token(deps: Dependencies, request: Request, source: SourceValues) -> StoredToken:
    namespace, name = token_place(request)
    kept = await deps.tokens.read(request)
    source_id = request.spec.consumption.source_id if request.spec.consumption else ""
    handed_in = source.token if source.proof is None else source.proof
    return live_token(handed_in or "", kept, lambda token: token_fingerprint(token, namespace, name), source_id, name)


async def _dry_run(
    deps: Dependencies,
    request: Request,
    state: ReconcileState,
    found: TargetSecret | None,
    kept: StoredToken | None,
) -> None:
    """Refuse what is used up already, and try the write of what could not be issued again."""
    check_not_spent(kept, state.failure)
    if found is None or state.unwritten or _works_once(request, kept):
        await deps.store.dry_run(request)


def _works_once(request: Request, kept: StoredToken | None) -> bool:
    """Whether what is issued now cannot be issued again, should the write be refused."""
    consumption = request.spec.consumption
    return consumption is not None and consumption.is_single_use and kept is not None and kept.answered is None


async def _apply_metadata_if_due(
    deps: Dependencies, request: Request, state: ReconcileState, found: TargetSecret | None
) -> Issuance | None:
    """Nothing is exchanged: only metadata, owner and renewal time are brought up to the spec."""
    issuance = found.issuance if found else None
    if issuance is None or found is None:
        state.not_before = state.last.renew if state.last else None
        return None
    if not needs_metadata(request, found) or not _may_apply_metadata(deps, request, state, issuance):
        return issuance
    state.metadata_applied = deps.now()
    anew = replace(
        issuance,
        uid=request.uid,
        metadata_hash=request.metadata_hash,
        renew=when_to_renew(request, issuance.issued, (issuance.expires, issuance.source_expires), issuance.jitter),
    )
    await deps.store.apply_metadata(request, anew)
    return anew


def _may_apply_metadata(deps: Dependencies, request: Request, state: ReconcileState, issuance: Issuance) -> bool:
    """Whether the data are those of the spec, and nobody undoes in a loop what we dress."""
    if not unchanged(request.request_hash, issuance.request_hash):
        return False
    asked = issuance.uid != request.uid or not unchanged(request.metadata_hash, issuance.metadata_hash)
    since = deps.now() - state.metadata_applied if state.metadata_applied else _UNDRESSED
    if asked or not timedelta() <= since < _UNDRESSED:
        return True
    state.not_before = min(deps.now() + _UNDRESSED - since, issuance.renew)
    return False


async def _exchanged(
    deps: Dependencies, request: Request, kept: StoredToken | None, step: StepSpec, values: PipelineValues
) -> PipelineValues:
    consumption = request.spec.consumption
    if kept and consumption and step.exchange is consumption.step:
        given = await consume(deps, request, kept, step, values)
    else:
        given = await deps.exchange(request, step, values)
    # An answered refresh token is saved by now; a later step must not take it for its own.
    return dataclasses.replace(given, refresh_token=None)


async def _write(
    deps: Dependencies, request: Request, state: ReconcileState, issuance: Issuance, data: dict[str, str]
) -> None:
    state.unwritten = True
    await deps.store.write(request, issuance, data)
    state.unwritten = False


def _inputs(request: Request, fingerprint: str, found: TargetSecret | None) -> str:
    # Not the version of the target: whoever touches it would have a failing renewal tried again each time.
    ours = found is not None and not found.immutable and is_ours(request, found)
    return canonical_hash([request.request_hash, fingerprint, found is None, ours])


def _count(deps: Dependencies, state: ReconcileState, reason: str, now: datetime, started: float) -> None:
    state.repairs = state.repairs + 1 if reason in REPAIR_REASONS and state.last else 0
    deps.metrics.renewals.labels("success", reason).inc()
    deps.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and state.last:
        deps.metrics.lateness.observe((now - state.last.renew).total_seconds())
