"""Pods on a real node: Keyturn as Helm installs it, and programs that use its Secrets."""

import json
from typing import Any

from tests.aws.running import Aws
from tests.cluster.namespace import NamespaceOf, until
from tests.node import Node
from tests.node.images import IMAGE
from tests.node.release import Release

Space = NamespaceOf[Node]
PYTHON = "/opt/keyturn/bin/python3"
MOUNTED_AT = "/var/run/secrets/keyturn/acme"
FORMATS = {"secretName": "acme", "formats": [{"credentialProcess": {}}, {"awsConfig": {}}]}
# A client that lives as long as the program, as programs have it. It says one line for each call.
CALLS = """
import time, boto3
aws = boto3.client("sts")
while True:
    try:
        aws.get_caller_identity()
        print("called with", aws._request_signer._credentials.get_frozen_credentials().access_key, flush=True)
    except Exception as error:
        print("failed:", type(error).__name__, error, flush=True)
    time.sleep(0.2)
"""
POWER = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
mounts = dict(line.split()[1:4:2] for line in open("/proc/mounts"))
print(json.dumps({
    "user and group": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapBnd"], 16),
    "seccomp": int(status["Seccomp"]),
    "new privileges": int(status["NoNewPrivs"]) == 0,
    "root": mounts["/"].split(",")[0],
}))
"""


def pod(program: str, endpoint: str) -> dict[str, Any]:
    """A pod that runs a program of Python with a Secret of Keyturn that it must have."""
    container = {
        "name": "app",
        "image": IMAGE,
        "command": [PYTHON, "-c", program],
        "env": [
            {"name": "AWS_CONFIG_FILE", "value": f"{MOUNTED_AT}/config"},
            {"name": "AWS_ENDPOINT_URL", "value": endpoint},
        ],
        "volumeMounts": [{"name": "aws", "mountPath": MOUNTED_AT, "readOnly": True}],
    }
    volume = {"name": "aws", "secret": {"secretName": "acme"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app"},
        "spec": {"containers": [container], "volumes": [volume]},
    }


def calls(namespace: Space) -> list[str]:
    return namespace.kubectl("logs", "app").splitlines()


def keys(namespace: Space) -> int:
    """Count the access keys that the program has called with."""
    return len({line for line in calls(namespace) if line.startswith("called with")})


def test_a_pod_waits_until_its_secret_exists(namespace: Space, aws: Aws, endpoint: str) -> None:
    namespace.apply(pod(CALLS, endpoint))
    events = ("get", "events", "--output=jsonpath={.items[*].message}")
    until(lambda: 'secret "acme" not found' in namespace.kubectl(*events))
    [container] = namespace.read("pod", "app")["status"]["containerStatuses"]

    namespace.issued(aws, target=FORMATS)
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=60s")
    until(lambda: calls(namespace))

    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}
    assert calls(namespace)[0].startswith("called with")


def test_a_program_goes_on_across_renewals_an_upgrade_and_a_rollback(
    namespace: Space, release: Release, aws: Aws, endpoint: str
) -> None:
    namespace.issued(aws, target=FORMATS)
    namespace.apply(pod(CALLS, endpoint))
    namespace.kubectl("wait", "--for=condition=Ready", "pod/app", "--timeout=30s")
    first = release.pod()["metadata"]["name"]

    release.upgrade(log={"level": "debug"})
    upgraded = release.pod()
    release.rollback()
    until(lambda: keys(namespace) >= 4, seconds=60)

    assert [line for line in calls(namespace) if not line.startswith("called with")] == []
    assert "--log-level=debug" in upgraded["spec"]["containers"][0]["args"]
    assert "--log-level=info" in release.pod()["spec"]["containers"][0]["args"]
    assert len({first, upgraded["metadata"]["name"], release.pod()["metadata"]["name"]}) == 3


def test_the_operator_has_no_power_and_stays_within_its_memory(
    namespace: Space, node: Node, release: Release, aws: Aws
) -> None:
    namespace.issued(aws)
    operator = release.pod()
    name = operator["metadata"]["name"]

    power = json.loads(release.kubectl("exec", name, "--", PYTHON, "-c", POWER))
    [status] = operator["status"]["containerStatuses"]
    [container] = operator["spec"]["containers"]

    assert power == {
        "user and group": [65532, 65532],
        "capabilities": 0,
        "seccomp": 2,
        "new privileges": False,
        "root": "ro",
    }
    assert status["restartCount"] == 0
    assert (
        working_set(node, name) < 0.75 * int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    )


def working_set(node: Node, pod_name: str) -> int:
    """Read how many bytes of memory the container of a pod uses, from the kubelet, which measures at times."""

    def measured() -> int:
        summary = json.loads(node.kubectl("get", "--raw", "/api/v1/nodes/node/proxy/stats/summary"))
        found = [it for it in summary["pods"] if it["podRef"]["name"] == pod_name]
        return found[0]["containers"][0]["memory"].get("workingSetBytes", 0) if found else 0

    return until(measured, seconds=30)


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
