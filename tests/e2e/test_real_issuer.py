"""The operator with a real OpenID issuer that rotates tokens and revokes the family of a reused token."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import npm
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.issuer.server import AUDIENCE, Issuer, running_issuer

pytestmark = pytest.mark.skipif(bool(npm.missing()), reason=npm.missing())
NAMES = ("first", "second")
TOKEN: dict[str, Any] = {"formats": [{"token": {}}]}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running_issuer() as running:
        yield running


def sign_in(namespace: Namespace, issuer: Issuer, *, jwt: bool = False) -> None:
    namespace.put_token(issuer.refresh_token(jwt=jwt), name="source", key="refresh_token")
    namespace.put_secret("issuer", {"secret": issuer.client_secret, "ca": issuer.ca})


def request(issuer: Issuer, name: str, *exchanges: dict[str, Any], **spec: Any) -> dict[str, Any]:
    source = {"token": {"secretKeyRef": {"name": "source", "key": "refresh_token"}}}
    return token_request(name, source=source, exchanges=[issuer.refresh_step("issuer"), *exchanges], **spec)


def renew(namespace: Namespace, revision: int) -> None:
    """Renew all TokenRequests at once, and wait for this revision."""
    namespace.kubectl("annotate", "treq", "--all", "--overwrite", f"keyturn.dev/renew-requested-at=n{revision}")
    for name in NAMES:
        namespace.wait_for_revision(revision, name, seconds=30)


def test_two_requests_consume_each_token_once(
    own_operator: Operator, aws: Emulator, namespace: Namespace, issuer: Issuer
) -> None:
    sign_in(namespace, issuer)
    namespace.apply(*(request(issuer, name, target=TOKEN) for name in NAMES))
    for name in NAMES:
        namespace.wait_until_ready(name)
    seen = {namespace.secret_data(name)["token"] for name in NAMES}

    for revision in range(2, 8):
        if revision == 4:
            own_operator.kill()
            own_operator.start()
        if revision == 6:
            assert own_operator.stop() == 0
            own_operator.start()
        renew(namespace, revision)
        seen |= {namespace.secret_data(name)["token"] for name in NAMES}

    assert issuer.counts() == {"consumed": 14, "refused": 0, "revoked": 0}
    assert len(seen) == 14


@pytest.mark.usefixtures("own_operator")
def test_token_becomes_the_credentials_of_a_role(aws: Emulator, namespace: Namespace, issuer: Issuer) -> None:
    role = aws.trust_issuer(issuer.url, issuer.jwks(), AUDIENCE)
    sign_in(namespace, issuer, jwt=True)
    web_identity = {"assumeRoleWithWebIdentity": {"roleArn": role}}
    namespace.apply(*(request(issuer, name, web_identity) for name in NAMES))
    for name in NAMES:
        namespace.wait_until_ready(name)
    renew(namespace, 2)

    assert role.partition("/")[2] in namespace.status("first")["principal"]
    assert len({namespace.secret_data(name)["AWS_ACCESS_KEY_ID"] for name in NAMES}) == 2
    assert issuer.counts() == {"consumed": 4, "refused": 0, "revoked": 0}
