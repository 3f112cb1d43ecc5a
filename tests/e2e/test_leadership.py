"""Two operators with one Lease: one works, the other stands by and takes over."""

import json
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator, running_operator
from tests.support.cluster.writes import writes
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

DONE = 'keyturn_renewals_total{reason="RenewalAsked",result="success"}'
Start = Callable[[], Operator]


@pytest.fixture
def start(installed: ControlPlane, aws: Emulator, tmp_path: Path) -> Iterator[Start]:
    """Start operators with the chart's one Lease."""
    with ExitStack() as stack:

        def starting() -> Operator:
            directory = tmp_path / str(len(list(tmp_path.iterdir())))
            directory.mkdir()
            return stack.enter_context(running_operator(installed, aws, directory))

        yield starting
        lease(installed, holderIdentity=None)


def lease(plane: ControlPlane, **spec: object) -> None:
    kubectl = ("--namespace", "keyturn", "patch", "lease", "keyturn", "--type=merge", "--patch")
    plane.kubectl(*kubectl, json.dumps({"spec": spec}))


def leads(operator: Operator) -> bool:
    return operator.metric("keyturn_leader") == 1


def is_ready(operator: Operator) -> bool:
    try:
        return operator.get("/readyz") == "ok\n"
    except urllib.error.HTTPError:
        return False


def test_second_stands_by_and_takes_over_when_the_first_is_told_to_end(
    start: Start, aws: Emulator, namespace: Namespace
) -> None:
    first = start()
    until(lambda: leads(first))
    namespace.issued(aws)
    second = start()
    until(lambda: is_ready(second))

    assert second.metric("keyturn_leader") == 0
    assert second.get("/healthz") == "ok\n"
    assert "keyturn_credentials" not in second.get("/metrics")
    namespace.ask("acme", "1")
    until(lambda: namespace.status("acme")["revision"] == 2)
    assert second.metric(DONE) is None

    assert first.stop() == 0
    until(lambda: leads(second), seconds=10)
    namespace.ask("acme", "2")
    until(lambda: namespace.status("acme")["revision"] == 3)
    assert aws.calls("GetAccessToken") == 3


def test_standby_ends_with_code_0_and_leaves_the_lease(start: Start, installed: ControlPlane) -> None:
    first = start()
    until(lambda: leads(first))
    second = start()
    until(lambda: is_ready(second))

    assert second.stop() == 0

    holder = ("--namespace", "keyturn", "get", "lease", "keyturn", "-o", "jsonpath={.spec.holderIdentity}")
    assert installed.kubectl(*holder).endswith(f"-{first.process.pid}")


def test_failover_does_nothing_that_is_not_due(
    start: Start, installed: ControlPlane, aws: Emulator, namespace: Namespace
) -> None:
    first = start()
    until(lambda: leads(first))
    namespace.issued(aws)
    namespace.issued(aws, "retained", target={"deletionPolicy": "Retain"})
    second = start()
    until(lambda: is_ready(second))
    before = [namespace.read(kind, name) for kind in ("secret", "treq") for name in ("acme", "retained")]
    wrote, called = writes(installed), aws.calls("GetAccessToken")

    first.kill()
    lease(installed, holderIdentity=None)  # instead of the 30 s until it has run out
    until(lambda: leads(second))
    until(lambda: second.metric('keyturn_agenda_requests{state="waiting"}') == 2)

    assert (writes(installed) - wrote, aws.calls("GetAccessToken") - called) == ({}, 0)
    assert [namespace.read(kind, name) for kind in ("secret", "treq") for name in ("acme", "retained")] == before


@pytest.mark.long
def test_second_takes_over_after_the_death_of_the_first(start: Start, aws: Emulator, namespace: Namespace) -> None:
    first = start()
    until(lambda: leads(first))
    namespace.issued(aws)
    second = start()
    until(lambda: is_ready(second))

    first.kill()

    until(lambda: leads(second), seconds=40)
    namespace.ask("acme", "1")
    until(lambda: namespace.status("acme")["revision"] == 2)
    assert aws.calls("GetAccessToken") == 2


@pytest.mark.long
def test_whoever_lost_the_lease_ends_with_an_error(start: Start, installed: ControlPlane) -> None:
    operator = start()
    until(lambda: leads(operator))

    lease(installed, holderIdentity="another", renewTime=None)

    assert operator.process.wait(timeout=40) == 1
    assert "the Lease could not be renewed in time" in operator.log()
    assert "Traceback" not in operator.log()


@pytest.mark.long
def test_frozen_api_server_costs_the_lease_not_the_order(start: Start, installed: ControlPlane) -> None:
    operator = start()
    until(lambda: leads(operator))

    installed.freeze("kube-apiserver")
    try:
        assert operator.process.wait(timeout=60) == 1
    finally:
        installed.thaw("kube-apiserver")
    assert "Traceback" not in operator.log()
