"""The CRD is deleted and created again while the operator runs."""

import time
from collections.abc import Iterator

import pytest

from tests.support.cluster.crd import CRD, install_crd
from tests.support.cluster.namespace import Namespace, count_exchanges, token_request
from tests.support.cluster.operator import Operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.running import Aws
from tests.support.processes import until
from tools.bench.usage import cpu_seconds

TIMEOUT_SECONDS = 60
RETAIN = {"deletionPolicy": "Retain"}


@pytest.fixture
def restore_crd(installed: ControlPlane) -> Iterator[None]:
    """Install the CRD again after the test."""
    yield
    install_crd(installed)


def delayed_requests(operator: Operator) -> float | None:
    return operator.metric('keyturn_workqueue_requests{state="delayed"}')


@pytest.fixture
def garbage_collector(namespace: Namespace) -> None:
    """Wait until the garbage collector watches TokenRequests. It discovers new kinds every 30 s."""
    namespace.put_token("x")
    namespace.apply(token_request("first", suspend=True))
    uid = namespace.get("tokenrequest", "first")["metadata"]["uid"]
    owner = {"apiVersion": "keyturn.dev/v1alpha1", "kind": "TokenRequest", "name": "first", "uid": uid}
    namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "its-own", "ownerReferences": [owner]}})
    namespace.kubectl("delete", "treq", "first")
    until(lambda: not namespace.get("secret", "its-own"), seconds=TIMEOUT_SECONDS)


@pytest.mark.usefixtures("restore_crd", "garbage_collector")
def test_crd_is_deleted_and_created_again(own_operator: Operator, aws: Aws, namespace: Namespace) -> None:
    namespace.issue(aws)
    namespace.issue(aws, "retained", target=RETAIN)
    before = namespace.secret_data("retained")

    namespace.plane.kubectl("delete", CRD, "--timeout=60s")
    until(lambda: delayed_requests(own_operator) == 0)
    until(lambda: not namespace.get("secret", "acme"))
    used = cpu_seconds(own_operator.process.pid)
    time.sleep(5)  # the operator must stay idle for a while
    assert cpu_seconds(own_operator.process.pid) - used < 0.5
    assert own_operator.log().count("tokenrequests.keyturn.dev: HTTP 404") < 20

    install_crd(namespace.plane)
    namespace.apply(token_request("retained", target=RETAIN), token_request())
    namespace.wait_until_ready("acme", timeout=TIMEOUT_SECONDS)
    namespace.wait_until_ready("retained", timeout=TIMEOUT_SECONDS)
    assert namespace.secret_data("retained") == before
    assert namespace.status("retained")["revision"] == 1
    assert count_exchanges(aws) == 6
    assert own_operator.process.poll() is None


@pytest.mark.usefixtures("restore_crd")
def test_operator_waits_for_the_crd_at_startup(own_operator: Operator, aws: Aws, namespace: Namespace) -> None:
    own_operator.kill()
    namespace.plane.kubectl("delete", CRD, "--timeout=60s")
    own_operator.start()
    until(lambda: "waiting for the CRD tokenrequests.keyturn.dev" in own_operator.log())

    install_crd(namespace.plane)

    namespace.issue(aws)
