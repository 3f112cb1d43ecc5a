"""The state of a request between reconciliations, and its last failure."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keyturn.api.source import ValueRef
from keyturn.api.token_request import Request
from keyturn.core.errors import CLOCK_REASONS, KeyturnError, UnavailableError
from keyturn.core.issuance import Issuance, TargetSecret, is_earlier, is_ours, is_unchanged, moved
from keyturn.core.pipeline_values import Token
from keyturn.core.token_family import StoredToken

# A series of repairs has six in its first half hour, and then one every half hour. If a new series can start only after
# three hours without a repair, there are on average no more than two in an hour.
_REPAIRS_END = timedelta(hours=3)
# Nodes have slightly different clocks, and the leader may change.
_CLOCK_TOLERANCE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt: the error, the number of failures in a row, and the time of the next attempt.

    `inputs` is the hash of the spec, source and target at that attempt, None after a restart; if they change, the next
    attempt is made at once. If the clock shows a time before `failed_at`, it was set back, and `next_attempt_time` no
    longer counts. `values_read` are the fingerprints of the values that the exchanges of that attempt have read from
    Secrets and ConfigMaps, `transient_since` is the first of the last failures in a row that usually pass. `field` is
    the path of the exchange that failed, empty if none did.
    """

    error: KeyturnError
    failed_attempts: int
    next_attempt_time: datetime
    generation: int
    handled_renew_request: str = ""
    inputs: str | None = None
    failed_at: datetime | None = None
    values_read: Mapping[ValueRef, str] = dataclasses.field(default_factory=dict)
    transient_since: datetime | None = None
    field: str = ""

    def is_repeated_by(self, error: KeyturnError, now: datetime) -> bool:
        """Whether `error` is the same failure again, before the time of the next attempt."""
        moment = error.final_attempt_after if isinstance(error, UnavailableError) else None
        is_same = self.error.message == error.message or moment == self.next_attempt_time
        return is_same and self._is_pending(now)

    def should_wait(self, request: Request, inputs: str, now: datetime) -> bool:
        """Whether to wait: the time of the next attempt is in the future, and nothing has changed."""
        is_renewal_requested = request.renew_requested not in ("", self.handled_renew_request)
        has_changed = request.generation != self.generation or self.inputs not in (None, inputs)
        return self._is_pending(now) and not is_renewal_requested and not has_changed

    def _is_pending(self, now: datetime) -> bool:
        return (self.failed_at is None or self.failed_at <= now) and now < self.next_attempt_time


@dataclass(frozen=True, slots=True)
class ReconcileState:
    """The state of a request between two reconciliations. Losing it costs a delay, never an exchange.

    `issuance` is the issuance record on the target now, `last` that of the last issuance, wherever it was written, and
    `revision` its number. `repairs` counts the repairs in a row, and `repaired_at` is when the last one was.
    `exchanged_at` is when an attempt last reached the exchanges, `consumed_at` when one last consumed a token,
    `metadata_applied_at` when metadata was last applied. `source` is the fingerprint of the source that was last read,
    and `inputs` the hash of the spec, source and target. `token_expires_at` is when the live refresh token expires, if
    that is known. `unwritten`: the credentials of the last exchange could not be written. `damage` is the reason to
    repair the target as it was last read, empty if it is intact. `unverified` is the record on the target if it is not
    verified: only the order of renewals depends on it. `clock_lead` is set if the record on the target was written
    while the clock was ahead: the issue time in the record, and by how much that clock was ahead of the current one.
    """

    issuance: Issuance | None = None
    last: Issuance | None = None
    revision: int = 0
    failure: Failure | None = None
    repairs: int = 0
    repaired_at: datetime | None = None
    exchanged_at: datetime | None = None
    consumed_at: datetime | None = None
    metadata_applied_at: datetime | None = None
    source: str = ""
    inputs: str = ""
    token_expires_at: datetime | None = None
    unwritten: bool = False
    damage: str = ""
    unverified: Issuance | None = None
    clock_lead: tuple[datetime, timedelta] | None = None

    def with_target(self, request: Request, target: TargetSecret | None) -> "ReconcileState":
        """Return the state with the issuance record and the damage of a target that was read."""
        ours = target if target and is_ours(request, target) else None
        state = self.with_issuance(ours.issuance if ours else None)
        return replace(state, damage=_damage(request, target), unverified=ours.unverified if ours else None)

    def with_issuance(self, issuance: Issuance | None) -> "ReconcileState":
        """Return the state with the verified record that is on the target now; `last` is never an earlier one."""
        if issuance is None:
            return replace(self, issuance=None)
        if self.last and is_earlier(issuance, self.last):
            return replace(self, issuance=issuance, unverified=None)
        return replace(self, issuance=issuance, last=issuance, revision=issuance.revision, unverified=None)

    def with_inputs(self, inputs: str, source: str, stored: StoredToken | None) -> "ReconcileState":
        """Return the state after the source, and the stored token if there is one, were read."""
        return replace(self, inputs=inputs, source=source, token_expires_at=stored.expires_at if stored else None)

    def with_consumed(self, now: datetime, replacement: Token | None) -> "ReconcileState":
        """Return the state after a token was consumed, and the one that replaced it was saved."""
        return replace(self, consumed_at=now, token_expires_at=replacement.expires_at if replacement else None)

    def with_unwritten(self, now: datetime, *, is_repair: bool) -> "ReconcileState":
        """Return the state after new credentials were issued, and before they are written to the target.

        If the write fails, the next attempt starts with a dry run, and the repair counts nevertheless: anyone who may
        damage the Secret can also make the write fail. A renewal ends a series of repairs only after hours without one.
        Otherwise a client that damages the Secret after each renewal would cause several exchanges each time.
        """
        if is_repair:
            return replace(self, unwritten=True, repairs=self.repairs + 1, repaired_at=now)
        is_in_series = self.repaired_at is not None and timedelta() <= now - self.repaired_at < _REPAIRS_END
        return replace(self, unwritten=True, repairs=self.repairs if is_in_series else 0)

    def with_written(self, issuance: Issuance) -> "ReconcileState":
        """Return the state after new credentials were written to the target."""
        state = replace(self, last=issuance, unwritten=False, damage="", clock_lead=None)
        return state.with_issuance(issuance)

    def with_clock_set(self, now: datetime, step: timedelta) -> "ReconcileState":
        """Return the state after the clock was set: a failure that a wrong clock may have caused is retried at once."""
        state = self._with_lead(now, step)
        if state.failure is None or state.failure.error.reason not in CLOCK_REASONS:
            return state
        return replace(state, failure=replace(state.failure, next_attempt_time=now))

    def _with_lead(self, now: datetime, step: timedelta) -> "ReconcileState":
        """Correct the times of `last` if the clock was ahead when it was issued, and has now been set back.

        A step forward only undoes earlier steps back.
        """
        last, (issued, lead) = self.last, self.clock_lead or (None, timedelta())
        step = min(step, lead)
        if last is None or not step or (step < timedelta() and last.issued <= now):
            return self
        clock_lead = (issued or last.issued, lead - step) if lead > step else None
        return replace(self, last=moved(last, step), clock_lead=clock_lead)

    def with_own_clock(
        self, target: TargetSecret | None, now: datetime
    ) -> tuple["ReconcileState", TargetSecret | None]:
        """Return the state, and the target with the times of its record by the current clock.

        A record that was issued in the future was written while the clock was ahead, and would otherwise be renewed too
        late. If it is unknown by how much the clock was ahead, the record counts as issued now.
        """
        issuance = target.issuance if target else None
        if target is None or issuance is None:
            return self, target
        state, issued = self, issuance.issued
        if is_in_future(issuance, now) and not (state.clock_lead and state.clock_lead[0] == issued):
            last = moved(self.last, now - issued) if self.last and is_in_future(self.last, now) else self.last
            state = replace(self, last=last, clock_lead=(issued, issued - now))
        if state.clock_lead and state.clock_lead[0] == issued:
            return state, replace(target, issuance=moved(issuance, -state.clock_lead[1]))
        return replace(state, clock_lead=None), target

    def has_worked(self, request: Request) -> bool:
        """Whether the last credentials were issued by the same exchanges with the same source."""
        last = self.last
        return (
            last is not None and last.source == self.source and is_unchanged(last.exchange_hash, request.exchange_hash)
        )

    def has_newer_than(self, target: TargetSecret) -> bool:
        """Whether the target is an earlier version of the Secret that was restored after the last issuance."""
        return bool(target.issuance and self.last and is_earlier(target.issuance, self.last))


def is_in_future(issuance: Issuance, now: datetime) -> bool:
    """Whether a record was written while the clock was ahead."""
    return issuance.issued > now + _CLOCK_TOLERANCE


def _damage(request: Request, target: TargetSecret | None) -> str:
    if target is None:
        return "SecretMissing"
    if not is_ours(request, target):
        return ""
    if target.issuance is None:
        return "IssuanceUnverified" if target.unverified else "IssuanceUnreadable"
    is_edited = target.data_hash is not None and not is_unchanged(target.data_hash, target.issuance.data_hash)
    return "DriftDetected" if is_edited else ""
