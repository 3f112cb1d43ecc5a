"""AWS STS: a token or credentials for the credentials of a role, a user or a guest."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from msgspec import structs

from keyturn.api.exchanges.session_parameters import MfaExchangeSpec, PolicyArn, Tag
from keyturn.api.exchanges.sts import (
    AssumeRoleSpec,
    AssumeRoleWithWebIdentitySpec,
    GetFederationTokenSpec,
    GetSessionTokenSpec,
)
from keyturn.api.rules.ambient import AMBIENT_TAGS
from keyturn.api.source import SecretValue
from keyturn.api.times import whole
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import Credentials, PipelineValues, safe, sized
from keyturn.exchanges.allowed_identities import check_ambient
from keyturn.exchanges.ambient import AMBIENT
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import EXPIRED, KEYS, AwsOperation, ErrorClassification, member
from keyturn.exchanges.context import Call
from keyturn.exchanges.session_name import session_name

_TRUST = "does the role exist, and its trust policy allow this caller, external id, tags, source identity, MFA code?"
_DURATION = ErrorClassification("InvalidSpec", hint="is durationSeconds over the maximum session duration of the role?")
_LONGEST_FEDERATED_NAME = 32

# The codes of the model's errors are not their shape names: IDPRejectedClaim, not ...Exception.
_COMMON = {
    "InvalidParameterValue": ErrorClassification(
        "InvalidSpec", hint="does a tag break the rules, or one that is handed on?"
    ),
    "MalformedPolicyDocument": ErrorClassification("InvalidSpec", hint="is `policy` an IAM policy in JSON?"),
    "PackedPolicyTooLarge": ErrorClassification(
        "InvalidSpec", hint="policy, policyArns and tags are too large together"
    ),
    "RegionDisabledException": ErrorClassification("AccessDenied", hint="STS is not enabled in that region"),
    "ValidationError": _DURATION,
}
_SIGNED = _COMMON | {
    "AccessDenied": ErrorClassification("AccessDenied", hint=_TRUST, eventually_consistent=True),
    "ExpiredToken": EXPIRED,
    "ExpiredTokenException": EXPIRED,
    "InvalidClientTokenId": KEYS,
    "SignatureDoesNotMatch": KEYS,
}

_WITH_WEB_IDENTITY = AwsOperation(
    exchange="assumeRoleWithWebIdentity",
    service="sts",
    name="assume_role_with_web_identity",
    title="STS AssumeRoleWithWebIdentity",
    classifications=_COMMON
    | {
        "AccessDenied": ErrorClassification(
            "AccessDenied",
            hint="does the role exist, and does its trust policy name this issuer, audience and subject?",
            eventually_consistent=True,
        ),
        "ExpiredTokenException": ErrorClassification("SourceExpired", hint="the token had expired when STS saw it"),
        "IDPCommunicationError": ErrorClassification("Unavailable"),
        "IDPRejectedClaim": ErrorClassification("AccessDenied", hint="the issuer refused the token's claims"),
        "InvalidIdentityToken": ErrorClassification(
            "SourceInvalid",
            hint="has the role's account an OIDC provider for its issuer? is it no refresh token?",
        ),
    },
)
_ASSUME_ROLE = AwsOperation(
    exchange="assumeRole",
    service="sts",
    name="assume_role",
    title="STS AssumeRole",
    classifications=_SIGNED
    | {
        "ValidationError": ErrorClassification(
            "InvalidSpec",
            hint="is durationSeconds over the maximum session duration of the role, or over 3600 where a role"
            " assumes it (the operator's own may be one)?",
        )
    },
)
_GET_SESSION_TOKEN = AwsOperation(
    exchange="getSessionToken",
    service="sts",
    name="get_session_token",
    title="STS GetSessionToken",
    classifications=_SIGNED
    | {
        "AccessDenied": ErrorClassification(
            "AccessDenied", hint="only the keys of an IAM user may call it; is the MFA code right?"
        ),
        "ValidationError": ErrorClassification("InvalidSpec", hint="are durationSeconds and serialNumber right?"),
    },
)
_GET_FEDERATION_TOKEN = AwsOperation(
    exchange="getFederationToken",
    service="sts",
    name="get_federation_token",
    title="STS GetFederationToken",
    classifications=_SIGNED
    | {
        "AccessDenied": ErrorClassification(
            "AccessDenied", hint="only an IAM user with sts:GetFederationToken may call it"
        ),
        "ValidationError": ErrorClassification("InvalidSpec", hint="are name, durationSeconds and tags right?"),
    },
)


async def assume_role_with_web_identity(
    call: Call, wanted: AssumeRoleWithWebIdentitySpec, held: PipelineValues
) -> PipelineValues:
    """Call sts AssumeRoleWithWebIdentity, which needs no AWS credentials."""
    parameters = _parameters(
        wanted,
        RoleSessionName=session_name(call.namespace, call.name, wanted.role_session_name),
        WebIdentityToken=sized(held.token_to_read(wanted.from_).value, "the web identity token", 4, 20000),
    )
    response = await call.context.aws.call(_WITH_WEB_IDENTITY, call.region, parameters)
    return _held(_WITH_WEB_IDENTITY, held, response)


async def assume_role(call: Call, wanted: AssumeRoleSpec, held: PipelineValues) -> PipelineValues:
    """Call sts AssumeRole, signed with the credentials that are held, or with our own where that is allowed.

    A held identity context goes with it.
    """
    lent = call.is_ambient and held.credentials is None
    if lent:
        check_ambient(call, wanted.role_arn)
    parameters = _parameters(
        wanted,
        RoleSessionName=session_name(call.namespace, call.name, wanted.role_session_name),
        ExternalId=wanted.external_id or await _secret(call, wanted.external_id_from, r"[\w+=,.@:/-]{2,1224}"),
        TokenCode=_code(wanted, held),
    )
    parameters |= _provided_contexts(wanted, held)
    if lent:
        # AWS sees for whom it was, whatever the manifest says.
        ours = zip(AMBIENT_TAGS, (call.namespace, call.name), strict=True)
        tags = parameters.get("Tags", [])
        parameters["Tags"] = [*tags, *({"Key": key, "Value": value} for key, value in ours)]
    signer = AMBIENT if lent else held.own_credentials
    response = await call.context.aws.call(_once(_ASSUME_ROLE, wanted), call.region, parameters, signer)
    return _held(_ASSUME_ROLE, held, response)


async def get_session_token(call: Call, wanted: GetSessionTokenSpec, held: PipelineValues) -> PipelineValues:
    """Call sts GetSessionToken, signed with the keys of an IAM user."""
    operation = _once(_GET_SESSION_TOKEN, wanted)
    parameters = _parameters(wanted, TokenCode=_code(wanted, held))
    response = await call.context.aws.call(operation, call.region, parameters, held.own_credentials)
    return _held(_GET_SESSION_TOKEN, held, response)


def _provided_contexts(wanted: AssumeRoleSpec, held: PipelineValues) -> dict[str, Any]:
    """For whom the role is assumed, where Identity Center has said so: each role after it is told."""
    if held.identity_context is None:
        return {}
    partition = wanted.role_arn.split(":")[1]
    provider = f"arn:{partition}:iam::aws:contextProvider/IdentityCenter"
    context = sized(held.identity_context, "the identity context of Identity Center", 4, 2048)
    return {"ProvidedContexts": [{"ProviderArn": provider, "ContextAssertion": context}]}


def _once(operation: AwsOperation, wanted: MfaExchangeSpec) -> AwsOperation:
    # A device's code is used up by a call whose answer was lost, too.
    return replace(operation, attempts=1) if wanted.single_use_credential else operation


async def get_federation_token(call: Call, wanted: GetFederationTokenSpec, held: PipelineValues) -> PipelineValues:
    """Call sts GetFederationToken, signed with the keys of an IAM user."""
    name = session_name(call.namespace, call.name, wanted.name, _LONGEST_FEDERATED_NAME)
    parameters = _parameters(wanted, Name=name)
    response = await call.context.aws.call(_GET_FEDERATION_TOKEN, call.region, parameters, held.own_credentials)
    return _held(_GET_FEDERATION_TOKEN, held, response)


_SENT = (
    *("role_arn", "provider_id", "policy", "policy_arns", "duration_seconds", "tags", "transitive_tag_keys"),
    *("source_identity", "serial_number", "minimum_session_token_size"),
)


def _parameters(wanted: Any, **more: str | None) -> dict[str, Any]:
    """The fields of a step, under AWS's names, and what else is sent."""
    given = {name: getattr(wanted, name, None) for name in _SENT}
    fields = {"".join(map(str.capitalize, name.split("_"))): _plain(value) for name, value in given.items()}
    # An empty list would be sent as a parameter without a value, which STS may refuse.
    return {name: value for name, value in (fields | more).items() if value not in (None, [])}


def _plain(value: Any) -> Any:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, Tag):
        return {"Key": value.key, "Value": value.value}
    return structs.asdict(value) if isinstance(value, PolicyArn) else value


async def _secret(call: Call, ref: SecretValue | None, pattern: str) -> str | None:
    """Read a secret of the step; raises SourceInvalid where AWS could not take it."""
    if ref is None:
        return None
    return _taken(ref, await call.secret(ref.secret_key_ref), pattern)


def _code(wanted: MfaExchangeSpec, held: PipelineValues) -> str | None:
    """The code of an MFA device, which works only once; raises SourceInvalid where no device shows it."""
    ref = wanted.token_code_from
    return _taken(ref, held.proof or "", r"[0-9]{6}") if ref else None


def _taken(ref: SecretValue, value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value, re.ASCII):
        where = f"key {ref.secret_key_ref.key} of Secret {ref.secret_key_ref.name}"
        raise RefusedError("SourceInvalid", f"{where} is not what STS takes: wrong characters, or too long")
    return value


def _held(operation: AwsOperation, held: PipelineValues, response: AwsResponse) -> PipelineValues:
    given = member(operation, response.members, "Credentials")
    credentials = Credentials(
        access_key_id=safe(member(operation, given, "AccessKeyId"), "STS's access key id"),
        secret_access_key=safe(member(operation, given, "SecretAccessKey"), "STS's secret access key"),
        session_token=safe(member(operation, given, "SessionToken"), "STS's session token"),
        expires_at=whole(member(operation, given, "Expiration")),
    )
    who = response.members.get("AssumedRoleUser") or response.members.get("FederatedUser") or {}
    principal = who.get("Arn", held.principal)
    return replace(held, credentials=credentials, principal=principal, request_id=response.request_id)
