"""Registries' passwords on the real control plane: the files in the Secret open a registry, renewed or not."""

import base64
import configparser
import json
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import Operator
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_ROLE_ARN, DOMAIN, REPOSITORY, USER_KEY_ID, USER_SECRET_KEY
from tests.support.processes import until

DOCKER = "kubernetes.io/dockerconfigjson"
ECR: list[dict[str, Any]] = [{"ecrGetAuthorizationToken": {}}]
PACKAGES: list[dict[str, Any]] = [
    {
        "codeArtifactGetAuthorizationToken": {
            "domain": DOMAIN,
            "repositories": [{"repository": REPOSITORY, "formats": ["pypi", "npm"]}],
        }
    }
]
ROLE: list[dict[str, Any]] = [{"assumeRole": {"roleArn": ACCOUNT_ROLE_ARN}}]


def signed_in(namespace: Namespace, exchanges: list[dict[str, Any]], **spec: Any) -> None:
    keys = {"AWS_ACCESS_KEY_ID": USER_KEY_ID, "AWS_SECRET_ACCESS_KEY": USER_SECRET_KEY}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})
    source = {"credentials": {"secretRef": {"name": "keys"}}}
    namespace.apply(token_request(source=source, exchanges=exchanges, **spec))
    namespace.is_ready("acme")


def opens(url: str, authorization: str) -> bool:
    request = urllib.request.Request(url, headers={"Authorization": authorization})  # noqa: S310 - the emulator's
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
        return bool(answer.status == 200)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def images(data: dict[str, str]) -> bool:
    ((host, login),) = json.loads(data[".dockerconfigjson"])["auths"].items()
    return opens(f"http://{host}/v2/", f"Basic {login['auth']}")


def python(data: dict[str, str]) -> bool:
    parser = configparser.RawConfigParser()
    parser.read_string(data["pip.conf"])
    url = urlsplit(parser["global"]["index-url"])
    return opens(
        f"http://{url.hostname}:{url.port}{url.path}", basic(url.username or "", unquote(url.password or ""))
    )


def javascript(data: dict[str, str]) -> bool:
    registry, token = data[".npmrc"].splitlines()
    return opens(f"{registry.partition('=')[2]}demo", f"Bearer {token.partition('_authToken=')[2]}")


@pytest.mark.parametrize(
    ("exchanges", "formats", "proof"),
    [
        pytest.param(ECR, None, images, id="images, by default"),
        pytest.param(PACKAGES, [{"pip": {}}], python, id="pip"),
        pytest.param([*ROLE, *PACKAGES], [{"npm": {}}], javascript, id="npm, after a role"),
    ],
)
def test_what_is_in_the_secret_opens_the_registry(
    operator: Operator,
    aws: Emulator,
    namespace: Namespace,
    exchanges: list[dict[str, Any]],
    formats: list[dict[str, Any]] | None,
    proof: Callable[[dict[str, str]], bool],
) -> None:
    aws.settings(registry_url=aws.url)
    signed_in(namespace, exchanges, **({"target": {"formats": formats}} if formats else {}))
    held = set()
    for revision in (1, 2, 3):
        until(lambda: namespace.status("acme")["revision"] == revision)  # noqa: B023 - it is awaited here
        data = namespace.data("acme")
        assert proof(data)
        held.add(tuple(data.values()))
        namespace.ask("acme", str(revision))

    assert len(held) == 3


def test_a_secret_of_credentials_becomes_one_for_images_and_back(
    operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    signed_in(namespace, ROLE)
    seen = []
    for revision, exchanges in ((2, ECR), (3, ROLE)):
        namespace.patch("treq", "acme", {"spec": {"exchanges": exchanges}})
        until(lambda: namespace.status("acme")["revision"] == revision)  # noqa: B023 - it is awaited here
        namespace.is_ready("acme")
        seen.append((namespace.read("secret", "acme")["type"], ".dockerconfigjson" in namespace.data("acme")))

    assert seen == [(DOCKER, True), ("Opaque", False)]
    assert namespace.events("acme") == ["Issued"]
    assert "a bug" not in operator.log()
