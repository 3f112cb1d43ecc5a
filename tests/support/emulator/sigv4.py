"""Verification of AWS Signature Version 4.

botocore computes the expected signature: a second implementation would only test itself. This module checks what
surrounds it: the key, the scope, the clock, the session token and the hash of the body.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from hmac import compare_digest

import botocore.loaders
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.emulator.protocols import IncomingRequest
from tests.support.emulator.service import Service
from tests.support.emulator.state import AccessKey, State

_CLOCK_WINDOW = timedelta(minutes=5)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key_id>\w+)/(?P<date>\d{8})/(?P<region>[\w-]+)/(?P<service>[\w-]+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_REGION = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]\b")


@cache
def _regions() -> frozenset[str]:
    partitions = botocore.loaders.Loader().load_data("endpoints")["partitions"]
    return frozenset(region for partition in partitions for region in partition["regions"])


def signed_region(request: IncomingRequest) -> str:
    """Return the region in the signature's scope; empty if the request is unsigned."""
    parts = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    return parts["region"] if parts else ""


def find_caller(state: State, service: Service, request: IncomingRequest, now: datetime) -> AccessKey:
    """Return the key that signed the request; raises the error that the service returns for a bad signature."""
    error = service.protocol.common_error
    if "authorization" not in request.headers:
        raise error("unsigned", "Request is missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(request.headers["authorization"])
    if parts is None or not {"host", "x-amz-date"} <= set(parts["headers"].split(";")):
        raise error("incomplete signature", "The Authorization header is not a complete signature")
    key = state.access_keys.get(parts["key_id"])
    if key is None or request.headers.get("x-amz-security-token", "") != key.session_token:
        raise error("unknown key", "The security token included in the request is invalid.")
    problem = (
        _scope_problem(service, request, parts)
        or _clock_problem(request, parts, now)
        or _signature_problem(request, parts, key)
    )
    if problem:
        raise error("bad signature", problem)
    if key.expires_at and key.expires_at <= now:
        raise error("expired", "The security token included in the request is expired")
    return key


def _scope_problem(service: Service, request: IncomingRequest, parts: re.Match[str]) -> str:
    # One process serves every region: the signature names it, and the host must match if it names one too.
    host_region = _REGION.search(request.headers.get("host", ""))
    if parts["region"] not in _regions() or (host_region and host_region[0] != parts["region"]):
        return f"Credential should be scoped to a valid region, not '{parts['region']}'."
    if parts["service"] != service.model.signing_name:
        return f"Credential should be scoped to correct service: '{service.model.signing_name}'."
    return ""


def _clock_problem(request: IncomingRequest, parts: re.Match[str], now: datetime) -> str:
    text = request.headers.get("x-amz-date", "")
    try:
        signed_at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "Date is not a timestamp."
    if text[:8] != parts["date"]:
        return "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
    if abs(signed_at - now) > _CLOCK_WINDOW:
        problem = "expired" if signed_at < now else "not yet current"
        return f"Signature {problem}: {text} is more than 5 min. from {now:%Y%m%dT%H%M%SZ}."
    return ""


def _signature_problem(incoming: IncomingRequest, parts: re.Match[str], key: AccessKey) -> str:
    headers = {name: incoming.headers.get(name, "") for name in parts["headers"].split(";")}
    request = AWSRequest(incoming.method, incoming.url, headers, incoming.body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), parts["service"], parts["region"])
    string_to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    if compare_digest(signer.signature(string_to_sign, request), parts["signature"]):
        return ""
    return "The request signature we calculated does not match the signature you provided."
