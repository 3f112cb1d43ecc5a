"""What is remembered of a request from one reconciliation to the next."""

from dataclasses import dataclass, replace
from datetime import datetime

from keyturn.api.token_request import Request
from keyturn.core.errors import KeyturnError
from keyturn.core.issuance import Issuance, TargetSecret, is_ours


@dataclass(frozen=True, slots=True)
class Failure:
    """The last attempt failed: why, how often in a row, when the next attempt is, and what would bring it forward.

    `inputs` is the hash of the spec, source and target that the attempt failed with; None after a restart. `failed_at`
    is when it failed: if the clock shows an earlier time, it was set back, and `next_attempt_time` no longer counts.
    """

    error: KeyturnError
    failed_attempts: int
    next_attempt_time: datetime
    generation: int
    handled_renew_request: str = ""
    inputs: str | None = None
    failed_at: datetime | None = None

    def is_repeated_by(self, error: KeyturnError, now: datetime) -> bool:
        """Whether `error` is the known failure again, before the time of the next attempt."""
        return self.error.message == error.message and self._is_pending(now)

    def holds_back(self, request: Request, inputs: str, now: datetime) -> bool:
        """Whether it is too early for the next attempt: its time has not come, and nothing has changed."""
        is_renewal_requested = request.renew_requested not in ("", self.handled_renew_request)
        has_changed = request.generation != self.generation or self.inputs not in (None, inputs)
        return self._is_pending(now) and not is_renewal_requested and not has_changed

    def _is_pending(self, now: datetime) -> bool:
        return (self.failed_at is None or self.failed_at <= now) and now < self.next_attempt_time


@dataclass(frozen=True, slots=True)
class ReconcileState:
    """The state of a request between two reconciliations. Losing it costs a delay, never an exchange.

    `issuance` is the issuance record on the target now, `last` the one of the last issue, wherever it was written, and
    `revision` its number. `repairs` counts the repairs in a row. `exchanged_at` is when an attempt last reached the
    exchanges, `metadata_applied_at` when metadata was last applied. `inputs` is the hash of the spec, source and target
    that were last read. `unwritten`: the credentials of the last exchange could not be written.
    """

    issuance: Issuance | None = None
    last: Issuance | None = None
    revision: int = 0
    failure: Failure | None = None
    repairs: int = 0
    exchanged_at: datetime | None = None
    metadata_applied_at: datetime | None = None
    inputs: str = ""
    unwritten: bool = False

    def with_target(self, request: Request, target: TargetSecret | None) -> "ReconcileState":
        """Return the state with the issuance record of a target that was read."""
        return self.with_issuance(target.issuance if target and is_ours(request, target) else None)

    def with_issuance(self, issuance: Issuance | None) -> "ReconcileState":
        """Return the state with the issuance record that is on the target now."""
        if issuance is None:
            return replace(self, issuance=None)
        return replace(self, issuance=issuance, last=issuance, revision=issuance.revision)
