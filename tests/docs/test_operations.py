"""The commands of the pages about operations and pods run in their order, unchanged."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from tests.support.cluster.chart import CHART, helm
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import running_operator
from tests.support.cluster.page import OPERATIONS_PAGES, ROOT, run_command, shell_blocks, shell_variables
from tests.support.cluster.sources import USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import endpoints, running_emulator

EXTERNAL_SECRET = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "registries"}}
EXTERNAL_SECRETS_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "externalsecrets.external-secrets.io"},
    "spec": {
        "group": "external-secrets.io",
        "names": {"kind": "ExternalSecret", "plural": "externalsecrets", "singular": "externalsecret"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}


def run(block: str, variables: Mapping[str, str]) -> str:
    """Run a block. A command that does not end by itself is stopped after three seconds."""
    block = re.sub(r"^(keyturn run -f .*)$", r"timeout 3 \1 || test $? = 124", block, flags=re.MULTILINE)
    return run_command(block, variables)


def install(plane: ControlPlane) -> None:
    arguments = ("install", "keyturn", str(CHART), "--namespace=keyturn", "--create-namespace")
    helm(*arguments, values={}, kubeconfig=plane.kubeconfig)


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a shell in a cluster with a release, its operator and the TokenRequest acme-billing."""
    directory = tmp_path_factory.mktemp("plane")
    with ControlPlane.started(directory) as plane, running_emulator() as aws:
        install(plane)
        config = directory / "settings.yaml"
        config.write_text(yaml.safe_dump({"aws": {"endpoints": endpoints(aws.url)}}))
        default = Namespace("default", plane)
        default.put_secret("acme-license", {"license_token": aws.refresh_token()})
        default.put_secret("base-aws", USER_KEYS)
        default.apply(EXTERNAL_SECRETS_CRD)
        plane.wait_for_crds("crd/externalsecrets.external-secrets.io")
        default.apply(EXTERNAL_SECRET)
        default.put_secret("registries", {"note": "written by External Secrets"})
        with running_operator(plane, aws, directory):
            plane.kubectl("apply", "-f", str(ROOT / "examples" / "license-manager.yaml"))
            default.wait_until_ready("acme-billing")
            yield shell_variables(
                plane,
                LICENSE_TOKEN=aws.refresh_token(),
                KEYTURN_CONFIG=str(config),
                BACKUP_DIRECTORY=str(directory),
                HOME=str(directory),
            )


@pytest.mark.cluster
@pytest.mark.parametrize("page", OPERATIONS_PAGES)
def test_commands_run(page: str, variables: dict[str, str]) -> None:
    blocks = shell_blocks(page)
    for block in blocks:
        run(block, variables)

    assert blocks


@pytest.mark.cluster
def test_tenancy_commands_run(tmp_path: Path) -> None:
    (tmp_path / "plane").mkdir()
    with ControlPlane.started(tmp_path / "plane") as plane:
        install(plane)
        plane.kubectl("create", "namespace", "registries")
        outputs = [run(block, shell_variables(plane)) for block in shell_blocks("docs/operations/tenancy.md")]
        member = ("auth", "can-i", "--as=someone", "--as-group=billing-team")
        denied = [("create", "tokenrequests", "-n", "registries"), ("list", "secrets", "-n", "billing")]
        denials = [plane.kubectl(*member, *words, check=False).split() for words in denied]
        created = json.loads(plane.kubectl("get", "roles", "--all-namespaces", "-o", "json"))["items"]

    assert "yes\n" in outputs
    assert [line[0] for line in denials] == ["no", "no"]
    assert {"keyturn-user", "registries-reader"} <= {role["metadata"]["name"] for role in created}
