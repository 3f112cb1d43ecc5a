"""Spending a token that the answer may replace: intent, one call, save."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import TypeVar

from msgspec import structs

from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.times import rfc3339, whole
from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError, RefusedError, UnavailableError
from keyturn.core.pipeline_values import PipelineValues, Token, jwt_times
from keyturn.core.token_family import Intent, StoredToken, TokenFamily, token_fingerprint
from keyturn.reconcile.dependencies import Dependencies, token_place

# The whole of a call: 5 s for a free connection, 10 s for the answer (aiohttp rounds up), and some for us.
CONSUME_SECONDS = 18
GIVE_UP_SECONDS = 30
_PAUSES = (0.2, 0.5, 1, 2, 5)
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def consume(
    deps: Dependencies, request: Request, kept: StoredToken, step: StepSpec, values: PipelineValues
) -> PipelineValues:
    """Exchange the token of `kept`, and save what the answer replaced it by before anything else happens.

    Sends no token that is known to be spent. Where another may have spent it and died, it waits until that
    one's intent has been watched for its whole time, tries once, carefully, and then never again.
    """
    consumption = request.spec.consumption
    once = consumption is not None and consumption.is_single_use
    proof = kept.value if once and kept.answered is None else None
    values = replace(values, proof=proof, refresh_token=kept.answered if once else None)
    intended = await _intend(deps, request, kept)
    # Not even our own end may come between reading the answer and the save.
    return await _to_the_end(_exchange_and_save(deps, request, step, values, intended))


async def _intend(deps: Dependencies, request: Request, kept: StoredToken) -> StoredToken:
    """Write down that we are about to spend the token, once a rehearsal has shown that the save will work."""
    family = _lineage(kept)
    final_attempt = _is_outcome_unknown(deps, request, family)
    deps.check_lease(CONSUME_SECONDS)
    intent = Intent(
        holder=deps.holder,
        consumes=family.live,
        start=whole(deps.now()),
        give_up_seconds=GIVE_UP_SECONDS,
        final_attempt=final_attempt,
    )
    wanted = replace(kept, family=family.intended(intent))
    if not kept.uid:
        # First without an intent: the rehearsal of what must be possible afterwards needs something to patch.
        made = await deps.tokens.create(request, kept)
        wanted = replace(wanted, uid=made.uid, version=made.version)
    await deps.tokens.keep(request, wanted, dry_run=True)
    return await deps.tokens.keep(request, wanted)


def _is_outcome_unknown(deps: Dependencies, request: Request, family: TokenFamily) -> bool:
    """Whether a dead process may have consumed the live token; raises RefreshOutcomeUnknown until sure."""
    intent = family.intent
    if intent is None or intent.consumes != family.live:
        return False
    if intent.final_attempt:
        raise _given_up()
    if deps.token_locks.watched(request, intent) < intent.give_up_seconds:
        raise UnavailableError(
            "RefreshOutcomeUnknown",
            f"{intent.holder} began to spend the token at {rfc3339(intent.start)} and saved no new one",
            outcome_unknown=True,
        )
    return True


async def _exchange_and_save(
    deps: Dependencies, request: Request, step: StepSpec, values: PipelineValues, intended: StoredToken
) -> PipelineValues:
    try:
        # Again: the writes before may have taken long, and the Lease may be another's by now.
        deps.check_lease(CONSUME_SECONDS)
        given = await _in_time(deps.exchange(request, step, values))
    except KeyturnError as error:
        raise await _after_failure(deps, request, _refused(step, values, intended, error), error) from None
    # Where the issuer answers none, a refresh token lives on, and what works once is used up.
    token = given.refresh_token or ("" if values.proof else intended.value)
    await _until_it_holds(deps, request, _saved(request, intended, token))
    deps.metrics.rotations.labels("rotated" if token != intended.value else "kept").inc()
    if given.access_token is None and "token" in step.exchange.PRODUCES:
        raise UnavailableError("Unavailable", "the issuer answered a new refresh token and no access token")
    # When the source ends is told of the token that is kept now, and that decides when it must be renewed.
    kept = Token(token, jwt_times(token)[1]) if token else given.source_token
    return replace(given, proof=None, ends=not token, source_token=kept)


def _saved(request: Request, intended: StoredToken, token: str) -> StoredToken:
    """What is kept after the answer: its refresh token, or nothing to go on with."""
    family = _lineage(intended).rotated(token_fingerprint(token, *token_place(request)) if token else "")
    previous = intended.value if token != intended.value else intended.previous
    return replace(intended, value=token, previous=previous, family=family)


def _refused(step: StepSpec, values: PipelineValues, intended: StoredToken, error: KeyturnError) -> StoredToken:
    """What is kept after a refusal: what works only once, and was refused itself, is not sent again."""
    # STS calls a wrong MFA code AccessDenied.
    of_proof = _is_of_token(error) or ("token" not in step.exchange.PRODUCES and error.reason == "AccessDenied")
    if values.proof is None or not of_proof or _is_final_attempt(intended):
        return intended
    family = structs.replace(_lineage(intended).rotated(""), intent=_lineage(intended).intent)
    return replace(intended, value="", previous=intended.value, family=family)


def _is_of_token(error: KeyturnError) -> bool:
    """Whether what was sent is refused itself, or may be."""
    return error.reason == "SourceInvalid" or (isinstance(error, RefusedError) and error.may_concern_token)


def _is_final_attempt(kept: StoredToken) -> bool:
    intent = _lineage(kept).intent
    return intent is not None and intent.final_attempt


async def _in_time(exchange: Awaitable[PipelineValues]) -> PipelineValues:
    """End a call before anybody else may take the token for abandoned."""
    try:
        async with asyncio.timeout(CONSUME_SECONDS):
            return await exchange
    except TimeoutError:
        raise UnavailableError("Unreachable", "the issuer took too long", outcome_unknown=True) from None


async def _until_it_holds(deps: Dependencies, request: Request, saved: StoredToken) -> None:
    for attempt in itertools.count():
        try:
            await deps.tokens.save(request, saved)
        except KeyturnError as error:
            name = "/".join(token_place(request))
            _log.error("the new token of %s is not saved yet: %s", name, error)
            deps.metrics.rotations.labels("unsaved").inc()
            await deps.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
        else:
            return


async def _after_failure(
    deps: Dependencies, request: Request, intended: StoredToken, error: KeyturnError
) -> KeyturnError:
    """Take the intent back if the token is certainly not spent; else leave it, and say what that means."""
    family, final_attempt = _lineage(intended), _is_final_attempt(intended)
    outcome_unknown = isinstance(error, UnavailableError) and error.outcome_unknown
    if outcome_unknown or (final_attempt and _is_of_token(error)):
        deps.metrics.rotations.labels("outcome_unknown").inc()
        if family.intent and not final_attempt:
            deps.token_locks.watched(request, family.intent)
        return (
            _given_up()
            if final_attempt
            else UnavailableError("RefreshOutcomeUnknown", error.message, outcome_unknown=True)
        )
    before = structs.replace(family.intent, final_attempt=False) if final_attempt and family.intent else None
    try:
        await deps.tokens.keep(request, replace(intended, family=family.intended(before)))
    except KeyturnError as failed:
        # The intent stays: the worst that follows is a doubt where there need be none.
        _log.warning("an intent was not taken back: %s", failed)
    return error


def _given_up() -> RefusedError:
    return RefusedError(
        "RefreshOutcomeUnknown",
        "the token was sent and no answer was read, and one careful try did not help: it may be spent; sign in "
        "again and put the new token in the source",
    )


def _lineage(kept: StoredToken) -> TokenFamily:
    if kept.family is None:
        raise AssertionError("core.lineage.live_token refuses a token Secret without lineage")
    return kept.family


async def _to_the_end(work: Awaitable[_T]) -> _T:
    """Run something to its end even if we are cancelled; then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
