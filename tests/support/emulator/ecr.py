"""Amazon ECR, private and public: registry passwords that are valid for twelve hours."""

import base64
from typing import Any

from tests.support.emulator.protocols import AwsError
from tests.support.emulator.service import Call, Service
from tests.support.emulator.state import random_secret

_SECONDS = 43200


def get_authorization_token(call: Call) -> dict[str, Any]:
    """ecr:GetAuthorizationToken: one password for each registry; the default is the caller's own registry."""
    url = call.state.settings.registry_url
    registries = call.params.get("registryIds", [call.signer.principal.account])
    endpoints = [url or f"https://{account}.dkr.ecr.{call.region}.amazonaws.com" for account in registries]
    return {"authorizationData": [_login(call) | {"proxyEndpoint": endpoint} for endpoint in endpoints]}


def get_public_authorization_token(call: Call) -> dict[str, Any]:
    """ecr-public:GetAuthorizationToken: available in one region only."""
    if call.region != "us-east-1":
        raise AwsError("UnsupportedCommandException", "The command is only supported in us-east-1.")
    return {"authorizationData": _login(call)}


def _login(call: Call) -> dict[str, Any]:
    password = random_secret(900)
    expires_at = call.expiry(_SECONDS)
    call.state.registry_passwords[password] = expires_at
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    call.state.record_secrets(password, token)
    return {"authorizationToken": token, "expiresAt": expires_at}


SERVICE = Service("ecr", {"GetAuthorizationToken": get_authorization_token}, prefix="ecr:")
PUBLIC_SERVICE = Service("ecr-public", {"GetAuthorizationToken": get_public_authorization_token}, prefix="ecr-public:")
