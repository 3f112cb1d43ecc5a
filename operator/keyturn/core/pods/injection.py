"""The native sidecar that serves one Secret to all containers of a pod, through the container endpoint."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from keyturn.core.pods.manifest import Container, Pod, read_pod, template_path

NAME = "keyturn"
URI, TOKEN_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
# With one of these a container has credentials already, or an endpoint: every SDK, or some, would read it instead.
OWN = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    URI,
    TOKEN_FILE,
)
USER = GROUP = 65532

SECRET, AUTHORIZATION, NO_TOKEN = VOLUMES = f"{NAME}-secret", f"{NAME}-authorization", f"{NAME}-no-token"

_DIRECTORY = "/var/run/secrets/keyturn.dev"
_SECRET = f"{_DIRECTORY}/secret"
_AUTHORIZATION = f"{_DIRECTORY}/authorization"
TOKEN_PATH = f"{_AUTHORIZATION}/token"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECRET_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LONGEST_NAME = 253
_RESOURCES = MappingProxyType({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}})

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What may differ between sidecars. `port` is the endpoint's on loopback; the probes have the next one."""

    image: str
    pull_policy: str = "IfNotPresent"
    port: int = 9911
    resources: Json = field(default_factory=lambda: _RESOURCES)

    @property
    def url(self) -> str:
        """Where the SDKs ask."""
        return f"http://127.0.0.1:{self.port}/"


def injected(manifest: Json, sidecar: Sidecar) -> Json:
    """Give the pod of a manifest what its annotation `keyturn.dev/inject: SECRET` asks for.

    The sidecar is the first of its init containers, so that the others are served too. A container that has
    credentials of its own is left as it is; a manifest is returned unchanged where no container is left to be
    served, where the sidecar is there already, or where there is no pod. Raises ManifestError.
    """
    if str(manifest.get("kind")).endswith("List") and isinstance(manifest.get("items"), list):
        items = manifest["items"]
        return {**manifest, "items": [injected(it, sidecar) if isinstance(it, Mapping) else it for it in items]}
    path = template_path(manifest)
    if path is None:
        return manifest
    pod = read_pod(manifest, path)
    return _changed(manifest, path, lambda template: _served(template, pod, sidecar))


def has_own(container: Container) -> list[str]:
    """List the variables by which a container has credentials of its own."""
    ours = {URI, TOKEN_FILE} if container.literals.get(TOKEN_FILE) == TOKEN_PATH else set()
    return [env.name for env in container.env if env.name in OWN and env.name not in ours]


def is_secret_name(name: str) -> bool:
    """Whether a Secret may be called so."""
    return len(name) <= _LONGEST_NAME and bool(_SECRET_NAME.fullmatch(name))


def has_sidecar(pod: Pod) -> bool:
    """Whether there is a container of the sidecar's name."""
    return any(container.name == NAME for _, container in pod.spec.all_containers)


def _changed(manifest: Json, path: tuple[str, ...], change: Callable[[Json], Json]) -> Json:
    if not path:
        return change(manifest)
    return {**manifest, path[0]: _changed(manifest[path[0]], path[1:], change)}


def _served(template: Json, pod: Pod, sidecar: Sidecar) -> Json:
    free = [container for _, container in pod.spec.all_containers if not has_own(container)]
    if pod.inject is None or not is_secret_name(pod.inject) or has_sidecar(pod) or not free:
        return template
    spec = template["spec"]
    given = {
        name: [
            raw if has_own(container) else _with_endpoint(raw, sidecar)
            for raw, container in zip(spec.get(name) or (), containers, strict=True)
        ]
        for name, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers))
    }
    return {
        **template,
        "spec": {
            **spec,
            "securityContext": _with_group(spec.get("securityContext") or {}),
            "initContainers": [_container(sidecar), *given["initContainers"]],
            "containers": given["containers"],
            "volumes": [*(spec.get("volumes") or ()), *_volumes(pod.inject)],
        },
    }


def _with_endpoint(container: Json, sidecar: Sidecar) -> Json:
    env = [{"name": URI, "value": sidecar.url}, {"name": TOKEN_FILE, "value": TOKEN_PATH}]
    mount = {"name": AUTHORIZATION, "mountPath": _AUTHORIZATION, "readOnly": True}
    return {
        **container,
        "env": [*(container.get("env") or ()), *env],
        "volumeMounts": [*(container.get("volumeMounts") or ()), mount],
    }


def _with_group(context: Json) -> Json:
    # The token's file is 0440 and the containers may run as anybody: what they share is the group of the volumes.
    if context.get("fsGroup") is not None:
        return context
    # Else the kubelet would walk through all files of a large volume at each start.
    policy = context.get("fsGroupChangePolicy") or "OnRootMismatch"
    return {**context, "fsGroup": GROUP, "fsGroupChangePolicy": policy}


def _volumes(secret: str) -> list[Json]:
    return [
        # Not optional: without the Secret the pod waits, instead of running without credentials.
        {"name": SECRET, "secret": {"secretName": secret, "defaultMode": 0o440}},
        {"name": AUTHORIZATION, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]


def _container(sidecar: Sidecar) -> Json:
    probes = sidecar.port + 1
    return {
        "name": NAME,
        "image": sidecar.image,
        "imagePullPolicy": sidecar.pull_policy,
        "restartPolicy": "Always",
        "args": [
            "sidecar",
            f"--secret-dir={_SECRET}",
            f"--listen=127.0.0.1:{sidecar.port}",
            f"--http-bind-address=:{probes}",
            f"--authorization-file={TOKEN_PATH}",
        ],
        "ports": [{"name": NAME, "containerPort": probes}],
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": probes},
            "periodSeconds": 1,
            "failureThreshold": 120,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": probes},
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "resources": {name: dict(given) for name, given in sidecar.resources.items()},
        "securityContext": _restricted(),
        "volumeMounts": _mounts(),
    }


def _restricted() -> Json:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": GROUP,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _mounts() -> list[Json]:
    return [
        {"name": SECRET, "mountPath": _SECRET, "readOnly": True},
        {"name": AUTHORIZATION, "mountPath": _AUTHORIZATION},
        # Kubernetes puts no token of the service account where something is mounted already.
        {"name": NO_TOKEN, "mountPath": _SERVICE_ACCOUNT, "readOnly": True},
    ]
