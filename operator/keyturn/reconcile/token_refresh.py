"""Consuming a token that the issuer may replace: write the intent, make one call, save the new token."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta

from keyturn.api.base import NamespacedName
from keyturn.api.exchanges.registry import StepSpec
from keyturn.api.times import whole_seconds
from keyturn.api.token_request import Request
from keyturn.core.errors import (
    BeingDeletedError,
    KeyturnError,
    RefusedError,
    StorageGoneError,
    ThrottledError,
    UnavailableError,
    safe_message,
)
from keyturn.core.issuance import recordable
from keyturn.core.pipeline_values import PipelineValues, Token
from keyturn.core.renewal_time import INTENT_SECONDS
from keyturn.core.token_family import Intent, StoredToken, TokenFamily, require_family, token_fingerprint
from keyturn.exchanges.transmission import AbandonedError, Send, Transmission
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.final_attempt import check_intent, final_attempt_failed
from keyturn.reconcile.token_locks import token_secret_name

# The time limits for the call, and for sending the token: an issuer has 10 s from the start of the call (aiohttp rounds
# up), AWS has 7 s from when the token is sent. A new token that is received after the end of the call is lost.
CONSUME_SECONDS, BEGIN_SECONDS = 18, 10
# An alert reports a new token that is not saved after this time.
UNSAVED_SECONDS = 300
# Between the attempts to store what happened to a token. After a refusal a person must act, and many tokens may be
# waiting for that.
_SHORTEST_PAUSE, _LONGEST_PAUSE, _LONGEST_AFTER_REFUSAL = 0.2, 5.0, 15.0
# While many tokens of a namespace cannot be saved, no other one is exchanged there.
_UNSAVED_PAUSE = timedelta(seconds=15)
_IN_USE_PAUSE = timedelta(seconds=1)
# How many token Secrets are read to check a token. A namespace may have dozens of sources, but anyone may create more.
_MAX_TOKEN_SECRETS = 100
_log = logging.getLogger(__name__)


async def consume(
    deps: Dependencies, request: Request, stored: StoredToken, step: StepSpec, values: PipelineValues
) -> PipelineValues:
    """Exchange a stored token, and save its replacement before anything else happens.

    A token that is known to be consumed is never sent. If a process died after writing an intent, the token may already
    be consumed: once the intent has been observed unchanged for its full duration, the token is sent one last time.
    """
    if deps.pending_tokens.has_many_unsaved(request.namespace):
        message = "other new tokens in this namespace cannot be saved"
        raise ThrottledError(message, retry_after=_UNSAVED_PAUSE, nothing_sent=True)
    consumption = request.spec.consumption
    is_single_use = consumption is not None and consumption.is_single_use
    values = replace(
        values,
        single_use_credential=stored.value if is_single_use and stored.issued_token is None else None,
        refresh_token=stored.issued_token if is_single_use else None,
        refresh_expires_at=None,
    )
    use = _Use(step, values, stored, is_final_attempt=check_intent(deps, request, stored))
    # Everything that can fail before the issuer is called must fail here: an intent means that the token may be sent.
    work = _exchange_and_save(deps, request, use, await deps.prepare(request, step, values))
    # From here on, a shutdown must not interrupt the task between the response and the save.
    values = await deps.pending_tokens.complete(_name(request), work)
    # If many saves failed and succeed together, not all of them may continue at the same time.
    await deps.regain_worker(request.uid)
    return values


async def check_unused(deps: Dependencies, request: Request, stored: StoredToken) -> None:
    """Raise RefusedError (TargetConflict) if the token in the source belongs to another token Secret.

    This is the case if source.token.saveTo was changed, or the source was renamed, after the issuer had replaced the
    token, or if somebody copied the newest token from a token Secret into a source. The process knows the token Secrets
    that it has used and those that the watch shows. It searches once for the others, which an earlier process may have
    used. Raises ThrottledError while the token is being used, UnavailableError while the result is unknown.
    """
    consumption, locks = request.spec.consumption, deps.token_locks
    if consumption is None or stored.issued_token is not None or stored.is_consumed:
        return
    (namespace, own), ours = token_secret_name(request), consumption.source_id
    # Two issuers may accept the same assertion, but a refresh token belongs to one of them. An issuer that accepted it
    # without replacing it allows it in several sources.
    of_any_source = require_family(stored).is_new and not consumption.is_single_use
    if of_any_source and not locks.claim(request, stored.value):
        raise _in_use("for another source")
    await _refuse_token_secret(deps, request, consumption.ref.name)
    source_ids = locks.source_ids(namespace)
    names = [name for name, other in source_ids.items() if name != own and (of_any_source or other == ours)]
    names = sorted(names, key=lambda name: source_ids[name] != ours)[:_MAX_TOKEN_SECRETS]
    families = {name: await deps.tokens.read_family(request, name) for name in names}
    if (namespace, ours) not in locks.searched:
        families |= await deps.tokens.find_families(request)
    for name, family in families.items():
        if family is None or not (of_any_source or family.source_id == ours):
            continue
        if family.is_exclusive(fingerprint := token_fingerprint(stored.value, namespace, name)):
            raise _used_elsewhere(deps, (namespace, name), family, fingerprint, ours)
    locks.searched.put((namespace, ours), None)


async def _refuse_token_secret(deps: Dependencies, request: Request, source: str) -> None:
    if source not in deps.token_locks.source_ids(request.namespace):
        return
    # Without the watch, its deletion is unknown.
    if family := await deps.tokens.read_family(request, source):
        owner = family.source_id.partition(" ")[0]
        raise RefusedError("TargetConflict", f"Secret {source} is the token Secret of source {owner}: use that source")


def _in_use(how: str) -> ThrottledError:
    return ThrottledError(f"the token in the source is being used {how}", retry_after=_IN_USE_PAUSE, nothing_sent=True)


def _used_elsewhere(
    deps: Dependencies, name: NamespacedName, family: TokenFamily, fingerprint: str, source_id: str
) -> KeyturnError:
    """Return the error for a token that another token Secret contains, has contained or is being used with.

    As long as the result of that use is unknown, it is not RefusedError: an issuer that does not replace the token
    allows it in several sources.
    """
    secret, intent, is_known = name[1], family.intent, True
    problem = f"was already used, and Secret {secret} contains the newest one"
    if fingerprint == family.live:
        problem = f"is also in Secret {secret}, and two token Secrets must not share it"
    if intent and intent.consumes == fingerprint:
        # Longer than the final attempt takes, if the other request makes one.
        if deps.token_locks.observe(name, intent) < 2 * intent.give_up_seconds:
            return _in_use(f"with Secret {secret}")
        if not intent.final_attempt:
            problem, is_known = f"may have been sent with Secret {secret}, and the result is not known yet", False
    source = family.source_id.partition(" ")[0]
    is_same = source == source_id.partition(" ")[0]
    advice = f"set source.token.saveTo.secretName to {secret}" if is_same else f"use source {source}"
    message = f"the token in the source {problem}: {advice}, or sign in again (kubectl keyturn login)"
    return RefusedError("TargetConflict", message) if is_known else UnavailableError("Unavailable", message)


@dataclass(frozen=True, slots=True)
class _Use:
    """The exchange that consumes a token, its values, the token, and whether this is the single retry."""

    step: StepSpec
    values: PipelineValues
    stored: StoredToken
    is_final_attempt: bool


async def _exchange_and_save(deps: Dependencies, request: Request, use: _Use, send: Send) -> PipelineValues:
    transmission = Transmission()
    with ExitStack() as reservation:
        # Reserved before the intent, so that no intent is withdrawn if the issuer is busy.
        reservation.enter_context(deps.reserve(request, use.step))
        reservation.callback(deps.token_locks.end_claim, request)
        intended = await _prepare_intent(deps, request, use)
        try:
            intended = await deps.tokens.update(request, intended)
            # The limit begins before the second check, which is needed because the writes above may have been slow.
            transmission.limit(BEGIN_SECONDS)
            deps.check_lease(CONSUME_SECONDS)
            try:
                # The call must end before another process is allowed to assume that this one has died.
                async with asyncio.timeout(CONSUME_SECONDS):
                    response = await send(transmission)
            except (TimeoutError, AbandonedError):
                is_sent = transmission.abandon()
                raise UnavailableError("Unreachable", "the issuer timed out", outcome_unknown=is_sent) from None
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # Released, because the withdrawal may take forever, like the save below.
            reservation.close()
            is_sent = transmission.abandon()
            raise await _settle_intent(deps, request, use, intended, error, is_sent=is_sent) from None
    del send  # It contains the issuer's CA certificates.
    # An issuer that does not rotate refresh tokens omits the field; the old token stays valid (RFC 6749 section 6). A
    # single-use credential is consumed.
    token = response.refresh_token or ("" if use.values.single_use_credential else intended.value)
    expires_at = use.stored.expiry_after_use(token, recordable(response.refresh_expires_at), deps.now())
    family = require_family(intended).rotated(token and _fingerprint(request, token), expires_at)
    previous = intended.value if token != intended.value else intended.previous
    await _save(deps, request, replace(intended, value=token, previous=previous, family=family))
    deps.token_locks.observe(token_secret_name(request), None)
    deps.metrics.rotations.labels("rotated" if token != intended.value else "kept").inc()
    if response.error or (response.access_token is None and "token" in use.step.exchange.PRODUCES):
        raise response.error or UnavailableError("Unavailable", "the issuer returned no access token")
    # The renewal time depends on the expiry of the token that is stored now.
    source_token = Token(token, expires_at) if token else response.source_token
    return replace(response, single_use_credential=None, renewable=bool(token), source_token=source_token)


async def _prepare_intent(deps: Dependencies, request: Request, use: _Use) -> StoredToken:
    """Return the stored token with the intent to consume it, after a dry run has shown that it can be replaced."""
    stored, family = use.stored, require_family(use.stored)
    deps.check_lease(CONSUME_SECONDS)
    intent = Intent(
        holder=deps.holder,
        consumes=family.live,
        start=whole_seconds(deps.now()),
        give_up_seconds=INTENT_SECONDS,
        final_attempt=use.is_final_attempt,
    )
    intended = replace(stored, family=family.with_intent(intent))
    deps.token_locks.observe_family(*token_secret_name(request), family)
    if not stored.uid:
        # Created without the intent, so that the dry run tests a patch, the same request that the save will make.
        created = await deps.tokens.create(request, stored)
        intended = replace(intended, uid=created.uid, version=created.version)
    await deps.tokens.update(request, intended, dry_run=True)
    return intended


async def _settle_intent(
    deps: Dependencies, request: Request, use: _Use, intended: StoredToken, error: BaseException, *, is_sent: bool
) -> BaseException:
    """Withdraw the intent if it is certain that nothing was consumed, and return the error to raise.

    A single-use credential that was itself refused is recorded as consumed, so that it is not sent again.
    """
    reason = error.reason if isinstance(error, KeyturnError) else ""
    concerns_token = reason == "SourceInvalid" or (isinstance(error, RefusedError) and error.may_concern_token)
    # After a bug or a cancellation, nothing is known about what was sent.
    outcome_unknown = not reason or (isinstance(error, UnavailableError) and error.outcome_unknown)
    if is_sent and (outcome_unknown or (use.is_final_attempt and concerns_token)):
        deps.token_locks.observe(token_secret_name(request), require_family(intended).intent)
        if not isinstance(error, KeyturnError):
            return error
        deps.metrics.rotations.labels("outcome_unknown").inc()
        if use.is_final_attempt:
            return final_attempt_failed()
        return UnavailableError("RefreshOutcomeUnknown", error.message, outcome_unknown=True)
    # STS reports a wrong MFA code as AccessDenied.
    is_refused = concerns_token or ("token" not in use.step.exchange.PRODUCES and reason == "AccessDenied")
    is_consumed = is_refused and is_sent and not use.is_final_attempt and use.values.single_use_credential is not None
    await _withdraw_intent(deps, request, use, intended, is_consumed=is_consumed)
    return error


async def _withdraw_intent(
    deps: Dependencies, request: Request, use: _Use, intended: StoredToken, *, is_consumed: bool
) -> None:
    """Restore the intent that the token Secret contained before, or record a single-use credential as consumed.

    If that fails, the result is an unnecessary wait. Only the intent of a final attempt is withdrawn like a token is
    saved: otherwise the attempt would count as made, and a person would have to sign in although the token is valid.
    """
    name, intent = _name(request), require_family(intended).intent

    async def withdraw() -> None:
        current = await deps.tokens.read(request)
        if current and current.family and current.family.intent == intent:
            family = current.family.with_intent(require_family(use.stored).intent)
            if is_consumed:
                current, family = replace(current, value="", previous=current.value), family.rotated("")
            await deps.tokens.withdraw(request, replace(current, family=family))

    def note_failure(error: BaseException) -> None:
        _log.warning("the intent in Secret %s is not withdrawn yet: %s", name, safe_message(error))
        deps.pending_tokens.note_failed_save(name)

    try:
        await (_retry(deps, request, withdraw, note_failure) if use.is_final_attempt else withdraw())
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the caller raises the error that led here
        _log.warning("the intent in Secret %s was not withdrawn: %s", name, safe_message(error))


async def _save(deps: Dependencies, request: Request, stored: StoredToken) -> None:
    """Save a token; retry until it succeeds. Raises BeingDeletedError or StorageGoneError if there is no place left."""
    name, save, is_late = _name(request), deps.tokens.prepare_save(request, stored), False

    def count() -> None:
        nonlocal is_late
        is_late = True
        deps.metrics.rotations.labels("unsaved").inc()
        deps.metrics.unsaved_tokens.inc()

    def note_failure(error: BaseException) -> None:
        _log.error("the new token of Secret %s is not saved yet: %s", name, safe_message(error))
        why = safe_message(error) if is_late or isinstance(error, RefusedError) else ""
        deps.pending_tokens.note_failed_save(name, why)

    # A timer, because a single attempt may hang.
    alert = asyncio.get_running_loop().call_later(UNSAVED_SECONDS, count)
    try:
        await _retry(deps, request, save, note_failure)
    except (BeingDeletedError, StorageGoneError) as error:
        _log.error("the new token of Secret %s is lost: %s", name, error)
        raise
    finally:
        alert.cancel()
        deps.metrics.unsaved_tokens.dec(is_late)


async def _retry(
    deps: Dependencies,
    request: Request,
    write: Callable[[], Awaitable[object]],
    note_failure: Callable[[BaseException], None],
) -> None:
    """Repeat a write until it succeeds, whatever it raises, even if this task is cancelled.

    Raises BeingDeletedError or StorageGoneError if there is no place left. `note_failure` receives each other error.
    """
    pause = 0.0
    while True:
        try:
            if pause:
                await deps.sleep(pause)
            await write()
        except (BeingDeletedError, StorageGoneError):
            raise
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - what happened is recorded nowhere else
            note_failure(error)
            # Anyone who may write the Secret can make each write fail, and could occupy all workers.
            deps.free_worker(request.uid)
            longest = _LONGEST_AFTER_REFUSAL if isinstance(error, RefusedError) else _LONGEST_PAUSE
            pause = min(max(_SHORTEST_PAUSE, pause * 2), longest)
        else:
            return


def _name(request: Request) -> str:
    return "/".join(token_secret_name(request))


def _fingerprint(request: Request, token: str) -> str:
    return token_fingerprint(token, *token_secret_name(request))
