"""Reports that credentials have expired while an attempt to renew them is still in progress."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, KeyturnError, LeaseLostError
from keyturn.core.status import Event, Outcome, events, expired
from keyturn.reconcile.bugs import report_bug
from keyturn.reconcile.dependencies import Dependencies

# Most attempts end within the first pause. They are reported only once, even if the credentials had expired before. The
# longest pause limits how late an expiry is noticed after the clock was set.
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
# Writes a status and records Events. May raise any exception.
ReportStatus = Callable[[Status, tuple[Event, ...]], Awaitable[None]]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


async def with_expiry_report(
    deps: Dependencies,
    request: Request,
    attempt: Coroutine[Any, Any, _T],
    status: Status,
    report: ReportStatus | None,
) -> tuple[_T, Status]:
    """Await an attempt, and report if the credentials expire meanwhile. Returns the result, and the reported status."""
    expiry = read_time(status.expiration_time)
    try:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(attempt)
            seconds = _SHORTEST_SECONDS
            while report and expiry and not task.done():
                seconds = max(seconds, min((expiry - deps.now()).total_seconds(), _LONGEST_SECONDS))
                await asyncio.wait({task}, timeout=seconds)
                after = None if task.done() else expired(status, deps.now())
                if after and await _is_reported(deps, request, status, after, report):
                    status = after
                    break
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return task.result(), status


async def _is_reported(
    deps: Dependencies, request: Request, before: Status, after: Status, report: ReportStatus
) -> bool:
    """Report a status during an attempt. A failure to report must not end the attempt."""
    try:
        await report(after, tuple(events(before, after, Outcome(deps.now()))))
    except (KeyturnError, BeingDeletedError, LeaseLostError) as error:
        _log.warning("%s/%s: the status was not written: %s", request.namespace, request.name, error)
    except Exception as bug:  # noqa: BLE001 - the attempt may be saving a token
        report_bug(deps.metrics, f"{request.namespace}/{request.name}", bug)
    else:
        return True
    return False
