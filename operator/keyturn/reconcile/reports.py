"""Reports besides the result of a reconciliation: bugs, and credentials that expire during an attempt."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, KeyturnError, LeaseLostError, UnavailableError
from keyturn.core.status import Event, Outcome, events, expired
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies

# Most attempts end within the first pause: one report is enough then, even if the credentials had expired before. The
# clock may be set during the longest one.
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
# Writes a status and records Events. May raise any exception.
ReportStatus = Callable[[Status, tuple[Event, ...]], Awaitable[None]]
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def report_bug(metrics: Metrics, request: str, bug: Exception) -> UnavailableError:
    """Log and count an exception that no code expected, and return it as a failure with the reason InternalError.

    `request` is its namespace and name.
    """
    message = f"internal error: {describe_bug(bug)}"
    _log.error("%s: %s", request, message)
    metrics.internal_errors.labels("reconcile").inc()
    return UnavailableError("InternalError", f"{message}; this is a bug in Keyturn")


def describe_bug(bug: Exception) -> str:
    """Return the type of an exception and where it was raised. Its message is left out: it may contain a secret."""
    frames = traceback.extract_tb(bug.__traceback__)[-4:]
    places = " < ".join(f"{frame.name} {Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(bug).__name__} in {places}" if places else type(bug).__name__


async def with_expiry_report(
    deps: Dependencies,
    request: Request,
    attempt: Coroutine[Any, Any, _T],
    status: Status,
    report: ReportStatus | None,
) -> tuple[_T, Status]:
    """Await an attempt, and report meanwhile if the credentials expire. Returns the status that was reported, too."""
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
    """Report a status during an attempt, which no failure of the report may end."""
    try:
        await report(after, tuple(events(before, after, Outcome(deps.now()))))
    except (KeyturnError, BeingDeletedError, LeaseLostError) as error:
        _log.warning("%s/%s: the status was not written: %s", request.namespace, request.name, error)
    except Exception as bug:  # noqa: BLE001 - the attempt may be saving a token
        report_bug(deps.metrics, f"{request.namespace}/{request.name}", bug)
    else:
        return True
    return False
