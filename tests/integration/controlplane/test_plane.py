import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.support.controlplane import ControlPlane, ExistingCluster, KubectlError, die_with_parent
from tests.support.controlplane.server import ServerExitedError

NUMBERS = count()


@pytest.fixture
def namespace(plane: ControlPlane) -> Iterator[str]:
    name = f"plane-{next(NUMBERS)}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def eventually(question: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not (answer := question()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer


def test_the_control_plane_says_that_it_is_ready(plane: ControlPlane) -> None:
    assert plane.kubectl("get", "--raw", "/readyz") == "ok"


def test_a_service_account_may_do_what_a_role_allows_and_nothing_else(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    reader = plane.service_account_kubeconfig(namespace, "reader")

    def read(kind: str) -> str:
        return plane.kubectl("get", kind, "-o", "name", "-n", namespace, check=False, kubeconfig=reader)

    assert "cannot list resource" in read("configmaps")

    plane.kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", namespace)
    binding = ["--role=reader", f"--serviceaccount={namespace}:reader"]
    plane.kubectl("create", "rolebinding", "reader", *binding, "-n", namespace)

    assert eventually(lambda: read("configmaps") == "")
    assert "cannot list resource" in read("secrets")


def test_a_secret_goes_with_its_owner(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "configmap", "owner", "-n", namespace)
    uid = plane.kubectl("get", "configmap", "owner", "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    owned = {
        "name": "owned",
        "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}],
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": owned}
    plane.kubectl("create", "-n", namespace, "-f", "-", stdin=json.dumps(secret))

    plane.kubectl("delete", "configmap", "owner", "-n", namespace)

    assert eventually(lambda: "owned" not in plane.kubectl("get", "secrets", "-n", namespace))


def test_the_deletion_of_a_namespace_finishes(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "secret", "generic", "inside", "-n", namespace)

    plane.kubectl("delete", "namespace", namespace, "--timeout=30s")

    assert namespace not in plane.kubectl("get", "namespaces")


def test_a_frozen_api_server_answers_nobody_until_it_is_thawed(plane: ControlPlane) -> None:
    plane.freeze("kube-apiserver")
    try:
        with pytest.raises(KubectlError, match=r"timeout|deadline"):
            plane.kubectl("get", "--raw", "/readyz", "--request-timeout=1s")
    finally:
        plane.thaw("kube-apiserver")

    assert plane.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.parametrize("name", ["etcd", "kube-apiserver", "kube-controller-manager"])
def test_what_was_written_outlives_a_restart(plane: ControlPlane, namespace: str, name: str) -> None:
    plane.kubectl("create", "configmap", "kept", "-n", namespace)

    plane.stop(name)
    plane.restart(name)

    assert "kept" in plane.kubectl("get", "configmaps", "-n", namespace)


def test_a_stopped_api_server_refuses_connections(plane: ControlPlane) -> None:
    plane.stop("kube-apiserver")
    try:
        with pytest.raises(KubectlError, match="refused"):
            plane.kubectl("get", "namespaces")
    finally:
        plane.restart("kube-apiserver")


def test_the_metrics_count_requests(plane: ControlPlane) -> None:
    # Of something that no controller looks for by its name.
    counter = re.compile(r'^apiserver_request_total{.*resource="limitranges".*verb="GET".*} (\d+)$', re.MULTILINE)

    def read() -> int:
        return sum(map(int, counter.findall(plane.metrics())))

    before = read()
    plane.kubectl("get", "limitrange", "none", check=False)

    assert read() == before + 1


def test_a_cluster_known_by_its_kubeconfig_gives_service_accounts_too(plane: ControlPlane, tmp_path: Path) -> None:
    cluster = ExistingCluster(plane.kubeconfig, tmp_path)
    someone = cluster.service_account_kubeconfig("default", "default")

    user = cluster.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}", kubeconfig=someone)

    assert user == "system:serviceaccount:default:default"
    assert someone.stat().st_mode & 0o077 == 0


@pytest.mark.cluster
def test_a_server_that_dies_is_named_and_its_log_shown(tmp_path: Path) -> None:
    with (
        pytest.raises(
            ServerExitedError, match=r"(?s)kube-apiserver ended with status 1.*unknown flag: --no-such-flag"
        ),
        ControlPlane.started(tmp_path, {"kube-apiserver": ["--no-such-flag"]}),
    ):
        pass


@pytest.mark.cluster
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=str)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_run_leaves_no_server_behind(end: signal.Signals, tmp_path: Path) -> None:
    command = die_with_parent([sys.executable, "-m", "tests.support.controlplane", "run"])
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        try:
            assert run.stdout
            kubeconfig = Path(run.stdout.readline().removeprefix("export KUBECONFIG=").strip())
            answer = ExistingCluster(kubeconfig, kubeconfig.parent).kubectl("get", "--raw", "/readyz")
            servers = processes_that_name(kubeconfig.parent)
        finally:
            run.send_signal(end)

    assert (answer, len(servers)) == ("ok", 3)
    assert eventually(lambda: not processes_that_name(kubeconfig.parent))
    assert run.returncode == (0 if end != signal.SIGKILL else -signal.SIGKILL)
    assert kubeconfig.exists() == (end == signal.SIGKILL)


def processes_that_name(directory: Path) -> list[str]:
    listed = subprocess.check_output(["ps", "-ww", "-eo", "args"], text=True)
    return [line for line in listed.splitlines() if str(directory) in line]
