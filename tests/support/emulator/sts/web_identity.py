"""AssumeRoleWithWebIdentity."""

from typing import Any

import jwt

from tests.support.emulator.constants import WEB_IDENTITY_ACTION
from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call
from tests.support.emulator.state import OidcProvider
from tests.support.emulator.sts.session import start_role_session


def assume_role_with_web_identity(call: Call) -> dict[str, Any]:
    """AssumeRoleWithWebIdentity: checks the token, the trust policy, then the limits of the request."""
    provider, claims = _verified_claims(call, call.params["WebIdentityToken"])
    if claims["aud"] not in provider.audiences:
        raise _invalid_token("Incorrect token audience")
    if claims["exp"] <= call.now.timestamp():
        message = f"Token expired: current date/time {call.now.timestamp():.0f} must be before"
        raise AwsError("ExpiredTokenException", f"{message} the expiration date/time {claims['exp']}")
    role = call.state.roles.get(call.params["RoleArn"])
    context = {
        f"{provider.prefix}:aud": [claims["aud"]],
        f"{provider.prefix}:sub": [claims["sub"]],
        f"{provider.prefix}:amr": claims.get("amr", []),
    }
    principals: Any = {"Federated": {provider.principal}}
    # AWS returns the same error for a role that does not exist.
    if role is None or not role.trust_policy.allows(WEB_IDENTITY_ACTION, principals, context):
        raise AwsError("AccessDenied", f"Not authorized to perform {WEB_IDENTITY_ACTION}", 403)
    return {
        **start_role_session(call, role),
        "SubjectFromWebIdentityToken": claims["sub"],
        "Provider": provider.principal,
        "Audience": claims["aud"],
    }


def _verified_claims(call: Call, token: str) -> tuple[OidcProvider, dict[str, Any]]:
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.InvalidTokenError:
        raise _invalid_token("The ID Token provided is not a valid JWT.") from None
    provider = call.state.oidc_providers.get(str(issuer))
    if provider is None or "ProviderId" in call.params:
        raise _invalid_token(f"No OpenIDConnect provider found in your account for {issuer}")
    try:
        claims = provider.key.claims(token)
    except jwt.InvalidTokenError:
        raise _invalid_token("Couldn't retrieve verification key from your identity provider") from None
    # Kubernetes writes a list of one audience. If there is an `azp`, AWS uses it as the audience: the IAM User
    # Guide documents this for Google, aws-sdk-net issue 3071 reports it for Entra, and Keycloak always writes one.
    audience = claims["aud"][0] if isinstance(claims["aud"], list) else claims["aud"]
    return provider, claims | {"aud": claims.get("azp") or audience}


def _invalid_token(message: str) -> AwsError:
    return AwsError("InvalidIdentityToken", message)
