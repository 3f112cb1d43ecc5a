"""Reports about TokenRequests that another installation renews.

The status belongs to the installation that renews. The one that yields records an Event, and writes the status only
if the other one has not: two writers would overwrite each other.
"""

from datetime import datetime, timedelta

from keyturn.api.token_request import Request
from keyturn.controller.request_index import Entry
from keyturn.controller.scope import Scope
from keyturn.controller.status_writer import StatusWriter
from keyturn.core.errors import UnavailableError
from keyturn.core.state import Failure
from keyturn.core.status import Event, Outcome, report

PATIENCE = timedelta(minutes=1)
_REASON = "ScopeConflict"


class Yielding:
    """The scope, and the requests outside of it for which an Event was recorded."""

    def __init__(self, scope: Scope, status_writer: StatusWriter) -> None:
        self.scope = scope
        self._status_writer = status_writer
        self._reported: dict[str, datetime] = {}

    def has_reported(self, uid: str) -> bool:
        """Whether the Event about a request was recorded."""
        return uid in self._reported

    def forget(self, uid: str) -> None:
        """Forget a request that was deleted, or that we renew ourselves."""
        self._reported.pop(uid, None)

    async def report(self, entry: Entry, conflict: str, now: datetime) -> None:
        """Record the Event once. Write the status if nobody has reported on this generation for PATIENCE."""
        request, status = entry.request, entry.status
        since = self._reported.setdefault(request.uid, now)
        if since == now:
            await self._status_writer.event(request, Event("Warning", _REASON, conflict))
        if (
            isinstance(request, Request)
            and status.observed_generation != request.generation
            and now - since >= PATIENCE
        ):
            error = UnavailableError(_REASON, conflict)
            failure = Failure(error, status.failed_attempts, now + PATIENCE, request.generation)
            status = report(request, status, Outcome(now, entry.state.issuance, failure=failure))
            # Because of `version`, a status that the other installation writes at the same time is not overwritten.
            await self._status_writer.status(
                request.namespace, request.name, request.uid, status, version=entry.version
            )
