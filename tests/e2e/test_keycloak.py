"""The operator and the sign-in with a real Keycloak: clients without a secret, and clients with a key."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.browser import sign_in, use_browser
from tests.support.client_key_forms import CERTIFICATE_PEM, PEM
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.plugin import user
from tests.support.cluster.sources import service_account_issuer
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.keycloak import Realm, missing, running_keycloak

pytestmark = pytest.mark.long
CA_FROM = {"secretKeyRef": {"name": "ca", "key": "ca.crt"}}
SIGNED_IN = {"token": {"secretKeyRef": {"name": "signed-in", "key": "refresh_token"}}}
RIGHTS = ("get tokenrequests", "get,create,patch secrets", "create serviceaccounts/token")
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@pytest.fixture(scope="module")
def realm(installed: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A realm that trusts the cluster's issuer for its clients."""
    if reason := missing():
        pytest.skip(reason)
    # Keycloak is outside the cluster, so it reads the issuer's keys without a token.
    installed.kubectl("create", "clusterrolebinding", "issuer-discovery", "--group=system:unauthenticated",
                      "--clusterrole=system:service-account-issuer-discovery")  # fmt: skip
    with running_keycloak(tmp_path_factory.mktemp("keycloak"), trusted=installed.ca_file.read_text()) as running:
        realm = running.create_realm("acme")
        realm.create_identity_provider("kubernetes", "kubernetes", issuer=service_account_issuer(installed))
        yield realm


@pytest.fixture
def operator(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, realm: Realm, tmp_path: Path
) -> Iterator[Operator]:
    """An operator that may create ServiceAccount tokens for the realm."""
    rules = ("--verb=create", "--resource=serviceaccounts/token")
    namespace.kubectl("create", "role", "token-creator", *rules)
    namespace.kubectl("create", "rolebinding", "token-creator", "--role=token-creator",
                      "--serviceaccount=keyturn:keyturn")  # fmt: skip
    namespace.put_secret("ca", {"ca.crt": realm.admin.ca})
    settings = LOOPBACK | {"sources": {"audiences": [realm.issuer]}}
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=settings) as operator:
        yield operator
        assert "internal error" not in operator.log()


def federated_client(namespace: Namespace, realm: Realm, client_id: str, **representation: Any) -> dict[str, Any]:
    """Create a client that authenticates as a ServiceAccount of its own; returns the source of its assertion."""
    namespace.kubectl("create", "serviceaccount", client_id)
    subject = f"system:serviceaccount:{namespace.name}:{client_id}"
    attributes = {"jwt.credential.issuer": "kubernetes", "jwt.credential.sub": subject}
    realm.create_client(client_id, clientAuthenticatorType="federated-jwt", attributes=attributes, **representation)
    return {"clientAssertionFrom": {"serviceAccount": {"name": client_id, "audiences": [realm.issuer]}}}


def request(realm: Realm, grant: str, fields: dict[str, Any], **spec: Any) -> dict[str, Any]:
    step = {"tokenUrl": realm.token_url, "grantType": grant, "caBundleFrom": CA_FROM} | fields
    spec = {"source": {}, "exchanges": [{"oauthToken": step}], "target": {"formats": [{"token": {}}]}} | spec
    return token_request("keycloak", **spec)


def issue_and_renew(namespace: Namespace, renewals: int) -> list[dict[str, Any]]:
    """Wait for the first token and renew it; returns the claims of all tokens, which must differ."""
    namespace.wait_until_ready("keycloak", timeout=60)
    tokens = [namespace.secret_data("keycloak")["token"]]
    for revision in range(2, renewals + 2):
        namespace.renew(revision, "keycloak", seconds=60)
        tokens.append(namespace.secret_data("keycloak")["token"])
    assert len(set(tokens)) == renewals + 1
    return [jwt.decode(token, options={"verify_signature": False}) for token in tokens]


@pytest.mark.usefixtures("operator")
def test_client_with_a_service_account_needs_no_secret(namespace: Namespace, realm: Realm) -> None:
    fields = federated_client(namespace, realm, "orders")
    namespace.apply(request(realm, "client_credentials", fields))

    assert [claims["azp"] for claims in issue_and_renew(namespace, 2)] == ["orders"] * 3


@pytest.mark.usefixtures("operator")
def test_client_with_a_service_account_rotates_a_refresh_token(namespace: Namespace, realm: Realm) -> None:
    fields = federated_client(namespace, realm, "portal")
    realm.create_user("alice", "correct horse")
    assertion = namespace.kubectl("create", "token", "portal", f"--audience={realm.issuer}").strip()
    signed_in = realm.request_token(
        grant_type="password",
        username="alice",
        password="correct horse",
        client_assertion=assertion,
        client_assertion_type=ASSERTION_TYPE,
    )
    namespace.put_token(signed_in["refresh_token"], name="source", key="refresh_token")
    source = {"token": {"secretKeyRef": {"name": "source", "key": "refresh_token"}}}
    namespace.apply(request(realm, "refresh_token", fields | {"clientId": "portal"}, source=source))

    assert {claims["preferred_username"] for claims in issue_and_renew(namespace, 3)} == {"alice"}


def client_with_key(namespace: Namespace, realm: Realm, client_id: str, **attributes: str) -> dict[str, Any]:
    """Create a client that signs its assertions; returns its fields of oauthToken."""
    certificate = "".join(CERTIFICATE_PEM.splitlines()[1:-1])
    attributes |= {"jwt.credential.certificate": certificate, "token.endpoint.auth.signing.alg": "PS256"}
    realm.create_client(client_id, clientAuthenticatorType="client-jwt", attributes=attributes)
    namespace.put_secret(client_id, {"tls.key": PEM, "tls.crt": CERTIFICATE_PEM})
    return {
        "clientId": client_id,
        "clientKeyFrom": {"secretKeyRef": {"name": client_id, "key": "tls.key"}},
        "clientCertificateFrom": {"secretKeyRef": {"name": client_id, "key": "tls.crt"}},
        "algorithm": "PS256",
        "clientAssertion": {"audience": realm.issuer, "certificateHeaders": ["x5t#S256"]},
    }


@pytest.mark.usefixtures("operator")
def test_client_with_a_key_and_the_audience_of_the_realm(namespace: Namespace, realm: Realm) -> None:
    fields = client_with_key(namespace, realm, "batch")
    namespace.apply(request(realm, "client_credentials", fields))

    assert {claims["azp"] for claims in issue_and_renew(namespace, 2)} == {"batch"}


@pytest.mark.usefixtures("operator")
def test_person_signs_in_with_a_browser_and_a_service_account(
    namespace: Namespace, realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = federated_client(namespace, realm, "shop", redirectUris=["http://127.0.0.1/callback"])
    namespace.apply(request(realm, "refresh_token", fields | {"clientId": "shop"}, source=SIGNED_IN))
    realm.create_user("bob", "secret")
    use_browser(monkeypatch, tmp_path, realm.admin.ca, "bob", "secret")
    output = user(namespace, tmp_path, *RIGHTS).succeed("login", "keycloak", "--yes")

    assert output.startswith("Secret signed-in written\nkeycloak: renewed, valid until ")
    assert {claims["preferred_username"] for claims in issue_and_renew(namespace, 2)} == {"bob"}


@pytest.mark.usefixtures("operator")
def test_person_signs_in_on_another_device_with_a_key(namespace: Namespace, realm: Realm, tmp_path: Path) -> None:
    fields = client_with_key(namespace, realm, "kiosk", **{"oauth2.device.authorization.grant.enabled": "true"})
    namespace.apply(request(realm, "refresh_token", fields, source=SIGNED_IN))
    realm.create_user("carol", "secret")
    plugin = user(namespace, tmp_path, *RIGHTS)
    with plugin.start("login", "keycloak", "--device", "--yes", stderr=subprocess.PIPE) as process:
        assert process.stderr
        page = re.search(r"or open (\S+)", process.stderr.readline())
        assert page
        sign_in(page[1], realm.admin.ca, {"username": "carol", "password": "secret"})
        _, errors = process.communicate(timeout=90)

    assert process.returncode == 0, errors
    assert {claims["preferred_username"] for claims in issue_and_renew(namespace, 2)} == {"carol"}
