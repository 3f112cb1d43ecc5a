"""AssumeRoleWithWebIdentity: a token for a role."""

from typing import Any

import jwt

from tests.support.emulator.constants import WEB_IDENTITY_ACTION
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import OidcProvider, Role
from tests.support.emulator.sts.session import role_session


def _bad_token(message: str) -> AwsError:
    return AwsError("InvalidIdentityToken", message)


def assume_role_with_web_identity(call: Call) -> dict[str, Any]:
    """Answer AssumeRoleWithWebIdentity: the token first, then the role's trust, then the request's limits."""
    provider, claims = _verified(call)
    return {
        **role_session(call, _trusting_role(call, provider, claims)),
        "SubjectFromWebIdentityToken": claims["sub"],
        "Provider": provider.principal,
        "Audience": claims["aud"],
    }


def _verified(call: Call) -> tuple[OidcProvider, dict[str, Any]]:
    provider, claims = _signed_claims(call, call.params["WebIdentityToken"])
    if claims["aud"] not in provider.audiences:
        raise _bad_token("Incorrect token audience")
    if claims["exp"] <= call.now.timestamp():
        message = f"Token expired: current date/time {call.now.timestamp():.0f} must be before"
        raise AwsError("ExpiredTokenException", f"{message} the expiration date/time {claims['exp']}")
    return provider, claims


def _signed_claims(call: Call, token: str) -> tuple[OidcProvider, dict[str, Any]]:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.InvalidTokenError:
        raise _bad_token("The ID Token provided is not a valid JWT.") from None
    provider = call.world.oidc_providers.get(str(issuer))
    if provider is None or "ProviderId" in call.params:
        raise _bad_token(f"No OpenIDConnect provider found in your account for {issuer}")
    try:
        claims = provider.key.claims(token)
    except jwt.InvalidTokenError:
        raise _bad_token("Couldn't retrieve verification key from your identity provider") from None
    # Kubernetes writes a list of one. Where there is an azp, AWS takes that for the audience: the IAM User Guide
    # has it so for Google, and aws-sdk-net issue 3071 met it with Entra. Keycloak writes it always.
    audience = claims["aud"][0] if isinstance(claims["aud"], list) else claims["aud"]
    return provider, claims | {"aud": claims.get("azp") or audience}


def _trusting_role(call: Call, provider: OidcProvider, claims: dict[str, Any]) -> Role:
    role = call.world.roles.get(call.params["RoleArn"])
    context = {
        f"{provider.prefix}:aud": [claims["aud"]],
        f"{provider.prefix}:sub": [claims["sub"]],
        f"{provider.prefix}:amr": claims.get("amr", []),
    }
    # AWS tells a role that is not there and one that does not trust the token apart by nothing.
    if role is None or not role.trust_policy.allows(
        WEB_IDENTITY_ACTION, {"Federated": {provider.principal}}, context
    ):
        raise AwsError("AccessDenied", f"Not authorized to perform {WEB_IDENTITY_ACTION}", 403)
    return role
