"""Flows to credentials and package tokens: kubectl apply, use of the Secret, and two renewals."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.sources import (
    APP_ROLE_ARN,
    KEYS_SOURCE,
    USER_KEYS,
    caller_arn,
    service_account_issuer,
    trust_service_account,
)
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
    trust_policy,
)
from tests.support.processes import until
from tests.support.registry_client import basic, is_authorized

PARTNER = f"arn:aws:iam::{ACCOUNT}:role/Partner"
AMBIENT = {"sources": {"ambient": [{"namespaces": ["test-*"], "roles": [ACCOUNT_ROLE_ARN]}]}}
Data = Mapping[str, str]


def package_index(data: Data, aws: Emulator) -> str:
    """Return the package repository if it accepts the token."""
    url = f"{aws.url}/pypi/{REPOSITORY}/simple/"
    return REPOSITORY if is_authorized(url, basic("aws", data["token"])) else ""


def registries(data: Data, aws: Emulator) -> str:
    """Return the hosts whose registries accept their logins."""
    logins = json.loads(data[".dockerconfigjson"])["auths"]
    return " ".join(host for host in sorted(logins) if is_authorized(f"{aws.url}/v2/", f"Basic {logins[host]['auth']}"))


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
SERVICE_ACCOUNT: dict[str, Any] = {
    "source": {"token": {"serviceAccount": {"name": "app", "expirationSeconds": 600}}},
    "exchanges": [{"assumeRoleWithWebIdentity": {"roleArn": APP_ROLE_ARN, "roleSessionName": "app"}}],
}


def pool(aws: Emulator, operation: str) -> dict[str, Any]:
    logins = {aws.issuer_url.removeprefix("https://"): "accessToken"}
    return {operation: {"identityPoolId": POOL_ID, "logins": logins}}


Flow = Callable[[Emulator], dict[str, Any]]
# For each flow: the spec, how to use the Secret and the result, and the number of calls in three issues.
FLOWS: dict[str, tuple[Flow, Callable[[Data, Emulator], str], str, dict[str, int]]] = {
    "a chain of roles with an external id": (
        lambda _: {
            "source": KEYS_SOURCE,
            "exchanges": [
                {"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN} | TAGS},
                {"assumeRole": {"roleArn": PARTNER, "roleSessionName": "{name}@k8s"} | EXTERNAL},
            ],
        },
        caller_arn,
        "assumed-role/Partner/acme@k8s",
        {"AssumeRole": 6},
    ),
    "a federated user": (
        lambda _: {
            "source": KEYS_SOURCE,
            "exchanges": [{"getFederationToken": {"name": "guest", "policy": "{}"}}],
        },
        caller_arn,
        "federated-user/guest",
        {"GetFederationToken": 3},
    ),
    "a session of the user": (
        lambda _: {"source": KEYS_SOURCE, "exchanges": [{"getSessionToken": {}}]},
        caller_arn,
        "user/keyturn",
        {"GetSessionToken": 3},
    ),
    "a role, from a session of the user": (
        lambda _: {"source": KEYS_SOURCE, "exchanges": [{"getSessionToken": {}}, ROLE]},
        caller_arn,
        "assumed-role/AccountConsumer/",
        {"GetSessionToken": 3, "AssumeRole": 3},
    ),
    "a Cognito identity": (
        lambda aws: {"source": LOGIN, "exchanges": [pool(aws, "cognitoGetCredentials")]},
        caller_arn,
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
        caller_arn,
        "assumed-role/PoolConsumer/basic",
        {"GetId": 1, "GetOpenIdToken": 3, "AssumeRoleWithWebIdentity": 3},
    ),
    "packages of a role": (
        lambda _: {"source": KEYS_SOURCE, "exchanges": [ROLE, PACKAGES]} | TOKEN,
        package_index,
        REPOSITORY,
        {"codeartifact:GetAuthorizationToken": 3, "codeartifact:GetRepositoryEndpoint": 1},
    ),
    "registries of a role, private and public": (
        lambda _: {
            "source": KEYS_SOURCE,
            "exchanges": [ROLE, {"ecrGetAuthorizationToken": {}}, {"ecrGetAuthorizationToken": {"public": True}}],
            "target": {"formats": [{"dockerConfigJson": {}}]},
        },
        registries,
        f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com public.ecr.aws",
        {"ecr:GetAuthorizationToken": 3, "ecr-public:GetAuthorizationToken": 3},
    ),
    "a service account": (
        lambda _: SERVICE_ACCOUNT,
        caller_arn,
        "assumed-role/App/app",
        {"AssumeRoleWithWebIdentity": 3},
    ),
}


@pytest.fixture(scope="module")
def service_account_operator(
    installed: ControlPlane, shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """An operator that may create tokens of service accounts."""
    name, account = "service-account-tokens", "--serviceaccount=keyturn:keyturn"
    installed.kubectl("create", "clusterrole", name, "--verb=create", "--resource=serviceaccounts/token")
    installed.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", account)
    audience = json.loads(installed.kubectl("get", "--raw", "/.well-known/openid-configuration"))["issuer"]
    settings = {"sources": {"audiences": ["sts.amazonaws.com", audience]} | AMBIENT["sources"]}
    with running_operator(
        installed, shared_emulator, tmp_path_factory.mktemp("operator"), settings=settings
    ) as operator:
        yield operator
        assert "internal error" not in operator.log()
    installed.kubectl("delete", "clusterrole,clusterrolebinding", name)


@pytest.fixture
def flows(service_account_operator: Operator, aws: Emulator, namespace: Namespace) -> Namespace:
    """A namespace with the source of every flow, and an AWS that trusts the sources."""
    namespace.put_secret("keys", USER_KEYS)
    namespace.put_secret("login", {"id_token": aws.id_token()})
    namespace.put_secret("external", {"id": "blue/1"})
    namespace.kubectl("create", "serviceaccount", "app")
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
    partner = trust_policy(root, actions, {"StringEquals": {"sts:ExternalId": "blue/1"}})
    aws.control("POST", "roles", arn=PARTNER, trust_policy=partner)
    trust_service_account(aws, namespace)
    aws.control("DELETE", "identities")
    return namespace


@pytest.mark.parametrize(
    ("flow", "use", "result", "calls"), [pytest.param(*row, id=name) for name, row in FLOWS.items()]
)
def test_flow_is_issued_and_renewed_twice(
    flow: Flow,
    use: Callable[[Data, Emulator], str],
    result: str,
    calls: dict[str, int],
    aws: Emulator,
    flows: Namespace,
) -> None:
    flows.apply(token_request(**flow(aws)))
    secrets = set()
    for revision in (1, 2, 3):
        flows.wait_for_revision(revision)
        data = flows.secret_data("acme")
        secrets.add(json.dumps(data, sort_keys=True))
        if revision < 3:
            flows.request_renewal("acme", str(revision))

    assert {operation: aws.calls(operation) for operation in calls} == calls
    assert result in use(data, aws)
    assert len(secrets) == 3


@pytest.mark.parametrize(
    ("operation", "fields"), [("GetSessionToken", {}), ("AssumeRole", {"roleArn": ACCOUNT_ROLE_ARN})]
)
def test_mfa_code_is_consumed_once(operation: str, fields: dict[str, Any], aws: Emulator, flows: Namespace) -> None:
    serial, code = aws.mfa_code()
    flows.put_secret("mfa", {"code": code})
    aws.settings(session_seconds=8)
    mfa = {"serialNumber": serial, "tokenCodeFrom": {"secretKeyRef": {"name": "mfa", "key": "code"}}}
    exchange = {operation[0].lower() + operation[1:]: fields | mfa}
    flows.apply(token_request(source=KEYS_SOURCE, exchanges=[exchange]))
    flows.wait_until_ready("acme")
    assert ACCOUNT in caller_arn(flows.secret_data("acme"), aws)
    assert "renewalTime" not in flows.status("acme")

    flows.wait_for_condition("acme", "Stalled", "SourceConsumed", seconds=30)
    flows.wait_for_condition("acme", "Ready", "Expired", seconds=30)
    assert aws.calls(operation) == 1


def test_service_account_has_no_source_expiration(aws: Emulator, flows: Namespace) -> None:
    flows.apply(token_request(**SERVICE_ACCOUNT))
    flows.wait_until_ready("acme")

    assert "sourceExpirationTime" not in flows.status("acme")


def test_audience_of_the_api_server_is_refused(aws: Emulator, flows: Namespace) -> None:
    audience = service_account_issuer(flows)
    source = {"token": {"serviceAccount": {"name": "app", "audiences": [audience]}}}
    flows.apply(token_request(**SERVICE_ACCOUNT | {"source": source}))

    assert "the API server itself accepts tokens" in flows.wait_for_condition("acme", "Stalled", "IdentityNotAllowed")
    assert aws.calls("AssumeRoleWithWebIdentity") == 0


@pytest.mark.parametrize(
    ("source", "exchange", "setting"),
    [
        pytest.param(
            {"token": {"serviceAccount": {"name": "app", "audiences": ["vault"]}}},
            {"assumeRoleWithWebIdentity": {"roleArn": APP_ROLE_ARN}},
            "sources.audiences",
            id="an audience",
        ),
        pytest.param(
            {"credentials": {"ambient": {}}}, {"assumeRole": {"roleArn": PARTNER}}, "sources.ambient", id="a role"
        ),
    ],
)
def test_identity_needs_to_be_allowed_in_the_settings(
    source: dict[str, Any], exchange: dict[str, Any], setting: str, aws: Emulator, flows: Namespace
) -> None:
    flows.apply(token_request(source=source, exchanges=[exchange]))

    assert setting in flows.wait_for_condition("acme", "Stalled", "IdentityNotAllowed")
    assert aws.recent_calls() == []


def test_missing_service_account_is_reported(aws: Emulator, flows: Namespace) -> None:
    flows.kubectl("delete", "serviceaccount", "app")
    flows.apply(token_request(**SERVICE_ACCOUNT))

    assert "ServiceAccount app does not exist" in flows.wait_for_condition("acme", "Renewed", "SourceNotFound")


def test_missing_key_does_not_fall_back_to_the_ambient_identity(aws: Emulator, flows: Namespace) -> None:
    flows.put_secret("incomplete", {"AWS_ACCESS_KEY_ID": USER_KEY_ID})
    flows.apply(token_request(source={"credentials": {"secretRef": {"name": "incomplete"}}}, exchanges=[ROLE]))
    flows.wait_for_condition("acme", "Renewed", "SourceNotFound")

    assert aws.calls("AssumeRole") == 0


def test_ambient_identity_assumes_an_allowed_role(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in USER_KEYS.items():
        monkeypatch.setenv(name, value)
    aws.settings(session_seconds=8)
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, settings=AMBIENT):
        namespace.apply(token_request(source={"credentials": {"ambient": {}}}, exchanges=[ROLE]))
        until(lambda: namespace.revision() >= 3, seconds=60)
        data = namespace.secret_data("acme")

    assert caller_arn(data, aws).endswith(f"assumed-role/AccountConsumer/{namespace.name}.acme")
    assert USER_KEY_ID not in json.dumps(data)
