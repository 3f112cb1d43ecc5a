"""Pods that call AWS, and what their programs report."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.cluster.namespace import NamespaceOf
from tests.support.node.images import IMAGE
from tests.support.node.node import Node

NodeNamespace = NamespaceOf[Node]
PYTHON = "/opt/keyturn/bin/python3"
# Calls AWS with one client, like a typical program, and prints a line per call. Its argument is the number of keys
# that it uses.
CALLS = """
import sys, time, boto3
aws, seen = boto3.client("sts"), set()
while len(seen) < int(sys.argv[1]):
    try:
        aws.get_caller_identity()
        seen.add(aws._request_signer._credentials.get_frozen_credentials().access_key)
        print("called with", *seen, flush=True)
    except Exception as error:
        print("failed:", type(error).__name__, error, flush=True)
    time.sleep(0.2)
"""
# Prints the privileges of a container's first process and its peak memory in KiB.
_INSPECT = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
mounts = dict(line.split()[1:4:2] for line in open("/proc/mounts"))
print(json.dumps({
    "user and group": [os.getuid(), os.getgid()],
    "capabilities": int(status["CapBnd"], 16),
    "seccomp": int(status["Seccomp"]),
    "new privileges": int(status["NoNewPrivs"]) == 0,
    "root": mounts["/"].split(",")[0],
}), status["VmHWM"].split()[0])
"""
RESTRICTED = {"user and group": [65532, 65532], "capabilities": 0, "seccomp": 2, "new privileges": False, "root": "ro"}


def container(name: str, endpoint: str, keys: int, **more: Any) -> dict[str, Any]:
    """Return a container that calls the AWS at `endpoint` until it has used so many access keys."""
    env = [{"name": "AWS_ENDPOINT_URL", "value": endpoint}, {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"}]
    command = [PYTHON, "-c", CALLS, str(keys)]
    return {"name": name, "image": IMAGE, "command": command, **more, "env": [*env, *more.get("env", ())]}


def pod(containers: Iterable[dict[str, Any]], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "annotations": annotations or {}},
        "spec": {"containers": list(containers), **spec},
    }


def pod_with_secret(endpoint: str) -> dict[str, Any]:
    """Return a pod that mounts the Secret acme and calls AWS with its `config`."""
    path = "/var/run/secrets/keyturn/acme"
    mounts = [{"name": "aws", "mountPath": path, "readOnly": True}]
    config = [{"name": "AWS_CONFIG_FILE", "value": f"{path}/config"}]
    volume = {"name": "aws", "secret": {"secretName": "acme"}}
    return pod([container("app", endpoint, 1000, env=config, volumeMounts=mounts)], volumes=[volume])


def job(pod: dict[str, Any]) -> dict[str, Any]:
    template = {
        "metadata": {"annotations": pod["metadata"]["annotations"], "labels": {"job": "app"}},
        "spec": {**pod["spec"], "restartPolicy": "Never"},
    }
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "app"}, "spec": spec}


def log_lines(namespace: NodeNamespace, container: str = "app", pod: str = "app") -> list[str]:
    return namespace.kubectl("logs", pod, f"--container={container}").splitlines()


def failures(lines: Iterable[str]) -> list[str]:
    """Return the lines that do not report a successful call."""
    return [line for line in lines if not line.startswith("called with")]


def key_count(lines: list[str]) -> int:
    """Return the number of access keys with which calls succeeded."""
    return max((len(line.split()) - 2 for line in lines if line.startswith("called with")), default=0)


def inspect(node: Node, namespace: str, pod: str, container: str) -> tuple[Any, float]:
    """Return the privileges of a container of Keyturn's image, and its peak memory in MiB."""
    target = ("--namespace", namespace, pod, f"--container={container}")
    privileges, _, memory = node.kubectl("exec", *target, "--", PYTHON, "-c", _INSPECT).rpartition(" ")
    return json.loads(privileges), int(memory) / 1024
