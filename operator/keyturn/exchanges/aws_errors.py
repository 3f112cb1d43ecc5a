"""What AWS's errors mean: tables of codes beside the functions that read them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
class Verdict:
    """What a code of AWS means: a reason, and a hint for the person who reads the condition."""

    reason: str
    hint: str = ""
    settles: bool = False


KEYS = Verdict("SourceInvalid", hint="are the access keys that sign it right and active, and for this region?")
EXPIRED = Verdict("SourceExpired", hint="the credentials that sign it have expired")
# What any signed call may be told; STS has codes of its own for it.
SIGNED = {
    "ExpiredTokenException": EXPIRED,
    "InvalidSignatureException": KEYS,
    "UnrecognizedClientException": KEYS,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of AWS as a pipeline uses it. `exchange` is its name in a manifest.

    `attempts` is 1 for what must not be sent twice: then no answer, or one that nobody can read, is a doubt.
    """

    exchange: str
    service: str
    name: str
    title: str
    verdicts: Mapping[str, Verdict]
    attempts: int = 3

    def code(self, error: Exception) -> str:
        """The label of an error in metrics: a code of our table, or `other`."""
        code = _code(error) if isinstance(error, ClientError) else ""
        return code if code in self.verdicts else "other"


class ElsewhereError(RefusedError):
    """AWS says that the thing is of another region: `region`, empty where it does not say which."""

    region = ""


_ELSEWHERE = frozenset({"RedirectException", "InvalidRequestRegionException"})
_REGION = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]\b")
_THROTTLED, _UNAVAILABLE = Verdict("Throttled"), Verdict("Unavailable")

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


def failure(operation: Operation, error: Exception, region: str, clock_hint: str) -> KeyturnError:
    """Class what botocore raised. AWS's own message stays out: it may repeat the value that it refuses."""
    if isinstance(error, ClientError):
        return _refusal(operation, error, clock_hint)
    if isinstance(error, ParamValidationError):
        return RefusedError("SourceInvalid", f"{operation.title} cannot be called with this token")
    kind, once = type(error).__name__, operation.attempts == 1
    if isinstance(error, (NoCredentialsError, CredentialRetrievalError)):
        return UnavailableError("Unavailable", f"{operation.title}: Keyturn has no AWS identity now ({kind})")
    if isinstance(error, (HTTPClientError, NoConnectionError, OSError)):
        in_doubt = once and not isinstance(error, _NEVER_SENT)
        return UnavailableError(
            "Unreachable", f"{operation.title} did not answer in {region} ({kind})", in_doubt=in_doubt
        )
    return UnavailableError("Unavailable", f"{operation.title} gave no usable answer ({kind})", in_doubt=once)


def member(operation: Operation, members: Mapping[str, Any], name: str) -> Any:
    """Read a member that the answer must have; raises UnavailableError where it is missing or empty."""
    if not members.get(name):
        raise UnavailableError("Unavailable", f"{operation.title} answered without {name}")
    return members[name]


def _refusal(operation: Operation, error: ClientError, clock_hint: str) -> KeyturnError:
    about: Mapping[str, Any] = error.response.get("ResponseMetadata", {})
    code, request_id, status = _code(error), about.get("RequestId", ""), about.get("HTTPStatusCode", 0)
    verdict = operation.verdicts.get(code) or _COMMON.get(code) or _by_status(status)
    sentence = f"{operation.title}: {code}" + (f"; {verdict.hint}" if verdict.hint else "") + clock_hint
    if verdict.reason == "Throttled":
        return ThrottledError(sentence, request_id=request_id, retry_after=_retry_after(error.response))
    if verdict.reason == "Unavailable":
        # RFC 9110 section 15.6.4: 503 says that it was not handled.
        in_doubt = operation.attempts == 1 and status >= _FIRST_SERVER_ERROR and status != _NOT_HANDLED
        return UnavailableError(verdict.reason, sentence, request_id=request_id, in_doubt=in_doubt)
    if code in _ELSEWHERE:
        return _elsewhere(error, verdict, sentence, request_id)
    refused = RefusedError(verdict.reason, sentence, request_id=request_id, settles=verdict.settles)
    refused.code = code
    return refused


def _elsewhere(error: ClientError, verdict: Verdict, sentence: str, request_id: str) -> ElsewhereError:
    """Take the region out of what AWS names, and nothing else: hosts are always built by botocore."""
    answer: Mapping[str, Any] = error.response
    named = _REGION.search(f"{answer.get('Location', '')} {answer.get('region', '')} {answer.get('endpoint', '')}")
    elsewhere = ElsewhereError(
        verdict.reason, sentence + (f" ({named[0]})" if named else ""), request_id=request_id
    )
    elsewhere.region = named[0] if named else ""
    return elsewhere


def _retry_after(answer: Any) -> timedelta:
    """What the service asked for: CodeArtifact's member, or the header (RFC 9110 section 10.2.3)."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return told_wait(str(answer.get("retryAfterSeconds") or headers.get("retry-after") or ""))


def _code(error: ClientError) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", code) else "an error without a code"


def _by_status(status: int) -> Verdict:
    """Class a code that no table knows: a wrong retry is noise, a wrong stop is an outage."""
    if status == _TOO_MANY_REQUESTS:
        return _THROTTLED
    if not _FIRST_CLIENT_ERROR <= status < _FIRST_SERVER_ERROR or status in _TRY_AGAIN:
        return _UNAVAILABLE
    return Verdict("AccessDenied" if status in (401, 403) else "SourceInvalid")
