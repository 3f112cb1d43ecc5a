"""AWS STS: exchanges a token or credentials for temporary credentials."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from msgspec import structs

from keyturn.api.exchanges.sts import (
    AssumeRoleSpec,
    AssumeRoleWithWebIdentitySpec,
    GetFederationTokenSpec,
    GetSessionTokenSpec,
    MfaExchangeSpec,
    PolicyArn,
    Tag,
)
from keyturn.api.rules.exchanges import AMBIENT_TAGS
from keyturn.api.source import SecretValue
from keyturn.core.errors import RefusedError
from keyturn.core.pipeline_values import PipelineValues, require_length
from keyturn.exchanges.aws import AwsResponse, Signer
from keyturn.exchanges.aws_clients import AMBIENT
from keyturn.exchanges.aws_errors import EXPIRED, KEYS, UNKNOWN_KEY, AwsOperation, ErrorClassification
from keyturn.exchanges.context import Call
from keyturn.exchanges.transmission import Send, Transmission

_TRUST = (
    "check that the role exists and that its trust policy allows this caller with the external ID, tags, source"
    " identity and MFA code of the spec, if it has them"
)
_KEYS_NOT_FETCHED = (
    "AWS could not fetch the issuer's keys: check that its discovery document and its keys are public and respond"
)
_NEEDS = "the role's trust policy and the policies of the caller must allow {}, because the session has {}"
_NEEDED_ACTIONS = {
    "sts:SetContext": _NEEDS.format("sts:SetContext", "an identity context of Identity Center"),
    "sts:SetSourceIdentity": _NEEDS.format("sts:SetSourceIdentity", "a source identity, from the spec or the caller"),
    "sts:TagSession": _NEEDS.format("sts:TagSession", "tags, from the spec or the transitive tags of the caller"),
}
_EXTERNAL_ID = (r"[\w+=,.@:/-]{2,1224}", "2 to 1224 letters, digits and _+=,.@:/-")
_TAG_NAMES = " and ".join(AMBIENT_TAGS)
_DURATION = ErrorClassification(
    "InvalidSpec", hint="check that durationSeconds does not exceed the maximum session duration of the role"
)
_MAX_SESSION_NAME, _MAX_FEDERATED_USER_NAME = 64, 32
_CREDENTIALS = ("Credentials", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")

# The codes are not the names of the error shapes: IDPRejectedClaim, not IDPRejectedClaimException.
_COMMON = {
    "InvalidParameterValue": ErrorClassification(
        "InvalidSpec", hint="check the tags: none may have the same key as a transitive tag of the caller's session"
    ),
    "MalformedPolicyDocument": ErrorClassification("InvalidSpec", hint="check that `policy` is an IAM policy in JSON"),
    "PackedPolicyTooLarge": ErrorClassification(
        "InvalidSpec", hint="shorten policy, policyArns or tags: together they are too large"
    ),
    "RegionDisabledException": ErrorClassification(
        "AccessDenied", hint="enable STS in that region, or use another region"
    ),
    "ValidationError": _DURATION,
}
_SIGNED = _COMMON | {
    "AccessDenied": ErrorClassification("AccessDenied", hint=_TRUST, eventually_consistent=True, hints=_NEEDED_ACTIONS),
    "ExpiredToken": EXPIRED,
    "ExpiredTokenException": EXPIRED,
    "InvalidClientTokenId": UNKNOWN_KEY,
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
            hint="check that the role exists and that its trust policy allows this issuer, audience and subject",
            eventually_consistent=True,
        ),
        "ExpiredTokenException": ErrorClassification("SourceExpired", hint="the token has expired"),
        "IDPCommunicationError": ErrorClassification("SourceInvalid", hint=_KEYS_NOT_FETCHED, transient=True),
        "IDPRejectedClaim": ErrorClassification("AccessDenied", hint="the issuer rejected the claims of the token"),
        "InvalidIdentityToken": ErrorClassification(
            "SourceInvalid",
            hint="check that the role's account has an OIDC provider for the issuer, and that the token is not a"
            " refresh token",
            transient=True,
            hints={
                "audience": "the token's audience is not one of the client IDs of the OIDC provider: request the token"
                " for another audience, or add this one to the OIDC provider",
                "No OpenIDConnect provider": "the role's account has no OIDC provider for the issuer: create it",
                "verification key": _KEYS_NOT_FETCHED,
            },
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
            hint="check that durationSeconds does not exceed the maximum session duration of the role, or 3600 if the"
            " caller is itself a role",
        )
    },
)
# Only an administrator can change the operator's identity, and Keyturn adds tags to each session.
_AMBIENT_EXPIRED = ErrorClassification("Unavailable", hint="the operator's own AWS credentials have expired")
_AMBIENT_KEYS = replace(KEYS, hint="AWS does not accept the operator's own credentials: check the operator's identity")
_AMBIENT_ASSUME_ROLE = replace(
    _ASSUME_ROLE,
    title="STS AssumeRole as the operator",
    classifications={
        **_ASSUME_ROLE.classifications,
        "AccessDenied": ErrorClassification(
            "AccessDenied",
            hint="check that the role exists and that its trust policy allows sts:AssumeRole for the operator's role,"
            f" with conditions that match the tags {_TAG_NAMES}",
            eventually_consistent=True,
            hints=_NEEDED_ACTIONS
            | {
                "sts:TagSession": "the role's trust policy and the policies of the operator's role must allow"
                f" sts:TagSession and sts:AssumeRole: Keyturn tags the session with {_TAG_NAMES}"
            },
        ),
        "ExpiredToken": _AMBIENT_EXPIRED,
        "ExpiredTokenException": _AMBIENT_EXPIRED,
        "InvalidClientTokenId": _AMBIENT_KEYS,
        "InvalidParameterValue": ErrorClassification(
            "InvalidSpec",
            hint="check the tags: the operator's session has a transitive tag with the same key as a tag that Keyturn"
            f" sets ({_TAG_NAMES}) or as one in `tags`; with EKS Pod Identity, set disableSessionTags in the operator's"
            " Pod Identity association",
        ),
        "PackedPolicyTooLarge": ErrorClassification(
            "InvalidSpec",
            hint="shorten policy, policyArns or tags: together they are too large; EKS Pod Identity adds session tags"
            " unless disableSessionTags is set in the operator's Pod Identity association",
        ),
        "SignatureDoesNotMatch": _AMBIENT_KEYS,
        "ValidationError": ErrorClassification(
            "InvalidSpec",
            hint="check that durationSeconds does not exceed 3600, the limit for a role that is assumed by the"
            " operator's role, or the maximum session duration of the role",
        ),
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
            "AccessDenied", hint="only the access key of an IAM user may call it; check the MFA code"
        ),
        "ValidationError": ErrorClassification("InvalidSpec", hint="check durationSeconds and serialNumber"),
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
            "AccessDenied", hint="only an IAM user who is allowed sts:GetFederationToken may call it"
        ),
        "ValidationError": ErrorClassification("InvalidSpec", hint="check name, durationSeconds and tags"),
    },
)


async def assume_role_with_web_identity(
    call: Call, spec: AssumeRoleWithWebIdentitySpec, values: PipelineValues
) -> PipelineValues:
    """Call sts AssumeRoleWithWebIdentity, which needs no AWS credentials."""
    parameters = _parameters(
        spec,
        RoleSessionName=session_name(call.namespace, call.name, spec.role_session_name),
        WebIdentityToken=require_length(values.input_token(spec.from_).value, "the web identity token", 4, 20000),
    )
    operation = _WITH_WEB_IDENTITY.for_resource(spec.role_arn)
    response = await call.call_aws(operation, parameters, principal=spec.role_arn)
    return _with_credentials(operation, values, response)


async def prepare_assume_role(call: Call, spec: AssumeRoleSpec, values: PipelineValues) -> Send:
    """Prepare a call of sts AssumeRole, signed with the pipeline's credentials or, if allowed, with the operator's own.

    An identity context from Identity Center is passed on.
    """
    is_ambient = call.is_ambient and values.credentials is None
    if is_ambient and not any(rule.is_met_by(call.namespace, spec.role_arn) for rule in call.context.sources.ambient):
        raise RefusedError(
            "IdentityNotAllowed",
            f"the operator's settings (sources.ambient) do not allow namespace {call.namespace} to assume"
            f" {spec.role_arn}",
        )
    external_id, ref = spec.external_id, spec.external_id_from
    if ref and not external_id:
        external_id = _require_match(ref, await call.secret(ref.secret_key_ref), *_EXTERNAL_ID)
    parameters = _parameters(
        spec,
        RoleSessionName=session_name(call.namespace, call.name, spec.role_session_name),
        ExternalId=external_id,
        TokenCode=_code(spec, values),
    )
    if values.identity_context is not None:
        provider = f"arn:{spec.role_arn.split(':')[1]}:iam::aws:contextProvider/IdentityCenter"
        context = require_length(values.identity_context, "the identity context of Identity Center", 4, 2048)
        parameters["ProvidedContexts"] = [{"ProviderArn": provider, "ContextAssertion": context}]
    if is_ambient:
        # These tags let CloudTrail show the TokenRequest of each session. The manifest cannot change them.
        ambient_tags = zip(AMBIENT_TAGS, (call.namespace, call.name), strict=True)
        tags = parameters.get("Tags", [])
        parameters["Tags"] = [*tags, *({"Key": key, "Value": value} for key, value in ambient_tags)]
    signer = AMBIENT if is_ambient else values.signing_credentials
    operation = (_AMBIENT_ASSUME_ROLE if is_ambient else _ASSUME_ROLE).for_resource(spec.role_arn)
    return _prepared(call, _mfa_operation(call, operation, spec), parameters, values, signer)


async def prepare_get_session_token(call: Call, spec: GetSessionTokenSpec, values: PipelineValues) -> Send:
    """Prepare a call of sts GetSessionToken, signed with the access key of an IAM user."""
    parameters = _parameters(spec, TokenCode=_code(spec, values))
    operation = _mfa_operation(call, _GET_SESSION_TOKEN, spec)
    return _prepared(call, operation, parameters, values, values.signing_credentials)


def _prepared(
    call: Call, operation: AwsOperation, parameters: dict[str, Any], values: PipelineValues, signer: Signer
) -> Send:
    call.check_aws_rate(operation, signer, values.principal)

    async def send(transmission: Transmission) -> PipelineValues:
        response = await call.call_aws(operation, parameters, signer, transmission, principal=values.principal)
        return _with_credentials(operation, values, response)

    return send


def _mfa_operation(call: Call, operation: AwsOperation, spec: MfaExchangeSpec) -> AwsOperation:
    # A call consumes the MFA code even if its response is lost, so it is not repeated.
    return replace(operation, attempts=1, consumes=call.consumes) if spec.single_use_credential else operation


async def get_federation_token(call: Call, spec: GetFederationTokenSpec, values: PipelineValues) -> PipelineValues:
    """Call sts GetFederationToken, signed with the access key of an IAM user."""
    name = session_name(call.namespace, call.name, spec.name, _MAX_FEDERATED_USER_NAME)
    parameters, signer = _parameters(spec, Name=name), values.signing_credentials
    response = await call.call_aws(_GET_FEDERATION_TOKEN, parameters, signer, principal=values.principal)
    return _with_credentials(_GET_FEDERATION_TOKEN, values, response)


_PARAMETERS = (
    *("role_arn", "provider_id", "policy", "policy_arns", "duration_seconds", "tags", "transitive_tag_keys"),
    *("source_identity", "serial_number", "minimum_session_token_size"),
)


def _parameters(spec: Any, **parameters: str | None) -> dict[str, Any]:
    """The fields of the spec under AWS's names, and `parameters`."""
    fields = {name: getattr(spec, name, None) for name in _PARAMETERS}
    converted = {"".join(map(str.capitalize, name.split("_"))): _builtins(value) for name, value in fields.items()}
    # An empty list would be sent as a parameter without a value, which STS may reject.
    return {name: value for name, value in (converted | parameters).items() if value not in (None, [])}


def _builtins(value: Any) -> Any:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_builtins(item) for item in value]
    if isinstance(value, Tag):
        return {"Key": value.key, "Value": value.value}
    return structs.asdict(value) if isinstance(value, PolicyArn) else value


def _code(spec: MfaExchangeSpec, values: PipelineValues) -> str | None:
    """The single-use code of an MFA device; raises RefusedError (SourceInvalid) if it is not a code."""
    ref = spec.token_code_from
    return _require_match(ref, values.single_use_credential or "", r"[0-9]{6}", "6 digits") if ref else None


def _require_match(ref: SecretValue, value: str, pattern: str, expectation: str) -> str:
    if not re.fullmatch(pattern, value, re.ASCII):
        raise RefusedError("SourceInvalid", f"{ref.secret_key_ref.description} must be {expectation}")
    return value


def _with_credentials(operation: AwsOperation, values: PipelineValues, response: AwsResponse) -> PipelineValues:
    credentials = response.credentials(operation, _CREDENTIALS)
    user = response.members.get("AssumedRoleUser") or response.members.get("FederatedUser") or {}
    principal = user.get("Arn", values.principal)
    return replace(values, credentials=credentials, principal=principal, request_id=response.request_id)


def session_name(namespace: str, name: str, template: str | None = None, max_length: int = _MAX_SESSION_NAME) -> str:
    """Return a session name of 2 to `max_length` of `[A-Za-z0-9_+=,.@-]`, by default `<namespace>.<name>`.

    A longer name is truncated and ends in a hash of the whole name, so that two long names stay different.
    """
    filled = (template or "{namespace}.{name}").replace("{namespace}", namespace).replace("{name}", name)
    valid = re.sub(r"[^A-Za-z0-9_+=,.@-]", "-", filled).ljust(2, "-")
    if len(valid) <= max_length:
        return valid
    return f"{valid[: max_length - 9]}-{hashlib.sha256(valid.encode()).hexdigest()[:8]}"
