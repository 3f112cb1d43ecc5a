"""Pods on a real node: Keyturn installed by Helm, and programs that use its Secrets."""

from typing import Any

from tests.support.emulator.running import Aws
from tests.support.node import Node
from tests.support.node.programs import (
    CALLS,
    NO_POWER,
    PYTHON,
    Space,
    asked,
    container,
    failures,
    job,
    keys,
    mounting,
    pod,
    said,
)
from tests.support.node.release import Release
from tests.support.processes import until

FORMATS = {"secretName": "acme", "formats": [{"credentialProcess": {}}, {"awsConfig": {}}]}
INJECTED = {"keyturn.dev/inject": "acme"}


def test_pod_waits_until_its_secret_exists(namespace: Space, aws: Aws, endpoint: str) -> None:
    namespace.apply(mounting(endpoint))
    events = ("get", "events", "--output=jsonpath={.items[*].message}")
    until(lambda: 'secret "acme" not found' in namespace.kubectl(*events))
    [app] = namespace.get("pod", "app")["status"]["containerStatuses"]

    namespace.issue(aws, target=FORMATS)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")

    assert app["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert failures(until(lambda: said(namespace))) == []


def test_program_works_through_renewals_upgrade_and_rollback(
    namespace: Space, release: Release, aws: Aws, endpoint: str
) -> None:
    namespace.issue(aws, target=FORMATS)
    namespace.apply(mounting(endpoint))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")
    first = release.pod()

    release.upgrade(log={"level": "debug"})
    second = release.pod()
    release.rollback()
    third = release.pod()
    until(lambda: keys(said(namespace)) >= 3, seconds=60, every=1)

    assert failures(said(namespace)) == []
    assert len({it["metadata"]["name"] for it in (first, second, third)}) == 3
    levels = [it["spec"]["containers"][0]["args"][2] for it in (first, second, third)]
    assert levels == ["--log-level=info", "--log-level=debug", "--log-level=info"]


def test_operator_has_no_privileges_and_fits_its_memory_request(
    namespace: Space, node: Node, release: Release, aws: Aws
) -> None:
    namespace.issue(aws)

    running = release.pod()
    name, [status] = running["metadata"]["name"], running["status"]["containerStatuses"]
    requested = running["spec"]["containers"][0]["resources"]["requests"]["memory"]
    power, memory = asked(node, "keyturn", name, "operator")

    assert (power, status["restartCount"]) == (NO_POWER, 0)
    assert memory < int(requested.removesuffix("Mi"))


def terminations(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the terminated state of each container of a pod."""
    containers = (*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"])
    return {container["name"]: container["state"]["terminated"] for container in containers}


def test_job_is_served_from_its_first_to_its_last_container(
    namespace: Space, node: Node, aws: Aws, endpoint: str
) -> None:
    namespace.issue(aws, target=FORMATS)
    work = pod([container("one", endpoint, 2), container("two", endpoint, 2)], INJECTED)
    work["spec"]["initContainers"] = [container("prepare", endpoint, 1)]
    namespace.apply(job(work))
    started = "--output=jsonpath={.items[*].status.containerStatuses[?(@.started==true)].name}"
    until(lambda: "one" in namespace.kubectl("get", "pods", started), seconds=60, every=1)
    name = namespace.kubectl("get", "pods", "--output=jsonpath={.items[*].metadata.name}")
    power, memory = asked(node, namespace.name, name, "keyturn")
    namespace.kubectl("wait", "--for=condition=Complete", "job/app", "--timeout=90s")

    ended = terminations(namespace.get("pod", name))
    assert [failures(said(namespace, container, name)) for container in ("prepare", "one", "two")] == [[], [], []]
    assert {container: state["exitCode"] for container, state in ended.items()} == {
        "keyturn": 0,
        "prepare": 0,
        "one": 0,
        "two": 0,
    }
    assert min(ended, key=lambda name: ended[name]["startedAt"]) == "keyturn"
    assert ended["keyturn"]["finishedAt"] == max(state["finishedAt"] for state in ended.values())
    assert power == NO_POWER
    assert memory < 28  # MiB, the goal of docs/design/performance.md


def test_killed_sidecar_restarts_without_failed_calls(namespace: Space, node: Node, aws: Aws, endpoint: str) -> None:
    # boto3 tries to reload credentials in their last 15 minutes, and must succeed in their last 10.
    aws.settings(session_seconds=800)
    namespace.issue(aws, target=FORMATS)
    namespace.apply(pod([container("app", endpoint, 2)], INJECTED))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")

    def sidecar() -> dict[str, Any]:
        [status] = namespace.get("pod", "app")["status"]["initContainerStatuses"]
        return dict(status)

    node.kill(sidecar()["containerID"])
    until(lambda: sidecar()["restartCount"] == 1 and sidecar()["ready"])
    called = namespace.kubectl("exec", "app", "--container=app", "--", PYTHON, "-c", CALLS, "1")

    assert failures(called.splitlines()) == []
    assert failures(said(namespace)) == []


def test_uninstall_keeps_requests_and_secrets(namespace: Space, release: Release, aws: Aws) -> None:
    namespace.issue(aws)

    release.uninstall()
    until(lambda: not release.pods())
    remaining = namespace.secret_data("acme")
    release.install()

    assert remaining == namespace.secret_data("acme")
    assert namespace.status("acme")["secretName"] == "acme"
