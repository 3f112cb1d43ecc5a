"""What all sessions share: credentials, durations, policies, tags and MFA codes."""

import json
import zlib
from datetime import timedelta
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import AccessKey, Principal, Role, iam_id, random_secret

_CHAINED_SECONDS_MAX = 3600
_PLAIN_POLICIES_MAX = 2048
# AWS does not document how it packs; this has room for what the documentation calls usual, not for 50 long tags.
_PACKED_MAX = 2048
_SESSION_TOKEN_SIZE = 600
_MFA_CODE_LIFETIME = timedelta(seconds=90)


def start_session(call: Call, principal: Principal, seconds: int) -> dict[str, Any]:
    """Issue the credentials of a new session, as STS returns them."""
    expires_at = call.expiry(min(seconds, call.state.settings.session_seconds))
    session_token = random_secret(max(_SESSION_TOKEN_SIZE, call.params.get("MinimumSessionTokenSize", 0)))
    key = AccessKey(iam_id("ASIA"), random_secret(30), principal, session_token, expires_at)
    call.state.add_access_key(key)
    return {
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.session_token,
        "Expiration": key.expires_at,
    }


def start_role_session(call: Call, role: Role, **passed_on: Any) -> dict[str, Any]:
    """Start a session of the role and return the output that all AssumeRole operations share."""
    seconds, name = call.params.get("DurationSeconds", 3600), call.params["RoleSessionName"]
    if seconds > role.max_session_seconds:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise AwsError("ValidationError", message)
    if call.caller and call.caller.principal.role_arn and seconds > _CHAINED_SECONDS_MAX:
        message = (
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
        raise AwsError("ValidationError", message)
    account, path = role.arn.split(":", 5)[4:]
    arn = f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/{name}"
    principal = Principal(arn, f"{role.role_id}:{name}", role.arn, **passed_on)
    return {
        **packed_policy_size(call.params),
        "Credentials": start_session(call, principal, seconds),
        "AssumedRoleUser": {"AssumedRoleId": principal.unique_id, "Arn": arn},
    }


def packed_policy_size(params: dict[str, Any]) -> dict[str, int]:
    """Check session policies and tags and return PackedPolicySize, in percent."""
    policy, tags = params.get("Policy", ""), session_tags(params)
    plain = policy + "".join(it.get("arn", "") for it in params.get("PolicyArns", []))
    if policy and not _is_json_object(policy):
        raise AwsError("MalformedPolicyDocument", "The policy is not in the valid JSON format.")
    if not (plain or tags):
        return {}
    percent = len(zlib.compress((plain + json.dumps(tags)).encode())) * 100 // _PACKED_MAX
    if percent > 100 or len(plain) > _PLAIN_POLICIES_MAX:
        message = f"Packed policy consumes {percent}% of allotted space, please use smaller policy."
        raise AwsError("PackedPolicyTooLarge", message)
    return {"PackedPolicySize": percent}


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def session_tags(params: dict[str, Any]) -> dict[str, str]:
    """Return the session tags; keys must differ in more than case, and must not be reserved by AWS."""
    tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
    if len({key.lower() for key in tags}) < len(params.get("Tags", [])):
        message = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        raise AwsError("InvalidParameterValue", message)
    if any(key.lower().startswith("aws:") for key in tags):
        raise AwsError("InvalidParameterValue", "Tag keys with the 'aws:' prefix are reserved for system use.")
    return tags


def verify_mfa(call: Call) -> bool:
    """Consume the MFA code of the caller's own device; False if there is none, an error if it is wrong."""
    serial, code = call.params.get("SerialNumber"), call.params.get("TokenCode")
    problem = ""
    if serial is None and code is None:
        return False
    if serial is None or code is None:
        problem = ", must provide both MFA serial number and one time pass code."
    elif serial != call.signer.principal.arn.replace(":user/", ":mfa/"):
        problem = (
            ", unable to validate MFA code. "
            " Please verify your MFA serial number is valid and associated with this user."
        )
    else:
        issued_at = call.state.mfa_codes.pop((serial, code), None)
        if issued_at is None or call.now - issued_at > _MFA_CODE_LIFETIME:
            problem = " with invalid MFA one time pass code."
    if problem:
        raise AwsError("AccessDenied", f"MultiFactorAuthentication failed{problem}", 403)
    return True
