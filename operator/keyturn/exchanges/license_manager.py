"""AWS License Manager: exchanges credentials for a refresh token, and a refresh token for a one-hour access token."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from keyturn.api.exchanges.license_manager import LicenseManagerCreateTokenSpec, LicenseManagerGetAccessTokenSpec
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues, Superseded, Token, require_length, require_safe
from keyturn.core.token_times import token_expiry
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, WrongRegionError, member
from keyturn.exchanges.context import Call

_LIFETIME, _DAYS = timedelta(hours=1), 365
_NOT_FOUND = "SourceNotFound"

# Errors of the operations in the AWS API reference.
_COMMON = {
    "AuthorizationException": ErrorClassification(
        "AccessDenied", hint="check that License Manager may be used in this account"
    ),
    "RateLimitExceededException": ErrorClassification("Throttled"),
    "ServerInternalException": ErrorClassification("Unavailable"),
}
_SIGNED = {
    **SIGNED,
    **_COMMON,
    "AccessDeniedException": ErrorClassification(
        "AccessDenied",
        hint="check that the caller's policy allows the operation and that the license's grant allows CreateToken",
        eventually_consistent=True,
    ),
    "RedirectException": ErrorClassification("InvalidSpec", hint="the license belongs to another region"),
    "ValidationException": ErrorClassification("InvalidSpec", hint="check the fields of licenseManagerCreateToken"),
}
_CREATE_TOKEN = AwsOperation(
    exchange="licenseManagerCreateToken",
    service="license-manager",
    name="create_token",
    title="License Manager CreateToken",
    classifications=_SIGNED
    | {
        "ResourceLimitExceededException": ErrorClassification(
            "InvalidSpec", hint="the license has too many tokens: delete some, or wait until some expire"
        ),
        "ResourceNotFoundException": ErrorClassification(
            "InvalidSpec", hint="check that the license exists and is granted to this account"
        ),
    },
)
_DELETE_TOKEN = AwsOperation(
    exchange="licenseManagerDeleteToken",
    service="license-manager",
    name="delete_token",
    title="License Manager DeleteToken",
    classifications=_SIGNED | {"ResourceNotFoundException": ErrorClassification(_NOT_FOUND)},
)

# A revoked or malformed token is reported as ValidationException.
_GET_ACCESS_TOKEN = AwsOperation(
    exchange="licenseManagerGetAccessToken",
    service="license-manager",
    name="get_access_token",
    title="License Manager GetAccessToken",
    classifications=_COMMON
    | {
        "ValidationException": ErrorClassification(
            "SourceInvalid", hint="the token is malformed, expired, revoked or lacks a token property; create a new one"
        ),
        "AccessDeniedException": ErrorClassification("AccessDenied", hint="the token may have been deleted"),
    },
)


async def get_access_token(
    call: Call, spec: LicenseManagerGetAccessTokenSpec, values: PipelineValues
) -> PipelineValues:
    """Call license-manager GetAccessToken, unsigned as in AWS's samples.

    The response has no expiry. The expiry is the `exp` of the JWT or, without one, after the hour that the API
    reference states.
    """
    parameters = {"Token": require_length(values.current_token.value, "the refresh token", 1, 4096)}
    if spec.token_properties:
        parameters["TokenProperties"] = list(spec.token_properties)  # type: ignore[assignment]
    response = await call.call_aws(_GET_ACCESS_TOKEN, parameters)
    token = require_safe(member(_GET_ACCESS_TOKEN, response.members, "AccessToken"), "License Manager's access token")
    access_token = Token(token, token_expiry(token, response.requested_at, assumed_lifetime=_LIFETIME))
    return replace(values, access_token=access_token, request_id=response.request_id)


async def create_token(call: Call, spec: LicenseManagerCreateTokenSpec, values: PipelineValues) -> PipelineValues:
    """Call license-manager CreateToken in the license's home region, and DeleteToken for superseded tokens.

    AWS returns the same token for the same ClientToken for ten minutes. A token that could not be deleted stays in
    `superseded` for the next renewal; that is not a failure.
    """
    optional = {
        "RoleArns": list(spec.role_arns or ()),
        "ExpirationInDays": spec.expiration_in_days,
        "TokenProperties": list(spec.token_properties or ()),
    }
    parameters: dict[str, Any] = {name: value for name, value in optional.items() if value}
    parameters |= {"LicenseArn": spec.license_arn, "ClientToken": call.client_token}
    region, signer, principal = call.region, values.signing_credentials, values.principal
    try:
        response = await call.call_aws(_CREATE_TOKEN, parameters, signer, principal=principal)
    except WrongRegionError as error:
        if error.region in ("", region):
            raise
        region = error.region
        response = await call.call_aws(_CREATE_TOKEN, parameters, signer, principal=principal, region=region)
    superseded = []
    for old in values.superseded:
        is_due = spec.revoke_superseded and old.at + spec.revoke_superseded.grace_time <= response.requested_at
        if not (is_due and await _revoke(call, region, values, old)):
            superseded.append(old)
    token = require_safe(member(_CREATE_TOKEN, response.members, "Token"), "License Manager's token")
    lifetime = timedelta(days=spec.expiration_in_days or _DAYS)
    return replace(
        values,
        access_token=Token(token, token_expiry(token, response.requested_at, assumed_lifetime=lifetime)),
        token_id=str(response.members.get("TokenId", "")),
        superseded=tuple(superseded),
        request_id=response.request_id,
    )


async def _revoke(call: Call, region: str, values: PipelineValues, token: Superseded) -> bool:
    """Delete a token that Keyturn recorded, never one from a search. Return whether it no longer exists."""
    parameters, signer = {"TokenId": token.token_id}, values.signing_credentials
    try:
        await call.call_aws(_DELETE_TOKEN, parameters, signer, principal=values.principal, region=region)
    except KeyturnError as error:
        return error.reason == _NOT_FOUND
    return True
