"""Pods on a real node: Keyturn as Helm installs it, and programs that use its Secrets."""

from typing import Any

from tests.support.emulator.client import Emulator
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
ASKING = {"keyturn.dev/inject": "acme"}


def test_a_pod_waits_until_its_secret_exists(namespace: Space, aws: Emulator, endpoint: str) -> None:
    namespace.apply(mounting(endpoint))
    events = ("get", "events", "--output=jsonpath={.items[*].message}")
    until(lambda: 'secret "acme" not found' in namespace.kubectl(*events))
    [app] = namespace.read("pod", "app")["status"]["containerStatuses"]

    namespace.issued(aws, target=FORMATS)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")

    assert app["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert failures(until(lambda: said(namespace))) == []


def test_a_program_goes_on_across_renewals_an_upgrade_and_a_rollback(
    namespace: Space, release: Release, aws: Emulator, endpoint: str
) -> None:
    namespace.issued(aws, target=FORMATS)
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


def test_the_operator_has_no_power_and_needs_no_more_memory_than_it_asks_for(
    namespace: Space, node: Node, release: Release, aws: Emulator
) -> None:
    namespace.issued(aws)

    running = release.pod()
    name, [status] = running["metadata"]["name"], running["status"]["containerStatuses"]
    wanted = running["spec"]["containers"][0]["resources"]["requests"]["memory"]
    power, memory = asked(node, "keyturn", name, "operator")

    assert (power, status["restartCount"]) == (NO_POWER, 0)
    assert memory < int(wanted.removesuffix("Mi"))


def ends(ended_pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Tell how each container of a pod has ended."""
    status = ended_pod["status"]
    ended = (*status["initContainerStatuses"], *status["containerStatuses"])
    return {one["name"]: one["state"]["terminated"] for one in ended}


def test_a_job_is_served_from_its_first_container_to_its_last(
    namespace: Space, node: Node, aws: Emulator, endpoint: str
) -> None:
    namespace.issued(aws, target=FORMATS)
    work = pod([container("one", endpoint, 2), container("two", endpoint, 2)], ASKING)
    work["spec"]["initContainers"] = [container("prepare", endpoint, 1)]
    namespace.apply(job(work))
    started = "--output=jsonpath={.items[*].status.containerStatuses[?(@.started==true)].name}"
    until(lambda: "one" in namespace.kubectl("get", "pods", started), seconds=60, every=1)
    name = namespace.kubectl("get", "pods", "--output=jsonpath={.items[*].metadata.name}")
    power, memory = asked(node, namespace.name, name, "keyturn")
    namespace.kubectl("wait", "--for=condition=Complete", "job/app", "--timeout=90s")

    ended = ends(namespace.read("pod", name))
    assert [failures(said(namespace, one, name)) for one in ("prepare", "one", "two")] == [[], [], []]
    assert {one: it["exitCode"] for one, it in ended.items()} == {"keyturn": 0, "prepare": 0, "one": 0, "two": 0}
    assert min(ended, key=lambda it: ended[it]["startedAt"]) == "keyturn"
    assert ended["keyturn"]["finishedAt"] == max(it["finishedAt"] for it in ended.values())
    assert power == NO_POWER
    assert memory < 28  # MiB, the goal of docs/design/performance.md


def test_a_killed_sidecar_loses_nothing(namespace: Space, node: Node, aws: Emulator, endpoint: str) -> None:
    # Python's SDK asks again before each call in the last 15 minutes, and must have an answer in the last 10.
    aws.settings(session_seconds=800)
    namespace.issued(aws, target=FORMATS)
    namespace.apply(pod([container("app", endpoint, 2)], ASKING))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")

    def sidecar() -> dict[str, Any]:
        [status] = namespace.read("pod", "app")["status"]["initContainerStatuses"]
        return dict(status)

    node.kill(sidecar()["containerID"])
    until(lambda: sidecar()["restartCount"] == 1 and sidecar()["ready"])
    called = namespace.kubectl("exec", "app", "--container=app", "--", PYTHON, "-c", CALLS, "1")

    assert failures(called.splitlines()) == []
    assert failures(said(namespace)) == []


def test_an_uninstall_leaves_requests_and_secrets_to_the_next_install(
    namespace: Space, release: Release, aws: Emulator
) -> None:
    namespace.issued(aws)

    release.uninstall()
    until(lambda: not release.pods())
    left = namespace.data("acme")
    release.install()

    assert left == namespace.data("acme")
    assert namespace.status("acme")["secretName"] == "acme"
