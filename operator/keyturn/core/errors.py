"""Errors, classified by who must act, and the policy for each reason.

`BeingDeletedError` and `LeaseLostError` are not failures of a renewal: no failure is reported, and code that handles
`KeyturnError` must let them pass.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final


class KeyturnError(Exception):
    """A failure that is reported to the user: a key of `REASONS`, and a message without secrets.

    Messages name the service and its error code, never a response body or a token. `request_id` is the AWS request
    ID, for a support case.
    """

    def __init__(self, reason: str, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.message: Final = message
        self.request_id: Final = request_id


class UnavailableError(KeyturnError):
    """A temporary problem: there was no response, or one that reports a temporary error.

    `outcome_unknown`: the request may have been processed, so a token may be consumed. `service` is the service that
    failed, by its name in `ServiceHealth`, or empty; the request is retried at once when that service recovers.
    `final_attempt_after` is the time of the final attempt with the same token, if it is known.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        request_id: str = "",
        service: str = "",
        outcome_unknown: bool = False,
        final_attempt_after: datetime | None = None,
    ) -> None:
        super().__init__(reason, message, request_id=request_id)
        self.service: Final = service
        self.outcome_unknown: Final = outcome_unknown
        self.final_attempt_after: Final = final_attempt_after


class ThrottledError(UnavailableError):
    """A call that was throttled: calls must slow down. `retry_after` is the wait that the service requires, or zero.

    `nothing_sent`: Keyturn's own limit delays the call until `retry_after`. That is not a failure.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        retry_after: timedelta = timedelta(),
        nothing_sent: bool = False,
    ) -> None:
        super().__init__("Throttled", message, request_id=request_id)
        self.retry_after: Final = retry_after
        self.nothing_sent: Final = nothing_sent


class RefusedError(KeyturnError):
    """A person must act: the same request would be refused again.

    `code` is the AWS error code, or empty. `eventually_consistent`: the cause may be a recent change that IAM has not
    propagated yet, which takes minutes. `may_concern_token`: the token itself may have been refused.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        request_id: str = "",
        code: str = "",
        eventually_consistent: bool = False,
        may_concern_token: bool = False,
    ) -> None:
        super().__init__(reason, message, request_id=request_id)
        self.code: Final = code
        self.eventually_consistent: Final = eventually_consistent
        self.may_concern_token: Final = may_concern_token


class TransientRefusalError(RefusedError):
    """A refusal that usually passes: for some minutes, a service refuses what it accepts before and afterwards.

    It is reported as Unavailable until it has lasted for some minutes.
    """


class StorageGoneError(RefusedError):
    """The volume that stores the tokens no longer exists, so repeating the write cannot succeed."""


class BeingDeletedError(Exception):
    """The TokenRequest or its namespace is being deleted. No status is written: the watch delivers the deletion."""


class NamespaceTerminatingError(BeingDeletedError):
    """The namespace is being deleted, which can take hours, for example until its pods have ended.

    Meanwhile its TokenRequests exist, but no object can be created. Only the expiry and the loss of the Secret are
    reported.
    """

    def __init__(self) -> None:
        super().__init__("the namespace is terminating")


class LeaseLostError(Exception):
    """Another operator may hold the Lease now, so nothing may be written."""


def safe_message(error: BaseException) -> str:
    """Return the message of an error of this module, or only the type of any other, whose text may contain a token."""
    return error.message if isinstance(error, KeyturnError) else type(error).__name__


def drop_frames(error: BaseException | None) -> None:
    """Remove the tracebacks of an exception of a client and of its causes, so that what it received is freed at once.

    A connection of aiohttp, or a frame of botocore, keeps the exception, and the frames of the traceback refer to it.
    Until the garbage collector finds this cycle, which takes long if the heap is large, it contains a buffer of 256 KiB
    for TLS, or a response of AWS of up to 128 KiB.
    """
    while error and error.__traceback__:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


@dataclass(frozen=True, slots=True)
class ReasonPolicy:
    """How a failure with a reason is handled.

    `event` is recorded once in a series of failures. `retry_after` is the time until the next attempt; without it,
    exponential backoff applies. With `retries_early`, the first attempts follow sooner, because the cause may be
    momentary. `recheck_interval` is how often the cause is checked until then, without a call to AWS.
    """

    event: str
    stalled: bool = False
    retry_after: timedelta | None = None
    retries_early: bool = False
    recheck_interval: timedelta | None = None


# Reported only while the attempt is in progress: it ends when the token is saved.
TOKEN_UNSAVED = "TokenUnsaved"  # noqa: S105 - a reason
# With this number of fields, a write of the Secret takes the API server about 0.1 s.
MAX_SECRET_FIELDS = 5_000
TOO_MANY_FIELDS = f"has more than {MAX_SECRET_FIELDS:,} keys, labels and other fields"
_MINUTE = timedelta(minutes=1)
_FORBIDDEN = ReasonPolicy("Stalled", stalled=True, retry_after=timedelta(minutes=5), recheck_interval=_MINUTE)
_REFUSED = ReasonPolicy("Stalled", stalled=True, retry_after=timedelta(minutes=30), recheck_interval=_MINUTE)

REASONS = {
    "Unavailable": ReasonPolicy("RenewalFailed"),
    "Unreachable": ReasonPolicy("RenewalFailed"),
    "Throttled": ReasonPolicy("RenewalFailed"),
    "ClockSkew": ReasonPolicy("ClockSkew", retry_after=_MINUTE),
    "AccessDenied": _FORBIDDEN,
    "IdentityNotAllowed": _FORBIDDEN,
    "InvalidSpec": _REFUSED,
    "SourceInvalid": _REFUSED,
    "SourceExpired": _REFUSED,
    "StaleTokenRestored": _REFUSED,
    "SourceConsumed": _REFUSED,
    "RefreshOutcomeUnknown": ReasonPolicy(
        "RefreshOutcomeUnknown", retry_after=timedelta(minutes=30), recheck_interval=_MINUTE
    ),
    "TargetConflict": _REFUSED,
    "SourceNotFound": ReasonPolicy("SourceNotFound", retry_after=_MINUTE),
    "SourceKeyEmpty": ReasonPolicy("SourceKeyEmpty", retry_after=_MINUTE),
    # The API server refuses every ServiceAccount for a moment when it starts.
    "SourceForbidden": ReasonPolicy("Stalled", stalled=True, retry_after=_MINUTE, retries_early=True),
    "ScopeConflict": ReasonPolicy("ScopeConflict", retry_after=_MINUTE),
    "WriteDenied": ReasonPolicy("WriteDenied", stalled=True),
    TOKEN_UNSAVED: ReasonPolicy(TOKEN_UNSAVED, stalled=True),
    "InternalError": ReasonPolicy("InternalError"),
}
# After these failures nothing is sent until the source Secret changes, which is checked every minute.
ONLY_NEW_SOURCE_HELPS = frozenset({"RefreshOutcomeUnknown", "SourceConsumed", "StaleTokenRestored"})
# The node's clock may be the cause: these are retried when it is set.
CLOCK_REASONS = frozenset({"ClockSkew", "SourceExpired"})
