"""etcd is restored in place from a backup while the operator runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.crd import install_rights
from tests.support.cluster.namespace import Namespace, token_request
from tests.support.cluster.operator import running_operator
from tests.support.controlplane import ControlPlane
from tests.support.emulator.client import Emulator
from tests.support.processes import until

pytestmark = [pytest.mark.cluster, pytest.mark.long]


@pytest.fixture
def own_plane(tmp_path: Path) -> Iterator[ControlPlane]:
    directory = tmp_path / "plane"
    directory.mkdir()
    with ControlPlane.started(directory) as plane:
        install_rights(plane)
        yield plane


def test_requests_are_processed_after_etcd_was_restored(own_plane: ControlPlane, aws: Emulator, tmp_path: Path) -> None:
    namespace = Namespace.create(own_plane)
    with running_operator(own_plane, aws, tmp_path) as operator:
        namespace.issue(aws, "kept")
        own_plane.back_up_etcd()
        namespace.issue(aws, "lost")
        for number in range(50):
            namespace.kubectl("create", "configmap", f"later-{number}")
        exchanges = aws.calls("AssumeRoleWithWebIdentity")

        own_plane.restore_etcd()
        namespace.apply(token_request("new"))
        namespace.wait_until_ready("new", timeout=30)

        # When the watch ends that began before the Lease showed the restore.
        until(lambda: 'name="lost"' not in operator.get("/metrics"), seconds=90)
        until(lambda: 'name="kept"' in operator.get("/metrics"))
        namespace.kubectl("delete", "secret", "kept")
        until(lambda: namespace.get("secret", "kept"))
        assert aws.calls("AssumeRoleWithWebIdentity") == exchanges + 2
        assert operator.process.poll() is None
