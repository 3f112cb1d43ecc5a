"""What Keyturn guarantees to tools that follow its Secrets: Reloader, Reflector and External Secrets.

docs/pods/environment-variables.md and docs/operations/tenancy.md have the recipes.
"""

import base64
import itertools
import json
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator
from tests.support.cluster.page import ROOT, shell_blocks
from tests.support.cluster.sources import USER_KEYS
from tests.support.controlplane import binary
from tests.support.emulator.client import Emulator
from tests.support.emulator.constants import ACCOUNT_TRUST_POLICY
from tests.support.processes import until

EXAMPLES = ROOT / "examples"
RELOADER = {"reloader.stakater.com/match": "true"}
REFLECTOR = {
    f"reflector.v1.k8s.emberstack.com/reflection-{name}": value
    for name, value in (
        ("allowed", "true"),
        ("allowed-namespaces", "billing,web"),
        ("auto-enabled", "true"),
        ("auto-namespaces", "billing,web"),
    )
}


def apply_request(example: str, namespace: Namespace) -> str:
    """Apply the TokenRequest of an example and wait until it is Ready; returns its name."""
    documents = yaml.safe_load_all((EXAMPLES / example).read_text())
    [request] = [body for body in documents if body["kind"] == "TokenRequest"]
    namespace.put_secret("base-aws", USER_KEYS)
    namespace.apply(request)
    name = str(request["metadata"]["name"])
    namespace.wait_for_revision(1, name)
    return name


def metadata(namespace: Namespace, secret: str) -> dict[str, Any]:
    value: dict[str, Any] = namespace.get("secret", secret)["metadata"]
    return value


@pytest.fixture
def roles(aws: Emulator) -> None:
    """The roles of the examples."""
    for role in ("Reports", "ImagePuller"):
        aws.role(role, *ACCOUNT_TRUST_POLICY["Statement"], max_session_seconds=43200)


@pytest.mark.usefixtures("roles", "own_operator")
@pytest.mark.parametrize(
    ("example", "annotations"),
    [
        pytest.param("environment-variables.yaml", RELOADER, id="Reloader"),
        pytest.param("pull-secret-for-namespaces.yaml", REFLECTOR, id="Reflector"),
    ],
)
def test_annotations_of_the_target_survive_renewals(
    example: str, annotations: dict[str, str], namespace: Namespace
) -> None:
    name = apply_request(example, namespace)
    for revision in (2, 3):
        assert annotations.items() <= metadata(namespace, name)["annotations"].items()
        namespace.renew(revision, name)
    namespace.kubectl("delete", "secret", name)
    until(lambda: namespace.get("secret", name))

    assert annotations.items() <= metadata(namespace, name)["annotations"].items()


@contextmanager
def recorded_versions(namespace: Namespace, secret: str, directory: Path) -> Iterator[list[dict[str, Any]]]:
    """Record all versions of a Secret during the block, as a controller that watches Secrets sees them."""
    versions: list[dict[str, Any]] = []
    command = [str(binary("kubectl")), f"--kubeconfig={namespace.plane.kubeconfig}", f"--namespace={namespace.name}",
               "get", "secret", secret, "--watch", "--output=json"]  # fmt: skip
    path = directory / "versions"
    with path.open("w") as file, subprocess.Popen(command, stdout=file) as process:
        try:
            until(path.read_text)
            yield versions
            latest = metadata(namespace, secret)["resourceVersion"]
            until(lambda: f'"resourceVersion": "{latest}"' in path.read_text())
        finally:
            process.terminate()
    text, decoder = path.read_text(), json.JSONDecoder()
    while text:
        version, end = decoder.raw_decode(text)
        versions.append(version)
        text = text[end:].lstrip()


@pytest.mark.usefixtures("roles")
def test_data_changes_exactly_once_for_each_renewal(
    own_operator: Operator, namespace: Namespace, tmp_path: Path
) -> None:
    name = apply_request("environment-variables.yaml", namespace)
    with recorded_versions(namespace, name, tmp_path) as versions:
        namespace.renew(2, name)
        namespace.kubectl("label", "treq", name, "team=blue")
        namespace.kubectl("annotate", "secret", name, "example.com/note=seen")
        namespace.patch("treq", name, {"spec": {"target": {"metadata": {"labels": {"team": "blue"}}}}})
        until(lambda: metadata(namespace, name)["labels"].get("team") == "blue")
        own_operator.kill()
        own_operator.start()
        namespace.renew(3, name)

    data = [version["data"] for version in versions]
    assert sum(before != after for before, after in itertools.pairwise(data)) == 2
    assert all(it.keys() == data[0].keys() for it in data)


@pytest.mark.usefixtures("roles", "own_operator")
def test_reader_of_the_shared_secret_reads_no_other(namespace: Namespace) -> None:
    name = apply_request("pull-secret-for-namespaces.yaml", namespace)
    [block] = [it for it in shell_blocks("docs/operations/tenancy.md") if "create role " in it]
    for command in block.replace("\\\n", "").replace("registries:", f"{namespace.name}:").splitlines():
        words = shlex.split(command)[1:]
        namespace.kubectl(*(it for it in words if not it.startswith("--namespace=")))
    account = f"--as=system:serviceaccount:{namespace.name}:registries-reader"

    copied = json.loads(namespace.kubectl("get", "secret", name, "-o", "json", account))
    assert copied["type"] == "kubernetes.io/dockerconfigjson"
    assert json.loads(base64.b64decode(copied["data"][".dockerconfigjson"]))["auths"]
    for denied in (("get", "secret", "base-aws"), ("get", "secrets"), ("delete", "secret", name)):
        assert "Forbidden" in namespace.kubectl(*denied, account, check=False)
