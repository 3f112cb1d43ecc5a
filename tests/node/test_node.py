"""Pods on a real node: Keyturn as Helm installs it, and programs that use its Secrets."""

import json

from tests.aws.running import Aws
from tests.cluster.namespace import until
from tests.node import Node
from tests.node.programs import NO_POWER, Space, failures, keys, mounting, power, said
from tests.node.release import Release

FORMATS = {"secretName": "acme", "formats": [{"credentialProcess": {}}, {"awsConfig": {}}]}
MEBIBYTE = 2**20


def working_set(node: Node, pod: str, container: str) -> int:
    """Read how many bytes of memory a container uses, from the kubelet, which measures every few seconds."""

    def measured() -> int:
        summary = json.loads(node.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"))
        pods = (it for it in summary["pods"] if it["podRef"]["name"] == pod)
        found = (it for one in pods for it in one["containers"] if it["name"] == container)
        return next((it["memory"].get("workingSetBytes", 0) for it in found), 0)

    return until(measured, seconds=30, every=1)


def test_a_pod_waits_until_its_secret_exists(namespace: Space, aws: Aws, endpoint: str) -> None:
    namespace.apply(mounting(endpoint))
    events = ("get", "events", "--output=jsonpath={.items[*].message}")
    until(lambda: 'secret "acme" not found' in namespace.kubectl(*events))
    [container] = namespace.read("pod", "app")["status"]["containerStatuses"]

    namespace.issued(aws, target=FORMATS)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")

    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert failures(until(lambda: said(namespace))) == []


def test_a_program_goes_on_across_renewals_an_upgrade_and_a_rollback(
    namespace: Space, release: Release, aws: Aws, endpoint: str
) -> None:
    namespace.issued(aws, target=FORMATS)
    namespace.apply(mounting(endpoint))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")
    first = release.pod()

    release.upgrade(log={"level": "debug"})
    second = release.pod()
    release.rollback()
    third = release.pod()
    until(lambda: keys(said(namespace)) >= 4, seconds=60, every=1)

    assert failures(said(namespace)) == []
    assert len({pod["metadata"]["name"] for pod in (first, second, third)}) == 3
    levels = [pod["spec"]["containers"][0]["args"][2] for pod in (first, second, third)]
    assert levels == ["--log-level=info", "--log-level=debug", "--log-level=info"]


def test_the_operator_has_no_power_and_needs_no_more_memory_than_it_asks_for(
    namespace: Space, node: Node, release: Release, aws: Aws
) -> None:
    namespace.issued(aws)

    pod = release.pod()
    [container], [status] = pod["spec"]["containers"], pod["status"]["containerStatuses"]
    asked = int(container["resources"]["requests"]["memory"].removesuffix("Mi")) * MEBIBYTE
    assert power(node, "keyturn", pod["metadata"]["name"], "operator") == NO_POWER
    assert status["restartCount"] == 0
    assert working_set(node, pod["metadata"]["name"], "operator") < asked


def test_an_uninstall_leaves_requests_and_secrets_to_the_next_install(
    namespace: Space, release: Release, aws: Aws
) -> None:
    namespace.issued(aws)

    release.uninstall()
    left = release.pods()
    release.install()

    assert left == []
    assert namespace.data("acme")["AWS_ACCESS_KEY_ID"]
    until(lambda: namespace.status("acme")["revision"] >= 2)
