"""What happens to everybody in a cluster's life and is no reason to renew: no call to AWS, and not one write."""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.support.cluster.chart import chart_objects
from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.cluster.writes import writes
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

RETAIN = {"deletionPolicy": "Retain"}
NAMES = ("acme", "retained")


def reapply_the_crd(namespace: Namespace) -> None:
    namespace.plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds"]))


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
    namespace.kubectl("annotate", "secret", *NAMES, "license", "note=new")
    namespace.kubectl("label", "secret", *NAMES, "license", "team=blue")


@pytest.fixture
def crd_as_it_was(installed: ControlPlane) -> Iterator[None]:
    yield
    installed.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds"]))


def kept(namespace: Namespace) -> list[Any]:
    """What must stay: the Secrets' data and marks, the statuses, and who wrote what of them when."""
    secrets = [namespace.read("secret", name) for name in NAMES]
    ours = [
        [it for it in secret["metadata"]["managedFields"] if it["manager"].startswith("keyturn")]
        for secret in secrets
    ]
    return [ours, [secret["data"] for secret in secrets], [namespace.status(name) for name in NAMES]]


@pytest.mark.parametrize(
    ("happens", "wrote"),
    [
        pytest.param(reapply_the_crd, {}, id="the same CRD is applied"),
        pytest.param(upgrade_the_crd, {}, id="the CRD of a later release is applied"),
        pytest.param(restart_the_api_server, {}, id="the API server restarts: all is listed anew"),
        pytest.param(label_the_requests, {"PATCH tokenrequests": 4}, id="TokenRequests are labelled"),
        pytest.param(annotate_the_secrets, {"PATCH secrets": 6}, id="the Secrets are labelled"),
    ],
)
@pytest.mark.usefixtures("own_operator", "crd_as_it_was")
def test_quiet_when(
    aws: Emulator, namespace: Namespace, happens: Callable[[Namespace], None], wrote: dict[str, int]
) -> None:
    namespace.issued(aws)
    namespace.apply(token_request("retained", target=RETAIN))
    namespace.is_ready("retained")

    def cost_of_one_more(name: str, before: Counter[str]) -> tuple[Counter[str], int]:
        """Issue another, which the operator sees after all that came before."""
        spent = exchanges(aws)
        namespace.apply(token_request(name))
        namespace.is_ready(name)
        until(lambda: namespace.events(name))
        return writes(namespace.plane) - before, exchanges(aws) - spent

    usual = cost_of_one_more("usual", writes(namespace.plane))
    stays, spent = kept(namespace), exchanges(aws)
    before = Counter[str]() if happens is restart_the_api_server else writes(namespace.plane)

    happens(namespace)

    assert cost_of_one_more("later", before) == (usual[0] + Counter(wrote), usual[1])
    assert exchanges(aws) == spent + usual[1]
    assert kept(namespace) == stays


def test_request_that_went_unseen_leaves_the_agenda(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    namespace.issued(aws, "gone", target=RETAIN)
    own_operator.process.send_signal(signal.SIGSTOP)
    try:
        # The first restart cuts the watch, and after the second no watch tells of what was before.
        namespace.plane.restart("kube-apiserver")
        namespace.kubectl("delete", "treq", "gone")
        namespace.plane.restart("kube-apiserver")
    finally:
        own_operator.process.send_signal(signal.SIGCONT)

    # Not what the agenda counts: who is looked at just now does not wait.
    place = f'name="gone",namespace="{namespace.name}"'
    until(lambda: place not in own_operator.get("/metrics"))

    assert exchanges(aws) == 2
