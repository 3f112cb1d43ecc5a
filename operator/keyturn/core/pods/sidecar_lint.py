"""Why the sidecar is not given to a pod that asks for it, or why a container would not use it.

The chart's warnings say the same sentences; a test holds them against each other.
"""

from collections.abc import Iterator, Mapping

from keyturn.api.token_request import Request
from keyturn.core.pods.finding import Trap
from keyturn.core.pods.injection import NAME, VOLUMES, has_own, has_sidecar, is_secret_name
from keyturn.core.pods.manifest import INJECT, Container, Pod

_ANNOTATION = f"metadata.annotations.{INJECT}"
# What the sidecar can read: one of these keys.
_SERVED = frozenset({"credentials.json", "AWS_ACCESS_KEY_ID"})


def sidecar_traps(pod: Pod, renewed: Mapping[str, Request]) -> Iterator[Trap]:
    """List the traps of a pod with the annotation; there are none without it."""
    if pod.inject is None:
        return
    yield from _of_name(pod.inject, renewed)
    if pod.spec.host_network:
        yield Trap(
            "spec.hostNetwork",
            "the ports of the sidecar are the node's: two such pods on it are in each other's way",
        )
    for path, container in pod.spec.all_containers:
        yield from _of_container(path, container)
    if not has_sidecar(pod):
        yield from _of_place(pod)


def _of_place(pod: Pod) -> Iterator[Trap]:
    """What no API server, or no node, would take with the sidecar. No policy warns: the pod itself says so."""
    for index, volume in enumerate(pod.spec.volumes):
        if volume.name in VOLUMES:
            says = f"the sidecar has a volume {volume.name}, and the pod would be refused: give this another name"
            yield Trap(f"spec.volumes[{index}].name", says, breaks=True)
    says = "the sidecar is a program for Linux: on Windows mount the Secret"
    if pod.spec.os.name == "windows":
        yield Trap("spec.os.name", says, breaks=True)
    if pod.spec.node_selector.get("kubernetes.io/os") == "windows":
        yield Trap("spec.nodeSelector", says, breaks=True)


def _of_name(secret: str, renewed: Mapping[str, Request]) -> Iterator[Trap]:
    if not is_secret_name(secret):
        yield Trap(_ANNOTATION, "keyturn.dev/inject must be the name of a Secret: no sidecar was added", breaks=True)
    for request in renewed.values():
        if request.name == secret != request.secret_name and secret not in renewed:
            says = f"TokenRequest {secret} writes Secret {request.secret_name}: give this name"
            yield Trap(_ANNOTATION, says, breaks=True)
    if secret in renewed:
        keys = {key for one in renewed[secret].spec.formats for key in one.options.keys}
        if not keys & _SERVED:
            says = f"Secret {secret} gets neither credentials.json nor AWS_ACCESS_KEY_ID: the sidecar cannot serve it"
            yield Trap(_ANNOTATION, says, breaks=True)


def _of_container(path: str, container: Container) -> Iterator[Trap]:
    if container.name == NAME and container.restart_policy != "Always":
        yield Trap(path, f"a container named {NAME} is not the sidecar: none was added", breaks=True)
    for name in has_own(container):
        says = f"container {container.name} has {name}, which SDKs read instead of the sidecar: it keeps its own"
        yield Trap(f"{path}.env", says)
    if "AWS_CONFIG_FILE" in container.literals:
        says = f"container {container.name} has AWS_CONFIG_FILE: SDKs read credentials in it instead of the sidecar"
        yield Trap(f"{path}.env", says)
    for source in container.env_from:
        says = (
            f"container {container.name} takes variables from {source.told}: "
            "SDKs read AWS_ACCESS_KEY_ID or AWS_PROFILE among them instead of the sidecar"
        )
        yield Trap(f"{path}.envFrom", says)
