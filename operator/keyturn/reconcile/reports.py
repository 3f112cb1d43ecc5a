"""Reports about bugs, and about credentials that expire while an attempt is still in progress."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request
from keyturn.core.errors import BeingDeletedError, KeyturnError, LeaseLostError, UnavailableError
from keyturn.core.status import Event, Outcome, events, expired
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies

# Most attempts end within the first pause. They are reported only once, even if the credentials had expired before. The
# longest pause limits how late an expiry is noticed after the clock was set.
_SHORTEST_SECONDS, _LONGEST_SECONDS = 1.0, 30.0
# Writes a status and records Events. May raise any exception.
ReportStatus = Callable[[Status, tuple[Event, ...]], Awaitable[None]]
_log = logging.getLogger(__name__)


def report_bug(metrics: Metrics, request: str, bug: Exception) -> UnavailableError:
    """Log and count an unexpected exception, and return it as a failure with the reason InternalError.

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


@asynccontextmanager
async def expiry_report(
    deps: Dependencies, request: Request, status: Status, report: ReportStatus | None
) -> AsyncIterator[Callable[[], Status]]:
    """Report if the credentials expire while the block runs. Yields a function that returns the latest status."""
    expiry, ended, reported = read_time(status.expiration_time), asyncio.Event(), status

    async def watch(expiry: datetime, report: ReportStatus) -> None:
        nonlocal reported
        seconds = _SHORTEST_SECONDS
        while not ended.is_set():
            seconds = max(seconds, min((expiry - deps.now()).total_seconds(), _LONGEST_SECONDS))
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await ended.wait()
            after = None if ended.is_set() else expired(status, deps.now())
            if after and await _try_report(deps, request, status, after, report):
                reported = after
                return

    try:
        async with asyncio.TaskGroup() as tasks:
            if expiry and report:
                tasks.create_task(watch(expiry, report))
            yield lambda: reported
            ended.set()
    except BaseExceptionGroup as group:
        # A TaskGroup wraps the exception of the block.
        raise group.exceptions[0] from None


async def _try_report(
    deps: Dependencies, request: Request, before: Status, after: Status, report: ReportStatus
) -> bool:
    """Report a status during an attempt. A failure to report must not end the attempt."""
    try:
        await report(after, tuple(events(before, after, Outcome(deps.now()))))
    except (KeyturnError, BeingDeletedError, LeaseLostError) as error:
        _log.warning("%s: the status was not written: %s", request.namespaced_name, error)
    except Exception as bug:  # noqa: BLE001 - the attempt may be saving a token
        report_bug(deps.metrics, request.namespaced_name, bug)
    else:
        return True
    return False
