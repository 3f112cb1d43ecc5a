"""The values that exchanges read from Secrets and ConfigMaps, such as a client secret.

A renewal reads each of them once, in the exchange that needs it. During the wait after a refusal they are read again,
and a change ends the wait.
"""

import dataclasses
from datetime import datetime

from keyturn.api.source import ValueRef
from keyturn.api.token_request import Request
from keyturn.core.errors import ONLY_NEW_SOURCE_HELPS, RefusedError, ThrottledError, UnavailableError
from keyturn.core.issuance import fingerprint
from keyturn.core.state import ReconcileState
from keyturn.reconcile.dependencies import Dependencies

# Failures with these reasons do not depend on values that exchanges read.
_INDEPENDENT = ONLY_NEW_SOURCE_HELPS | {"TargetConflict", "WriteDenied"}


class ValuesRead:
    """The fingerprints of the values that the exchanges of one attempt read; empty for a value that does not exist."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._fingerprints: dict[ValueRef, str] = {}

    def note(self, ref: ValueRef, value: str) -> None:
        """Record a value that was read, or an empty one if it could not be read."""
        self._fingerprints[ref] = fingerprint(value, self._request) if value else ""

    def added_to(self, state: ReconcileState) -> ReconcileState:
        """Return the state after the attempt. If the attempt failed, the state contains the values that it read."""
        if state.failure is None or not self._fingerprints:
            return state
        return dataclasses.replace(
            state, failure=dataclasses.replace(state.failure, values_read=dict(self._fingerprints))
        )


async def expedite_after_change(
    deps: Dependencies, request: Request, state: ReconcileState, now: datetime
) -> ReconcileState:
    """Move the next attempt forward if a value that the failed attempt read has changed since.

    After a restart it is unknown which values that attempt read, and the current values count as those. The minimum
    interval between exchanges still applies.
    """
    failure = state.failure
    if failure is None or now >= failure.next_attempt_time:
        return state
    if isinstance(failure.error, ThrottledError) or failure.error.reason in _INDEPENDENT:
        return state
    is_restored = failure.inputs is None
    refs = request.spec.exchange_references if is_restored else failure.values_read
    values_read: dict[ValueRef, str] = {}
    for ref in refs:
        try:
            values_read[ref] = fingerprint(await deps.read_value(request.namespace, ref), request)
        except RefusedError:
            values_read[ref] = ""
        except UnavailableError:
            return state
    if not is_restored and values_read != failure.values_read:
        earliest = max(now, state.exchanged_at + deps.min_interval) if state.exchanged_at else now
        failure = dataclasses.replace(failure, next_attempt_time=min(failure.next_attempt_time, earliest))
    return dataclasses.replace(state, failure=dataclasses.replace(failure, values_read=values_read))
