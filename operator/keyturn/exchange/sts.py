"""AWS STS: a token for the credentials of a role."""

from dataclasses import replace
from typing import Any

from keyturn.core.holding import Credentials, Holding, safe
from keyturn.core.model.exchanges import AssumeRoleWithWebIdentity
from keyturn.core.renewal import whole
from keyturn.exchange.aws import Aws, Call
from keyturn.exchange.verdicts import Operation, Verdict, member

_TRUST = "does the role's trust policy name this issuer, audience and subject?"

# The codes of the model's errors are not their shape names: IDPRejectedClaim, not ...Exception.
_ASSUME_ROLE_WITH_WEB_IDENTITY = Operation(
    exchange="assumeRoleWithWebIdentity",
    service="sts",
    name="assume_role_with_web_identity",
    title="STS AssumeRoleWithWebIdentity",
    verdicts={
        "AccessDenied": Verdict("AccessDenied", hint=_TRUST, settles=True),
        "ExpiredTokenException": Verdict("SourceExpired", hint="the token had expired when STS saw it"),
        "IDPCommunicationError": Verdict("Unavailable"),
        "IDPRejectedClaim": Verdict("AccessDenied", hint="the issuer refused the token's claims"),
        "InvalidIdentityToken": Verdict(
            "SourceInvalid", hint="is there an OIDC provider for the token's issuer in the role's account?"
        ),
        "MalformedPolicyDocument": Verdict("SpecInvalid"),
        "PackedPolicyTooLarge": Verdict("SpecInvalid"),
        "RegionDisabledException": Verdict("AccessDenied", hint="STS is not enabled in that region"),
        "ValidationError": Verdict(
            "SpecInvalid", hint="is durationSeconds over the maximum session duration of the role?"
        ),
    },
)


async def assume_role_with_web_identity(
    aws: Aws, wanted: AssumeRoleWithWebIdentity, held: Holding, call: Call
) -> Holding:
    """Call sts AssumeRoleWithWebIdentity, which needs no AWS credentials."""
    parameters: dict[str, Any] = {
        "RoleArn": wanted.role_arn,
        "RoleSessionName": wanted.role_session_name or call.session_name,
        "WebIdentityToken": held.newest_token.value,
    }
    if wanted.duration_seconds:
        parameters["DurationSeconds"] = wanted.duration_seconds
    answer = await aws.ask(_ASSUME_ROLE_WITH_WEB_IDENTITY, call.region, parameters)
    user = answer.members.get("AssumedRoleUser", {})
    return replace(
        held,
        credentials=_credentials(_ASSUME_ROLE_WITH_WEB_IDENTITY, answer.members),
        principal=user.get("Arn", ""),
        request_id=answer.request_id,
    )


def _credentials(operation: Operation, members: dict[str, Any]) -> Credentials:
    given = member(operation, members, "Credentials")
    return Credentials(
        access_key_id=safe(member(operation, given, "AccessKeyId"), "STS's access key id"),
        secret_access_key=safe(member(operation, given, "SecretAccessKey"), "STS's secret access key"),
        session_token=safe(member(operation, given, "SessionToken"), "STS's session token"),
        expires_at=whole(member(operation, given, "Expiration")),
    )
