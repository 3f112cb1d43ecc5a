"""What all sessions share: credentials, lifetimes, policies, tags."""

import json
import zlib
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import AccessKey, Principal, Role, identifier, secret_text

CHAINED_SECONDS_MAX = 3600
PLAIN_POLICIES_MAX = 2048
# How AWS packs is not told; this has room for what its pages call usual, and none for 50 long tags.
PACKED_MAX = 2048
_SESSION_TOKEN_SIZE = 600


def start(call: Call, principal: Principal, seconds: int) -> dict[str, Any]:
    """Issue the credentials of a new session, as answers have them."""
    size = max(_SESSION_TOKEN_SIZE, call.params.get("MinimumSessionTokenSize", 0))
    expires_at = call.expiry(min(seconds, call.world.settings.session_seconds))
    key = AccessKey(identifier("ASIA"), secret_text(30), principal, secret_text(size), expires_at)
    call.world.keep(key)
    return {
        "AccessKeyId": key.access_key_id,
        "SecretAccessKey": key.secret_access_key,
        "SessionToken": key.session_token,
        "Expiration": key.expires_at,
    }


def role_session(call: Call, role: Role, **handed_on: Any) -> dict[str, Any]:
    """Start a session of the role, and tell what each operation that assumes one answers."""
    seconds, name = _role_seconds(call, role), call.params["RoleSessionName"]
    account, path = role.arn.split(":", 5)[4:]
    arn = f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/{name}"
    principal = Principal(arn, f"{role.role_id}:{name}", role.arn, **handed_on)
    return {
        **packed_size(call.params),
        "Credentials": start(call, principal, seconds),
        "AssumedRoleUser": {"AssumedRoleId": principal.unique_id, "Arn": arn},
    }


def _role_seconds(call: Call, role: Role) -> int:
    seconds: int = call.params.get("DurationSeconds", 3600)
    if seconds > role.max_session_seconds:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise AwsError("ValidationError", message)
    if call.caller and call.caller.principal.role_arn and seconds > CHAINED_SECONDS_MAX:
        message = (
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
        raise AwsError("ValidationError", message)
    return seconds


def packed_size(params: dict[str, Any]) -> dict[str, int]:
    """Check session policies and tags, and tell what part of their room they take, in percent."""
    policy, tags = params.get("Policy", ""), checked_tags(params)
    plain = policy + "".join(one.get("arn", "") for one in params.get("PolicyArns", []))
    if policy:
        _check_policy(policy)
    if not (plain or tags):
        return {}
    percent = len(zlib.compress((plain + json.dumps(tags)).encode())) * 100 // PACKED_MAX
    if percent > 100 or len(plain) > PLAIN_POLICIES_MAX:
        message = f"Packed policy consumes {percent}% of allotted space, please use smaller policy."
        raise AwsError("PackedPolicyTooLarge", message)
    return {"PackedPolicySize": percent}


def _check_policy(policy: str) -> None:
    try:
        document = json.loads(policy)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise AwsError("MalformedPolicyDocument", "The policy is not in the valid JSON format.")


def checked_tags(params: dict[str, Any]) -> dict[str, str]:
    """Read the session tags; no two keys may differ only by case, none may be AWS's own."""
    tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
    if len({key.lower() for key in tags}) < len(params.get("Tags", [])):
        raise AwsError(
            "InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        )
    if any(key.lower().startswith("aws:") for key in tags):
        raise AwsError("InvalidParameterValue", "Tag keys with the 'aws:' prefix are reserved for system use.")
    return tags
