"""AWS STS: a token or credentials for the credentials of a role or a user."""

from dataclasses import replace
from typing import Any

from keyturn.core.holding import Credentials, Holding, safe
from keyturn.core.model.exchanges import AssumeRole, AssumeRoleWithWebIdentity, GetSessionToken
from keyturn.core.renewal import whole
from keyturn.exchange.aws import Answer
from keyturn.exchange.systems import Call
from keyturn.exchange.verdicts import Operation, Verdict, member

_TRUST = "does the role's trust policy allow this caller?"
_DURATION = Verdict("SpecInvalid", hint="is durationSeconds over the maximum session duration of the role?")
_KEYS = Verdict("SourceInvalid", hint="are the access keys of the source right, and active?")

# The codes of the model's errors are not their shape names: IDPRejectedClaim, not ...Exception.
_COMMON = {
    "MalformedPolicyDocument": Verdict("SpecInvalid"),
    "PackedPolicyTooLarge": Verdict("SpecInvalid"),
    "RegionDisabledException": Verdict("AccessDenied", hint="STS is not enabled in that region"),
    "ValidationError": _DURATION,
}
_SIGNED = _COMMON | {
    "AccessDenied": Verdict("AccessDenied", hint=_TRUST, settles=True),
    "ExpiredToken": Verdict("SourceExpired", hint="the credentials of the source have expired"),
    "ExpiredTokenException": Verdict("SourceExpired", hint="the credentials of the source have expired"),
    "InvalidClientTokenId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
}

_WITH_WEB_IDENTITY = Operation(
    exchange="assumeRoleWithWebIdentity",
    service="sts",
    name="assume_role_with_web_identity",
    title="STS AssumeRoleWithWebIdentity",
    verdicts=_COMMON
    | {
        "AccessDenied": Verdict(
            "AccessDenied",
            hint="does the role's trust policy name this issuer, audience and subject?",
            settles=True,
        ),
        "ExpiredTokenException": Verdict("SourceExpired", hint="the token had expired when STS saw it"),
        "IDPCommunicationError": Verdict("Unavailable"),
        "IDPRejectedClaim": Verdict("AccessDenied", hint="the issuer refused the token's claims"),
        "InvalidIdentityToken": Verdict(
            "SourceInvalid", hint="is there an OIDC provider for the token's issuer in the role's account?"
        ),
    },
)
_ASSUME_ROLE = Operation("assumeRole", "sts", "assume_role", "STS AssumeRole", _SIGNED)
_GET_SESSION_TOKEN = Operation(
    exchange="getSessionToken",
    service="sts",
    name="get_session_token",
    title="STS GetSessionToken",
    verdicts=_SIGNED | {"AccessDenied": Verdict("AccessDenied", hint="only the keys of an IAM user may call it")},
)


async def assume_role_with_web_identity(call: Call, wanted: AssumeRoleWithWebIdentity, held: Holding) -> Holding:
    """Call sts AssumeRoleWithWebIdentity, which needs no AWS credentials."""
    parameters: dict[str, Any] = {
        "RoleArn": wanted.role_arn,
        "RoleSessionName": wanted.role_session_name or call.session_name,
        "WebIdentityToken": held.token_to_read(wanted.from_).value,
    } | _duration(wanted)
    answer = await call.systems.aws.ask(_WITH_WEB_IDENTITY, call.region, parameters)
    return _held(_WITH_WEB_IDENTITY, held, answer)


async def assume_role(call: Call, wanted: AssumeRole, held: Holding) -> Holding:
    """Call sts AssumeRole, signed with the credentials that are held; a held identity context goes with it."""
    parameters: dict[str, Any] = {
        "RoleArn": wanted.role_arn,
        "RoleSessionName": wanted.role_session_name or call.session_name,
    } | _duration(wanted)
    parameters |= _provided_contexts(wanted, held)
    answer = await call.systems.aws.ask(_ASSUME_ROLE, call.region, parameters, held.own_credentials)
    return _held(_ASSUME_ROLE, held, answer)


async def get_session_token(call: Call, wanted: GetSessionToken, held: Holding) -> Holding:
    """Call sts GetSessionToken, signed with the keys of an IAM user."""
    answer = await call.systems.aws.ask(_GET_SESSION_TOKEN, call.region, _duration(wanted), held.own_credentials)
    return _held(_GET_SESSION_TOKEN, held, answer)


def _provided_contexts(wanted: AssumeRole, held: Holding) -> dict[str, Any]:
    """For whom the role is assumed, where Identity Center has said so: each role after it is told."""
    if held.identity_context is None:
        return {}
    partition = wanted.role_arn.split(":")[1]
    provider = f"arn:{partition}:iam::aws:contextProvider/IdentityCenter"
    return {"ProvidedContexts": [{"ProviderArn": provider, "ContextAssertion": held.identity_context}]}


def _duration(wanted: AssumeRole | AssumeRoleWithWebIdentity | GetSessionToken) -> dict[str, Any]:
    return {"DurationSeconds": wanted.duration_seconds} if wanted.duration_seconds else {}


def _held(operation: Operation, held: Holding, answer: Answer) -> Holding:
    given = member(operation, answer.members, "Credentials")
    credentials = Credentials(
        access_key_id=safe(member(operation, given, "AccessKeyId"), "STS's access key id"),
        secret_access_key=safe(member(operation, given, "SecretAccessKey"), "STS's secret access key"),
        session_token=safe(member(operation, given, "SessionToken"), "STS's session token"),
        expires_at=whole(member(operation, given, "Expiration")),
    )
    principal = answer.members.get("AssumedRoleUser", {}).get("Arn", held.principal)
    return replace(held, credentials=credentials, principal=principal, request_id=answer.request_id)
