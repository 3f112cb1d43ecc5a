"""An operator that does not watch Secrets writes no Secret that it has not read."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.namespace import Namespace
from tests.support.cluster.operator import Operator, running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = pytest.mark.usefixtures("operator")


@pytest.fixture
def operator(installed: ControlPlane, aws: Emulator, namespace: Namespace, tmp_path: Path) -> Iterator[Operator]:
    """An operator without a watch of Secrets."""
    flags = ("--no-watch-secrets",)
    with running_operator(installed, aws, tmp_path, namespace=namespace.name, flags=flags) as operator:
        yield operator
        assert "internal error" not in operator.log()


def delete_during_the_exchanges(namespace: Namespace, aws: Emulator) -> None:
    """Delete the Secret while AWS is slow."""
    namespace.issue(aws)
    aws.fault("GetAccessToken", delay_seconds=3)
    namespace.request_renewal("acme", "1")
    until(lambda: aws.calls("GetAccessToken") == 2)
    namespace.kubectl("delete", "secret", "acme")


def test_secret_replaced_during_the_exchanges_is_refused(aws: Emulator, namespace: Namespace) -> None:
    delete_during_the_exchanges(namespace, aws)
    # It has no field in common with the one that Keyturn wrote.
    namespace.kubectl("create", "secret", "generic", "acme", "--from-literal=theirs=precious")
    before = namespace.get("secret", "acme")

    assert "was not created by Keyturn" in namespace.wait_for_condition("acme", "Stalled", "TargetConflict")
    assert namespace.get("secret", "acme") == before


def test_secret_deleted_during_the_exchanges_is_created(aws: Emulator, namespace: Namespace) -> None:
    delete_during_the_exchanges(namespace, aws)

    namespace.wait_for_revision(2)
    assert set(namespace.secret_data("acme")) > {"AWS_ACCESS_KEY_ID"}
