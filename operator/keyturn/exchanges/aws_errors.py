"""Classification of AWS errors: the codes that all services share, and the fallback by HTTP status."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, Self

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.exceptions import ConnectionError as NoConnectionError

from keyturn.core.clock import SIGNIFICANT_SKEW, clock_skew_error, describe_skew
from keyturn.core.errors import KeyturnError, RefusedError, ThrottledError, TransientRefusalError, UnavailableError
from keyturn.core.token_times import parse_time
from keyturn.exchanges.rate_limit import parse_retry_after
from keyturn.exchanges.transmission import NOT_PROCESSED

_CLIENT_ERRORS = range(400, 500)


@dataclass(frozen=True, slots=True)
class ErrorClassification:
    """The meaning of an AWS error code: a reason, and advice for the person who reads the condition.

    An entry of `hints` replaces `hint` if AWS's own message, which is never shown, contains its key. `transient`: the
    service is known to return this code for some minutes although nothing is wrong.
    """

    reason: str
    hint: str = ""
    eventually_consistent: bool = False
    transient: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)


def not_allowed(actions: str) -> ErrorClassification:
    """Return the classification of an error that IAM causes because it does not allow these actions."""
    return ErrorClassification(
        "AccessDenied", hint=f"check that the caller's policy allows {actions}", eventually_consistent=True
    )


KEYS = ErrorClassification(
    "SourceInvalid", hint="check that the access key that signs the call is correct, active and valid in this region"
)
# A new access key is unknown to some services for seconds, in a new region for minutes.
UNKNOWN_KEY = replace(KEYS, transient=True)
EXPIRED = ErrorClassification("SourceExpired", hint="the credentials that sign the call have expired")
# Codes of any signed call, except to STS, which has its own.
SIGNED = {
    "ExpiredTokenException": EXPIRED,
    "InvalidSignatureException": KEYS,
    "UnrecognizedClientException": UNKNOWN_KEY,
}


@dataclass(frozen=True, slots=True)
class AwsOperation:
    """An AWS API operation. `exchange` is its label in metrics, `title` its name in messages.

    `attempts` is 1 if AWS may accept a parameter only once. `consumes`: the parameter is a stored token, so a lost or
    unreadable response leaves the outcome unknown. Only the transmission shows whether it was sent: if a connection
    through a proxy breaks after the request, urllib3 reports that the proxy could not be reached.
    """

    exchange: str
    service: str
    name: str
    title: str
    classifications: Mapping[str, ErrorClassification]
    attempts: int = 3
    consumes: bool = False

    def for_resource(self, resource: str) -> Self:
        """Return this operation with a name in messages that says what it is called for, such as a role."""
        return replace(self, title=f"{self.title} for {resource}")

    def service_in(self, region: str) -> str:
        """The name of the service in `ServiceHealth`, and the key of the rate limit that its operations share."""
        return f"{self.service}/{region}"

    def code(self, error: Exception) -> str:
        """The label of an error in metrics: a code from the table, or `other`, to limit the number of series."""
        code = _code(error) if isinstance(error, ClientError) else ""
        return code if code in self.classifications else "other"


class WrongRegionError(RefusedError):
    """The resource is in another region: `region`, empty if AWS does not name it."""

    def __init__(self, reason: str, message: str, *, region: str, code: str, request_id: str = "") -> None:
        super().__init__(reason, message, request_id=request_id, code=code)
        self.region: Final = region


_WRONG_REGION = frozenset({"RedirectException", "InvalidRequestRegionException"})
# Not two letters at the start: the region eusc-de-east-1 is not de-east-1.
_REGION = re.compile(r"(?<![a-z0-9-])[a-z]{2,8}(?:-[a-z]{1,12}){1,3}-[0-9]{1,2}\b")
# AWS codes contain no digits, and a text with digits may repeat what was sent. If there is no code, botocore returns
# the status.
_CODE = re.compile(r"[A-Za-z][A-Za-z.:_-]{0,63}|[0-9]{3}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_THROTTLED, _UNAVAILABLE = ErrorClassification("Throttled"), ErrorClassification("Unavailable")

# Codes that any service may return, even if its model does not list them. botocore itself retries most of them.
_COMMON = {
    "RequestLimitExceeded": _THROTTLED,
    "RequestThrottled": _THROTTLED,
    "RequestThrottledException": _THROTTLED,
    "SlowDown": _THROTTLED,
    "ThrottledException": _THROTTLED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
}
# The codes by which the AWS SDKs recognize a wrong clock: always, or only if the clocks differ by the tolerance.
_CLOCK_CODES = frozenset({"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"})
_SIGNATURE_CODES = frozenset({"AuthFailure", "InvalidSignatureException", "SignatureDoesNotMatch"})
_SIGNATURE_TOLERANCE = timedelta(minutes=4)
_SIGNATURE_TIME = re.compile(r"signature (?:expired|not yet current)", re.IGNORECASE)


def failure(operation: AwsOperation, error: Exception, region: str, skew: timedelta = timedelta()) -> KeyturnError:
    """Classify an error from botocore. AWS's own message is left out: it may repeat the rejected value.

    `skew` is AWS's clock minus the local clock, zero if it is unknown.
    """
    if isinstance(error, ClientError):
        if error.operation_name.lower() != operation.name.replace("_", ""):
            # The default credential chain calls STS itself, for example with the web identity token of IRSA.
            return UnavailableError(
                "Unavailable",
                f"{operation.title}: the operator has no AWS identity: {error.operation_name} for its own role failed"
                f" with {_code(error)}; check the trust policy of the operator's role{_describe(skew)}",
                request_id=request_id(error.response.get("ResponseMetadata", {})),
            )
        return _refusal(operation, error, region, skew)
    if isinstance(error, ParamValidationError):
        return RefusedError(
            "SourceInvalid", f"{operation.title} cannot be called with this token: it is empty or malformed"
        )
    kind, service = type(error).__name__, operation.service_in(region)
    if isinstance(error, (NoCredentialsError, CredentialRetrievalError)):
        return UnavailableError(
            "Unavailable",
            f"{operation.title}: the operator has no AWS identity at the moment ({kind}); its pod needs a role from"
            " IRSA, EKS Pod Identity or an instance profile",
            service=service,
        )
    if isinstance(error, (HTTPClientError, NoConnectionError, OSError)):
        return UnavailableError(
            "Unreachable",
            f"{operation.title} did not respond in {region} ({kind})",
            service=service,
            outcome_unknown=operation.consumes,
        )
    return UnavailableError(
        "Unavailable",
        f"{operation.title} returned an unusable response ({kind})",
        service=service,
        outcome_unknown=operation.consumes,
    )


def member(operation: AwsOperation, members: Mapping[str, Any], name: str) -> Any:
    """Return a required member of a response; raises UnavailableError if it is missing or empty."""
    if not members.get(name):
        raise UnavailableError("Unavailable", f"{operation.title} returned no {name}")
    return members[name]


def expiration(operation: AwsOperation, members: Mapping[str, Any], name: str) -> datetime:
    """Return a required expiry; raises UnavailableError if it is missing or cannot be true, such as 0."""
    expires_at = parse_time(member(operation, members, name))
    if expires_at is None:
        raise UnavailableError("Unavailable", f"{operation.title} returned an impossible {name}")
    return expires_at


def request_id(metadata: Mapping[str, Any]) -> str:
    """Return the request ID of a response; empty if it is not in the usual form, as in the page of a proxy."""
    # botocore parses XML in this element, too.
    value = metadata.get("RequestId")
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else ""


def _refusal(operation: AwsOperation, error: ClientError, region: str, skew: timedelta) -> KeyturnError:
    response: Mapping[str, Any] = error.response
    metadata = response.get("ResponseMetadata", {})
    code, status, aws_id = _code(error), metadata.get("HTTPStatusCode", 0), request_id(metadata)
    classification = operation.classifications.get(code) or _COMMON.get(code) or _by_status(status)
    text = str(response.get("Error", {}).get("Message", ""))
    if _is_clock_skew(code, text, classification, skew):
        return clock_skew_error(f"{operation.title}: {code}", skew, "AWS", aws_id)
    hint = next((hint for words, hint in classification.hints.items() if words in text), classification.hint)
    message = f"{operation.title}: {code}" + (f"; {hint}" if hint else "") + _describe(skew)
    if classification.reason == "Throttled":
        # CodeArtifact's member, or the header (RFC 9110 section 10.2.3).
        seconds = response.get("retryAfterSeconds") or metadata.get("HTTPHeaders", {}).get("retry-after") or ""
        return ThrottledError(message, request_id=aws_id, retry_after=parse_retry_after(str(seconds)))
    if classification.reason == "Unavailable":
        is_failure = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in NOT_PROCESSED
        return UnavailableError(
            classification.reason,
            message,
            request_id=aws_id,
            service=operation.service_in(region),
            outcome_unknown=operation.consumes and is_failure,
        )
    if code in _WRONG_REGION:
        # The rest of a URL is ignored: botocore builds all hosts.
        match = _REGION.search(" ".join(str(response.get(name, "")) for name in ("Location", "region", "endpoint")))
        region = match[0] if match else ""
        message += f" ({region})" if region else ""
        return WrongRegionError(classification.reason, message, region=region, code=code, request_id=aws_id)
    return (TransientRefusalError if classification.transient else RefusedError)(
        classification.reason,
        message,
        request_id=aws_id,
        code=code,
        eventually_consistent=classification.eventually_consistent,
    )


def _is_clock_skew(code: str, text: str, classification: ErrorClassification, skew: timedelta) -> bool:
    if code in _SIGNATURE_CODES:
        return abs(skew) >= _SIGNATURE_TOLERANCE or _SIGNATURE_TIME.match(text) is not None
    # Credentials that have expired by AWS's clock, but not by the local one, which is behind.
    return code in _CLOCK_CODES or (classification.reason == "SourceExpired" and skew >= SIGNIFICANT_SKEW)


def _describe(skew: timedelta) -> str:
    return f"; {describe_skew(skew, 'AWS')}" if abs(skew) >= SIGNIFICANT_SKEW else ""


def _code(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if _CODE.fullmatch(code) else "error without a code"


def _by_status(status: int) -> ErrorClassification:
    """Classify an unknown code by its HTTP status: a wrong retry is noise, a wrong stop is an outage."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _THROTTLED
    if status not in _CLIENT_ERRORS or status in NOT_PROCESSED:
        return _UNAVAILABLE
    return ErrorClassification("AccessDenied" if status in (401, 403) else "SourceInvalid")
