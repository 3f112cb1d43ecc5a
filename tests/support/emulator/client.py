"""The emulator as a process of its own, and a handle on it for tests."""

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

from tests.support.emulator.constants import APPLICATION_ARN, CLIENT_ID
from tests.support.emulator.oauth.token_families import History

_ROOT = Path(__file__).parents[3]
_SERVICES = (
    *("sts", "license-manager", "sso-oidc", "sso"),
    *("cognito-identity", "codeartifact", "ecr", "ecr-public"),
)


def endpoints(url: str) -> dict[str, str]:
    """The setting `aws.endpoints` by which Keyturn finds the emulator for each service."""
    return dict.fromkeys(_SERVICES, url)


@dataclass(frozen=True, slots=True)
class Emulator:
    """A running emulator: `url` is the endpoint for every service, `pid` its process."""

    url: str
    pid: int

    def calls(self, operation: str) -> int:
        """Count the calls of an operation since the start or the last reset, whatever became of them.

        `oauth:token` is one too; `oauth:refresh_token` counts only refresh tokens that were spent.
        """
        counts: dict[str, int] = self.control("GET", "calls")["counts"]
        return counts.get(operation, 0)

    def recent_calls(self) -> list[dict[str, str]]:
        """Tell the last thousand calls: operation, at, principal, outcome."""
        recent: list[dict[str, str]] = self.control("GET", "calls")["recent"]
        return recent

    def reset(self) -> None:
        """Start again with counts, faults and settings; what was issued stays valid."""
        self.control("POST", "reset")

    def fault(self, operation: str, **fault: Any) -> None:
        """Make the next call of an operation (or `times`) go wrong, as faults.py tells."""
        self.control("POST", "faults", operation=operation, **fault)

    def clear_faults(self) -> None:
        self.control("DELETE", "faults")

    def settings(self, **changes: float | str) -> None:
        """Change lifetimes, latency_seconds or clock_offset_seconds from now on, until reset."""
        self.control("POST", "settings", **changes)

    def refresh_token(self, properties: list[str] | None = None, expires_in: float = 86400, **more: str) -> str:
        """Mint a License Manager refresh token that lives so many seconds."""
        minted = self.control("POST", "refresh-tokens", properties=properties or [], expires_in=expires_in, **more)
        token: str = minted["token"]
        return token

    def mfa_code(self, name: str = "keyturn") -> tuple[str, str]:
        """Read a user's MFA device: its serial number, and a code that works once within 90 seconds."""
        shown = self.control("POST", "mfa-codes", name=name)
        return shown["serial"], shown["code"]

    def trust_issuer(self, url: str, jwks: dict[str, Any], audience: str) -> str:
        """Trust another issuer by its public keys; returns the ARN of a role for its tokens for that audience."""
        arn: str = self.control("POST", "oidc-providers", url=url, jwks=jwks, audience=audience)
        return arn

    @property
    def issuer_url(self) -> str:
        """The URL of the OAuth issuer."""
        url: str = self.control("GET", "issuer")["url"]
        return url

    @property
    def ca(self) -> str:
        """The CA of the OAuth issuer, in PEM."""
        pem: str = self.control("GET", "issuer")["ca"]
        return pem

    def oauth_refresh_token(
        self, client: str = CLIENT_ID, scope: str = "openid offline_access", expires_in: float | None = None
    ) -> str:
        """Mint the first refresh token of a family; without `expires_in` it lives until it is spent."""
        asked = {"client": client, "subject": "demo-user", "scope": scope, "expires_in": expires_in}
        token: str = self.control("POST", "oauth-refresh-tokens", **asked)["token"]
        return token

    def oauth_client(self, client_id: str, **client: str) -> None:
        """Register a client; with neither secret nor public key it is a public one."""
        self.control("POST", "oauth-clients", **({"client_id": client_id, "client_secret": ""} | client))

    def jwt(self, audience: str, **claims: Any) -> str:
        """Have the OAuth issuer sign a JWT for somebody else: `subject`, and `expires_in` seconds."""
        token: str = self.control("POST", "jwts", audience=audience, **claims)["token"]
        return token

    def authorization_code(self, verifier: str = "", application: str = APPLICATION_ARN) -> str:
        """Sign a user in at Identity Center: an authorization code, for the code verifier if there is one."""
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {"application": application, "challenge": digest if verifier else ""}
        code: str = self.control("POST", "identity-center-codes", **asked)["code"]
        return code

    def identity_center_token(self, application: str = APPLICATION_ARN, *, refresh: bool = False) -> str:
        """Mint an access token of Identity Center, or the first refresh token of a family."""
        path = "identity-center-refresh-tokens" if refresh else "identity-center-tokens"
        token: str = self.control("POST", path, application=application)["token"]
        return token

    def identity_center_family(self, token: str) -> History:
        """Tell what became of the family of a refresh token of Identity Center, or of the code that it came of."""
        return History(**self.control("POST", "identity-center-family", token=token))

    def id_token(self, subject: str = "demo-user", audience: str = CLIENT_ID, expires_in: float = 86400) -> str:
        """Mint an ID token of the OAuth issuer, as after a sign-in."""
        return self.jwt(audience, subject=subject, expires_in=expires_in)

    def family(self, token: str) -> History:
        """Tell what became of the family of an OAuth refresh token, the first or any later one."""
        return History(**self.control("POST", "oauth-family", token=token))

    def secrets(self) -> list[str]:
        """Tell every secret value that was ever issued or seeded, so that a test can look for it in logs."""
        secrets: list[str] = self.control("GET", "secrets")
        return secrets

    def control(self, method: str, path: str, **body: Any) -> Any:
        """Ask the control endpoint; what it refuses is a mistake in the test and raises ValueError."""
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=10)
        try:
            connection.request(method, f"/_control/{path}", json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise ValueError(f"{method} {path}: {text}")
        return json.loads(text)


@contextmanager
def running_emulator(**options: float | str) -> Iterator[Emulator]:
    """Start an emulator on a free loopback port, stop it at the end; `options` as `python -m ...emulator` has.

    At the end it raises if the emulator gave an answer that AWS could not give.
    """
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {"port": 0, **options}.items()]
    command = [sys.executable, "-m", "tests.support.emulator", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        try:
            first_line = process.stdout.readline() if process.stdout else ""
            if not first_line:
                raise RuntimeError("the emulator did not start: its reason is on stderr")
            yield Emulator(first_line.split()[-1], process.pid)
        finally:
            process.terminate()
    if process.returncode != 0:
        raise RuntimeError("the emulator gave an answer that AWS could not give: the reason is on stderr")
