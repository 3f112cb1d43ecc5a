"""The CRD goes, comes back and is upgraded while the operator runs."""

import time
from collections.abc import Iterator

import pytest

from tests.support.cluster.chart import chart_objects
from tests.support.cluster.namespace import Namespace, exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until
from tools.bench.usage import cpu_seconds

CRD = "crd/tokenrequests.keyturn.dev"
SECONDS = 60
RETAIN = {"deletionPolicy": "Retain"}


def install(plane: ControlPlane) -> None:
    plane.kubectl("apply", "-f", "-", stdin=chart_objects(only=["crds"]))
    plane.kubectl("wait", "--for=condition=Established", CRD, "--timeout=30s")


@pytest.fixture
def crd_returns(installed: ControlPlane) -> Iterator[None]:
    """Whatever the test does, those after it have the CRD."""
    yield
    install(installed)


def waiting(operator: Operator) -> float | None:
    return operator.metric('keyturn_agenda_requests{state="waiting"}')


@pytest.fixture
def collector(namespace: Namespace) -> None:
    """The collector knows of TokenRequests: it looks for new kinds each 30 s, and forgets none that it watches."""
    namespace.token("x")
    namespace.apply(token_request("first", suspend=True))
    uid = namespace.read("tokenrequest", "first")["metadata"]["uid"]
    owner = {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequest", "name": "first", "uid": uid}
    namespace.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "its-own", "ownerReferences": [owner]}}
    )
    namespace.kubectl("delete", "treq", "first")
    until(lambda: not namespace.read("secret", "its-own"), seconds=SECONDS)


@pytest.mark.usefixtures("crd_returns", "collector")
def test_crd_goes_and_comes_back(own_operator: Operator, aws: Emulator, namespace: Namespace) -> None:
    namespace.issued(aws)
    namespace.issued(aws, "kept", target=RETAIN)
    before = namespace.data("kept")

    namespace.plane.kubectl("delete", CRD, "--timeout=60s")
    until(lambda: waiting(own_operator) == 0)
    until(lambda: not namespace.read("secret", "acme"))
    used = cpu_seconds(own_operator.process.pid)
    time.sleep(5)  # nothing to wait for: that it does nothing is the point
    assert cpu_seconds(own_operator.process.pid) - used < 0.5
    assert own_operator.log().count("tokenrequests.keyturn.dev: HTTP 404") < 20

    install(namespace.plane)
    namespace.apply(token_request("kept", target=RETAIN), token_request())
    namespace.is_ready("acme", timeout=SECONDS)
    namespace.is_ready("kept", timeout=SECONDS)
    assert namespace.data("kept") == before
    assert namespace.status("kept")["revision"] == 1
    assert exchanges(aws) == 6
    assert own_operator.process.poll() is None


@pytest.mark.usefixtures("crd_returns")
def test_operator_that_starts_before_the_crd_waits_for_it(
    own_operator: Operator, aws: Emulator, namespace: Namespace
) -> None:
    own_operator.kill()
    namespace.plane.kubectl("delete", CRD, "--timeout=60s")
    own_operator.start()
    until(lambda: "waiting for the CRD tokenrequests.keyturn.dev" in own_operator.log())

    install(namespace.plane)

    namespace.issued(aws)
