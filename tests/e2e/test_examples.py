"""The API server accepts every example; each TokenRequest is issued and renewed with its documented AWS setup."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.sources import CODE_VERIFIER, USER_KEYS, caller_arn, service_account_issuer
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_TRUST_POLICY,
    APPLICATION_ARN,
    CLIENT_ID,
    DEFAULT_SCOPES,
    OTHER_APPLICATION_ARN,
)
from tests.support.emulator.oauth.client import send

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
PORTAL_ARN = f"{APPLICATION_ARN[:-1]}a"
EXTERNAL_ID = "partner/1"
_ROLE = re.compile(r"arn:aws:iam::[0-9]{12}:role/[A-Za-z-]+")
Values = dict[str, dict[str, str]]
_TENANT = "11111111-2222-3333-4444-555555555555"
# Token endpoints and audiences of issuers that the emulator's issuer stands for, and its paths; the longest first.
FOREIGN_ISSUERS = {
    "https://sts.partner.example/token": "/token",
    "https://keycloak.example.com/realms/acme/protocol/openid-connect/token": "/token",
    "https://keycloak.example.com/realms/acme": "",
    f"https://login.microsoftonline.com/{_TENANT}/oauth2/v2.0/token": "/token",
    "https://acme.okta.com/oauth2/default/v1/token": "/token",
    "https://acme.eu.auth0.com/oauth/token": "/token",
    "https://oauth2.googleapis.com/token": "/token",
    "https://github.com/login/oauth/access_token": "/token",
    "api://AzureADTokenExchange": "",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_api_server_accepts_the_example(namespace: Namespace, example: Path) -> None:
    shown = namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(example))

    assert "created (server dry run)" in shown


@pytest.fixture(scope="module")
def own_aws() -> Iterator[Emulator]:
    """A separate emulator: the examples change its issuer and applications."""
    with running_emulator() as aws:
        yield aws


@pytest.fixture(scope="module")
def ambient_operator(
    installed: ControlPlane, own_aws: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with an ambient identity that trusts the issuer's CA and may create ServiceAccount tokens."""
    directory = tmp_path_factory.mktemp("examples")
    (directory / "ca.crt").write_text(own_aws.ca)
    ambient = {"namespaces": ["test-*"], "roles": [f"arn:aws:iam::{ACCOUNT}:role/billing-*"]}
    audiences = ["sts.amazonaws.com", own_aws.issuer_url]
    settings = LOOPBACK | {"sources": {"ambient": [ambient], "audiences": audiences}}
    installed.kubectl("create", "clusterrole", "token-creator", "--verb=create", "--resource=serviceaccounts/token")
    installed.kubectl("create", "clusterrolebinding", "token-creator", "--clusterrole=token-creator",
                      "--serviceaccount=keyturn:keyturn")  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**USER_KEYS, "SSL_CERT_FILE": str(directory / "ca.crt")}.items():
            patch.setenv(name, value)
        with running_operator(installed, own_aws, directory, settings=settings) as operator:
            yield operator
            assert "internal error" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "token-creator")


@dataclass(frozen=True, slots=True)
class Environment:
    """The namespace, AWS and issuer that replace those of an example."""

    namespace: Namespace
    aws: Emulator
    issuer: str

    def adapt(self, text: str) -> str:
        """Replace the issuers, names and namespaces of an example."""
        text = text.replace("https://issuer.example.com/oauth2/token", f"{self.aws.issuer_url}/token")
        for name in ("issuer.example.com", "login.example.com"):
            text = text.replace(name, self.issuer.removeprefix("https://"))
        for name, replacement in FOREIGN_ISSUERS.items():
            text = text.replace(name, f"{self.aws.issuer_url}{replacement}")
        text = text.replace("the one in the Secret", EXTERNAL_ID).replace("role/Keyturn", "user/keyturn")
        text = text.replace('kubernetes-namespace": "billing', f'kubernetes-namespace": "{self.namespace.name}')
        return text.replace(":serviceaccount:billing:", f":serviceaccount:{self.namespace.name}:")

    def create_roles(self, text: str) -> None:
        """Create the roles with the trust policies in the comments, matched from the last one backwards."""
        comments = "".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
        policies = [policy for policy in _statements(comments) if "Principal" in policy]
        roles = dict.fromkeys(_ROLE.findall("".join(map(json.dumps, _steps(text)))))
        documents = [{"Version": "2012-10-17", "Statement": [it]} for it in policies if "sts:" in str(it)]
        policy_of = dict(zip(reversed([*roles]), reversed(documents), strict=False))
        for arn in roles:
            policy = policy_of.get(arn, ACCOUNT_TRUST_POLICY)
            self.aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=43200)

    def trust_issuer(self, audience: str) -> None:
        """Let AWS trust the issuer for an audience."""
        if self.issuer == self.aws.issuer_url:
            keys = send(f"{self.issuer}/jwks", self.aws.ca).text
        else:
            keys = self.namespace.plane.kubectl("get", "--raw", "/openid/v1/jwks")
        self.aws.trust_issuer(self.issuer, json.loads(keys), audience)


def _statements(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(strict=False), text.find('{"Effect"')
    while at >= 0:
        statement, at = decoder.raw_decode(text, at)
        yield statement
        at = text.find('{"Effect"', at)


def _requests(text: str) -> list[dict[str, Any]]:
    return [body for body in yaml.safe_load_all(text) if body["kind"] == "TokenRequest"]


def _steps(text: str) -> list[dict[str, Any]]:
    return [
        step
        for body in _requests(text)
        for step in body["spec"]["exchanges"]
        if "licenseManagerCreateToken" not in step
    ]


def _license(environment: Environment) -> Values:
    return {"acme-license": {"license_token": environment.aws.refresh_token()}}


def _login(environment: Environment) -> Values:
    environment.trust_issuer(CLIENT_ID)
    return {"login": {"id_token": environment.aws.id_token()}}


def _client_with_key(environment: Environment, client_id: str, secret: str) -> Values:
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    environment.aws.oauth_client(client_id, public_key=public_key)
    return {secret: {"tls.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()}}


def _batch(environment: Environment) -> Values:
    environment.trust_issuer("sts.amazonaws.com")
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "private-ca"}}
    environment.namespace.apply(ca | {"data": {"ca.crt": environment.aws.ca}})
    return _client_with_key(environment, "batch-jobs", "batch-client")


def _okta(environment: Environment) -> Values:
    return _client_with_key(environment, "0oa1b2c3d4e5f6g7h8i9", "okta-client")


def _auth0(environment: Environment) -> Values:
    environment.aws.oauth_client("1a2b3c4d5e6f", client_secret="secret")
    return {"auth0-client": {"client_secret": "secret"}}


def _google(environment: Environment) -> Values:
    client = "123456789012-abc123.apps.googleusercontent.com"
    environment.aws.oauth_client(client, client_secret="secret")
    scope = "openid https://www.googleapis.com/auth/drive.readonly"
    token = environment.aws.oauth_refresh_token(client, scope)
    return {"google-user": {"refresh_token": token}, "google-client": {"client_secret": "secret"}}


def _github(environment: Environment) -> Values:
    environment.aws.oauth_client("Iv23liAbCdEfGhIjKlMn", client_secret="secret")
    token = environment.aws.oauth_refresh_token("Iv23liAbCdEfGhIjKlMn")
    return {"github-user": {"refresh_token": token}, "github-client": {"client_secret": "secret"}}


def _billing(environment: Environment) -> Values:
    environment.aws.oauth_client("billing", client_secret="secret", audience="billing")
    environment.trust_issuer("billing")
    return {"okta": {"refresh_token": environment.aws.oauth_refresh_token("billing"), "client_secret": "secret"}}


def _reader(environment: Environment) -> Values:
    environment.aws.oauth_client("reader")
    environment.aws.control("POST", "identity-center-applications", arn=APPLICATION_ARN, audiences=["reader"])
    return {"okta": {"refresh_token": environment.aws.oauth_refresh_token("reader")}, "base-aws": USER_KEYS}


def _orders(environment: Environment) -> Values:
    environment.aws.oauth_client("orders")
    environment.aws.oauth_client("")
    return {"okta": {"refresh_token": environment.aws.oauth_refresh_token("orders")}}


def _portal(environment: Environment) -> Values:
    scopes = sorted(DEFAULT_SCOPES | {OTHER_APPLICATION_ARN})
    environment.aws.control("POST", "identity-center-applications", arn=PORTAL_ARN, scopes=scopes)
    return {"portal-token": {"token": environment.aws.identity_center_token(PORTAL_ARN)}, "base-aws": USER_KEYS}


def _sign_in(environment: Environment) -> Values:
    return {
        "sign-in": {"code": environment.aws.authorization_code(CODE_VERIFIER), "verifier": CODE_VERIFIER},
        "base-aws": USER_KEYS,
    }


def _account(environment: Environment) -> Values:
    environment.namespace.kubectl("create", "serviceaccount", "app")
    environment.trust_issuer("sts.amazonaws.com")
    return {}


def _federated_client(environment: Environment) -> Values:
    subject = f"system:serviceaccount:{environment.namespace.name}:app"
    environment.aws.oauth_client("66666666-7777-8888-9999-000000000000", federated_subject=subject)
    return _account(environment)


def _keys(_: Environment) -> Values:
    return {"base-aws": USER_KEYS}


# By example: prepares AWS and the issuer, and returns the Secrets. Default: the access keys of a user.
PREPARE: dict[str, Callable[[Environment], Values]] = {
    "ambient": lambda _: {},
    "auth0": _auth0,
    "client-credentials": _batch,
    "cognito": _login,
    "cognito-basic-flow": _login,
    "cross-account": lambda _: {"base-aws": USER_KEYS, "partner-secret": {"external_id": EXTERNAL_ID}},
    "entra-workload-identity": _federated_client,
    "github-app": _github,
    "google": _google,
    "identity-center": _sign_in,
    "identity-center-exchange": _portal,
    "identity-center-trusted-issuer": _reader,
    "keycloak-federated-client": _federated_client,
    "license-manager": _license,
    "oauth-refresh-token": _billing,
    "okta": _okta,
    "service-account": _account,
    "token-exchange": _orders,
    "web-identity-token": _license,
}
WITH_REQUEST = [example for example in EXAMPLES if _requests(example.read_text())]


@pytest.mark.usefixtures("ambient_operator")
@pytest.mark.parametrize("example", WITH_REQUEST, ids=lambda path: path.stem)
def test_example_is_issued_and_renewed_twice(example: Path, own_aws: Emulator, namespace: Namespace) -> None:
    of_cluster = PREPARE.get(example.stem) in (_account, _federated_client)
    issuer = service_account_issuer(namespace.plane) if of_cluster else own_aws.issuer_url
    environment = Environment(namespace, own_aws, issuer)
    text = environment.adapt(example.read_text())
    values = PREPARE.get(example.stem, _keys)(environment)
    environment.create_roles(text)
    for name, data in values.items():
        namespace.put_secret(name, data)
    (request,) = _requests(text)
    namespace.apply(request)
    name = request["metadata"]["name"]
    namespace.wait_until_ready(name, timeout=30)
    secrets = [namespace.secret_data(namespace.status(name)["secretName"])]
    for revision in (2, 3):
        namespace.renew(revision, name)
        secrets.append(namespace.secret_data(namespace.status(name)["secretName"]))

    assert len({json.dumps(data, sort_keys=True) for data in secrets}) == 3
    assert all(caller_arn(data, own_aws) for data in secrets if "AWS_ACCESS_KEY_ID" in data)
    assert namespace.condition(name, "Renewed")[:2] == ("True", "Renewed")
    assert namespace.condition(name, "Stalled") == ("", "", "")
