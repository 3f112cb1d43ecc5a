"""The issuer as a process of its own, and a handle on it for tests."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.certificates import issue_loopback_certificate
from tests.support.emulator.oauth.client import send
from tests.support.npm import installed

CLIENT_ID = "keyturn"
AUDIENCE = "sts.amazonaws.com"
_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Issuer:
    """A running issuer with one client; `ca` (PEM) vouches for its server."""

    url: str
    ca: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    def refresh_token(self, *, jwt: bool = False) -> str:
        """Mint the first refresh token of a family; with `jwt` its access tokens are JWTs for AUDIENCE."""
        return send(f"{self.url}/mint{'/jwt' * jwt}", self.ca, form={}).text

    def counts(self) -> dict[str, int]:
        """Tell how many refresh tokens were consumed, requests refused and families revoked."""
        found: dict[str, int] = json.loads(send(f"{self.url}/counts", self.ca).text)
        return found

    def jwks(self) -> dict[str, Any]:
        """Give its public keys (RFC 7517)."""
        found: dict[str, Any] = json.loads(send(f"{self.url}/jwks", self.ca).text)
        return found


@contextmanager
def running_issuer() -> Iterator[Issuer]:
    """Start an issuer on a free loopback port, and stop it at the end; its client may use basic or post."""
    certified = issue_loopback_certificate(datetime.now(UTC))  # noqa: TID251 - a real server
    # What comes first is not the same once it is form-encoded, which basic wants.
    secret = "+/%25" + secrets.token_urlsafe(32)
    settings = {
        "certificate": certified.certificate,
        "key": certified.key,
        "client_id": CLIENT_ID,
        "client_secret": secret,
    }
    with (
        # From stdin node finds the packages of its working directory, which a file here would not.
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
                raise RuntimeError("the issuer did not start: its reason is on stderr")
            yield Issuer(url, certified.ca, CLIENT_ID, secret)
        finally:
            process.terminate()
