"""An OpenID provider at which a person can sign in with any name and password, and a TokenRequest for its tokens."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import npm
from tests.support.issuer.server import Issuer, running_issuer
from tools.demo import print_step

NAME = "signed-in"


@contextmanager
def openid_provider() -> Iterator[Issuer | None]:
    """Run a provider; yields None if npm is not installed."""
    if reason := npm.missing():
        print_step(f"No OpenID provider to sign in at: {reason}")
        yield None
        return
    print_step("Starting an OpenID provider")
    with running_issuer() as issuer:
        yield issuer


def manifest(issuer: Issuer) -> str:
    """Return a TokenRequest for a person's token, and the Secret with the client's secret and the provider's CA."""
    source = {"token": {"secretKeyRef": {"name": NAME, "key": "refresh_token"}}}
    client = {"secret": issuer.client_secret, "ca": issuer.ca}
    return "\n---\n".join(
        json.dumps({"metadata": {"name": name}} | body, indent=2)
        for name, body in (
            (f"{NAME}-client", {"apiVersion": "v1", "kind": "Secret", "stringData": client}),
            (
                NAME,
                {
                    "apiVersion": "keyturn.dev/v1alpha1",
                    "kind": "TokenRequest",
                    "spec": {
                        "source": source,
                        "exchanges": [issuer.refresh_step(f"{NAME}-client")],
                        "target": {"secretName": f"{NAME}-token"},
                    },
                },
            ),
        )
    )
