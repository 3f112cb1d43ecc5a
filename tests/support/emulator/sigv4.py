"""Who signed this call: AWS Signature Version 4, recomputed by botocore's own signer.

A second implementation would only test itself. What is ours are the checks around it: whose secret,
the scope, the clock, the session token, and that the body is the one that was signed.
"""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from hmac import compare_digest

import botocore.loaders
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.emulator.protocols import Signed
from tests.support.emulator.service import Service
from tests.support.emulator.state import AccessKey, State

CLOCK_WINDOW = timedelta(minutes=5)
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key_id>\w+)/(?P<date>\d{8})/(?P<region>[\w-]+)/(?P<service>[\w-]+)"
    r"/aws4_request, ?SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_REGION = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]\b")


@cache
def _regions() -> frozenset[str]:
    partitions = botocore.loaders.Loader().load_data("endpoints")["partitions"]
    return frozenset(region for partition in partitions for region in partition["regions"])


def signed_region(signed: Signed) -> str:
    """Tell the region that a request was signed for; empty where it was not signed."""
    parts = _AUTHORIZATION.fullmatch(signed.headers.get("authorization", ""))
    return parts["region"] if parts else ""


def find_caller(world: State, service: Service, signed: Signed, now: datetime) -> AccessKey:
    """Find who signed the request; raises the service's refusal if it was nobody, or badly done."""
    refusal = service.wire.refusal
    if "authorization" not in signed.headers:
        raise refusal("unsigned", "Request is missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(signed.headers["authorization"])
    if parts is None or not {"host", "x-amz-date"} <= set(parts["headers"].split(";")):
        raise refusal("half signed", "The Authorization header is not a complete signature")
    key = world.access_keys.get(parts["key_id"])
    if key is None or signed.headers.get("x-amz-security-token", "") != key.session_token:
        raise refusal("unknown key", "The security token included in the request is invalid.")
    wrong = (
        _wrong_scope(service, signed, parts)
        or _wrong_time(signed, parts, now)
        or _wrong_signature(signed, parts, key)
    )
    if wrong:
        raise refusal("bad signature", wrong)
    if key.expires_at and key.expires_at <= now:
        raise refusal("expired", "The security token included in the request is expired")
    return key


def _wrong_scope(service: Service, signed: Signed, parts: re.Match[str]) -> str:
    # One process is every region: which one is asked, the signature tells; where the host tells it too, both must.
    asked = _REGION.search(signed.headers.get("host", ""))
    if parts["region"] not in _regions() or (asked and asked[0] != parts["region"]):
        return f"Credential should be scoped to a valid region, not '{parts['region']}'."
    if parts["service"] != service.model.signing_name:
        return f"Credential should be scoped to correct service: '{service.model.signing_name}'."
    return ""


def _wrong_time(signed: Signed, parts: re.Match[str], now: datetime) -> str:
    text = signed.headers.get("x-amz-date", "")
    try:
        at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return "Date is not a timestamp."
    if text[:8] != parts["date"]:
        return "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
    if abs(at - now) > CLOCK_WINDOW:
        late = "expired" if at < now else "not yet current"
        return f"Signature {late}: {text} is more than 5 min. from {now:%Y%m%dT%H%M%SZ}."
    return ""


def _wrong_signature(signed: Signed, parts: re.Match[str], key: AccessKey) -> str:
    headers = {name: signed.headers.get(name, "") for name in parts["headers"].split(";")}
    request = AWSRequest(signed.method, signed.url, headers, signed.body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), parts["service"], parts["region"])
    to_sign = signer.string_to_sign(request, signer.canonical_request(request))
    # The signer takes a checksum header at its word.
    claimed = signed.headers.get("x-amz-content-sha256", hashlib.sha256(signed.body).hexdigest())
    honest = compare_digest(claimed, hashlib.sha256(signed.body).hexdigest())
    if honest and compare_digest(signer.signature(to_sign, request), parts["signature"]):
        return ""
    return "The request signature we calculated does not match the signature you provided."
