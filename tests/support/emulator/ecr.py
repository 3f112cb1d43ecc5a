"""Amazon ECR, private and public: passwords for registries, for twelve hours."""

import base64
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import secret_text

_SECONDS = 43200
_PUBLIC_REGION = "us-east-1"


def get_authorization_token(call: Call) -> dict[str, Any]:
    """Answer GetAuthorizationToken: one password for each registry, the caller's own if none is named."""
    registries = call.params.get("registryIds", [call.signer.principal.account])
    return {
        "authorizationData": [
            _login(call)
            | {
                "proxyEndpoint": call.world.settings.registry_url
                or f"https://{one}.dkr.ecr.{call.region}.amazonaws.com"
            }
            for one in registries
        ]
    }


def get_public_authorization_token(call: Call) -> dict[str, Any]:
    """Answer ecr-public GetAuthorizationToken: one password for the one registry, in the one region."""
    if call.region != _PUBLIC_REGION:
        raise AwsError("UnsupportedCommandException", "The command is only supported in us-east-1.")
    return {"authorizationData": _login(call)}


def _login(call: Call) -> dict[str, Any]:
    password = secret_text(900)
    expires_at = call.expiry(min(_SECONDS, call.world.settings.registry_seconds))
    call.world.registry_passwords[password] = expires_at
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    call.world.remember(password, token)
    return {"authorizationToken": token, "expiresAt": expires_at}


SERVICE = Service("ecr", {"GetAuthorizationToken": get_authorization_token}, prefix="ecr:")
PUBLIC_SERVICE = Service(
    "ecr-public", {"GetAuthorizationToken": get_public_authorization_token}, prefix="ecr-public:"
)
