"""A source whose refresh token the emulator's issuer rotates, and TokenRequests that use it."""

from typing import Any

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import CLIENT_ID, CLIENT_SECRET
from tests.support.processes import until


def refresh_step(aws: Emulator, **fields: Any) -> dict[str, Any]:
    """Return the oauthToken exchange for the emulator's issuer; `fields` replaces or adds some."""
    return {
        "oauthToken": {
            "tokenUrl": f"{aws.issuer_url}/token",
            "grantType": "refresh_token",
            "clientId": CLIENT_ID,
            "clientSecretFrom": {"secretKeyRef": {"name": "client", "key": "secret"}},
            "caBundleFrom": {"secretKeyRef": {"name": "client", "key": "ca"}},
            **fields,
        }
    }


def rotating_request(aws: Emulator, name: str = "acme", **spec: Any) -> dict[str, Any]:
    """Return a TokenRequest that writes the issuer's access token; `spec` replaces fields."""
    defaults = {
        "source": {"token": {"secretKeyRef": {"name": "source", "key": "refresh_token"}}},
        "exchanges": [refresh_step(aws)],
        "target": {"formats": [{"token": {}}], "secretName": name},
    }
    return token_request(name, **(defaults | spec))


def sign_in(namespace: Namespace, aws: Emulator) -> str:
    """Create the Secrets with the initial refresh token and the client's secret; returns the token."""
    token = aws.oauth_refresh_token()
    namespace.put_token(token, name="source", key="refresh_token")
    namespace.put_secret("client", {"secret": CLIENT_SECRET, "ca": aws.ca})
    return token


def issue_rotating(namespace: Namespace, aws: Emulator, name: str = "acme") -> str:
    """Issue a TokenRequest with a rotating source for the first time; returns the initial token."""
    token = sign_in(namespace, aws)
    namespace.apply(rotating_request(aws, name))
    namespace.wait_until_ready(name)
    return token


def prevent_save(namespace: Namespace, aws: Emulator) -> str:
    """Make the token Secret immutable while the issuer is slow, so that the save fails; returns the initial token."""
    token = issue_rotating(namespace, aws)
    aws.fault("oauth:token", delay_seconds=3)
    namespace.request_renewal("acme", "1")
    until(lambda: aws.calls("oauth:token") == 2)
    namespace.patch("secret", "source-keyturn", {"immutable": True})
    return token
