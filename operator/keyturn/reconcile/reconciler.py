"""One reconciliation: read, decide, exchange, write, and report."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.status import MAX_REVISION, Status
from keyturn.api.times import read_time
from keyturn.api.token_request import InvalidRequest, Request, canonical_hash
from keyturn.core.errors import (
    BeingDeletedError,
    KeyturnError,
    LeaseLostError,
    NamespaceTerminatingError,
    RefusedError,
    ThrottledError,
    UnavailableError,
)
from keyturn.core.issuance import Issuance, TargetSecret, is_ours, source_fingerprint
from keyturn.core.pipeline_values import PipelineValues, SourceValues, check_lengths
from keyturn.core.renewal import (
    REPAIR_REASONS,
    ApplyMetadata,
    Idle,
    Refuse,
    Renew,
    Wait,
    after_failure,
    before_expiry,
    decide,
    next_reconcile,
)
from keyturn.core.state import Failure, ReconcileState
from keyturn.core.status import Event, Outcome, after_bug, events, invalid, report, unsaved
from keyturn.core.token_family import StoredToken, live_token, token_fingerprint
from keyturn.exchanges.memory_limiter import LARGE_BYTES
from keyturn.exchanges.transmission import Transmission
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.final_attempt import check_intent, schedule_final_attempt
from keyturn.reconcile.issue import (
    IssueContext,
    UnknownExpiryError,
    check_not_consumed,
    check_not_refused,
    initial_values,
    issue,
    record_refusal,
)
from keyturn.reconcile.ownership import read_and_disown
from keyturn.reconcile.reports import ReportStatus, progress_reports, report_bug, unsaved_token
from keyturn.reconcile.token_locks import token_secret_name
from keyturn.reconcile.token_refresh import check_unused, consume
from keyturn.reconcile.values_read import ValuesRead, expedite_after_change

SHORTEST_PAUSE = timedelta(seconds=1)
DELETION_TIMEOUT = timedelta(minutes=5)
_LONGEST_LIMIT_WAIT = timedelta(minutes=1)
_PAUSED_RETRY = timedelta(seconds=10)
_PAUSE_AFTER_BUG = timedelta(minutes=5)
_log = logging.getLogger(__name__)
# The state after an attempt, its outcome, and when to reconcile again.
_Attempt = tuple[ReconcileState, Outcome, datetime | None]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """The result of a reconciliation. If `requeue_at` is None, only a change causes the next one."""

    state: ReconcileState
    status: Status
    events: tuple[Event, ...]
    requeue_at: datetime | None


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The source, the stored token if the issuer rotates it, the source's fingerprint, and a hash of all inputs."""

    source: SourceValues
    stored: StoredToken | None
    fingerprint: str
    hash: str


@dataclass(frozen=True, slots=True)
class _Begun:
    """A pipeline of which the first `exchanges` have run: those up to and including the one that consumes a token."""

    context: IssueContext
    values: PipelineValues
    exchanges: Sequence[StepSpec]


class _ExchangeError(Exception):
    """An exchange that failed with an error; `field` is its path in the TokenRequest."""

    def __init__(self, field: str, error: KeyturnError) -> None:
        super().__init__(error.message)
        self.field: Final = field
        self.error: Final = error


async def reconcile(
    deps: Dependencies,
    request: Request | InvalidRequest,
    state: ReconcileState,
    status: Status,
    report_progress: ReportStatus | None = None,
) -> Reconciled:
    """Renew a request if it is due. Returns its new state and status, the Events to record, and when to requeue it.

    If the credentials expire while an attempt is in progress, or a token that it received cannot be saved,
    `report_progress` is called before the attempt has ended.
    A failure is part of the result, and so is a bug (InternalError). In a terminating namespace, a request is reported
    as if it were being deleted itself. Raises BeingDeletedError and LeaseLostError.
    """
    now = deps.now()
    try:
        if isinstance(request, InvalidRequest):
            return Reconciled(state, invalid(status, request.generation, request.message, now), (), None)
        if request.is_paused:
            return await _report_paused(deps, request, state, status, now)
        # Another request is using the token of the same source. Waiting for it here would occupy a worker.
        if deps.token_locks.is_taken(request) or "/".join(token_secret_name(request)) in deps.pending_tokens:
            return _waiting(deps, request, state, status, now)
        values_read, progress = ValuesRead(request), progress_reports(deps, request, status, report_progress)
        try:
            async with deps.token_locks.acquire(request), progress as reported_status:
                state = await expedite_after_change(deps, request, state, now)
                state, outcome, requeue_at = await _act_if_due(deps.recording(values_read.note), request, state, now)
                await schedule_final_attempt(deps, request, None if requeue_at else state.failure)
        except NamespaceTerminatingError as error:
            _log.info("%s: %s", request.namespaced_name, error)
            reported = await _report_paused(deps, replace(request, is_being_deleted=True), state, status, now)
            return replace(reported, requeue_at=reported.requeue_at or now + DELETION_TIMEOUT)
        return _reconciled(deps, request, values_read.added_to(state), reported_status(), outcome, requeue_at)
    except Exception as error:  # noqa: BLE001 - the status must report a bug, and must not stay Ready after the expiry
        return _after_bug(request, state, status, _as_failure(deps, request, error), now)


async def _report_paused(
    deps: Dependencies, request: Request, state: ReconcileState, status: Status, now: datetime
) -> Reconciled:
    retry_at: datetime | None = None
    try:
        state, _ = await _read_target(deps, request, state, now)
    except (UnavailableError, RefusedError):
        # The Secret may have been deleted, which the status does not report yet.
        retry_at = now + _PAUSED_RETRY
    return _reconciled(deps, request, state, status, _unchanged(state, now), retry_at)


async def _act_if_due(deps: Dependencies, request: Request, state: ReconcileState, now: datetime) -> _Attempt:
    """Read, decide and act. If a step fails, the state still contains the results of the steps before it."""
    requeue_at: datetime | None = None
    try:
        state, target = await _read_target(deps, request, state, now)
        inputs = await _read_inputs(deps, request, target, state)
        state = state.with_inputs(inputs.hash, inputs.fingerprint, inputs.stored)
        match decide(request, target, inputs.fingerprint, state, now, deps.min_interval):
            case Renew(reason):
                started = time.monotonic()
                # The exchange cannot be undone, so everything that can be refused is checked first.
                await _preflight(deps, request, state, target, inputs.stored)
                last, state = state.last, replace(state, exchanged_at=now)
                begun = await _begin(deps, request, state, inputs, now)
                state = state.with_consumed(now, begun.values.source_token) if begun.exchanges else state
                async with AsyncExitStack() as until_written:
                    issuance, data, request_id = await _finish(deps, request, inputs, begun, until_written)
                    # Without the last record, for example after a restart, a missing Secret may never have been issued.
                    state = state.with_unwritten(now, is_repair=reason in REPAIR_REASONS and bool(last or target))
                    await deps.store.write(request, issuance, data)
                state = state.with_written(issuance)
                _count(deps, last, reason, now, started)
                outcome = Outcome(now, issuance, reason, request_id, tried=True)
            case ApplyMetadata(issuance):
                state = replace(state, metadata_applied_at=now)
                await _apply_metadata(deps, request, issuance)
                outcome = Outcome(now, issuance)
            case Wait(requeue_at, failure):
                outcome = Outcome(now, state.issuance, failure=failure, damage=state.damage)
            case Idle(requeue_at, postponed):
                outcome = Outcome(now, state.issuance, damage=state.damage, postponed=postponed)
            case Refuse(error):
                return _failed(deps, request, state, error, now)
    except Exception as error:  # noqa: BLE001 - a bug is reported like a failure
        return _failed(deps, request, state, error, now)
    return replace(state.with_issuance(outcome.issuance), failure=outcome.failure), outcome, requeue_at


async def _apply_metadata(deps: Dependencies, request: Request, issuance: Issuance) -> None:
    # The store reads the whole Secret, whose size is not known before.
    async with deps.memory_limiter.slot(request.namespace):
        await deps.store.apply_metadata(request, issuance)


def _as_failure(deps: Dependencies, request: Request | InvalidRequest, error: Exception) -> KeyturnError:
    if isinstance(error, BeingDeletedError | LeaseLostError):
        raise error
    if isinstance(error, _ExchangeError):
        return error.error
    return error if isinstance(error, KeyturnError) else report_bug(deps.metrics, request.namespaced_name, error)


def _failed(deps: Dependencies, request: Request, state: ReconcileState, problem: Exception, now: datetime) -> _Attempt:
    error, field = _as_failure(deps, request, problem), problem.field if isinstance(problem, _ExchangeError) else ""
    if isinstance(error, ThrottledError) and error.nothing_sent:
        # Keyturn's own limit is not a failure.
        requeue_at = before_expiry(now + min(error.retry_after, _LONGEST_LIMIT_WAIT), state, now)
        return state, _unchanged(state, now), requeue_at
    # The state contains the failure, and the frames of its traceback would keep tokens in memory.
    error.__traceback__ = error.__context__ = error.__cause__ = None
    state, tried = after_failure(request, state, error, now, deps.now(), rand=deps.rand(), field=field)
    if tried:
        # Not the reason of the error itself: a refusal that usually passes is reported as Unavailable at first.
        deps.metrics.renewals.labels("failure", state.failure.error.reason if state.failure else "").inc()
    outcome = Outcome(now, state.issuance, failure=state.failure, tried=tried, damage=state.damage)
    return state, outcome, None


def _waiting(deps: Dependencies, request: Request, state: ReconcileState, status: Status, now: datetime) -> Reconciled:
    requeue_at = now + SHORTEST_PAUSE
    if error := unsaved_token(deps, request):
        after = unsaved(status, request.generation, error, now)
        return Reconciled(state, after, tuple(events(status, after, Outcome(now))), requeue_at)
    return _reconciled(deps, request, state, status, _unchanged(state, now), requeue_at)


def _unchanged(state: ReconcileState, now: datetime) -> Outcome:
    return Outcome(now, state.issuance, failure=state.failure, damage=state.damage)


def _after_bug(
    request: Request | InvalidRequest, state: ReconcileState, status: Status, error: KeyturnError, now: datetime
) -> Reconciled:
    next_attempt_time = now + _PAUSE_AFTER_BUG
    failure = Failure(error, status.failed_attempts + 1, next_attempt_time, request.generation, failed_at=now)
    after = after_bug(status, request.generation, failure, now)
    expiry = read_time(status.expiration_time)
    requeue_at = min(expiry, next_attempt_time) if expiry and expiry > now else next_attempt_time
    recorded = tuple(events(status, after, Outcome(now, failure=failure)))
    return Reconciled(replace(state, failure=failure), after, recorded, requeue_at)


async def _read_target(
    deps: Dependencies, request: Request, state: ReconcileState, now: datetime
) -> tuple[ReconcileState, TargetSecret | None]:
    state, target = state.with_own_clock(await read_and_disown(deps, request), now)
    return state.with_target(request, target), target


async def _read_inputs(
    deps: Dependencies, request: Request, target: TargetSecret | None, state: ReconcileState
) -> _Inputs:
    # What is consumed must be the latest, and after a failure someone may just have corrected it.
    is_shared = request.spec.consumption is None and state.failure is None
    source = await deps.store.read_source(request, shared=is_shared)
    stored, fingerprint = None, source_fingerprint(source, request)
    # The credentials that sign the call are not part of the token family, so they have a fingerprint of their own.
    signer = source_fingerprint(replace(source, token=None), request)
    if request.spec.consumption:
        namespace, name = token_secret_name(request)
        stored = live_token(
            (source.token if source.single_use_credential is None else source.single_use_credential) or "",
            await deps.tokens.read(request),
            lambda token: token_fingerprint(token, namespace, name),
            request.spec.consumption.source_id,
            name,
        )
        fingerprint = stored.family.initial_tokens[-1] if stored.family else fingerprint
    # Not the target's resourceVersion: every edit of the Secret would cause another attempt.
    is_writable = target is not None and target.is_suitable and is_ours(request, target)
    inputs_hash = canonical_hash([request.request_hash, fingerprint, signer, target is None, is_writable])
    return _Inputs(source, stored, fingerprint, inputs_hash)


async def _preflight(
    deps: Dependencies, request: Request, state: ReconcileState, target: TargetSecret | None, stored: StoredToken | None
) -> None:
    """Refuse an attempt that would waste a token, and dry-run the write if a refused write would waste an exchange."""
    check_not_consumed(stored, state.failure)
    check_not_refused(request, stored)
    if stored:
        check_intent(deps, request, stored)
        await check_unused(deps, request, stored)
    consumption = request.spec.consumption
    is_unused = stored is not None and stored.issued_token is None
    is_single_use = consumption is not None and consumption.is_single_use and is_unused
    if target is None or state.unwritten or is_single_use:
        await deps.store.dry_run(request)


async def _begin(deps: Dependencies, request: Request, state: ReconcileState, inputs: _Inputs, now: datetime) -> _Begun:
    """Run the pipeline up to and including the exchange that consumes a token; without one, run nothing."""
    revision = min(state.revision + 1, MAX_REVISION)
    context = IssueContext(inputs.fingerprint, state.last, revision, deps.rand(), now)
    values = initial_values(request, inputs.source, inputs.stored, context)
    steps = request.spec.exchanges
    count = next((number for number, step in enumerate(steps, 1) if _is_consuming(request, inputs, step)), 0)
    return _Begun(context, await _exchange(deps, request, inputs, steps[:count], values), steps[:count])


def _is_consuming(request: Request, inputs: _Inputs, step: StepSpec) -> bool:
    """Whether a step is the exchange that consumes the stored token."""
    consumption = request.spec.consumption
    return inputs.stored is not None and consumption is not None and step.exchange is consumption.exchange


async def _finish(
    deps: Dependencies, request: Request, inputs: _Inputs, begun: _Begun, until_written: AsyncExitStack
) -> tuple[Issuance, dict[str, str], str]:
    """Run the rest of the pipeline; returns the issuance record, the data to write, and AWS's request ID.

    If the data are large, a slot for writing them is held until `until_written` is closed.
    """
    rest = request.spec.exchanges[len(begun.exchanges) :]
    values = await _exchange(deps, request, inputs, rest, begun.values)
    check_lengths(values)
    render = functools.partial(_render, deps, request, functools.partial(issue, request, values, begun.context))
    try:
        issuance, data = await render()
        if sum(map(len, data.values())) > LARGE_BYTES:
            # Dropped during the wait, and rendered again afterwards: all workers may be waiting with such data.
            del issuance, data
            await until_written.enter_async_context(deps.memory_limiter.slot(request.namespace))
            issuance, data = await render()
    except UnknownExpiryError:
        if inputs.stored:
            await record_refusal(deps, request)
        raise
    return issuance, data, values.request_id


async def _render(
    deps: Dependencies, request: Request, issue_now: Callable[[], tuple[Issuance, dict[str, str]]]
) -> tuple[Issuance, dict[str, str]]:
    # Templates can repeat values until they have 1 MiB, which takes up to 20 ms, and an issuer could release the
    # responses to all workers at once.
    has_template = any(it.template for it in request.spec.formats)
    return await deps.compute(request.namespace, issue_now) if has_template else issue_now()


async def _exchange(
    deps: Dependencies, request: Request, inputs: _Inputs, steps: Sequence[StepSpec], values: PipelineValues
) -> PipelineValues:
    """Run a part of the pipeline."""
    for step in steps:
        # Checked before the next exchange, not after the last one: the error must not hide that a token was consumed.
        check_lengths(values)
        try:
            if inputs.stored and _is_consuming(request, inputs, step):
                # A rotated token is saved before the next exchange, which may fail after the old token was consumed.
                values = await consume(deps, request, inputs.stored, step, values)
            else:
                send = await deps.prepare(request, step, values)
                with deps.reserve(request, step):
                    values = await send(Transmission())
        except KeyturnError as failure:
            error = failure
            if isinstance(error, ThrottledError) and error.nothing_sent and step is not request.spec.exchanges[0]:
                # The next attempt repeats the exchanges before this one, too.
                wait = max(error.retry_after, deps.min_interval)
                error = ThrottledError(error.message, retry_after=wait, nothing_sent=True)
            number = next(number for number, it in enumerate(request.spec.exchanges) if it is step)
            raise _ExchangeError(f"spec.exchanges[{number}].{step.name}", error) from None
        # The refresh token is already saved; a later step must not use it.
        values = replace(values, refresh_token=None)
    return values


def _count(deps: Dependencies, last: Issuance | None, reason: str, now: datetime, started: float) -> None:
    deps.metrics.renewals.labels("success", reason).inc()
    deps.metrics.duration.observe(time.monotonic() - started)
    if reason == "Due" and last:
        deps.metrics.lateness.observe((now - last.due).total_seconds())


def _reconciled(
    deps: Dependencies,
    request: Request,
    state: ReconcileState,
    previous: Status,
    outcome: Outcome,
    requeue_at: datetime | None = None,
) -> Reconciled:
    now = deps.now()
    # The attempt may have taken long, and credentials that expired meanwhile are no longer usable.
    outcome = replace(outcome, at=now, started=outcome.at)
    status = report(request, previous, outcome)
    requeue_at = requeue_at or next_reconcile(request, state.issuance, state.failure, now)
    requeue_at = max(requeue_at, now + SHORTEST_PAUSE) if requeue_at else None
    # If a TokenRequest is being deleted, the garbage collector may delete its Secret first, as intended.
    recorded = () if request.is_being_deleted else tuple(events(previous, status, outcome))
    return Reconciled(state, status, recorded, requeue_at)
