"""The OpenID provider as a process."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certificates import issue_loopback_certificate
from tests.support.clock import real_now
from tests.support.emulator.oauth.client import send
from tests.support.npm import installed

CLIENT_ID = "keyturn"
AUDIENCE = "sts.amazonaws.com"
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Issuer:
    """A running provider with one client for client_secret_basic and _post; `ca` (PEM) signed its certificate."""

    url: str
    ca: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def refresh_step(self, secret: str) -> dict[str, Any]:
        """Return an exchange of a refresh token; the Secret has the keys `secret` (of the client) and `ca`."""
        step = {
            "tokenUrl": self.token_url,
            "grantType": "refresh_token",
            "clientId": self.client_id,
            "clientSecretFrom": {"secretKeyRef": {"name": secret, "key": "secret"}},
            "caBundleFrom": {"secretKeyRef": {"name": secret, "key": "ca"}},
        }
        return {"oauthToken": step}

    def refresh_token(self, *, jwt: bool = False) -> str:
        """Issue the first refresh token of a family; with `jwt` its access tokens are JWTs for AUDIENCE."""
        return send(f"{self.url}/issue{'/jwt' * jwt}", self.ca, form={}).text

    def counts(self) -> dict[str, int]:
        """Return the numbers of consumed refresh tokens, refused requests and revoked families."""
        return dict(json.loads(send(f"{self.url}/counts", self.ca).text))

    def jwks(self) -> dict[str, Any]:
        """Return its public keys (RFC 7517)."""
        return dict(json.loads(send(f"{self.url}/jwks", self.ca).text))


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Run a provider on a free loopback port."""
    server = issue_loopback_certificate(real_now())
    # The prefix changes when it is form-encoded, which client_secret_basic requires.
    secret = "+/%25" + secrets.token_urlsafe(32)
    client = {"client_id": CLIENT_ID, "client_secret": secret}
    settings = {"certificate": server.certificate, "key": server.key, **client}
    with (
        # Node resolves packages from the working directory only for a program on stdin.
        (_HERE / "server.mjs").open() as program,
        subprocess.Popen(
            ["node", "--input-type=module"],
            cwd=installed("oidc-provider", _HERE),
            env=os.environ | {"SETTINGS": json.dumps(settings)},
            stdin=program,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise RuntimeError("the provider did not start; see its stderr")
            yield Issuer(url, server.ca, CLIENT_ID, secret)
        finally:
            process.terminate()
