"""Flows to credentials and package tokens, from kubectl apply to a proven Secret, renewed twice."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.integration.exchanges.test_codeartifact import basic, opens
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    ACCOUNT,
    ACCOUNT_ROLE_ARN,
    DOMAIN,
    POOL_ID,
    POOL_ROLE_ARN,
    REPOSITORY,
    USER_KEY_ID,
    USER_SECRET_KEY,
    trust_policy,
)
from tests.support.processes import until

PARTNER = f"arn:aws:iam::{ACCOUNT}:role/Partner"
APP = f"arn:aws:iam::{ACCOUNT}:role/App"
AMBIENT = {"sources": {"ambient": [{"namespaces": ["test-*"], "roles": [ACCOUNT_ROLE_ARN]}]}}
SESSION_SECONDS = 8
Data = Mapping[str, str]


def who(data: Data, aws: Emulator) -> str:
    """Whose credentials they are, as AWS says."""
    client = boto3.client(
        "sts",
        region_name=data["AWS_REGION"],
        endpoint_url=aws.url,
        aws_access_key_id=data["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=data["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=data["AWS_SESSION_TOKEN"],
    )
    arn: str = client.get_caller_identity()["Arn"]
    return arn


def is_package_token(data: Data, aws: Emulator) -> str:
    """Say so if the token opens the index of packages."""
    url = f"{aws.url}/pypi/{REPOSITORY}/simple/"
    return "opens" if opens(url, basic("aws", data["token"])) else "does not open"


def opens_registries(data: Data, aws: Emulator) -> str:
    """The hosts that the logins are for, if each of them opens a registry."""
    auths = json.loads(data[".dockerconfigjson"])["auths"]
    opened = [opens(f"{aws.url}/v2/", f"Basic {login['auth']}") for login in auths.values()]
    return " ".join(sorted(auths)) if all(opened) else "does not open"


KEYS = {"credentials": {"secretRef": {"name": "keys"}}}
LOGIN = {"token": {"secretKeyRef": {"name": "login", "key": "id_token"}}}
ROLE = {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}
TAGS = {"tags": [{"key": "team", "value": "blue"}], "transitiveTagKeys": ["team"], "sourceIdentity": "alice"}
EXTERNAL = {"externalIdFrom": {"secretKeyRef": {"name": "external", "key": "id"}}}
PACKAGES = {
    "codeArtifactGetAuthorizationToken": {
        "domain": DOMAIN,
        "domainOwner": ACCOUNT,
        "repositories": [{"repository": REPOSITORY, "formats": ["pypi"]}],
    }
}
TOKEN: dict[str, Any] = {"target": {"formats": [{"token": {}}]}}


def pool(aws: Emulator, operation: str) -> dict[str, Any]:
    logins = {aws.issuer_url.removeprefix("https://"): "accessToken"}
    return {operation: {"identityPoolId": POOL_ID, "logins": logins}}


Flow = Callable[[Emulator], dict[str, Any]]
# By flow: the spec, the proof and what it proves, and how often each operation is called in three issues.
FLOWS: dict[str, tuple[Flow, Callable[[Data, Emulator], str], str, dict[str, int]]] = {
    "a chain of roles with an external id": (
        lambda _: {
            "source": KEYS,
            "exchanges": [
                {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | TAGS},
                {"assumeRole": {"roleArn": PARTNER, "roleSessionName": "{name}@k8s"} | EXTERNAL},
            ],
        },
        who,
        "assumed-role/Partner/acme@k8s",
        {"AssumeRole": 6},
    ),
    "a guest": (
        lambda _: {"source": KEYS, "exchanges": [{"getFederationToken": {"name": "guest", "policy": "{}"}}]},
        who,
        "federated-user/guest",
        {"GetFederationToken": 3},
    ),
    "a session of the user": (
        lambda _: {"source": KEYS, "exchanges": [{"getSessionToken": {}}]},
        who,
        "user/keyturn",
        {"GetSessionToken": 3},
    ),
    "a Cognito identity": (
        lambda aws: {"source": LOGIN, "exchanges": [pool(aws, "cognitoGetCredentials")]},
        who,
        "assumed-role/PoolConsumer/CognitoIdentityCredentials",
        {"GetId": 1, "GetCredentialsForIdentity": 3},
    ),
    "a Cognito identity by the basic flow": (
        lambda aws: {
            "source": LOGIN,
            "exchanges": [
                pool(aws, "cognitoGetOpenIdToken"),
                {"assumeRoleWithWebIdentity": {"roleArn": POOL_ROLE_ARN, "roleSessionName": "basic"}},
            ],
        },
        who,
        "assumed-role/PoolConsumer/basic",
        {"GetId": 1, "GetOpenIdToken": 3, "AssumeRoleWithWebIdentity": 3},
    ),
    "packages of a role": (
        lambda _: {"source": KEYS, "exchanges": [ROLE, PACKAGES]} | TOKEN,
        is_package_token,
        "opens",
        {"codeartifact:GetAuthorizationToken": 3, "codeartifact:GetRepositoryEndpoint": 1},
    ),
    "registries of a role, private and public": (
        lambda _: {
            "source": KEYS,
            "exchanges": [ROLE, {"ecrGetAuthorizationToken": {}}, {"ecrGetAuthorizationToken": {"public": True}}],
            "target": {"formats": [{"dockerConfigJson": {}}]},
        },
        opens_registries,
        f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com public.ecr.aws",
        {"ecr:GetAuthorizationToken": 3, "ecr-public:GetAuthorizationToken": 3},
    ),
    "a service account": (
        lambda _: {
            "source": {"token": {"serviceAccount": {"name": "app", "expirationSeconds": 600}}},
            "exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": APP, "roleSessionName": "app"}}],
        },
        who,
        "assumed-role/App/app",
        {"AssumeRoleWithWebIdentity": 3},
    ),
}


@pytest.fixture(scope="module")
def lending_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator that may make tokens of service accounts."""
    rights = ("create", "clusterrole", "lender", "--verb=create", "--resource=serviceaccounts/token")
    installed.kubectl(*rights)
    bound = ("create", "clusterrolebinding", "lender", "--clusterrole=lender", "--serviceaccount=keyturn:keyturn")
    installed.kubectl(*bound)
    own = json.loads(installed.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    settings = {"sources": {"audiences": ["sts.amazonaws.com", own]} | AMBIENT["sources"]}
    with running_operator(
        installed, shared_emulator, tmp_path_factory.mktemp("lender"), settings=settings
    ) as operator:
        yield operator
        assert "a bug" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", "lender")


@pytest.fixture
def ground(lending_operator: Operator, aws: Emulator, namespace: Namespace) -> Namespace:
    """A namespace with every source, and an AWS that trusts them."""
    data = {
        "keys": {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY},
        "login": {"id_token": aws.id_token()},
        "external": {"id": "blue/1"},
    }
    for name, values in data.items():
        namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
    namespace.kubectl("create", "serviceaccount", "app")
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    partner = trust_policy(root, actions, {"StringEquals": {"sts:ExternalId": "blue/1"}})
    aws.control("POST", "roles", arn=PARTNER, trust_policy=partner)
    trust_the_cluster(aws, namespace)
    aws.control("DELETE", "identities")
    return namespace


def trust_the_cluster(aws: Emulator, namespace: Namespace) -> None:
    issuer = json.loads(namespace.plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    jwks = json.loads(namespace.plane.kubectl("get", "--raw", "/openid/v1/jwks"))
    aws.trust_issuer(issuer, jwks, "sts.amazonaws.com")
    host, subject = issuer.removeprefix("https://"), f"system:serviceaccount:{namespace.name}:app"
    condition = {"StringEquals": {f"{host}:aud": "sts.amazonaws.com", f"{host}:sub": subject}}
    policy = trust_policy(
        {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}"}, "sts:AssumeRoleWithWebIdentity", condition
    )
    aws.control("POST", "roles", arn=APP, trust_policy=policy)


@pytest.mark.parametrize(
    ("flow", "proof", "proves", "calls"), [pytest.param(*row, id=name) for name, row in FLOWS.items()]
)
def test_a_flow_is_issued_and_renewed_twice(
    flow: Flow,
    proof: Callable[[Data, Emulator], str],
    proves: str,
    calls: dict[str, int],
    aws: Emulator,
    ground: Namespace,
) -> None:
    aws.settings(
        session_seconds=SESSION_SECONDS, package_token_seconds=SESSION_SECONDS, registry_seconds=SESSION_SECONDS
    )
    ground.apply(token_request(**flow(aws)))
    secrets: dict[int, Data] = {}
    until(lambda: _third(ground, secrets), seconds=60)

    assert {operation: aws.calls(operation) for operation in calls} == calls
    assert proves in proof(secrets[3], aws)
    assert len({json.dumps(data, sort_keys=True) for data in secrets.values()}) == 3


@pytest.mark.parametrize(
    ("operation", "wanted"), [("GetSessionToken", {}), ("AssumeRole", {"roleArn": ACCOUNT_ROLE_ARN})]
)
def test_an_mfa_code_is_used_once_and_then_a_persons_business(
    operation: str, wanted: dict[str, Any], aws: Emulator, ground: Namespace
) -> None:
    serial, code = aws.mfa_code()
    ground.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mfa"}, "stringData": {"code": code}})
    aws.settings(session_seconds=20)
    mfa = {"serialNumber": serial, "tokenCodeFrom": {"secretKeyRef": {"name": "mfa", "key": "code"}}}
    exchange = {operation[0].lower() + operation[1:]: wanted | mfa}
    ground.apply(token_request(source=KEYS, exchanges=[exchange]))
    ground.is_ready("acme")
    assert ACCOUNT in who(ground.data("acme"), aws)
    assert "renewalTime" not in ground.status("acme")

    ground.turns("acme", "Stalled", "SourceSpent", seconds=30)
    until(lambda: ground.condition("acme", "Ready")[1] == "Expired", seconds=30)
    assert aws.calls(operation) == 1


def _third(ground: Namespace, secrets: dict[int, Data]) -> bool:
    """Keep the Secret of each issue until there are three."""
    revision = ground.status("acme").get("revision", 0)
    if revision and revision not in secrets:
        secrets[revision] = ground.data("acme")
    return len(secrets) >= 3


def test_a_service_account_s_token_is_not_told_as_a_source_that_ends(aws: Emulator, ground: Namespace) -> None:
    ground.apply(token_request(**FLOWS["a service account"][0](aws)))
    ground.is_ready("acme")

    assert "sourceExpirationTime" not in ground.status("acme")


def test_a_token_for_the_api_server_itself_is_not_made_use_of(aws: Emulator, ground: Namespace) -> None:
    own = json.loads(ground.plane.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    source = {"token": {"serviceAccount": {"name": "app", "audiences": [own]}}}
    role = {"assumeRoleWithWebIdentity": {"roleArn": APP}}
    ground.apply(token_request(source=source, exchanges=[role]))

    assert "the API server itself takes" in ground.turns("acme", "Stalled", "IdentityForbidden")
    assert aws.calls("AssumeRoleWithWebIdentity") == 0


@pytest.mark.parametrize(
    ("source", "exchange", "says"),
    [
        pytest.param(
            {"token": {"serviceAccount": {"name": "app", "audiences": ["vault"]}}},
            {"assumeRoleWithWebIdentity": {"roleArn": APP}},
            "sources.audiences",
            id="an audience",
        ),
        pytest.param(
            {"credentials": {"ambient": {}}}, {"assumeRole": {"roleArn": PARTNER}}, "sources.ambient", id="a role"
        ),
    ],
)
def test_what_no_setting_allows(
    source: dict[str, Any], exchange: dict[str, Any], says: str, aws: Emulator, ground: Namespace
) -> None:
    ground.apply(token_request(source=source, exchanges=[exchange]))

    assert says in ground.turns("acme", "Stalled", "IdentityForbidden")
    assert aws.recent_calls() == []


def test_a_service_account_that_comes_later(aws: Emulator, ground: Namespace) -> None:
    ground.kubectl("delete", "serviceaccount", "app")
    ground.apply(token_request(**FLOWS["a service account"][0](aws)))

    assert "ServiceAccount app does not exist" in ground.turns("acme", "Renewed", "SourceMissing")


def test_the_operators_own_identity(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", USER_KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", USER_SECRET_KEY)
    aws.settings(session_seconds=SESSION_SECONDS)
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=AMBIENT):
        namespace.apply(token_request(source={"credentials": {"ambient": {}}}, exchanges=[ROLE]))
        until(lambda: namespace.status("acme").get("revision", 0) >= 3, seconds=60)
        data = namespace.data("acme")

    assert who(data, aws).endswith(f"assumed-role/AccountConsumer/{namespace.name}.acme")
    assert USER_KEY_ID not in json.dumps(data)
