"""What follows a look: when the next one is, what is exported, and what is told of a bug."""

import traceback
from datetime import datetime, timedelta
from pathlib import Path

from keyturn.api.status import Status
from keyturn.api.token_request import Request
from keyturn.core.renewal import next_reconcile
from keyturn.metrics import Series
from keyturn.reconcile.state import ReconcileState

LEAST_PAUSE = timedelta(seconds=1)
AFTER_A_BUG = timedelta(minutes=5)


def next_time(request: Request, state: ReconcileState, now: datetime) -> datetime:
    """When to look at the request again: in a second at the earliest, and never where nothing is due."""
    moment = state.not_before or next_reconcile(request, state.issuance, state.failure, now)
    if state.not_before and state.issuance and now < state.issuance.expires:
        moment = min(state.not_before, state.issuance.expires)
    return max(moment, now + LEAST_PAUSE) if moment else datetime.max.replace(tzinfo=now.tzinfo)


def series(request: Request, status: Status, state: ReconcileState) -> Series:
    """What is exported of a request."""
    issuance = state.issuance
    return Series(
        namespace=request.namespace,
        name=request.name,
        issued=issuance.issued if issuance else None,
        renews=issuance.renew if issuance and not issuance.once else None,
        expires=issuance.expires if issuance else None,
        source_expires=issuance.source_expires if issuance else None,
        source_warns=issuance.source_warns if issuance else None,
        conditions=conditions(status),
        failed_attempts=status.failed_attempts,
        suspended=bool(request.spec.suspend),
    )


def conditions(status: Status) -> tuple[tuple[str, str], ...]:
    """What is exported of conditions: their types and what they are."""
    return tuple((condition.type, condition.status) for condition in status.conditions)


def where(error: Exception) -> str:
    """Tell a bug's type and place. Its message stays out: nobody can say which value is in it."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{type(error).__name__} in " + " < ".join(
        f"{f.name} {Path(f.filename).name}:{f.lineno}" for f in frames[::-1]
    )
