"""A tenant does not stop the renewals of another one, whatever it does to its own namespace."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.fixtures import delete_requests
from tests.support.cluster.leadership import is_leader, lease_holder, patch_lease
from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import LOOPBACK, Operator, running_operator
from tests.support.cluster.rotating_source import prevent_save, refresh_step, rotating_request, sign_in
from tests.support.cluster.scope import installed_release
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import http_get, until

pytestmark = pytest.mark.cluster


@pytest.fixture
def other(installed: ControlPlane) -> Iterator[Namespace]:
    """The namespace of the other tenant."""
    delete_requests(installed)
    namespace = Namespace.create(installed)
    yield namespace
    namespace.kubectl("delete", "tokenrequests", "--all")


def readiness(operator: Operator) -> str:
    return http_get(f"http://{operator.address}/readyz")[1]


@pytest.fixture
def operator(installed: ControlPlane, aws: Emulator, tmp_path: Path) -> Iterator[Operator]:
    """An operator with a single worker."""
    flags = ("--concurrent=1",)
    with running_operator(installed, aws, tmp_path, settings=LOOPBACK, flags=flags) as operator:
        yield operator
        assert "internal error" not in operator.log()


def machine_request(aws: Emulator, name: str) -> dict[str, Any]:
    """A TokenRequest whose client acts on its own behalf, so that it needs no source."""
    manifest = rotating_request(aws, name, exchanges=[refresh_step(aws, grantType="client_credentials")])
    del manifest["spec"]["source"]
    return manifest


@pytest.mark.usefixtures("operator")
def test_token_that_cannot_be_saved_occupies_no_worker(aws: Emulator, namespace: Namespace, other: Namespace) -> None:
    seed = prevent_save(namespace, aws)
    namespace.wait_for_condition("acme", "Stalled", "TokenUnsaved")
    other.issue(aws)
    assert namespace.revision() == 1

    namespace.kubectl("delete", "secret", "source-keyturn")
    namespace.wait_for_revision(2)
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1], 0)


@pytest.mark.long
def test_token_that_cannot_be_saved_prevents_no_new_leadership(
    installed: ControlPlane, operator: Operator, aws: Emulator, namespace: Namespace, other: Namespace
) -> None:
    seed = prevent_save(namespace, aws)
    namespace.wait_for_condition("acme", "Stalled", "TokenUnsaved")
    patch_lease(installed, holderIdentity="thief")
    until(lambda: "standing by, because new tokens are not saved yet" in operator.log(), seconds=60)
    until(lambda: is_leader(operator), seconds=60)

    other.issue(aws)
    # The same process still has the new token, so it does not send the old one again.
    time.sleep(40)
    assert aws.calls("oauth:token") == 2
    operator.process.send_signal(signal.SIGTERM)
    time.sleep(5)
    # Without the Lease, another operator would send the old token.
    assert lease_holder(installed)
    namespace.kubectl("delete", "secret", "source-keyturn")
    assert operator.process.wait(timeout=20) == 0
    assert not lease_holder(installed)
    operator.start()
    namespace.wait_for_revision(2)
    assert (aws.family(seed).consumed, aws.family(seed).reuses) == ([0, 1, 2], 0)


def test_namespace_without_rights_does_not_stop_the_others(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, other: Namespace, tmp_path: Path
) -> None:
    names, directory = (namespace.name, other.name), tmp_path / "operator"
    with installed_release(installed, aws, "keyturn-tenants", directory, names) as installation:
        [binding] = json.loads(namespace.kubectl("get", "rolebindings", "--output=json"))["items"]
        namespace.kubectl("delete", "rolebindings", "--all")
        with installation.running() as operator:
            other.issue(aws)
            until(lambda: "cannot list resource" in readiness(operator))

            del binding["metadata"]["uid"], binding["metadata"]["resourceVersion"]
            namespace.apply(binding)
            namespace.issue(aws)
            until(lambda: readiness(operator).startswith("ok"), seconds=60)


def test_namespaces_alternate_at_an_issuer(
    installed: ControlPlane, aws: Emulator, namespace: Namespace, other: Namespace, tmp_path: Path
) -> None:
    settings = {"issuers": {**LOOPBACK["issuers"], "maxConcurrentRequests": 1}}
    names = [f"busy-{number}" for number in range(20)]
    with running_operator(installed, aws, tmp_path, settings=settings):
        for each in (namespace, other):
            sign_in(each, aws)
        aws.fault("oauth:token", delay_seconds=1, times=50)
        namespace.apply(*(machine_request(aws, name) for name in names))
        until(lambda: aws.calls("oauth:token") > 1)
        other.apply(machine_request(aws, "acme"))
        other.wait_until_ready("acme")

        assert not all(namespace.revision(name) for name in names)
