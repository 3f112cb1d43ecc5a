"""AWS STS: a web identity token for the credentials of a role, and who a caller is."""

import json
from typing import Any

import jwt

from tests.aws.service import Call, Service
from tests.aws.wire import AwsError
from tests.aws.world import (
    ASSUME_ACTION,
    ISSUER,
    PROVIDER,
    AccessKey,
    Role,
    identifier,
    secret_text,
)


def _bad_token(message: str) -> AwsError:
    return AwsError("InvalidIdentityToken", message)


def assume_role_with_web_identity(call: Call) -> dict[str, Any]:
    """Answer AssumeRoleWithWebIdentity: the token first, then the role's trust, then the request's limits."""
    asked = call.params
    claims = _verified_claims(call)
    role = _trusting_role(call, claims)
    _check_policy(asked.get("Policy"))
    seconds = asked.get("DurationSeconds", 3600)
    if seconds > role.max_session_seconds:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise AwsError("ValidationError", message)
    key = _session(call, role, asked["RoleSessionName"], seconds)
    return {
        "Credentials": {
            "AccessKeyId": key.access_key_id,
            "SecretAccessKey": key.secret_access_key,
            "SessionToken": key.session_token,
            "Expiration": key.expires_at,
        },
        "SubjectFromWebIdentityToken": claims["sub"],
        "AssumedRoleUser": {"AssumedRoleId": key.principal_id, "Arn": key.principal_arn},
        "Provider": PROVIDER,
        "Audience": claims["aud"],
    }


def _verified_claims(call: Call) -> dict[str, Any]:
    claims = _signed_claims(call, call.params["WebIdentityToken"])
    if claims["aud"] not in call.world.licenses:
        raise _bad_token("Incorrect token audience")
    if claims["exp"] <= call.now.timestamp():
        message = f"Token expired: current date/time {call.now.timestamp():.0f} must be before"
        raise AwsError("ExpiredTokenException", f"{message} the expiration date/time {claims['exp']}")
    return claims


def _signed_claims(call: Call, token: str) -> dict[str, Any]:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.InvalidTokenError:
        raise _bad_token("The ID Token provided is not a valid JWT.") from None
    if issuer != ISSUER or "ProviderId" in call.params:
        raise _bad_token(f"No OpenIDConnect provider found in your account for {issuer}")
    try:
        return call.world.access_token_key.claims(token)
    except jwt.InvalidTokenError:
        raise _bad_token("Couldn't retrieve verification key from your identity provider") from None


def _trusting_role(call: Call, claims: dict[str, Any]) -> Role:
    role = call.world.roles.get(call.params["RoleArn"])
    context = {
        f"{PROVIDER}:aud": [claims["aud"]],
        f"{PROVIDER}:sub": [claims["sub"]],
        f"{PROVIDER}:amr": claims.get("amr", []),
    }
    # AWS tells a role that is not there and one that does not trust the token apart by nothing.
    if role is None or not role.trust_policy.allows(ASSUME_ACTION, PROVIDER, context):
        raise AwsError("AccessDenied", f"Not authorized to perform {ASSUME_ACTION}", 403)
    return role


def _check_policy(policy: str | None) -> None:
    try:
        document = {} if policy is None else json.loads(policy)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise AwsError("MalformedPolicyDocument", "The policy is not in the valid JSON format.")


def _session(call: Call, role: Role, name: str, seconds: int) -> AccessKey:
    account, path = role.arn.split(":", 5)[4:]
    return call.world.keep(
        AccessKey(
            identifier("ASIA"),
            secret_text(30),
            f"arn:aws:sts::{account}:assumed-role/{path.rpartition('/')[2]}/{name}",
            f"{role.role_id}:{name}",
            secret_text(600),
            call.expiry(min(seconds, call.world.settings.session_seconds)),
        )
    )


def get_caller_identity(call: Call) -> dict[str, Any]:
    """Answer GetCallerIdentity: the proof that credentials are what they say."""
    signer = call.signer
    return {"UserId": signer.principal_id, "Account": signer.account, "Arn": signer.principal_arn}


SERVICE = Service(
    "sts",
    {"AssumeRoleWithWebIdentity": assume_role_with_web_identity, "GetCallerIdentity": get_caller_identity},
)
