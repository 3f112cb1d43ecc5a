"""The final attempt: when a token may be sent again whose last use had an unknown outcome."""

import logging
from dataclasses import replace
from datetime import datetime, timedelta

from msgspec import structs

from keyturn.api.times import rfc3339
from keyturn.api.token_request import Request
from keyturn.core.errors import RefusedError, UnavailableError, safe_message
from keyturn.core.renewal_time import LONGEST_RETRY_AFTER
from keyturn.core.state import Failure
from keyturn.core.token_family import Intent, StoredToken, require_family
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.token_locks import token_secret_name

# After this time, no other process is still making its final attempt, even if the clocks differ.
_LONGEST_FINAL_ATTEMPT = timedelta(minutes=5)
# A final attempt that is further in the future was postponed while the clock was ahead.
_LONGEST_POSTPONEMENT = LONGEST_RETRY_AFTER + timedelta(minutes=5)
_log = logging.getLogger(__name__)


def check_intent(deps: Dependencies, request: Request, stored: StoredToken) -> bool:
    """Return whether the next use of the token is the final attempt: the outcome of the last use is unknown.

    Raises UnavailableError until that attempt may be made, RefusedError after it.
    """
    family = require_family(stored)
    intent = family.intent
    seconds_observed = deps.token_locks.observe(token_secret_name(request), intent)
    if intent is None or intent.consumes != family.live:
        return False
    is_over, is_own, now = seconds_observed >= intent.give_up_seconds, intent.holder == deps.holder, deps.now()
    # An operator that lost the Lease may still be making it.
    if intent.final_attempt and (is_over or is_own or now - intent.start >= _LONGEST_FINAL_ATTEMPT):
        raise final_attempt_failed()
    if (moment := intent.final_attempt_after) and moment <= now + _LONGEST_POSTPONEMENT:
        if now < moment:
            problem = f"{_sent(intent)}; the final attempt is made at {rfc3339(moment)}"
            raise UnavailableError("RefreshOutcomeUnknown", problem, outcome_unknown=True, final_attempt_after=moment)
        return True
    if is_own:
        raise UnavailableError("RefreshOutcomeUnknown", _sent(intent), outcome_unknown=True)
    if not is_over:
        purpose = "" if intent.final_attempt else " before one retry"
        raise UnavailableError(
            "RefreshOutcomeUnknown",
            f"{intent.holder} started using the token at {rfc3339(intent.start)} and has not stored a replacement;"
            f" waiting {intent.give_up_seconds} s{purpose}",
        )
    return True


async def schedule_final_attempt(deps: Dependencies, request: Request, failure: Failure | None) -> None:
    """Write the time of the next attempt into the intent, if no response was received to the token.

    All requests for the token, and all processes, wait until then. If the credentials of one of them expire sooner, the
    time becomes earlier. If the write fails, the next reconciliation repeats it. `failure` is None if this one only
    waited: an earlier failure may concern the token of another source.
    """
    error = failure.error if failure else None
    is_sent = isinstance(error, UnavailableError) and error.reason == "RefreshOutcomeUnknown" and error.outcome_unknown
    if failure is None or not is_sent:
        return
    try:
        stored, moment = await deps.tokens.read(request), failure.next_attempt_time
        family = stored.family if stored else None
        if stored and family and family.intent and _should_write(deps, family.intent, moment):
            intent = structs.replace(family.intent, final_attempt_after=moment)
            # Like a withdrawal, it is useful even if the Lease is lost: the next leader then waits, too.
            await deps.tokens.withdraw(request, replace(stored, family=family.with_intent(intent)))
    except Exception as problem:  # noqa: BLE001 - the caller reports the failure that led here
        name = "/".join(token_secret_name(request))
        _log.warning("the time of the final attempt is not in Secret %s yet: %s", name, safe_message(problem))


def _should_write(deps: Dependencies, intent: Intent, moment: datetime) -> bool:
    """Whether the intent has no time of the final attempt yet, or one after `moment`.

    Another operator may have started its final attempt meanwhile, and its intent must not change.
    """
    if intent.final_attempt_after is None:
        return intent.holder == deps.holder
    return moment < intent.final_attempt_after


def final_attempt_failed() -> RefusedError:
    """Return the error after a final attempt: a person must sign in again."""
    return RefusedError(
        "RefreshOutcomeUnknown",
        "the refresh token was sent but no response was received, and the single retry failed; it may already be"
        " consumed. Sign in again (kubectl keyturn login), or store a new token in the source Secret",
    )


def _sent(intent: Intent) -> str:
    return f"a use of the token started at {rfc3339(intent.start)}, and no response was received"
