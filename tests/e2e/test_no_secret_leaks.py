"""A full run with all that can go wrong, and then every secret value is looked for where none may be."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import (
    APPLICATION_ARN,
    DOMAIN,
    LICENSE_ARN,
    POOL_ID,
    REDIRECT_URI,
    USER_KEY_ID,
    USER_SECRET_KEY,
)
from tests.support.processes import until

LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
TALKATIVE = "talkative"
WRONG = ["wrong-token-of-a-test", "two\nlines-of-a-test", '"quoted"-of-"a-test"', "spaced out-of-a-test"]
USER = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
KEYS = {"credentials": {"secretRef": {"name": "keys"}}}
FORMATS: list[dict[str, Any]] = [{"env": {}}, {"credentialProcess": {}}, {"credentialsFile": {}}, {"token": {}}]


def at(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def shapes(secret: str) -> Iterator[str]:
    """Write a value in the ways in which it may get about; in base64 it looks different at each third byte."""
    yield secret
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    for before in range(3):
        encoded = base64.b64encode(b"-" * before + secret.encode()).decode()
        yield encoded[4 if before else 0 : len(encoded) - 4]


def leaked(places: dict[str, str], secrets: list[str]) -> list[tuple[str, str]]:
    """Tell where which secret (only its beginning) was found."""
    wanted = {shape: secret[:12] for secret in secrets for shape in shapes(secret)}
    return [(place, wanted[shape]) for place, text in places.items() for shape in wanted if shape in text]


def everything(operator: Operator, namespace: Namespace) -> dict[str, str]:
    """Gather all that is written about secrets: every object but the data of Secrets, the log, the metrics."""
    plane = namespace.plane
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    objects = json.loads(plane.kubectl("get", ",".join(kinds), "-A", "-o", "json", "--show-managed-fields"))[
        "items"
    ]
    places = {"log": operator.log(), "metrics": operator.get("/metrics")}
    for it in objects:
        if it["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "keyturn":
            # What kubectl itself keeps of the Secrets that other tests apply.
            it["metadata"].get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
        kept = {key: value for key, value in it.items() if it["kind"] != "Secret" or key != "data"}
        places[f"{it['kind']} {it['metadata'].get('namespace')}/{it['metadata']['name']}"] = json.dumps(kept)
    return places


def policy(namespace: Namespace) -> None:
    """Refuse the Secret of one request with a message that has its data, in base64, as a policy may by mistake."""
    key = "object.data['AWS_SECRET_ACCESS_KEY']"
    rule = {
        "expression": "object.metadata.name != 'refused' || !has(object.data)",
        "messageExpression": f"'not ' + {key}",
    }
    rules = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["secrets"],
    }
    kinds = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": TALKATIVE}}
    binding = {"policyName": TALKATIVE, "validationActions": ["Deny"]}
    namespace.apply(
        {
            **kinds,
            "kind": "ValidatingAdmissionPolicy",
            "spec": {"matchConstraints": {"resourceRules": [rules]}, "validations": [rule]},
        },
        {**kinds, "kind": "ValidatingAdmissionPolicyBinding", "spec": binding},
    )
    data = {"AWS_SECRET_ACCESS_KEY": "eA=="}
    probe = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "refused"}, "data": data}
    refused = ("create", "--dry-run=server", "-f", "-")
    until(lambda: "not eA==" in namespace.kubectl(*refused, stdin=json.dumps(probe), check=False))


@pytest.fixture
def talkative_policy(namespace: Namespace) -> Iterator[None]:
    policy(namespace)
    yield
    kinds = "validatingadmissionpolicy,validatingadmissionpolicybinding"
    namespace.plane.kubectl("delete", kinds, TALKATIVE)


def issue_and_renew(aws: Emulator, namespace: Namespace) -> None:
    aws.settings(session_seconds=6)
    namespace.issued(aws, target={"formats": FORMATS})
    until(lambda: namespace.status("acme")["revision"] == 3)
    aws.settings(session_seconds=3600)
    until(lambda: namespace.status("acme")["revision"] == 4)


def issue_by_other_flows(aws: Emulator, namespace: Namespace) -> None:
    """Hold what a code, a license, a domain, a registry and a pool give, and renew it."""
    data = {"keys": USER, "sign-in": {"code": aws.authorization_code()}, "login": {"token": aws.id_token()}}
    for name, values in data.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        # On the server, else kubectl itself keeps the values in an annotation.
        namespace.kubectl("apply", "--server-side", "-f", "-", stdin=json.dumps(secret))
    center = {"clientId": APPLICATION_ARN, "redirectUri": REDIRECT_URI, "codeFrom": at("sign-in", "code")}
    flows: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "code": (KEYS, {"identityCenterCreateToken": {"grantType": "authorization_code", **center}}),
        "mint": (KEYS, {"licenseManagerCreateToken": {"licenseArn": LICENSE_ARN}}),
        "packages": (KEYS, {"codeArtifactGetAuthorizationToken": {"domain": DOMAIN}}),
        "images": (KEYS, {"ecrGetAuthorizationToken": {}}),
        "pool": (
            {"token": at("login", "token")},
            {"cognitoGetCredentials": {"identityPoolId": POOL_ID, "logins": {aws.issuer_url[8:]: "accessToken"}}},
        ),
    }
    for name, (source, exchange) in flows.items():
        namespace.apply(token_request(name, secret=f"{name}-held", source=source, exchanges=[exchange]))
    for name in flows:
        namespace.is_ready(name)
        namespace.ask(name, "again")
        until(lambda: namespace.status(name)["revision"] == 2)  # noqa: B023 - it is awaited here


def heal(namespace: Namespace) -> None:
    namespace.patch("secret", "acme", {"data": {"token": "eA=="}})
    namespace.turns("acme", "Renewed", "Drifted")


def fail_at_aws(aws: Emulator, namespace: Namespace) -> None:
    token = namespace.data("license")["license_token"]
    secret = namespace.data("acme")["AWS_SECRET_ACCESS_KEY"]
    failures: list[tuple[str, dict[str, Any], str]] = [
        (
            LICENSE_MANAGER,
            {"code": "ValidationException", "message": f"Invalid token {token}"},
            "SourceInvalid",
        ),
        (LICENSE_MANAGER, {"drop": "after"}, "Unreachable"),
        (STS, {"code": "AccessDenied", "status": 403, "message": secret}, "AccessDenied"),
        (STS, {"code": "Throttling", "message": token}, "Throttled"),
        (STS, {"body": "html"}, "Unavailable"),
        (STS, {"expired": True}, "Unavailable"),
    ]
    for number, (operation, fault, reason) in enumerate(failures):
        aws.fault(operation, times=None, **fault)
        namespace.ask("acme", str(number))
        namespace.turns("acme", "Renewed", reason)
        aws.clear_faults()
        namespace.ask("acme", f"{number}, once more")
        until(lambda: namespace.condition("acme", "Renewed")[0] == "True")


def fail_by_source(namespace: Namespace) -> None:
    for number, wrong in enumerate(WRONG):
        name = f"wrong-{number}"
        namespace.token(wrong, name=name)
        source = {"token": {"secretKeyRef": {"name": name, "key": "license_token"}}}
        namespace.apply(token_request(name, secret=f"{name}-aws", source=source))
        namespace.turns(name, "Stalled", "SourceInvalid")
    namespace.kubectl("delete", "secret", "license")
    namespace.ask("acme", "without a source")
    namespace.turns("acme", "Renewed", "SourceMissing")


@pytest.mark.usefixtures("talkative_policy")
def test_no_secret_value_is_anywhere_but_in_secrets(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    issue_and_renew(aws, namespace)
    issue_by_other_flows(aws, namespace)
    heal(namespace)
    fail_at_aws(aws, namespace)
    namespace.apply(token_request("refused"))
    said = namespace.turns("refused", "Stalled", "WriteRefused")
    fail_by_source(namespace)

    secrets = aws.secrets() + WRONG
    places = everything(operator, namespace)

    assert "not ..." in said
    assert len(secrets) > 30
    assert {place.partition(" ")[0] for place in places} > {"log", "metrics", "Event", "TokenRequest", "Secret"}
    assert leaked(places, secrets) == []

    # The same search finds what is there.
    kept = namespace.data("acme")["AWS_SESSION_TOKEN"]
    namespace.kubectl("annotate", "treq", "acme", f"note={base64.b64encode(f'x{kept}'.encode()).decode()}")
    assert leaked(everything(operator, namespace), secrets) == [(f"TokenRequest {namespace.name}/acme", kept[:12])]


@pytest.mark.parametrize("frame", ["{}", "a{}b", "ab{}", "abc{}c", '{{"key": "{}"}}'])
def test_search_finds_a_value_in_base64_of_something(frame: str) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

    text = base64.b64encode(frame.format(secret).encode()).decode()

    assert leaked({"log": text}, [secret])
    assert not leaked({"log": text}, [secret[::-1]])
