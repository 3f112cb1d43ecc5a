"""Pods on a real node that use Keyturn's Secrets, with Keyturn installed by Helm."""

from typing import Any

from tests.support.cases import cases
from tests.support.emulator.client import Emulator
from tests.support.node import Node
from tests.support.node.images import SIDECAR_IMAGE
from tests.support.node.release import Release
from tests.support.node.workloads import (
    CALLS,
    PYTHON,
    RESTRICTED,
    NodeNamespace,
    container,
    failures,
    inspect,
    job,
    key_count,
    log_lines,
    pod,
    pod_with_secret,
)
from tests.support.processes import until

# Prints mode, owner and group of the files in other volumes.
MODES = """
import os
for path in ("/mnt/ssh/key", "/mnt/data", "/mnt/identity/token"):
    status = os.stat(path)
    print(path, oct(status.st_mode), status.st_uid, status.st_gid)
"""
FORMATS = {"secretName": "acme", "formats": [{"credentialProcess": {}}, {"awsConfig": {}}]}
INJECT = {"keyturn.dev/inject": "acme"}


def test_pod_waits_until_its_secret_exists(namespace: NodeNamespace, aws: Emulator, endpoint: str) -> None:
    namespace.apply(pod_with_secret(endpoint))
    events = ("get", "events", "--output=jsonpath={.items[*].message}")
    until(lambda: 'secret "acme" not found' in namespace.kubectl(*events))
    [app] = namespace.get("pod", "app")["status"]["containerStatuses"]

    namespace.issue(aws, target=FORMATS)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")

    assert app["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert failures(until(lambda: log_lines(namespace))) == []


def test_calls_succeed_across_renewals_upgrade_and_rollback(
    namespace: NodeNamespace, release: Release, aws: Emulator, endpoint: str
) -> None:
    namespace.issue(aws, target=FORMATS)
    namespace.apply(pod_with_secret(endpoint))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")
    pods = [release.pod()]

    release.upgrade(log={"level": "debug"})
    pods.append(release.pod())
    release.rollback()
    pods.append(release.pod())
    until(lambda: key_count(log_lines(namespace)) >= 3, seconds=60)

    assert failures(log_lines(namespace)) == []
    assert len({it["metadata"]["name"] for it in pods}) == 3
    levels = [it["spec"]["containers"][0]["args"][2] for it in pods]
    assert levels == ["--log-level=info", "--log-level=debug", "--log-level=info"]


def test_operator_is_restricted_and_stays_within_its_memory_request(
    namespace: NodeNamespace, node: Node, release: Release, aws: Emulator
) -> None:
    namespace.issue(aws)

    operator = release.pod()
    name, [status] = operator["metadata"]["name"], operator["status"]["containerStatuses"]
    memory_request = operator["spec"]["containers"][0]["resources"]["requests"]["memory"]
    privileges, memory = inspect(node, "keyturn", name, "operator")

    assert (privileges, status["restartCount"]) == (RESTRICTED, 0)
    assert memory < int(memory_request.removesuffix("Mi"))


def terminations(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return how each container of a terminated pod ended."""
    statuses = (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"])
    return {it["name"]: it["state"]["terminated"] for it in statuses}


def test_sidecar_serves_a_job_from_its_first_to_its_last_container(
    namespace: NodeNamespace, node: Node, aws: Emulator, endpoint: str
) -> None:
    namespace.issue(aws, target=FORMATS)
    work = pod([container("one", endpoint, 2), container("two", endpoint, 2)], INJECT)
    work["spec"]["initContainers"] = [container("prepare", endpoint, 1)]
    namespace.apply(job(work))
    started = "--output=jsonpath={.items[*].status.containerStatuses[?(@.started==true)].name}"
    until(lambda: "one" in namespace.kubectl("get", "pods", started), seconds=60)
    name = namespace.kubectl("get", "pods", "--output=jsonpath={.items[*].metadata.name}")
    privileges, memory = inspect(node, namespace.name, name, "keyturn")
    namespace.kubectl("wait", "--for=condition=Complete", "job/app", "--timeout=90s")

    finished = namespace.get("pod", name)
    ends = terminations(finished)
    assert finished["spec"]["initContainers"][0]["image"] == SIDECAR_IMAGE
    for app in ("prepare", "one", "two"):
        assert failures(log_lines(namespace, app, name)) == []
    assert {app: it["exitCode"] for app, it in ends.items()} == dict.fromkeys(("keyturn", "prepare", "one", "two"), 0)
    assert min(ends, key=lambda it: ends[it]["startedAt"]) == "keyturn"
    assert ends["keyturn"]["finishedAt"] == max(it["finishedAt"] for it in ends.values())
    assert privileges == RESTRICTED
    assert memory < 28  # MiB, the goal of docs/design/performance.md


@cases(
    "users, changed",
    {
        "one user": ([1000, 1000], []),
        "two users": ([0, 1000], []),
        # The sidecar does not run as root, so the kubelet no longer restricts the token to one user.
        "root": ([0, 0], ["/mnt/identity/token"]),
    },
)
def test_injection_changes_no_modes_in_other_volumes(
    users: list[int], changed: list[str], namespace: NodeNamespace, aws: Emulator, endpoint: str
) -> None:
    namespace.issue(aws, target=FORMATS)
    namespace.put_secret("ssh", {"key": "x"})
    volumes: list[dict[str, Any]] = [
        {"name": "ssh", "secret": {"secretName": "ssh", "defaultMode": 0o400}},
        {"name": "data", "emptyDir": {}},
        {"name": "identity", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/mnt/{volume['name']}"} for volume in volumes]
    containers = [
        container(f"app-{index}", endpoint, 1000, volumeMounts=mounts, securityContext={"runAsUser": user})
        for index, user in enumerate(users)
    ]
    for name, annotations in ({"plain": {}, "injected": INJECT}).items():
        app = pod(containers, annotations, volumes=volumes)
        namespace.apply({**app, "metadata": {**app["metadata"], "name": name}})
    namespace.kubectl("wait", "--for=condition=Ready", "pod/plain", "pod/injected", "--timeout=60s")

    def modes(name: str) -> set[tuple[str, ...]]:
        lines = namespace.kubectl("exec", name, "--container=app-0", "--", PYTHON, "-c", MODES).splitlines()
        return {tuple(line.split()) for line in lines}

    def calls(app: str) -> list[str]:
        return until(lambda: log_lines(namespace, app, "injected"))

    assert sorted({path for path, *_ in modes("plain") ^ modes("injected")}) == changed
    assert failures(calls("app-0") + calls("app-1")) == []


def test_killed_sidecar_causes_no_failed_call(
    namespace: NodeNamespace, node: Node, aws: Emulator, endpoint: str
) -> None:
    # boto3 requests credentials before each call in the last 15 minutes, and must receive them in the last 10.
    aws.settings(session_seconds=800)
    namespace.issue(aws, target=FORMATS)
    namespace.apply(pod([container("app", endpoint, 2)], INJECT))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")

    def sidecar() -> dict[str, Any]:
        [status] = namespace.get("pod", "app")["status"]["initContainerStatuses"]
        return dict(status)

    node.kill(sidecar()["containerID"])
    until(lambda: sidecar()["restartCount"] == 1 and sidecar()["ready"])
    calls = namespace.kubectl("exec", "app", "--container=app", "--", PYTHON, "-c", CALLS, "1")

    assert failures(calls.splitlines()) == []
    assert failures(log_lines(namespace)) == []


def test_uninstall_keeps_requests_and_secrets_for_the_next_install(
    namespace: NodeNamespace, release: Release, aws: Emulator
) -> None:
    namespace.issue(aws)

    release.uninstall()
    until(lambda: not release.pods())
    data = namespace.secret_data("acme")
    release.install()

    assert data == namespace.secret_data("acme")
    assert namespace.status("acme")["secretName"] == "acme"
