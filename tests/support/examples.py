"""What the examples need: an issuer that stands for theirs, AWS as their comments describe it, and their Secrets."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.sources import CODE_VERIFIER, USER_KEYS, service_account_issuer
from tests.support.emulator.client import Emulator
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
_ISSUER = "https://issuer.example.com"
_KEYCLOAK, _ENTRA = "https://keycloak.example.com/realms/acme", "api://AzureADTokenExchange"
# URLs and audiences of the issuers that the emulator's issuer stands for. The first is its own URL.
ISSUER_ALIASES = (
    _ISSUER,
    f"{_ISSUER}/oauth2/token",
    "https://sts.partner.example/token",
    _KEYCLOAK,
    f"{_KEYCLOAK}/protocol/openid-connect/token",
    "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token",
    "https://acme.okta.com/oauth2/default/v1/token",
    "https://acme.eu.auth0.com/oauth/token",
    "https://oauth2.googleapis.com/token",
    "https://github.com/login/oauth/access_token",
    _ENTRA,
)
ISSUER_HOSTS = sorted({urlsplit(alias).hostname or "" for alias in ISSUER_ALIASES if alias.startswith("https://")})
_AUDIENCE = "sts.amazonaws.com"
_PORTAL_ARN = f"{APPLICATION_ARN[:-1]}a"
_EXTERNAL_ID = "partner/1"
_ROLE = re.compile(r"arn:aws:iam::[0-9]{12}:role/[A-Za-z-]+")
Values = Mapping[str, Mapping[str, str]]


def settings(proxy: str) -> dict[str, Any]:
    """Return the operator's settings; `proxy` leads from the names of the issuers to the emulator's."""
    ambient = {"namespaces": ["*"], "roles": [f"arn:aws:iam::{ACCOUNT}:role/billing-*"]}
    return {
        "issuers": {"proxy": proxy, "allowedHosts": [*ISSUER_HOSTS, "127.0.0.1"]},
        "sources": {"ambient": [ambient], "audiences": [_AUDIENCE, _KEYCLOAK, _ENTRA]},
    }


def requests(example: Path) -> list[dict[str, Any]]:
    """Return the TokenRequests of an example."""
    return [body for body in yaml.safe_load_all(example.read_text()) if body["kind"] == "TokenRequest"]


@dataclass(frozen=True, slots=True)
class ExampleSetup:
    """Prepares AWS and the issuer for examples in a namespace."""

    namespace: Namespace
    aws: Emulator

    def create_roles(self, example: Path) -> None:
        """Create the roles with the trust policies in the comments, matched from the last one backwards."""
        issuer = service_account_issuer(self.namespace.plane) if _is_federated(example) else _ISSUER
        comments = "".join(line.removeprefix("#") for line in example.read_text().splitlines() if line.startswith("#"))
        for before, after in {
            "issuer.example.com": issuer.removeprefix("https://"),
            "the one in the Secret": _EXTERNAL_ID,
            "role/Keyturn": "user/keyturn",
            'kubernetes-namespace": "billing': f'kubernetes-namespace": "{self.namespace.name}',
            ":serviceaccount:billing:": f":serviceaccount:{self.namespace.name}:",
        }.items():
            comments = comments.replace(before, after)
        policies = [policy for policy in _statements(comments) if "Principal" in policy]
        steps = [step for body in requests(example) for step in body["spec"]["exchanges"]]
        steps = [step for step in steps if "licenseManagerCreateToken" not in step]
        roles = dict.fromkeys(_ROLE.findall("".join(map(json.dumps, steps))))
        documents = [{"Version": "2012-10-17", "Statement": [it]} for it in policies if "sts:" in str(it)]
        policy_of = dict(zip(reversed([*roles]), reversed(documents), strict=False))
        for arn in roles:
            policy = policy_of.get(arn, ACCOUNT_TRUST_POLICY)
            self.aws.control("POST", "roles", arn=arn, trust_policy=policy, max_session_seconds=43200)

    def prepare(self, example: Path) -> Values:
        """Prepare AWS and the issuer, and return the Secrets to create. Default: the access keys of a user."""
        return _PREPARE.get(example.stem, _user_keys)(self)

    def reads_secrets(self, example: Path) -> bool:
        """Whether an example reads Secrets, so that nothing happens before `prepare` has returned them."""
        return example.stem != "ambient" and not _is_federated(example)

    def trust_issuer(self, audience: str) -> None:
        """Let AWS trust the issuer for an audience."""
        keys = send(f"{self.aws.issuer_address}/jwks", self.aws.ca).text
        self.aws.trust_issuer(_ISSUER, json.loads(keys), audience)

    def trust_cluster(self) -> None:
        """Let AWS and the issuer trust the ServiceAccounts of the cluster."""
        keys = self.namespace.plane.kubectl("get", "--raw", "/openid/v1/jwks")
        self.aws.trust_issuer(service_account_issuer(self.namespace.plane), json.loads(keys), _AUDIENCE)


def _is_federated(example: Path) -> bool:
    return _PREPARE.get(example.stem) in (_account, _federated_client)


def _statements(text: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(strict=False), text.find('{"Effect"')
    while at >= 0:
        statement, at = decoder.raw_decode(text, at)
        yield statement
        at = text.find('{"Effect"', at)


def _user_keys(_: ExampleSetup) -> Values:
    return {"base-aws": USER_KEYS}


def _license(setup: ExampleSetup) -> Values:
    return {"acme-license": {"license_token": setup.aws.refresh_token()}}


def _login(setup: ExampleSetup) -> Values:
    setup.trust_issuer(CLIENT_ID)
    return {"login": {"id_token": setup.aws.id_token()}}


def _client_with_key(setup: ExampleSetup, client_id: str, secret: str) -> Values:
    key = ec.generate_private_key(ec.SECP256R1())
    public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    setup.aws.oauth_client(client_id, public_key=public_key)
    return {secret: {"tls.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()}}


def _batch(setup: ExampleSetup) -> Values:
    setup.trust_issuer(_AUDIENCE)
    ca = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "private-ca"}}
    setup.namespace.apply(ca | {"data": {"ca.crt": setup.aws.ca}})
    return _client_with_key(setup, "batch-jobs", "batch-client")


def _okta(setup: ExampleSetup) -> Values:
    return _client_with_key(setup, "0oa1b2c3d4e5f6g7h8i9", "okta-client")


def _auth0(setup: ExampleSetup) -> Values:
    setup.aws.oauth_client("1a2b3c4d5e6f", client_secret="secret")
    return {"auth0-client": {"client_secret": "secret"}}


def _google(setup: ExampleSetup) -> Values:
    client = "123456789012-abc123.apps.googleusercontent.com"
    setup.aws.oauth_client(client, client_secret="secret")
    token = setup.aws.oauth_refresh_token(client, "openid https://www.googleapis.com/auth/drive.readonly")
    return {"google-user": {"refresh_token": token}, "google-client": {"client_secret": "secret"}}


def _github(setup: ExampleSetup) -> Values:
    setup.aws.oauth_client("Iv23liAbCdEfGhIjKlMn", client_secret="secret")
    token = setup.aws.oauth_refresh_token("Iv23liAbCdEfGhIjKlMn")
    return {"github-user": {"refresh_token": token}, "github-client": {"client_secret": "secret"}}


def _billing(setup: ExampleSetup) -> Values:
    setup.aws.oauth_client("billing", client_secret="secret", audience="billing")
    setup.trust_issuer("billing")
    return {"okta": {"refresh_token": setup.aws.oauth_refresh_token("billing"), "client_secret": "secret"}}


def _reader(setup: ExampleSetup) -> Values:
    setup.aws.oauth_client("reader")
    setup.aws.control("POST", "identity-center-applications", arn=APPLICATION_ARN, audiences=["reader"])
    return {"okta-reader": {"refresh_token": setup.aws.oauth_refresh_token("reader")}, "base-aws": USER_KEYS}


def _orders(setup: ExampleSetup) -> Values:
    setup.aws.oauth_client("orders")
    setup.aws.oauth_client("")
    return {"okta-orders": {"refresh_token": setup.aws.oauth_refresh_token("orders")}}


def _portal(setup: ExampleSetup) -> Values:
    scopes = sorted(DEFAULT_SCOPES | {OTHER_APPLICATION_ARN})
    setup.aws.control("POST", "identity-center-applications", arn=_PORTAL_ARN, scopes=scopes)
    return {"portal-token": {"token": setup.aws.identity_center_token(_PORTAL_ARN)}, "base-aws": USER_KEYS}


def _sign_in(setup: ExampleSetup) -> Values:
    return {
        "sign-in": {"code": setup.aws.authorization_code(CODE_VERIFIER), "verifier": CODE_VERIFIER},
        "base-aws": USER_KEYS,
    }


def _account(setup: ExampleSetup) -> Values:
    setup.trust_cluster()
    return {}


def _federated_client(setup: ExampleSetup) -> Values:
    subject = f"system:serviceaccount:{setup.namespace.name}:app"
    setup.aws.oauth_client("66666666-7777-8888-9999-000000000000", federated_subject=subject)
    return _account(setup)


_PREPARE: Mapping[str, Callable[[ExampleSetup], Values]] = {
    "ambient": lambda _: {},
    "auth0": _auth0,
    "client-credentials": _batch,
    "cognito": _login,
    "cognito-basic-flow": _login,
    "cross-account": lambda _: {"base-aws": USER_KEYS, "partner-secret": {"external_id": _EXTERNAL_ID}},
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
