"""AWS STS."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import jwt

from tests.support.emulator.constants import CONTEXT_PROVIDER, WEB_IDENTITY_ACTION
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import AccessKey, OidcProvider, Principal, Role, iam_id, random_secret
from tests.support.emulator.trust_policy import ConditionContext, Principals

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


def _start_role_session(call: Call, role: Role, **passed_on: Any) -> dict[str, Any]:
    """Start a session of the role and return the output that all AssumeRole operations share."""
    seconds, name = call.params.get("DurationSeconds", 3600), call.params["RoleSessionName"]
    if seconds > role.max_session_seconds:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise AwsError("ValidationError", message)
    if call.caller and call.caller.principal.role_arn and seconds > _CHAINED_SECONDS_MAX:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise AwsError("ValidationError", message)
    principal = role.session(name, **passed_on)
    return {
        **_packed_policy_size(call.params, principal.transitive_tags),
        "Credentials": start_session(call, principal, seconds),
        "AssumedRoleUser": {"AssumedRoleId": principal.unique_id, "Arn": principal.arn},
    }


def _packed_policy_size(params: dict[str, Any], inherited: Mapping[str, str] = MappingProxyType({})) -> dict[str, int]:
    """Check session policies and tags, also the inherited ones, and return PackedPolicySize, in percent."""
    policy, tags = params.get("Policy", ""), {**inherited, **_session_tags(params)}
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


def _session_tags(params: dict[str, Any]) -> dict[str, str]:
    """Return the session tags; keys must differ in more than case, and must not be reserved by AWS."""
    tags = {tag["Key"]: tag["Value"] for tag in params.get("Tags", [])}
    if len({key.lower() for key in tags}) < len(params.get("Tags", [])):
        message = "Duplicate tag keys found. Please note that Tag keys are case insensitive."
        raise AwsError("InvalidParameterValue", message)
    if any(key.lower().startswith("aws:") for key in tags):
        raise AwsError("InvalidParameterValue", "Tag keys with the 'aws:' prefix are reserved for system use.")
    return tags


def _verify_mfa(call: Call) -> bool:
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


def assume_role(call: Call) -> dict[str, Any]:
    """AssumeRole: checks the MFA code, the trust policy, then the limits of the request."""
    key, params = call.signer, call.params
    mfa = _verify_mfa(call) or key.principal.mfa
    tags, identity = _transitive_tags(call), params.get("SourceIdentity", key.principal.source_identity)
    role = _trusting_role(call, mfa=mfa)
    for context in params.get("ProvidedContexts", []):
        expires_at = call.state.directory.contexts.get(context.get("ContextAssertion", ""))
        if context.get("ProviderArn") != CONTEXT_PROVIDER or expires_at is None or expires_at <= call.now:
            raise AwsError("ValidationError", "The provided context is not valid or has expired")
        call.state.counts["AssumeRole:with context"] += 1
    output = _start_role_session(call, role, source_identity=identity, transitive_tags=tags)
    return {**output, "SourceIdentity": identity} if identity else output


def _trusting_role(call: Call, *, mfa: bool) -> Role:
    """Return the role if its trust policy allows every action that the request needs, inherited ones included."""
    arn, principal, params = call.params["RoleArn"], call.signer.principal, call.params
    needed = {
        "sts:AssumeRole": True,
        "sts:TagSession": params.get("Tags") or principal.transitive_tags,
        "sts:SetSourceIdentity": params.get("SourceIdentity") or principal.source_identity,
        "sts:SetContext": params.get("ProvidedContexts"),
    }
    role, names, context = call.state.roles.get(arn), _principal_names(call.signer), _context(call, mfa=mfa)
    denied = [
        action
        for action in needed
        if needed[action] and not (role and role.trust_policy.allows(action, names, context))
    ]
    # AWS returns the same error for a role that does not exist.
    if role is None or denied:
        message = f"User: {principal.arn} is not authorized to perform: {denied[0]} on resource: {arn}"
        raise AwsError("AccessDenied", message, 403)
    if principal.source_identity and params.get("SourceIdentity") not in {None, principal.source_identity}:
        raise AwsError("AccessDenied", "The source identity of a session cannot be changed", 403)
    return role


def _principal_names(key: AccessKey) -> Principals:
    principal = key.principal
    if ":federated-user/" in principal.arn:  # a federated user can call no STS operation
        return {}
    names = {principal.arn, principal.role_arn, principal.account, f"arn:aws:iam::{principal.account}:root"}
    return {"AWS": names - {""}}


def _context(call: Call, *, mfa: bool) -> ConditionContext:
    names = ("ExternalId", "RoleSessionName")
    context = {f"sts:{name}": [call.params[name]] for name in names if name in call.params}
    context |= {f"aws:RequestTag/{tag['Key']}": [tag["Value"]] for tag in call.params.get("Tags", [])}
    # AWS omits the key for a user's access keys: {"Bool": "false"} does not match them.
    if mfa or call.signer.session_token:
        context["aws:MultiFactorAuthPresent"] = [str(mfa).lower()]
    return context


def _transitive_tags(call: Call) -> dict[str, str]:
    """Return the tags that the session passes on: the inherited and the requested transitive tags."""
    tags, inherited = _session_tags(call.params), call.signer.principal.transitive_tags
    keys = set(call.params.get("TransitiveTagKeys", []))
    if not keys <= tags.keys():
        message = "The specified transitive tag key must be included in the requested tags."
        raise AwsError("InvalidParameterValue", message)
    if {key.lower() for key in tags} & {key.lower() for key in inherited}:
        message = (
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key "
            "from the calling session."
        )
        raise AwsError("InvalidParameterValue", message)
    return {**inherited, **{key: tags[key] for key in keys}}


def assume_role_with_web_identity(call: Call) -> dict[str, Any]:
    """AssumeRoleWithWebIdentity: checks the token, the trust policy, then the limits of the request."""
    provider, claims = _verified_claims(call, call.params["WebIdentityToken"])
    if claims["aud"] not in provider.audiences:
        raise _invalid_token("Incorrect token audience")
    if claims["exp"] <= call.now.timestamp():
        message = f"Token expired: current date/time {call.now.timestamp():.0f} must be before"
        raise AwsError("ExpiredTokenException", f"{message} the expiration date/time {claims['exp']}")
    role = call.state.roles.get(call.params["RoleArn"])
    context = {
        f"{provider.prefix}:aud": [claims["aud"]],
        f"{provider.prefix}:sub": [claims["sub"]],
        f"{provider.prefix}:amr": claims.get("amr", []),
    }
    principals: Any = {"Federated": {provider.principal}}
    # AWS returns the same error for a role that does not exist.
    if role is None or not role.trust_policy.allows(WEB_IDENTITY_ACTION, principals, context):
        raise AwsError("AccessDenied", f"Not authorized to perform {WEB_IDENTITY_ACTION}", 403)
    return {
        **_start_role_session(call, role),
        "SubjectFromWebIdentityToken": claims["sub"],
        "Provider": provider.principal,
        "Audience": claims["aud"],
    }


def _verified_claims(call: Call, token: str) -> tuple[OidcProvider, dict[str, Any]]:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.InvalidTokenError:
        raise _invalid_token("The ID Token provided is not a valid JWT.") from None
    provider = call.state.oidc_providers.get(str(issuer))
    if provider is None or "ProviderId" in call.params:
        raise _invalid_token(f"No OpenIDConnect provider found in your account for {issuer}")
    try:
        claims = provider.key.claims(token)
    except jwt.InvalidTokenError:
        raise _invalid_token("Couldn't retrieve verification key from your identity provider") from None
    # Kubernetes writes a list of one audience. If there is an `azp`, AWS uses it as the audience: the IAM User
    # Guide documents this for Google, aws-sdk-net issue 3071 reports it for Entra, and Keycloak always writes one.
    audience = claims["aud"][0] if isinstance(claims["aud"], list) else claims["aud"]
    return provider, claims | {"aud": claims.get("azp") or audience}


def _invalid_token(message: str) -> AwsError:
    return AwsError("InvalidIdentityToken", message)


_DEFAULT_SECONDS = 43200


def get_session_token(call: Call) -> dict[str, Any]:
    """GetSessionToken: temporary credentials of the same user, with MFA if a code is sent."""
    principal = replace(_user(call, "GetSessionToken"), mfa=_verify_mfa(call))
    return {"Credentials": start_session(call, principal, call.params.get("DurationSeconds", _DEFAULT_SECONDS))}


def get_federation_token(call: Call) -> dict[str, Any]:
    """GetFederationToken: credentials of a federated user of the account."""
    account, name = _user(call, "GetFederationToken").account, call.params["Name"]
    principal = Principal(f"arn:aws:sts::{account}:federated-user/{name}", f"{account}:{name}")
    return {
        **_packed_policy_size(call.params),
        "Credentials": start_session(call, principal, call.params.get("DurationSeconds", _DEFAULT_SECONDS)),
        "FederatedUser": {"FederatedUserId": principal.unique_id, "Arn": principal.arn},
    }


def _user(call: Call, operation: str) -> Principal:
    if call.signer.session_token:
        raise AwsError("AccessDenied", f"Cannot call {operation} with session credentials", 403)
    return call.signer.principal


def get_caller_identity(call: Call) -> dict[str, Any]:
    principal = call.signer.principal
    return {"UserId": principal.unique_id, "Account": principal.account, "Arn": principal.arn}


SERVICE = Service(
    "sts",
    {
        "AssumeRole": assume_role,
        "AssumeRoleWithWebIdentity": assume_role_with_web_identity,
        "GetCallerIdentity": get_caller_identity,
        "GetFederationToken": get_federation_token,
        "GetSessionToken": get_session_token,
    },
    constraints={"policyDescriptorListType": {"max": 10}},
)
