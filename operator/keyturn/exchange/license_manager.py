"""AWS License Manager: a long-lived refresh token for an access token of one hour."""

from dataclasses import replace
from datetime import timedelta

from keyturn.core.holding import Holding, Token, jwt_times, safe
from keyturn.core.model.exchanges import LicenseManagerGetAccessToken
from keyturn.exchange.systems import Call
from keyturn.exchange.verdicts import Operation, Verdict, member

_LIFETIME = timedelta(hours=1)

# The operation's page, section Errors. A revoked or malformed token comes as ValidationException.
_GET_ACCESS_TOKEN = Operation(
    exchange="licenseManagerGetAccessToken",
    service="license-manager",
    name="get_access_token",
    title="License Manager GetAccessToken",
    verdicts={
        "ValidationException": Verdict(
            "SourceInvalid", hint="the token is malformed, expired or revoked, or lacks a token property"
        ),
        "AccessDeniedException": Verdict("AccessDenied", hint="the token may have been deleted"),
        "AuthorizationException": Verdict("AccessDenied", hint="is License Manager allowed in that account?"),
        "RateLimitExceededException": Verdict("Throttled"),
        "ServerInternalException": Verdict("Unavailable"),
    },
)


async def get_access_token(call: Call, wanted: LicenseManagerGetAccessToken, held: Holding) -> Holding:
    """Call license-manager GetAccessToken, unsigned as AWS's own samples do.

    The answer names no expiry: it is the `exp` of the JWT, else the hour that the operation's page promises.
    """
    parameters = {"Token": held.newest_token.value}
    if wanted.token_properties:
        parameters["TokenProperties"] = list(wanted.token_properties)  # type: ignore[assignment]
    answer = await call.systems.aws.ask(_GET_ACCESS_TOKEN, call.region, parameters)
    token = safe(member(_GET_ACCESS_TOKEN, answer.members, "AccessToken"), "License Manager's access token")
    _, expires_at = jwt_times(token)
    access_token = Token(token, expires_at or answer.asked_at + _LIFETIME)
    return replace(held, access_token=access_token, request_id=answer.request_id)
