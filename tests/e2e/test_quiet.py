"""Ordinary changes in a cluster that are no reason to renew: they cause no AWS call and no write."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import chart_objects
from tests.support.cluster.crd import install_crd
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.writes import count_writes
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

RETAIN = {"deletionPolicy": "Retain"}
NAMES = ("acme", "retained")


def reapply_the_crd(namespace: Namespace) -> None:
    install_crd(namespace.plane)


def upgrade_the_crd(namespace: Namespace) -> None:
    crd = yaml.safe_load(chart_objects(only=["crds"]))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["ofTheFuture"] = {"type": "string"}
    namespace.plane.kubectl("apply", "-f", "-", stdin=json.dumps(crd))
    until(lambda: "ofTheFuture" in namespace.kubectl("explain", "tokenrequests.spec"))


def restart_the_api_server(namespace: Namespace) -> None:
    namespace.plane.restart("kube-apiserver")


def label_the_requests(namespace: Namespace) -> None:
    namespace.kubectl("label", "treq", *NAMES, "team=blue", "app.kubernetes.io/managed-by=flux")
    namespace.kubectl("annotate", "treq", *NAMES, "note=new", "keyturn.dev/note=new")


def annotate_the_secrets(namespace: Namespace) -> None:
    namespace.kubectl("label", "secret", *NAMES, "license", "team=blue", "keyturn.dev/source=true")
    namespace.kubectl("annotate", "secret", *NAMES, "license", "note=new")


@pytest.fixture
def restored_crd(installed: ControlPlane) -> Iterator[None]:
    yield
    install_crd(installed)


def managed_state(namespace: Namespace) -> list[Any]:
    """Return what must not change: data, managed fields and statuses."""
    secrets = [namespace.get("secret", name) for name in NAMES]
    fields = [
        [field for field in secret["metadata"]["managedFields"] if field["manager"].startswith("keyturn")]
        for secret in secrets
    ]
    return [fields, [secret["data"] for secret in secrets], [namespace.status(name) for name in NAMES]]


@pytest.mark.parametrize(
    ("change", "writes"),
    [
        pytest.param(reapply_the_crd, {}, id="the same CRD is applied"),
        pytest.param(upgrade_the_crd, {}, id="the CRD of a later release is applied"),
        pytest.param(restart_the_api_server, {}, id="the API server restarts"),
        pytest.param(label_the_requests, {"PATCH tokenrequests": 4}, id="TokenRequests are labelled"),
        pytest.param(annotate_the_secrets, {"PATCH secrets": 6}, id="the Secrets are labelled"),
    ],
)
@pytest.mark.usefixtures("own_operator", "restored_crd")
def test_change_causes_no_renewal_and_no_write(
    aws: Emulator, namespace: Namespace, change: Callable[[Namespace], None], writes: dict[str, int]
) -> None:
    namespace.issue(aws)
    namespace.apply(token_request("retained", target=RETAIN))
    namespace.wait_until_ready("retained")

    def cost_of_one_more(name: str, before: Counter[str]) -> tuple[Counter[str], int]:
        """Issue another one, which the operator processes after all earlier changes."""
        calls = count_exchanges(aws)
        namespace.apply(token_request(name))
        namespace.wait_until_ready(name)
        until(lambda: namespace.events(name))
        return count_writes(namespace.plane) - before, count_exchanges(aws) - calls

    usual = cost_of_one_more("usual", count_writes(namespace.plane))
    state, calls = managed_state(namespace), count_exchanges(aws)
    before = Counter[str]() if change is restart_the_api_server else count_writes(namespace.plane)

    change(namespace)

    assert cost_of_one_more("later", before) == (usual[0] + Counter(writes), usual[1])
    assert count_exchanges(aws) == calls + usual[1]
    assert managed_state(namespace) == state


def test_deletion_missed_by_the_watch_is_noticed(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issue(aws, "deleted", target=RETAIN)
    own_operator.freeze()
    try:
        # The first restart ends the watch; after the second one no watch can resume before the deletion.
        namespace.plane.restart("kube-apiserver")
        namespace.kubectl("delete", "treq", "deleted")
        namespace.plane.restart("kube-apiserver")
    finally:
        own_operator.thaw()

    # Not the work queue's metric, which does not count the request in progress.
    labels = f'name="deleted",namespace="{namespace.name}"'
    until(lambda: labels not in own_operator.get("/metrics"))

    assert count_exchanges(aws) == 2
