"""Registry logins: the files in the Secret open a registry, also after renewals."""

import configparser
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.sources import KEYS_SOURCE, USER_KEYS
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, DOMAIN, REPOSITORY
from tests.support.registry_client import basic, is_authorized

pytestmark = pytest.mark.usefixtures("operator")
DOCKER = "kubernetes.io/dockerconfigjson"
ECR: list[dict[str, Any]] = [{"ecrGetAuthorizationToken": {}}]
REPOSITORIES = [{"repository": REPOSITORY, "formats": ["pypi", "npm"]}]
PACKAGES: list[dict[str, Any]] = [
    {"codeArtifactGetAuthorizationToken": {"domain": DOMAIN, "repositories": REPOSITORIES}}
]
ROLE: list[dict[str, Any]] = [{"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}]


def issue(namespace: Namespace, exchanges: list[dict[str, Any]], **spec: Any) -> None:
    namespace.put_secret("keys", USER_KEYS)
    namespace.apply(token_request(source=KEYS_SOURCE, exchanges=exchanges, **spec))
    namespace.wait_until_ready("acme")


def docker(data: dict[str, str]) -> bool:
    ((host, login),) = json.loads(data[".dockerconfigjson"])["auths"].items()
    return is_authorized(f"http://{host}/v2/", f"Basic {login['auth']}")


def pip(data: dict[str, str]) -> bool:
    parser = configparser.RawConfigParser()
    parser.read_string(data["pip.conf"])
    url = urlsplit(parser["global"]["index-url"])
    authorization = basic(url.username or "", unquote(url.password or ""))
    return is_authorized(f"http://{url.hostname}:{url.port}{url.path}", authorization)


def npm(data: dict[str, str]) -> bool:
    registry, token = data[".npmrc"].splitlines()
    return is_authorized(f"{registry.partition('=')[2]}demo", f"Bearer {token.partition('_authToken=')[2]}")


@pytest.mark.parametrize(
    ("exchanges", "formats", "is_accepted"),
    [
        pytest.param(ECR, None, docker, id="docker, by default"),
        pytest.param(PACKAGES, [{"pip": {}}], pip, id="pip"),
        pytest.param([*ROLE, *PACKAGES], [{"npm": {}}], npm, id="npm, after a role"),
    ],
)
def test_login_in_the_secret_is_accepted_by_the_registry(
    aws: Emulator,
    namespace: Namespace,
    exchanges: list[dict[str, Any]],
    formats: list[dict[str, Any]] | None,
    is_accepted: Callable[[dict[str, str]], bool],
) -> None:
    aws.settings(registry_url=aws.url)
    issue(namespace, exchanges, **({"target": {"formats": formats}} if formats else {}))
    seen = set()
    for revision in (1, 2, 3):
        namespace.wait_for_revision(revision)
        data = namespace.secret_data("acme")
        assert is_accepted(data)
        seen.add(tuple(data.values()))
        namespace.request_renewal("acme", str(revision))

    assert len(seen) == 3


def test_secret_type_follows_the_exchanges(operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    issue(namespace, ROLE)
    seen = []
    for revision, exchanges in ((2, ECR), (3, ROLE)):
        namespace.patch("treq", "acme", {"spec": {"exchanges": exchanges}})
        namespace.wait_for_revision(revision)
        namespace.wait_until_ready("acme")
        seen.append((namespace.get("secret", "acme")["type"], ".dockerconfigjson" in namespace.secret_data("acme")))

    assert seen == [(DOCKER, True), ("Opaque", False)]
    assert namespace.events("acme") == ["Issued"]


def test_template_of_registry_logins_has_their_type(aws: Emulator, namespace: Namespace) -> None:
    aws.settings(registry_url=aws.url)
    hosts = ("{{ registryHost }}", "111122223333.dkr-ecr.us-east-1.on.aws")
    login = '{"username": "{{ registryUsername }}", "password": "{{ registryPassword }}"}'
    text = '{"auths": {' + ", ".join(f'"{host}": {login}' for host in hosts) + "}}"
    issue(namespace, ECR, target={"formats": [{"template": {"key": ".dockerconfigjson", "text": text}}]})

    first, second = json.loads(namespace.secret_data("acme")[".dockerconfigjson"])["auths"].items()
    assert namespace.get("secret", "acme")["type"] == DOCKER
    assert (second[0], second[1]) == (hosts[1], first[1])
    assert is_authorized(f"http://{first[0]}/v2/", basic(first[1]["username"], first[1]["password"]))
