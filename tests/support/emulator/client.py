"""The emulator as a process, and a client of its control endpoint for tests."""

import base64
import hashlib
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.emulator.constants import ACCOUNT, APPLICATION_ARN, CLIENT_ID
from tests.support.emulator.oauth.token_families import History

_ROOT = Path(__file__).parents[3]
_SERVICES = (*("sts", "license-manager", "sso-oidc", "sso"), *("cognito-identity", "codeartifact", "ecr", "ecr-public"))


def endpoints(url: str) -> dict[str, str]:
    """Return the setting `aws.endpoints` that directs Keyturn's AWS calls to `url`."""
    return dict.fromkeys(_SERVICES, url)


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator: `url` is the endpoint of every service, `pid` its process ID."""

    url: str
    pid: int

    def calls(self, operation: str) -> int:
        """Return how often an operation was called since the last reset, successfully or not.

        `oauth:token` counts token requests, `oauth:refresh_token` only consumed refresh tokens.
        """
        return int(self.control("GET", "calls")["counts"].get(operation, 0))

    def recent_calls(self) -> list[dict[str, str]]:
        """Return operation, at, principal, outcome and user_agent of the last thousand calls."""
        return list(self.control("GET", "calls")["recent"])

    def reset(self) -> None:
        """Reset counts, faults and settings; what was issued stays valid."""
        self.control("POST", "reset")

    def fault(self, operation: str, **fault: Any) -> None:
        """Inject a fault into the next call of an operation, or the next `times`; see Fault."""
        self.control("POST", "faults", operation=operation, **fault)

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def settings(self, **changes: float | str) -> None:
        """Change settings, such as lifetimes and latency_seconds, until the next reset."""
        self.control("POST", "settings", **changes)

    def secrets(self) -> list[str]:
        """Return every secret value that exists, so that a test can search logs for them."""
        return list(self.control("GET", "secrets"))

    def refresh_token(self, properties: list[str] | None = None, expires_in: float = 86400, **more: str) -> str:
        """Issue a License Manager refresh token that expires in so many seconds."""
        body = {"properties": properties or [], "expires_in": expires_in, **more}
        return str(self.control("POST", "refresh-tokens", **body)["token"])

    def mfa_code(self) -> tuple[str, str]:
        """Return the serial number of the user's MFA device, and a code that is valid once within 90 seconds."""
        mfa = self.control("POST", "mfa-codes")
        return mfa["serial"], mfa["code"]

    def role(self, name: str, *statements: dict[str, Any], max_session_seconds: int = 3600) -> str:
        """Create a role whose trust policy has these statements; return its ARN."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/{name}"
        policy = {"Version": "2012-10-17", "Statement": statements}
        self.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=max_session_seconds)
        return arn

    def ambient(self, **identity: str | bool) -> None:
        """Give a pod a role by EKS Pod Identity (roleArn, disableSessionTags) or an instance one (instance_role)."""
        self.control("POST", "ambient", **identity)

    def trust_issuer(self, url: str, jwks: dict[str, Any], audience: str) -> str:
        """Register another issuer by its public keys; return the ARN of a role that trusts this audience."""
        return str(self.control("POST", "oidc-providers", url=url, jwks=jwks, audience=audience))

    @property
    def issuer_url(self) -> str:
        return str(self.control("GET", "issuer")["url"])

    @property
    def issuer_address(self) -> str:
        """The URL that reaches the issuer; another than `issuer_url` if it stands for other issuers."""
        return str(self.control("GET", "issuer")["address"])

    @property
    def ca(self) -> str:
        """The CA of the OAuth issuer, in PEM."""
        return str(self.control("GET", "issuer")["ca"])

    def oauth_client(self, client_id: str, **client: str) -> None:
        """Register a client; without a secret or a public key it is a public client."""
        self.control("POST", "oauth-clients", **({"client_id": client_id, "client_secret": ""} | client))

    def oauth_refresh_token(
        self, client: str = CLIENT_ID, scope: str = "openid offline_access", expires_in: float | None = None
    ) -> str:
        """Issue the first refresh token of a family; without `expires_in` it does not expire."""
        body = {"client": client, "subject": "demo-user", "scope": scope, "expires_in": expires_in}
        return str(self.control("POST", "oauth-refresh-tokens", **body))

    def family(self, token: str) -> History:
        """Return the history of the family of an OAuth refresh token, of any generation."""
        return History(**self.control("POST", "oauth-family", token=token))

    def jwt(self, audience: str, **claims: Any) -> str:
        """Have the OAuth issuer sign a JWT; `claims` are `subject`, and `expires_in` in seconds."""
        return str(self.control("POST", "jwts", audience=audience, **claims))

    def id_token(self, subject: str = "demo-user", audience: str = CLIENT_ID, expires_in: float = 86400) -> str:
        """Issue an ID token of the OAuth issuer, as after a sign-in."""
        return self.jwt(audience, subject=subject, expires_in=expires_in)

    def authorization_code(self, verifier: str = "", application: str = APPLICATION_ARN) -> str:
        """Issue an authorization code of Identity Center, with PKCE if there is a code verifier."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        body = {"application": application, "challenge": digest if verifier else ""}
        return str(self.control("POST", "identity-center-codes", **body))

    def identity_center_token(self, application: str = APPLICATION_ARN, *, refresh: bool = False) -> str:
        """Issue an access token of Identity Center, or the first refresh token of a family."""
        path = "identity-center-refresh-tokens" if refresh else "identity-center-tokens"
        return str(self.control("POST", path, application=application))

    def identity_center_family(self, token: str) -> History:
        """Return the history of an Identity Center refresh token's family; a code stands for its first token."""
        return History(**self.control("POST", "identity-center-family", token=token))

    def control(self, method: str, path: str, **body: Any) -> Any:
        """Call the control endpoint; raises ValueError if it rejects the request."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, f"/_control/{path}", json.dumps(body))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise ValueError(f"{method} {path}: {text}")
        return json.loads(text)


@contextmanager
def running_emulator(**options: float | str) -> Iterator[Emulator]:
    """Run an emulator on a free loopback port; `options` are the flags of `python -m tests.support.emulator`.

    Raises RuntimeError at the end if the emulator produced a response that AWS could not have returned.
    """
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {"port": 0, **options}.items()]
    command = [sys.executable, "-m", "tests.support.emulator", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        try:
            first_line = process.stdout.readline() if process.stdout else ""
            if not first_line:
                raise RuntimeError("the emulator did not start; see its stderr")
            yield Emulator(first_line.split()[-1], process.pid)
        finally:
            process.terminate()
    if process.returncode != 0:
        raise RuntimeError("the emulator produced a response that AWS could not have returned; see its stderr")
