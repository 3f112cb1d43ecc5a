import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane, ExistingCluster, KubectlError, die_with_parent
from tests.support.controlplane.server import ServerExitedError
from tests.support.processes import until

NUMBERS = count()


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    name = f"plane-{next(NUMBERS)}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def test_service_account_has_only_the_rights_of_its_role(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    reader = plane.service_account_kubeconfig(namespace, "reader")

    def read(kind: str) -> str:
        return plane.kubectl("get", kind, "-o", "name", "-n", namespace, check=False, kubeconfig=reader)

    assert "cannot list resource" in read("configmaps")

    plane.kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", namespace)
    binding = ["--role=reader", f"--serviceaccount={namespace}:reader"]
    plane.kubectl("create", "rolebinding", "reader", *binding, "-n", namespace)

    until(lambda: read("configmaps") == "")
    assert "cannot list resource" in read("secrets")


def test_secret_is_deleted_with_its_owner(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "configmap", "owner", "-n", namespace)
    uid = plane.kubectl("get", "configmap", "owner", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "owned", "ownerReferences": [owner]}}
    plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(secret))

    plane.kubectl("delete", "configmap", "owner", "-n", namespace)

    until(lambda: "owned" not in plane.kubectl("get", "secrets", "-n", namespace))


def test_namespace_deletion_completes(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "secret", "generic", "inside", "-n", namespace)

    plane.kubectl("delete", "namespace", namespace, "--timeout=30s")

    assert namespace not in plane.kubectl("get", "namespaces")


def test_frozen_api_server_responds_again_when_thawed(plane: ControlPlane) -> None:
    plane.freeze("kube-apiserver")
    try:
        with pytest.raises(KubectlError, match=r"timeout|deadline"):
            plane.kubectl("get", "--raw", "/readyz", "--request-timeout=500ms")
    finally:
        plane.thaw("kube-apiserver")

    assert plane.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "kube-controller-manager"])
def test_objects_survive_a_restart(plane: ControlPlane, namespace: str, name: str) -> None:
    plane.kubectl("create", "configmap", "kept", "-n", namespace)

    plane.stop(name)
    if name == "kube-apiserver":
        with pytest.raises(KubectlError, match="refused"):
            plane.kubectl("get", "namespaces")
    plane.restart(name)

    assert "kept" in plane.kubectl("get", "configmaps", "-n", namespace)


def test_metrics_count_requests(plane: ControlPlane) -> None:
    # A kind that no controller gets by name.
    counter = re.compile(r'^apiserver_request_total{.*resource="limitranges".*verb="GET".*} (\d+)$', re.MULTILINE)

    def read() -> int:
        return sum(map(int, counter.findall(plane.metrics())))

    before = read()
    plane.kubectl("get", "limitrange", "none", check=False)

    assert read() == before + 1


def test_existing_cluster_creates_service_account_kubeconfigs(plane: ControlPlane, tmp_path: Path) -> None:
    cluster = ExistingCluster(plane.kubeconfig, tmp_path)
    kubeconfig = cluster.service_account_kubeconfig("default", "default")

    user = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", kubeconfig=kubeconfig)

    assert user == "system:serviceaccount:default:default"
    assert kubeconfig.stat().st_mode & 0o077 == 0


@pytest.mark.cluster
def test_exited_server_is_reported_with_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerExitedError, match=r"(?s)kube-apiserver exited with status 1.*flag: --no-such-flag"),
        ControlPlane.started(tmp_path, {"kube-apiserver": ["--no-such-flag"]}),
    ):
        pass


@pytest.mark.cluster
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process with its parent")
def test_run_leaves_no_server_behind(number: signal.Signals, tmp_path: Path) -> None:
    command = die_with_parent([sys.executable, "-m", "tests.support.controlplane", "run"])
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout
            kubeconfig = Path(process.stdout.readline().removeprefix("export KUBECONFIG=").strip())
            readyz = ExistingCluster(kubeconfig, kubeconfig.parent).kubectl("get", "--raw", "/readyz")
            servers = processes_in(kubeconfig.parent)
        finally:
            process.send_signal(number)

    assert (readyz, len(servers)) == ("ok", 3)
    until(lambda: not processes_in(kubeconfig.parent))
    assert process.returncode == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    assert kubeconfig.exists() == (number == signal.SIGKILL)


def processes_in(directory: Path) -> list[str]:
    processes = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
    return [line for line in processes.splitlines() if str(directory) in line]
