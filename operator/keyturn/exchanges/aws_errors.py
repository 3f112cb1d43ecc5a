"""What AWS's errors mean: tables of codes beside the functions that read them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    ProxyConnectionError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, UnavailableError
from keyturn.exchanges.rate_limit import told_wait

_FIRST_CLIENT_ERROR, _TOO_MANY_REQUESTS = 400, 429
# RFC 9110 section 15.5.9 (a request timeout) and RFC 8470 section 5.2 (too early): of what stands between.
_TRY_AGAIN = (408, 425)
_FIRST_SERVER_ERROR, _NOT_HANDLED = 500, 503
# Nothing had been sent when these were raised.
_NEVER_SENT = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)


@dataclass(frozen=True, slots=True)
class ErrorClassification:
    """What a code of AWS means: a reason, and a hint for the person who reads the condition."""

    reason: str
    hint: str = ""
    eventually_consistent: bool = False


KEYS = ErrorClassification(
    "SourceInvalid", hint="are the access keys that sign it right and active, and for this region?"
)
EXPIRED = ErrorClassification("SourceExpired", hint="the credentials that sign it have expired")
# What any signed call may be told; STS has codes of its own for it.
SIGNED = {
    "ExpiredTokenException": EXPIRED,
    "InvalidSignatureException": KEYS,
    "UnrecognizedClientException": KEYS,
}


@dataclass(frozen=True, slots=True)
class AwsOperation:
    """An operation of AWS as a pipeline uses it. `exchange` is its name in a manifest.

    `attempts` is 1 for what must not be sent twice: then no answer, or one that nobody can read, is a doubt.
    """

    exchange: str
    service: str
    name: str
    title: str
    classifications: Mapping[str, ErrorClassification]
    attempts: int = 3

    def service_in(self, region: str) -> str:
        """The name in `ServiceHealth`, and of the rate limit that its operations share."""
        return f"{self.service}/{region}"

    def code(self, error: Exception) -> str:
        """The label of an error in metrics: a code of our table, or `other`."""
        code = _code(error) if isinstance(error, ClientError) else ""
        return code if code in self.classifications else "other"


class WrongRegionError(RefusedError):
    """The resource is in another region: `region`, empty if AWS does not name it."""

    def __init__(self, reason: str, message: str, *, region: str, code: str, request_id: str = "") -> None:
        super().__init__(reason, message, request_id=request_id, code=code)
        self.region: Final = region


_WRONG_REGION = frozenset({"RedirectException", "InvalidRequestRegionException"})
_REGION = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]\b")
_THROTTLED, _UNAVAILABLE = ErrorClassification("Throttled"), ErrorClassification("Unavailable")

# What any service may answer, whatever its model says. botocore retries most of these itself, not all.
_COMMON = {
    "RequestExpired": _UNAVAILABLE,
    "RequestLimitExceeded": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestThrottledException": _THROTTLED,
    "RequestTimeTooSkewed": _UNAVAILABLE,
    "SlowDown": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
}


def failure(operation: AwsOperation, error: Exception, region: str, clock_hint: str) -> KeyturnError:
    """Class what botocore raised. AWS's own message stays out: it may repeat the value that it refuses."""
    if isinstance(error, ClientError):
        return _refusal(operation, error, region, clock_hint)
    if isinstance(error, ParamValidationError):
        return RefusedError("SourceInvalid", f"{operation.title} cannot be called with this token")
    kind, once, service = type(error).__name__, operation.attempts == 1, operation.service_in(region)
    if isinstance(error, (NoCredentialsError, CredentialRetrievalError)):
        return UnavailableError(
            "Unavailable", f"{operation.title}: Keyturn has no AWS identity now ({kind})", service=service
        )
    if isinstance(error, (HTTPClientError, NoConnectionError, OSError)):
        outcome_unknown = once and not isinstance(error, _NEVER_SENT)
        return UnavailableError(
            "Unreachable",
            f"{operation.title} did not answer in {region} ({kind})",
            service=service,
            outcome_unknown=outcome_unknown,
        )
    return UnavailableError(
        "Unavailable", f"{operation.title} gave no usable answer ({kind})", service=service, outcome_unknown=once
    )


def member(operation: AwsOperation, members: Mapping[str, Any], name: str) -> Any:
    """Read a member that the answer must have; raises UnavailableError where it is missing or empty."""
    if not members.get(name):
        raise UnavailableError("Unavailable", f"{operation.title} answered without {name}")
    return members[name]


def _refusal(operation: AwsOperation, error: ClientError, region: str, clock_hint: str) -> KeyturnError:
    about: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    code, request_id, status = _code(error), about.get("RequestId", ""), about.get("HTTPStatusCode", 0)
    classification = operation.classifications.get(code) or _COMMON.get(code) or _by_status(status)
    sentence = f"{operation.title}: {code}" + (f"; {classification.hint}" if classification.hint else "") + clock_hint
    if classification.reason == "Throttled":
        return ThrottledError(sentence, request_id=request_id, retry_after=_retry_after(error.response))
    if classification.reason == "Unavailable":
        # RFC 9110 section 15.6.4: 503 says that it was not handled.
        outcome_unknown = operation.attempts == 1 and status >= _FIRST_SERVER_ERROR and status != _NOT_HANDLED
        return UnavailableError(
            classification.reason,
            sentence,
            request_id=request_id,
            service=operation.service_in(region),
            outcome_unknown=outcome_unknown,
        )
    if code in _WRONG_REGION:
        named = _region_named_by(error)
        sentence += f" ({named})" if named else ""
        return WrongRegionError(classification.reason, sentence, region=named, code=code, request_id=request_id)
    return RefusedError(
        classification.reason,
        sentence,
        request_id=request_id,
        code=code,
        eventually_consistent=classification.eventually_consistent,
    )


def _region_named_by(error: ClientError) -> str:
    """The region in the URL or field that AWS redirects to. Nothing else is used: botocore builds all hosts."""
    response: Mapping[str, Any] = error.response
    match = _REGION.search(
        f"{response.get('Location', '')} {response.get('region', '')} {response.get('endpoint', '')}"
    )
    return match[0] if match else ""


def _retry_after(response: Any) -> timedelta:
    """What the service asked for: CodeArtifact's member, or the header (RFC 9110 section 10.2.3)."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return told_wait(str(response.get("retryAfterSeconds") or headers.get("retry-after") or ""))


def _code(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", code) else "an error without a code"


def _by_status(status: int) -> ErrorClassification:
    """Class a code that no table knows: a wrong retry is noise, a wrong stop is an outage."""
    if status == _TOO_MANY_REQUESTS:
        return _THROTTLED
    if not _FIRST_CLIENT_ERROR <= status < _FIRST_SERVER_ERROR or status in _TRY_AGAIN:
        return _UNAVAILABLE
    return ErrorClassification("AccessDenied" if status in (401, 403) else "SourceInvalid")
