"""AWS License Manager: credentials for a long-lived refresh token, and that for an access token of one hour."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from keyturn.api.exchanges.license_manager import LicenseManagerCreateTokenSpec, LicenseManagerGetAccessTokenSpec
from keyturn.core.errors import KeyturnError
from keyturn.core.pipeline_values import PipelineValues, Superseded, Token, jwt_times, safe, sized
from keyturn.exchanges.aws import AwsResponse
from keyturn.exchanges.aws_errors import SIGNED, AwsOperation, ErrorClassification, WrongRegionError, member
from keyturn.exchanges.context import Call

_LIFETIME, _DAYS = timedelta(hours=1), 365
_GONE = "SourceNotFound"

# The operations' pages, section Errors.
_SIGNED = SIGNED | {
    "AccessDeniedException": ErrorClassification(
        "AccessDenied",
        hint="does the caller's policy allow it, and the license's grant CreateToken?",
        eventually_consistent=True,
    ),
    "AuthorizationException": ErrorClassification("AccessDenied", hint="is License Manager allowed in that account?"),
    "RateLimitExceededException": ErrorClassification("Throttled"),
    "RedirectException": ErrorClassification("InvalidSpec", hint="the license is of another region"),
    "ServerInternalException": ErrorClassification("Unavailable"),
    "ValidationException": ErrorClassification("InvalidSpec", hint="is what the spec says of the token right?"),
}
_CREATE_TOKEN = AwsOperation(
    exchange="licenseManagerCreateToken",
    service="license-manager",
    name="create_token",
    title="License Manager CreateToken",
    classifications=_SIGNED
    | {
        "ResourceLimitExceededException": ErrorClassification(
            "InvalidSpec", hint="too many tokens: delete some, or wait"
        ),
        "ResourceNotFoundException": ErrorClassification(
            "InvalidSpec", hint="is there such a license, granted to this account?"
        ),
    },
)
_DELETE_TOKEN = AwsOperation(
    exchange="licenseManagerDeleteToken",
    service="license-manager",
    name="delete_token",
    title="License Manager DeleteToken",
    classifications=_SIGNED | {"ResourceNotFoundException": ErrorClassification(_GONE)},
)

# A revoked or malformed token comes as ValidationException.
_GET_ACCESS_TOKEN = AwsOperation(
    exchange="licenseManagerGetAccessToken",
    service="license-manager",
    name="get_access_token",
    title="License Manager GetAccessToken",
    classifications={
        "ValidationException": ErrorClassification(
            "SourceInvalid", hint="the token is malformed, expired or revoked, or lacks a token property"
        ),
        "AccessDeniedException": ErrorClassification("AccessDenied", hint="the token may have been deleted"),
        "AuthorizationException": ErrorClassification(
            "AccessDenied", hint="is License Manager allowed in that account?"
        ),
        "RateLimitExceededException": ErrorClassification("Throttled"),
        "ServerInternalException": ErrorClassification("Unavailable"),
    },
)


async def get_access_token(
    call: Call, wanted: LicenseManagerGetAccessTokenSpec, held: PipelineValues
) -> PipelineValues:
    """Call license-manager GetAccessToken, unsigned as AWS's own samples do.

    The answer names no expiry: it is the `exp` of the JWT, else the hour that the operation's page promises.
    """
    parameters = {"Token": sized(held.newest_token.value, "the refresh token", 1, 4096)}
    if wanted.token_properties:
        parameters["TokenProperties"] = list(wanted.token_properties)  # type: ignore[assignment]
    response = await call.context.aws.call(_GET_ACCESS_TOKEN, call.region, parameters)
    token = safe(member(_GET_ACCESS_TOKEN, response.members, "AccessToken"), "License Manager's access token")
    _, expires_at = jwt_times(token)
    access_token = Token(token, expires_at or response.asked_at + _LIFETIME)
    return replace(held, access_token=access_token, request_id=response.request_id)


async def create_token(call: Call, wanted: LicenseManagerCreateTokenSpec, held: PipelineValues) -> PipelineValues:
    """Call license-manager CreateToken, in the license's home region, and DeleteToken where that is wanted.

    AWS answers the same token to the same ClientToken for ten minutes. A token that could not be deleted stays
    among the superseded ones, and no failure comes of it.
    """
    parameters = {"LicenseArn": wanted.license_arn, "ClientToken": call.client_token} | _optional(wanted)
    region = call.region
    try:
        response = await call.context.aws.call(_CREATE_TOKEN, region, parameters, held.own_credentials)
    except WrongRegionError as error:
        if error.region in ("", region):
            raise
        region = error.region
        response = await call.context.aws.call(_CREATE_TOKEN, region, parameters, held.own_credentials)
    left = [
        one for one in held.superseded if not await _revoked(replace(call, region=region), wanted, held, one, response)
    ]
    return replace(_created(wanted, held, response), superseded=tuple(left))


def _optional(wanted: LicenseManagerCreateTokenSpec) -> dict[str, Any]:
    given = {
        "RoleArns": list(wanted.role_arns or ()),
        "ExpirationInDays": wanted.expiration_in_days,
        "TokenProperties": list(wanted.token_properties or ()),
    }
    return {name: value for name, value in given.items() if value}


def _created(wanted: LicenseManagerCreateTokenSpec, held: PipelineValues, response: AwsResponse) -> PipelineValues:
    token = safe(member(_CREATE_TOKEN, response.members, "Token"), "License Manager's token")
    _, expires_at = jwt_times(token)
    lives = timedelta(days=wanted.expiration_in_days or _DAYS)
    return replace(
        held,
        access_token=Token(token, expires_at or response.asked_at + lives),
        token_id=str(response.members.get("TokenId", "")),
        request_id=response.request_id,
    )


async def _revoked(
    call: Call, wanted: LicenseManagerCreateTokenSpec, held: PipelineValues, one: Superseded, response: AwsResponse
) -> bool:
    """Delete a token whose time is over; only what we recorded, never what a search would find."""
    if not _is_over(wanted, one, response.asked_at):
        return False
    try:
        await call.context.aws.call(_DELETE_TOKEN, call.region, {"TokenId": one.token_id}, held.own_credentials)
    except KeyturnError as error:
        return error.reason == _GONE
    return True


def _is_over(wanted: LicenseManagerCreateTokenSpec, one: Superseded, now: datetime) -> bool:
    return wanted.revoke_superseded is not None and one.at + wanted.revoke_superseded.grace_time <= now
