"""Two operators with one Lease: one works, the other one stands by and takes over."""

import pytest

from tests.support.cluster.leadership import Start, is_leader, patch_lease
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.writes import count_writes
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

RENEWALS = 'keyturn_renewals_total{reason="RenewalRequested",result="success"}'


def test_standby_takes_over_when_the_leader_stops(
    start: Start, installed: ControlPlane, aws: Emulator, namespace: Namespace
) -> None:
    first = start(installed)
    namespace.issue(aws)
    second = start(installed)

    assert second.metric("keyturn_leader") == 0
    assert second.get("/healthz") == "ok\n"
    assert "keyturn_credentials" not in second.get("/metrics")
    namespace.renew(2)
    assert second.metric(RENEWALS) is None

    assert first.stop() == 0
    until(lambda: is_leader(second), seconds=10)
    namespace.renew(3)
    assert aws.calls("GetAccessToken") == 3


def test_standby_exits_with_code_0_and_keeps_the_lease(start: Start, installed: ControlPlane) -> None:
    first = start(installed)
    second = start(installed)

    assert second.stop() == 0

    holder = ("--namespace", "keyturn", "get", "lease", "keyturn", "-o", "jsonpath={.spec.holderIdentity}")
    assert installed.kubectl(*holder).endswith(f"-{first.process.pid}")


def test_failover_renews_and_writes_nothing(
    start: Start, installed: ControlPlane, aws: Emulator, namespace: Namespace
) -> None:
    first = start(installed)
    namespace.issue(aws)
    namespace.issue(aws, "retained", target={"deletionPolicy": "Retain"})
    second = start(installed)
    before = [namespace.get(kind, name) for kind in ("secret", "treq") for name in ("acme", "retained")]
    writes, calls = count_writes(installed), aws.calls("GetAccessToken")

    first.kill()
    patch_lease(installed, holderIdentity=None)  # so that the test need not wait 30 s until it expires
    until(lambda: is_leader(second))
    until(lambda: second.metric('keyturn_workqueue_requests{state="delayed"}') == 2)

    assert (count_writes(installed) - writes, aws.calls("GetAccessToken") - calls) == ({}, 0)
    assert [namespace.get(kind, name) for kind in ("secret", "treq") for name in ("acme", "retained")] == before


@pytest.mark.long
def test_standby_takes_over_when_the_leader_is_killed(
    start: Start, installed: ControlPlane, aws: Emulator, namespace: Namespace
) -> None:
    first = start(installed)
    namespace.issue(aws)
    second = start(installed)

    first.kill()

    until(lambda: is_leader(second), seconds=40)
    namespace.renew(2)
    assert aws.calls("GetAccessToken") == 2


@pytest.mark.long
def test_operator_that_loses_the_lease_exits_with_code_1(start: Start, installed: ControlPlane) -> None:
    operator = start(installed)

    patch_lease(installed, holderIdentity="another", renewTime=None)

    assert operator.process.wait(timeout=40) == 1
    assert "the Lease could not be renewed in time" in operator.log()
    assert "Traceback" not in operator.log()


@pytest.mark.long
def test_leader_exits_if_the_api_server_is_frozen(start: Start, installed: ControlPlane) -> None:
    operator = start(installed)

    installed.freeze("kube-apiserver")
    try:
        assert operator.process.wait(timeout=60) == 1
    finally:
        installed.thaw("kube-apiserver")
    assert "Traceback" not in operator.log()
