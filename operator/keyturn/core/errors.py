"""Failures, classed by who must act, and what each reason leads to."""

from dataclasses import dataclass
from datetime import timedelta


class KeyturnError(Exception):
    """A failure that is told to the user: a reason of the closed set below and one sentence without secrets.

    `request_id` is AWS's, for a support case. Messages name the service and the code, never a body or a token.
    """

    def __init__(self, reason: str, message: str, *, request_id: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.request_id = request_id


class UnavailableError(KeyturnError):
    """Time must pass: no answer, or an answer of the kind that goes away by itself.

    `in_doubt`: what was asked may have been done all the same, and a token may be spent. `system` names who did
    not answer: when it works again, nobody needs to wait any longer.
    """

    system = ""

    def __init__(self, reason: str, message: str, *, request_id: str = "", outcome_unknown: bool = False) -> None:
        super().__init__(reason, message, request_id=request_id)
        self.outcome_unknown = outcome_unknown


class ThrottledError(UnavailableError):
    """Time must pass, and fewer calls: `retry_after` is what the service asked for, if it did.

    `unsent` is true where nothing was sent, because the service has throttled us just before.
    """

    unsent = False

    def __init__(self, message: str, *, request_id: str = "", retry_after: timedelta = timedelta()) -> None:
        super().__init__("Throttled", message, request_id=request_id)
        self.retry_after = retry_after


class RefusedError(KeyturnError):
    """A person must act: the same request would be refused again.

    `settles` marks a refusal that IAM, being eventually consistent, may take back within minutes. `code` is the
    one of AWS, where it was AWS that refused. `unclear`: whoever refused may have meant the token that was sent.
    """

    code = ""
    may_concern_token = False

    def __init__(self, reason: str, message: str, *, request_id: str = "", eventually_consistent: bool = False) -> None:
        super().__init__(reason, message, request_id=request_id)
        self.eventually_consistent = eventually_consistent


class BeingDeletedError(KeyturnError):
    """The request or its namespace is going away: nobody is told; its end will be seen."""

    def __init__(self, message: str) -> None:
        super().__init__("Leaving", message)


@dataclass(frozen=True, slots=True)
class ReasonPolicy:
    """What a reason leads to.

    `event` is told once in a series. `wait` is the time to the next try; without it the backoff decides.
    `look` is how often the thing that is waited for is looked at meanwhile, which makes no call to AWS.
    """

    event: str
    stalled: bool = False
    wait: timedelta | None = None
    look: timedelta | None = None


_MINUTE = timedelta(minutes=1)
_FORBIDDEN = ReasonPolicy("Stalled", stalled=True, wait=timedelta(minutes=5))
_SOURCE_REFUSED = ReasonPolicy("Stalled", stalled=True, wait=timedelta(minutes=30), look=_MINUTE)

REASONS = {
    "Unavailable": ReasonPolicy("RenewalFailed"),
    "Unreachable": ReasonPolicy("RenewalFailed"),
    "Throttled": ReasonPolicy("RenewalFailed"),
    "AccessDenied": _FORBIDDEN,
    "IdentityNotAllowed": _FORBIDDEN,
    "InvalidSpec": ReasonPolicy("Stalled", stalled=True, wait=timedelta(minutes=30)),
    "SourceInvalid": _SOURCE_REFUSED,
    "SourceExpired": _SOURCE_REFUSED,
    "StaleTokenRestored": _SOURCE_REFUSED,
    "SourceConsumed": _SOURCE_REFUSED,
    "RefreshOutcomeUnknown": ReasonPolicy("RefreshOutcomeUnknown", wait=timedelta(minutes=30), look=_MINUTE),
    "TargetConflict": _SOURCE_REFUSED,
    "SourceNotFound": ReasonPolicy("SourceNotFound", wait=_MINUTE),
    "WriteDenied": ReasonPolicy("WriteDenied", stalled=True),
}
