"""Reports about bugs, and about an attempt that is still in progress: an expiry, a token that cannot be saved."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from keyturn.api.status import Status
from keyturn.api.times import read_time
from keyturn.api.token_request import Request
from keyturn.core.errors import (
    TOKEN_UNSAVED,
    BeingDeletedError,
    KeyturnError,
    LeaseLostError,
    RefusedError,
    UnavailableError,
)
from keyturn.core.status import Event, Outcome, events, expired, unsaved, with_transition_times
from keyturn.metrics import Metrics
from keyturn.reconcile.dependencies import Dependencies
from keyturn.reconcile.token_locks import token_secret_name

# The pauses between two checks. Most attempts end within the first one, so their status is written only once. The
# longest one limits how late an expiry is noticed after the clock was set.
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
async def progress_reports(
    deps: Dependencies, request: Request, status: Status, report: ReportStatus | None
) -> AsyncIterator[Callable[[], Status]]:
    """Report while the block runs that the credentials expire, or that a token that was received cannot be saved.

    Yields a function that returns the latest status.
    """
    progress = _Progress(deps, request, status, report)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(progress.watch())
            yield lambda: progress.latest
            progress.ended.set()
    except BaseExceptionGroup as group:
        # A TaskGroup wraps the exception of the block.
        raise group.exceptions[0] from None


class _Progress:
    """The status at the start of an attempt, and the latest one that was reported during it."""

    def __init__(self, deps: Dependencies, request: Request, status: Status, report: ReportStatus | None) -> None:
        self.latest = self._initial = status
        self.ended = asyncio.Event()
        self._deps = deps
        self._request = request
        self._report = report
        self._expiry = read_time(status.expiration_time)

    async def watch(self) -> None:
        """Report until the attempt has ended."""
        seconds, retry_seconds = _SHORTEST_SECONDS, _SHORTEST_SECONDS
        while self._report and not await self._has_ended(seconds):
            if await self._try_report(self._report):
                seconds, retry_seconds = self._pause(), _SHORTEST_SECONDS
            else:
                seconds = retry_seconds = min(2 * retry_seconds, _LONGEST_SECONDS)

    async def _has_ended(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.ended.wait()
        return self.ended.is_set()

    async def _try_report(self, report: ReportStatus) -> bool:
        """Report the status if it has changed. A failure to report must not end the attempt."""
        try:
            before, after, now = self.latest, self._status(), self._deps.now()
            if after != before:
                await report(after, tuple(events(before, after, Outcome(now))))
                self.latest = after
        except BeingDeletedError:
            self.ended.set()
        except (KeyturnError, LeaseLostError) as error:
            _log.warning("%s: the status was not written: %s", self._request.namespaced_name, error)
            return False
        except Exception as bug:  # noqa: BLE001 - the attempt may be saving a token
            report_bug(self._deps.metrics, self._request.namespaced_name, bug)
            return False
        return True

    def _status(self) -> Status:
        now = self._deps.now()
        if error := unsaved_token(self._deps, self._request):
            return unsaved(self.latest, self._request.generation, error, now)
        return with_transition_times(expired(self._initial, now) or self._initial, self.latest, now)

    def _pause(self) -> float:
        """Return the seconds until the status may change. A save can fail at any time."""
        if self._request.spec.consumption:
            return _SHORTEST_SECONDS
        left = (self._expiry - self._deps.now()).total_seconds() if self._expiry else 0
        return max(_SHORTEST_SECONDS, min(left, _LONGEST_SECONDS)) if left > 0 else _LONGEST_SECONDS


def unsaved_token(deps: Dependencies, request: Request) -> RefusedError | None:
    """Return the error to report if the new token that a request needs cannot be saved."""
    namespace, name = token_secret_name(request)
    why = deps.pending_tokens.unsaved(f"{namespace}/{name}")
    if why is None or request.spec.consumption is None:
        return None
    key = request.spec.consumption.ref.key
    return RefusedError(
        TOKEN_UNSAVED,
        f"the new token cannot be saved in Secret {name}, key {key}: {why}. Remove the cause. Do not stop"
        f" {deps.holder}: it keeps trying, and the token is only in its memory",
    )
