"""AssumeRole by a user or by another role."""

from typing import Any

from tests.support.emulator.constants import CONTEXT_PROVIDER
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import AccessKey, Role
from tests.support.emulator.sts.session import session_tags, start_role_session, verify_mfa
from tests.support.emulator.trust_policy import ConditionContext, Principals


def assume_role(call: Call) -> dict[str, Any]:
    """AssumeRole: checks the MFA code, the trust policy, then the limits of the request."""
    key, params = call.signer, call.params
    mfa = verify_mfa(call) or key.principal.mfa
    tags, identity = _transitive_tags(call), params.get("SourceIdentity", key.principal.source_identity)
    role = _trusting_role(call, mfa=mfa)
    for context in params.get("ProvidedContexts", []):
        expires_at = call.state.directory.contexts.get(context.get("ContextAssertion", ""))
        if context.get("ProviderArn") != CONTEXT_PROVIDER or expires_at is None or expires_at <= call.now:
            raise AwsError("ValidationError", "The provided context is not valid or has expired")
        call.state.counts["AssumeRole:with context"] += 1
    output = start_role_session(call, role, source_identity=identity, transitive_tags=tags)
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
    tags, inherited = session_tags(call.params), call.signer.principal.transitive_tags
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
