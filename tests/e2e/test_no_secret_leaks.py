"""After many successes and failures, no secret value is found outside of Secrets."""

import base64
import json
from typing import Any

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.policy import POLICY_MESSAGE, refusing
from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import APPLICATION_ARN, DOMAIN, LICENSE_ARN, POOL_ID, REDIRECT_URI
from tests.support.processes import until
from tests.support.secret_search import find_secrets

LICENSE_MANAGER, STS = "GetAccessToken", "AssumeRoleWithWebIdentity"
# A policy may repeat data in its message by mistake. The dry run sends none.
QUOTE = "(has(object.data) && 'AWS_SECRET_ACCESS_KEY' in object.data ? object.data['AWS_SECRET_ACCESS_KEY'] : '')"
WRONG = ["wrong-token-of-a-test", "two\nlines-of-a-test", '"quoted"-of-"a-test"', "spaced out-of-a-test"]
FORMATS: list[dict[str, Any]] = [{"env": {}}, {"credentialProcess": {}}, {"credentialsFile": {}}, {"token": {}}]


def key_ref(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def public_texts(operator: Operator, namespace: Namespace) -> dict[str, str]:
    """Return the log, the metrics and every object, without the data of Secrets."""
    plane = namespace.plane
    kinds = plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    objects = json.loads(plane.kubectl("get", ",".join(kinds), "-A", "-o", "json", "--show-managed-fields"))["items"]
    texts = {"log": operator.log(), "metrics": operator.get("/metrics")}
    for item in objects:
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "keyturn":
            # kubectl keeps the Secrets that tests apply in an annotation.
            item["metadata"].get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
        public = {key: value for key, value in item.items() if item["kind"] != "Secret" or key != "data"}
        texts[f"{item['kind']} {item['metadata'].get('namespace')}/{item['metadata']['name']}"] = json.dumps(public)
    return texts


def issue_and_renew(aws: Emulator, namespace: Namespace) -> None:
    aws.settings(session_seconds=6)
    namespace.issue(aws, target={"formats": FORMATS})
    namespace.wait_for_revision(3)
    aws.settings(session_seconds=3600)
    namespace.wait_for_revision(4)


def issue_by_other_flows(aws: Emulator, namespace: Namespace) -> None:
    """Issue and renew what a code, a license, a package domain, a registry and an identity pool return."""
    data = {"keys": USER_KEYS, "sign-in": {"code": aws.authorization_code()}, "login": {"token": aws.id_token()}}
    for name, values in data.items():
        namespace.put_secret(name, values)
    center = {"clientId": APPLICATION_ARN, "redirectUri": REDIRECT_URI, "codeFrom": key_ref("sign-in", "code")}
    flows: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "code": (KEYS_SOURCE, {"identityCenterCreateToken": {"grantType": "authorization_code", **center}}),
        "mint": (KEYS_SOURCE, {"licenseManagerCreateToken": {"licenseArn": LICENSE_ARN}}),
        "packages": (KEYS_SOURCE, {"codeArtifactGetAuthorizationToken": {"domain": DOMAIN}}),
        "images": (KEYS_SOURCE, {"ecrGetAuthorizationToken": {}}),
        "pool": (
            {"token": key_ref("login", "token")},
            {"cognitoGetCredentials": {"identityPoolId": POOL_ID, "logins": {aws.issuer_url[8:]: "accessToken"}}},
        ),
    }
    for name, (source, exchange) in flows.items():
        namespace.apply(token_request(name, secret=f"{name}-target", source=source, exchanges=[exchange]))
    for name in flows:
        namespace.wait_until_ready(name)
        namespace.renew(2, name)


def correct_drift(namespace: Namespace) -> None:
    namespace.patch("secret", "acme", {"data": {"token": "eA=="}})
    namespace.wait_for_condition("acme", "Renewed", "DriftCorrected")


def fail_at_aws(aws: Emulator, namespace: Namespace) -> None:
    token = namespace.secret_data("license")["license_token"]
    secret = namespace.secret_data("acme")["AWS_SECRET_ACCESS_KEY"]
    failures: list[tuple[str, dict[str, Any], str]] = [
        (LICENSE_MANAGER, {"code": "ValidationException", "message": f"Invalid token {token}"}, "SourceInvalid"),
        (LICENSE_MANAGER, {"drop": "after"}, "Unreachable"),
        (STS, {"code": "AccessDenied", "status": 403, "message": secret}, "AccessDenied"),
        (STS, {"code": "Throttling", "message": token}, "Throttled"),
        (STS, {"body": "html"}, "Unavailable"),
        (STS, {"expired": True}, "Unavailable"),
    ]
    for number, (operation, fault, reason) in enumerate(failures):
        aws.fault(operation, times=None, **fault)
        namespace.request_renewal("acme", str(number))
        namespace.wait_for_condition("acme", "Renewed", reason)
        aws.clear_faults()
        namespace.request_renewal("acme", f"{number}, once more")
        until(lambda: namespace.condition("acme", "Renewed")[0] == "True")


def fail_by_source(namespace: Namespace) -> None:
    for number, wrong in enumerate(WRONG):
        name = f"wrong-{number}"
        namespace.put_token(wrong, name=name)
        source = {"token": {"secretKeyRef": {"name": name, "key": "license_token"}}}
        namespace.apply(token_request(name, secret=f"{name}-aws", source=source))
        namespace.wait_for_condition(name, "Stalled", "SourceInvalid")
    namespace.kubectl("delete", "secret", "license")
    namespace.request_renewal("acme", "without a source")
    namespace.wait_for_condition("acme", "Renewed", "SourceNotFound")


def test_secret_values_are_nowhere_but_in_secrets(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    issue_and_renew(aws, namespace)
    issue_by_other_flows(aws, namespace)
    correct_drift(namespace)
    fail_at_aws(aws, namespace)
    namespace.issue(aws, "refused")
    with refusing(namespace, "refused", quote=QUOTE):
        namespace.request_renewal("refused", "1")
        message = namespace.wait_for_condition("refused", "Stalled", "WriteDenied")
    fail_by_source(namespace)

    secrets = aws.secrets() + WRONG
    texts = public_texts(operator, namespace)

    assert f"{POLICY_MESSAGE} ..." in message
    assert len(secrets) > 30
    assert {place.partition(" ")[0] for place in texts} > {"log", "metrics", "Event", "TokenRequest", "Secret"}
    assert find_secrets(texts, secrets) == []

    # The search finds a value that is there.
    token = namespace.secret_data("acme")["AWS_SESSION_TOKEN"]
    namespace.kubectl("annotate", "treq", "acme", f"note={base64.b64encode(f'x{token}'.encode()).decode()}")
    assert find_secrets(public_texts(operator, namespace), secrets) == [
        (f"TokenRequest {namespace.name}/acme", token[:12])
    ]
