"""What is known of each TokenRequest: parsed once, with the status that was last told."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request
from keyturn.core.errors import REASONS, RefusedError, UnavailableError
from keyturn.core.renewal import Failure
from keyturn.metrics import Series
from keyturn.reconcile.requeue import conditions, series
from keyturn.reconcile.state import ReconcileState


@dataclass(slots=True)
class Entry:
    """A TokenRequest, what was told about it, what is remembered of it, and when it was looked at last."""

    request: Request
    status: Status
    state: ReconcileState = field(default_factory=ReconcileState)
    reconciled: datetime | None = None


class RequestIndex:
    """The TokenRequests that are alive, found by uid, by target and by source."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._by_secret: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._unreadable: dict[str, Series] = {}

    def put(self, entry: Entry) -> None:
        """Add or replace an entry."""
        self.drop(entry.request.uid)
        self.entries[entry.request.uid] = entry
        for place in _secrets(entry.request):
            self._by_secret[place].add(entry.request.uid)

    def put_invalid(self, uid: str, namespace: str, name: str, status: Status) -> None:
        """Export the conditions of a TokenRequest whose spec cannot be read; nothing else is known of it."""
        self._unreadable[uid] = Series(namespace, name, conditions(status), status.failed_attempts)

    def uids(self, namespace: str) -> set[str]:
        """The uids of all that are alive in a namespace, or in all, those that cannot be read among them."""
        known = {uid: entry.request.namespace for uid, entry in self.entries.items()}
        known |= {uid: series.namespace for uid, series in self._unreadable.items()}
        return {uid for uid, place in known.items() if namespace in ("", place)}

    def drop(self, uid: str) -> Entry | None:
        """Forget a request; its series go with it."""
        self._unreadable.pop(uid, None)
        entry = self.entries.pop(uid, None)
        if entry:
            for place in _secrets(entry.request):
                self._by_secret[place].discard(uid)
                if not self._by_secret[place]:
                    del self._by_secret[place]
        return entry

    def users_of(self, namespace: str, secret: str) -> frozenset[str]:
        """The uids of the requests that read or write a Secret."""
        return frozenset(self._by_secret.get((namespace, secret), ()))

    def series(self) -> Iterator[Series]:
        """What is exported of each."""
        yield from list(self._unreadable.values())
        for entry in list(self.entries.values()):
            yield series(entry.request, entry.status, entry.state)


def remembered(status: Status) -> Failure | None:
    """The last failure, as the status tells it: the time of the next try survives a restart."""
    renewed = status.condition("Renewed")
    if not (renewed and renewed.status != "True" and renewed.reason in REASONS and status.next_attempt_time):
        return None
    next_attempt_time = read_time(status.next_attempt_time)
    if next_attempt_time is None:
        return None
    kind = RefusedError if status.condition("Stalled") else UnavailableError
    return Failure(
        error=kind(renewed.reason, renewed.message.rpartition("; next try at ")[0]),
        failed_attempts=status.failed_attempts,
        next_attempt_time=next_attempt_time,
        generation=status.observed_generation,
        handled_renew_request=status.last_handled_renew_request or "",
        failed_at=read_time(status.last_attempt_time),
    )


def _secrets(request: Request) -> frozenset[tuple[str, str]]:
    names = {request.secret_name, *request.spec.secrets_read}
    return frozenset((request.namespace, name) for name in names)
