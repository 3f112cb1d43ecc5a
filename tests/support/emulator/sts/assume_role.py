"""AssumeRole: one role after another, or a user."""

from typing import Any

from tests.support.emulator.constants import CONTEXT_PROVIDER
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import AccessKey, Role
from tests.support.emulator.sts.mfa import passed_mfa
from tests.support.emulator.sts.session import checked_tags, role_session
from tests.support.emulator.trust_policy import Context, Principals


def assume_role(call: Call) -> dict[str, Any]:
    """Answer AssumeRole: the MFA code first, then the role's trust, then the request's limits."""
    key, asked = call.signer, call.params
    mfa = passed_mfa(call) or key.principal.mfa
    tags, identity = _transitive_tags(call), asked.get("SourceIdentity", key.principal.source_identity)
    role = _trusting_role(call, _needed(asked, key), mfa=mfa)
    _check_contexts(call)
    answer = role_session(call, role, source_identity=identity, transitive_tags=tags)
    return {**answer, "SourceIdentity": identity} if identity else answer


def _needed(asked: dict[str, Any], key: AccessKey) -> list[str]:
    """Tell the actions that the trust policy must allow: what is inherited counts like what is asked."""
    tagged = asked.get("Tags") or key.principal.transitive_tags
    identified = asked.get("SourceIdentity") or key.principal.source_identity
    more = {
        "sts:TagSession": tagged,
        "sts:SetSourceIdentity": identified,
        "sts:SetContext": asked.get("ProvidedContexts"),
    }
    return ["sts:AssumeRole", *(action for action, needed in more.items() if needed)]


def _check_contexts(call: Call) -> None:
    """Take a context only of Identity Center, as it was given, and while it lasts."""
    known = call.world.directory.contexts
    for one in call.params.get("ProvidedContexts", []):
        ends = known.get(one.get("ContextAssertion", ""))
        if one.get("ProviderArn") != CONTEXT_PROVIDER or ends is None or ends <= call.now:
            raise AwsError("ValidationError", "The provided context is not valid or has expired")
        call.world.counts["AssumeRole:with context"] += 1


def _trusting_role(call: Call, actions: list[str], *, mfa: bool) -> Role:
    arn, principal, context = call.params["RoleArn"], call.signer.principal, _context(call, mfa=mfa)
    role, names = call.world.roles.get(arn), _names(call.signer)
    refused = [one for one in actions if role is None or not role.trust_policy.allows(one, names, context)]
    # AWS tells a role that is not there and one that does not trust the caller apart by nothing.
    if role is None or refused:
        message = f"User: {principal.arn} is not authorized to perform: {refused[0]} on resource: {arn}"
        raise AwsError("AccessDenied", message, 403)
    if principal.source_identity and call.params.get("SourceIdentity") not in {None, principal.source_identity}:
        raise AwsError("AccessDenied", "The source identity of a session cannot be changed", 403)
    return role


def _names(key: AccessKey) -> Principals:
    """Tell the names that trust policies may have for the caller; a federated user can call no STS operation."""
    principal = key.principal
    if ":federated-user/" in principal.arn:
        return {}
    names = {principal.arn, principal.role_arn, principal.account, f"arn:aws:iam::{principal.account}:root"}
    return {"AWS": names - {""}}


def _context(call: Call, *, mfa: bool) -> Context:
    given = {"sts:ExternalId": "ExternalId", "sts:RoleSessionName": "RoleSessionName"}
    context = {key: [call.params[name]] for key, name in given.items() if name in call.params}
    context |= {f"aws:RequestTag/{tag['Key']}": [tag["Value"]] for tag in call.params.get("Tags", [])}
    # AWS leaves the key out for a user's own keys: {"Bool": "false"} does not match them.
    if mfa or call.signer.session_token:
        context["aws:MultiFactorAuthPresent"] = [str(mfa).lower()]
    return context


def _transitive_tags(call: Call) -> dict[str, str]:
    """Tell the tags that the session hands on: those of the calling session and those that are asked for."""
    asked, inherited = checked_tags(call.params), call.signer.principal.transitive_tags
    keys = set(call.params.get("TransitiveTagKeys", []))
    if not keys <= asked.keys():
        message = "The specified transitive tag key must be included in the requested tags."
        raise AwsError("InvalidParameterValue", message)
    if {key.lower() for key in asked} & {key.lower() for key in inherited}:
        message = (
            "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key "
            "from the calling session."
        )
        raise AwsError("InvalidParameterValue", message)
    return {**inherited, **{key: asked[key] for key in keys}}
