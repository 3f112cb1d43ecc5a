"""Index of the TokenRequests that exist, each with its status and state."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from keyturn.api.base import InvalidSpecError
from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import InvalidRequest, Request, parse, renew_requested
from keyturn.api.validation import check_spec_bytes
from keyturn.core.errors import REASONS, RefusedError, UnavailableError
from keyturn.core.state import Failure, ReconcileState
from keyturn.core.status import DELETING, SUSPENDED
from keyturn.metrics import Series, request_series

_Key = TypeVar("_Key")

# As long as credentials for 15 minutes are still valid when their renewal becomes due.
_YIELD = timedelta(minutes=5)
_LATEST = datetime.max.replace(tzinfo=UTC) - 2 * _YIELD
_MAX_FAILED_ATTEMPTS = 10**6  # the next one must be an integer that the API server accepts


@dataclass(frozen=True, slots=True)
class Entry:
    """A TokenRequest, its last status, its state, when it was last reconciled, and the version that was parsed."""

    request: Request | InvalidRequest
    status: Status
    state: ReconcileState = field(default_factory=ReconcileState)
    reconciled_at: datetime | None = None
    version: str = ""

    @property
    def failed_service(self) -> str:
        """The service because of which the last attempt failed, or ""."""
        error = self.state.failure.error if self.state.failure else None
        return error.service if isinstance(error, UnavailableError) else ""

    @property
    def expires(self) -> datetime | None:
        """When the issued credentials expire. Used only to order renewals: an unverified record may be wrong."""
        record = self.state.issuance or self.state.unverified
        return record.expires if record else None

    def deadline(self, due: datetime | None) -> datetime | None:
        """Return the time that orders the requests of a namespace that are due: usually that of the expiry.

        After a failure, a request yields to others that expire soon. If it has failed since it expired, its retries
        have the order of their due times. Otherwise, while each attempt takes long because an issuer does not respond,
        those that expired first would be retried again and again, and the others would neither be renewed nor reported.
        """
        expires, failure = self.expires, self.state.failure
        if not due or not failure:
            return expires or due
        if expires is None or (failure.failed_at and failure.failed_at >= expires):
            return min(due, _LATEST) + 2 * _YIELD
        return min(expires, _LATEST) + _YIELD

    def has_changed(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a new version of the request differs in more than labels and status."""
        if self.request.generation != metadata.get("generation", 0):
            return True
        if self.request.is_being_deleted != ("deletionTimestamp" in metadata):
            return True
        if isinstance(self.request, InvalidRequest):
            return False
        return self.request.renew_requested != renew_requested(metadata.get("annotations"))


class RequestIndex:
    """The TokenRequests that exist, by uid, namespace, target, source, and the service that failed."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._by_namespace: defaultdict[str, set[str]] = defaultdict(set)
        self._by_secret: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._by_service: defaultdict[str, set[str]] = defaultdict(set)

    def put(self, entry: Entry) -> None:
        """Add or replace an entry."""
        self.drop(entry.request.uid)
        self._store(entry)
        self._by_namespace[entry.request.namespace].add(entry.request.uid)
        for name in _secrets(entry.request):
            self._by_secret[name].add(entry.request.uid)

    def update(self, uid: str, **changes: Any) -> None:
        """Change fields of an entry, but not its request; does nothing if the request was deleted."""
        if entry := self.entries.get(uid):
            self._store(replace(entry, **changes))

    def _store(self, entry: Entry) -> None:
        uid = entry.request.uid
        if previous := self.entries.get(uid):
            _discard(self._by_service, previous.failed_service, uid)
        self.entries[uid] = entry
        if entry.failed_service:
            self._by_service[entry.failed_service].add(uid)

    def uids(self, namespace: str) -> set[str]:
        """Return the uids of all requests in a namespace, or in all namespaces."""
        return set(self._by_namespace.get(namespace, ()) if namespace else self.entries)

    def drop(self, uid: str) -> Entry | None:
        """Remove a request, and its metrics with it."""
        entry = self.entries.pop(uid, None)
        if entry:
            _discard(self._by_service, entry.failed_service, uid)
            _discard(self._by_namespace, entry.request.namespace, uid)
            for name in _secrets(entry.request):
                _discard(self._by_secret, name, uid)
        return entry

    def users_of(self, namespace: str, secret: str) -> frozenset[str]:
        """Return the uids of the requests that read or write a Secret."""
        return frozenset(self._by_secret.get((namespace, secret), ()))

    def failed_because_of(self, service: str) -> frozenset[str]:
        """Return the uids of the requests whose last attempt failed because of a service.

        It does not search all requests: a tenant can make its own issuer fail and recover in a loop.
        """
        return frozenset(self._by_service.get(service, ()))

    def series(self) -> Iterator[Series]:
        """Return the metrics of each request that is not being deleted."""
        for entry in list(self.entries.values()):
            if not entry.request.is_being_deleted:
                yield request_series(entry.request, entry.status, entry.state)


def _discard(index: dict[_Key, set[str]], key: _Key, uid: str) -> None:
    if uids := index.get(key):
        uids.discard(uid)
        if not uids:
            del index[key]


def read_request(body: Mapping[str, Any]) -> Request | InvalidRequest:
    """Parse a TokenRequest from its manifest; an invalid spec is part of the result."""
    meta = body["metadata"]
    is_being_deleted = "deletionTimestamp" in meta
    try:
        check_spec_bytes(body.get("specBytes", 0))
        return replace(parse(body), is_being_deleted=is_being_deleted)
    except InvalidSpecError as error:
        meta = body["metadata"]
        generation = meta["generation"] if isinstance(meta.get("generation"), int) else 0
        return InvalidRequest(meta["namespace"], meta["name"], meta["uid"], generation, error.message, is_being_deleted)


def restored_failure(status: Status) -> Failure | None:
    """Return the last failure as the status reports it, so that the time of the next attempt survives a restart.

    Anyone may write a status, so its wait must still be limited: see `renewal.bounded`.
    """
    error, next_attempt_time = status.last_error, read_time(status.next_attempt_time)
    kind = RefusedError if status.condition("Stalled") else UnavailableError
    ready = status.condition("Ready")
    if next_attempt_time is None and ready and ready.reason in (SUSPENDED, DELETING):
        # The status of a suspended TokenRequest has no next attempt. It is due as soon as it is resumed.
        next_attempt_time = read_time(status.last_attempt_time)
    if error and error.reason == "RefreshOutcomeUnknown" and kind is UnavailableError:
        # This process must observe the intent itself. Waiting first would postpone that at each change of the leader.
        next_attempt_time = read_time(status.last_attempt_time) or next_attempt_time
    if error is None or error.reason not in REASONS or next_attempt_time is None:
        return None
    renewed = status.condition("Renewed")
    return Failure(
        error=kind(error.reason, error.message, request_id=error.request_id or ""),
        failed_attempts=min(status.failed_attempts, _MAX_FAILED_ATTEMPTS),
        next_attempt_time=next_attempt_time,
        generation=status.observed_generation,
        handled_renew_request=status.last_handled_renew_request or "",
        failed_at=read_time(status.last_attempt_time),
        field=error.field or "",
        # Used only if the next error is also one that usually passes.
        transient_since=read_time(renewed.last_transition_time) if renewed and error.reason == "Unavailable" else None,
    )


def _secrets(request: Request | InvalidRequest) -> frozenset[tuple[str, str]]:
    if isinstance(request, InvalidRequest):
        return frozenset()
    return frozenset((request.namespace, name) for name in (request.secret_name, *request.spec.secrets_read))
