"""Programs for pods, and pods for them."""

import json
from collections.abc import Iterable
from typing import Any

from tests.support.cluster.namespace import NamespaceOf
from tests.support.node.images import IMAGE
from tests.support.node.node import Node

Space = NamespaceOf[Node]
PYTHON = "/opt/keyturn/bin/python3"
# Calls AWS with a client that lives as long as the program, as programs have it, and says a line for each call.
# After the argument's number of access keys it ends.
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
# Tells what the first process of a container may do, and how much memory it has had at most, in KiB.
SELF = """
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
NO_POWER = {
    "user and group": [65532, 65532],
    "capabilities": 0,
    "seccomp": 2,
    "new privileges": False,
    "root": "ro",
}


def container(name: str, endpoint: str, keys: int, **more: Any) -> dict[str, Any]:
    """A container that calls the AWS at `endpoint` with so many access keys."""
    env = [{"name": "AWS_ENDPOINT_URL", "value": endpoint}, {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"}]
    command = [PYTHON, "-c", CALLS, str(keys)]
    return {"name": name, "image": IMAGE, "command": command, **more, "env": [*env, *more.get("env", ())]}


def pod(containers: Iterable[dict[str, Any]], annotations: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod that is called app."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "app", "annotations": annotations or {}},
        "spec": {"containers": list(containers), **spec},
    }


def mounting(endpoint: str) -> dict[str, Any]:
    """A pod that calls for ever with the credentials of a Secret of Keyturn that it must have, by its `config`."""
    place = "/var/run/secrets/keyturn/acme"
    mounts = [{"name": "aws", "mountPath": place, "readOnly": True}]
    config = [{"name": "AWS_CONFIG_FILE", "value": f"{place}/config"}]
    volume = {"name": "aws", "secret": {"secretName": "acme"}}
    return pod([container("app", endpoint, 1000, env=config, volumeMounts=mounts)], volumes=[volume])


def job(pod: dict[str, Any]) -> dict[str, Any]:
    """A Job of one pod, which is not tried again."""
    template = {
        "metadata": {"annotations": pod["metadata"]["annotations"], "labels": {"job": "app"}},
        "spec": {**pod["spec"], "restartPolicy": "Never"},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "app"},
        "spec": {"backoffLimit": 0, "template": template},
    }


def said(namespace: Space, container: str = "app", pod: str = "app") -> list[str]:
    """Read what a program has said."""
    return namespace.kubectl("logs", pod, f"--container={container}").splitlines()


def failures(lines: Iterable[str]) -> list[str]:
    """Pick what is no successful call."""
    return [line for line in lines if not line.startswith("called with")]


def keys(lines: list[str]) -> int:
    """Count the access keys of successful calls."""
    return max((len(line.split()) - 2 for line in lines if line.startswith("called with")), default=0)


def asked(node: Node, namespace: str, pod: str, container: str) -> tuple[Any, float]:
    """Ask a running container of our image what its program may do, and for the most memory it had, in MiB."""
    where = ("--namespace", namespace, pod, f"--container={container}")
    power, _, memory = node.kubectl("exec", *where, "--", PYTHON, "-c", SELF).rpartition(" ")
    return json.loads(power), int(memory) / 1024
