"""Every example works: the real API server takes it, and with the AWS side that it tells of it becomes Ready."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.test_flows_tokens import VERIFIER
from tests.integration.exchanges.test_oauth_grants import EC
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator, running_emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_TRUST_POLICY,
    APPLICATION_ARN,
    CLIENT_ID,
    DEFAULT_SCOPES,
    OTHER_APPLICATION_ARN,
    USER_KEY_ID,
    USER_SECRET_KEY,
)
from tests.support.emulator.oauth.client import send

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
KEYS = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
PORTAL_ARN = f"{APPLICATION_ARN[:-1]}a"
EXTERNAL_ID = "partner/1"
_ROLE = re.compile(r"arn:aws:iam::[0-9]{12}:role/[A-Za-z-]+")
Values = dict[str, dict[str, str]]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_api_server_takes_the_example(namespace: Namespace, example: Path) -> None:
    shown = namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(example))

    assert "created (server dry run)" in shown


@pytest.fixture(scope="module")
def own_aws() -> Iterator[Emulator]:
    """An AWS whose issuer, applications and own identity are those of the examples."""
    with running_emulator() as aws:
        yield aws


@pytest.fixture(scope="module")
def lending_operator(
    installed: ControlPlane, own_aws: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator with an identity of its own, which trusts the issuer's CA and may make tokens."""
    directory = tmp_path_factory.mktemp("examples")
    (directory / "ca.crt").write_text(own_aws.ca)
    ambient = {"namespaces": ["test-*"], "roles": [f"arn:aws:iam::{ACCOUNT}:role/billing-*"]}
    settings = LOOPBACK | {"sources": {"ambient": [ambient]}}
    installed.kubectl("create", "clusterrole", "maker", "--verb=create", "--resource=serviceaccounts/token")
    bound = ("create", "clusterrolebinding", "maker", "--clusterrole=maker", "--serviceaccount=keyturn:keyturn")
    installed.kubectl(*bound)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "SSL_CERT_FILE": str(directory / "ca.crt")}.items():
            patch.setenv(name, value)
        with running_operator(installed, own_aws, directory, settings=settings) as operator:
            yield operator
            assert "a bug" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "maker")


@dataclass(frozen=True, slots=True)
class Ground:
    """Where an example is tried: what it calls example.com and billing is here something else."""

    namespace: Namespace
    aws: Emulator
    issuer: str

    def here(self, text: str) -> str:
        """The example, as if it had been written for this place."""
        text = text.replace("https://issuer.example.com/oauth2/token", f"{self.aws.issuer_url}/token")
        for name in ("issuer.example.com", "login.example.com"):
            text = text.replace(name, self.issuer.removeprefix("https://"))
        text = text.replace("https://sts.partner.example/token", f"{self.aws.issuer_url}/token")
        text = text.replace("the one in the Secret", EXTERNAL_ID).replace("role/Keyturn", "user/keyturn")
        text = text.replace('kubernetes-namespace": "billing', f'kubernetes-namespace": "{self.namespace.name}')
        return text.replace(":serviceaccount:billing:", f":serviceaccount:{self.namespace.name}:")

    def trust(self, text: str) -> None:
        """Make the roles, each with the trust policy that stands in the comments, the last with the last."""
        comments = "".join(line.removeprefix("#") for line in text.splitlines() if line.startswith("#"))
        policies = [policy for policy in _statements(comments) if "Principal" in policy]
        roles = dict.fromkeys(_ROLE.findall("".join(map(json.dumps, _steps(text)))))
        documents = [{"Version": "2012-10-17", "Statement": [one]} for one in policies if "sts:" in str(one)]
        known = dict(zip(reversed([*roles]), reversed(documents), strict=False))
        for arn in roles:
            policy = known.get(arn, ACCOUNT_TRUST_POLICY)
            self.aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=43200)

    def trust_issuer(self, audience: str) -> None:
        """Have AWS trust the issuer for an audience."""
        at_aws = self.issuer == self.aws.issuer_url
        keys = send(f"{self.issuer}/jwks", self.aws.ca).text if at_aws else self._of_cluster("/openid/v1/jwks")
        self.aws.trust_issuer(self.issuer, json.loads(keys), audience)

    def _of_cluster(self, path: str) -> str:
        return self.namespace.plane.kubectl("get", "--raw", path)


def _statements(text: str) -> Iterator[dict[str, Any]]:
    """Each object of JSON that stands in a text."""
    decoder, at = json.JSONDecoder(strict=False), text.find('{"Effect"')
    while at >= 0:
        found, at = decoder.raw_decode(text, at)
        yield found
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


def _license(ground: Ground) -> Values:
    return {"acme-license": {"license_token": ground.aws.refresh_token()}}


def _login(ground: Ground) -> Values:
    ground.trust_issuer(CLIENT_ID)
    return {"login": {"id_token": ground.aws.id_token()}}


def _batch(ground: Ground) -> Values:
    ground.aws.oauth_client("batch-jobs", public_key=EC[1])
    ground.trust_issuer("sts.amazonaws.com")
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "private-ca"}}
    ground.namespace.apply(ca | {"data": {"ca.crt": ground.aws.ca}})
    return {"batch-client": {"tls.key": EC[0]}}


def _billing(ground: Ground) -> Values:
    ground.aws.oauth_client("billing", client_secret="secret", audience="billing")
    ground.trust_issuer("billing")
    return {"okta": {"refresh_token": ground.aws.oauth_refresh_token("billing"), "client_secret": "secret"}}


def _reader(ground: Ground) -> Values:
    ground.aws.oauth_client("reader")
    ground.aws.control("POST", "identity-center-applications", arn=APPLICATION_ARN, audiences=["reader"])
    return {"okta": {"refresh_token": ground.aws.oauth_refresh_token("reader")}, "base-aws": KEYS}


def _orders(ground: Ground) -> Values:
    ground.aws.oauth_client("orders")
    ground.aws.oauth_client("")
    return {"okta": {"refresh_token": ground.aws.oauth_refresh_token("orders")}}


def _portal(ground: Ground) -> Values:
    scopes = sorted(DEFAULT_SCOPES | {OTHER_APPLICATION_ARN})
    ground.aws.control("POST", "identity-center-applications", arn=PORTAL_ARN, scopes=scopes)
    return {"portal-token": {"token": ground.aws.identity_center_token(PORTAL_ARN)}, "base-aws": KEYS}


def _sign_in(ground: Ground) -> Values:
    return {"sign-in": {"code": ground.aws.authorization_code(VERIFIER), "verifier": VERIFIER}, "base-aws": KEYS}


def _account(ground: Ground) -> Values:
    ground.namespace.kubectl("create", "serviceaccount", "app")
    ground.trust_issuer("sts.amazonaws.com")
    return {}


def _keys(_: Ground) -> Values:
    return {"base-aws": KEYS}


# What must be there besides the keys of a user: the Secrets, and what AWS and the issuer know.
BEFORE: dict[str, Callable[[Ground], Values]] = {
    "ambient": lambda _: {},
    "client-credentials": _batch,
    "cognito": _login,
    "cognito-basic-flow": _login,
    "cross-account": lambda _: {"base-aws": KEYS, "partner-secret": {"external_id": EXTERNAL_ID}},
    "identity-center": _sign_in,
    "identity-center-exchange": _portal,
    "identity-center-trusted-issuer": _reader,
    "license-manager": _license,
    "oauth-refresh-token": _billing,
    "service-account": _account,
    "token-exchange": _orders,
    "web-identity-token": _license,
}
FLOWS = [example for example in EXAMPLES if _requests(example.read_text())]


@pytest.mark.usefixtures("lending_operator")
@pytest.mark.parametrize("example", FLOWS, ids=lambda path: path.stem)
def test_an_example_becomes_ready(example: Path, own_aws: Emulator, namespace: Namespace) -> None:
    cluster = json.loads(namespace.plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    ground = Ground(namespace, own_aws, cluster if example.stem == "service-account" else own_aws.issuer_url)
    text = ground.here(example.read_text())
    values = BEFORE.get(example.stem, _keys)(ground)
    ground.trust(text)
    for name, data in values.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        namespace.apply(secret)
    (request,) = _requests(text)
    namespace.apply(request)
    namespace.is_ready(request["metadata"]["name"], timeout=30)

    assert namespace.condition(request["metadata"]["name"], "Renewed")[:2] == ("True", "Issued")
    assert namespace.condition(request["metadata"]["name"], "Stalled") == ("", "", "")
