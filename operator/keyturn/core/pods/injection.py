"""Injects the native sidecar that serves the credentials in a Secret to the containers of a pod."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from keyturn.api.base import MAX_NAME_LENGTH, NAME_PATTERN
from keyturn.core.pods.manifest import Container, Pod, read_pod, template_path

NAME = "keyturn"
URI, TOKEN_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
# A container with one of these has its own credentials or endpoint, which some or all SDKs prefer to the sidecar.
CREDENTIAL_VARIABLES = (
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
VOLUMES = SECRET, AUTHORIZATION, NO_TOKEN = f"{NAME}-secret", f"{NAME}-authorization", f"{NAME}-no-token"

_USER = 65532
_DIRECTORY = "/var/run/secrets/keyturn.dev"
_SECRET = f"{_DIRECTORY}/secret"
_AUTHORIZATION = f"{_DIRECTORY}/authorization"
TOKEN_PATH = f"{_AUTHORIZATION}/token"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_RESTRICTED = MappingProxyType(
    {
        "runAsNonRoot": True,
        "runAsGroup": _USER,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
)
_RESOURCES = MappingProxyType({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}})

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SidecarConfig:
    """The settings of an injected sidecar. The endpoint listens on `port` of loopback, the probes on `port` + 1."""

    image: str
    pull_policy: str = "IfNotPresent"
    port: int = 9911
    resources: Json = field(default_factory=lambda: _RESOURCES)

    @property
    def url(self) -> str:
        """The URL of the credentials endpoint."""
        return f"http://127.0.0.1:{self.port}/"


def inject_sidecar(manifest: Json, sidecar: SidecarConfig) -> Json:
    """Return the manifest with the sidecar in pods that have the annotation `keyturn.dev/inject: SECRET`.

    The sidecar is the first init container, so that the other init containers can use it too. Containers with their
    own credentials are not changed, nor are fields of the pod that affect its other volumes, such as fsGroup. The
    manifest is returned unchanged if it has no pod, if the sidecar is present, or if every container has its own
    credentials. Raises ManifestError.
    """
    if str(manifest.get("kind")).endswith("List") and isinstance(manifest.get("items"), list):
        items = manifest["items"]
        return {**manifest, "items": [inject_sidecar(it, sidecar) if isinstance(it, Mapping) else it for it in items]}
    path = template_path(manifest)
    if path is None:
        return manifest
    pod = read_pod(manifest, path)
    return _replace_at(manifest, path, lambda template: _inject(template, pod, sidecar))


def credential_variables(container: Container) -> list[str]:
    """Return the variables that give a container its own credentials; those of the sidecar do not count."""
    injected = {URI, TOKEN_FILE} if container.literals.get(TOKEN_FILE) == TOKEN_PATH else set()
    return [env.name for env in container.env if env.name in CREDENTIAL_VARIABLES and env.name not in injected]


def is_secret_name(name: str) -> bool:
    """Whether this is a valid name of a Secret."""
    return len(name) <= MAX_NAME_LENGTH and bool(re.fullmatch(NAME_PATTERN, name))


def has_sidecar(pod: Pod) -> bool:
    """Whether a container has the name of the sidecar."""
    return any(container.name == NAME for _, container in pod.spec.all_containers)


def _replace_at(manifest: Json, path: tuple[str, ...], change: Callable[[Json], Json]) -> Json:
    if not path:
        return change(manifest)
    return {**manifest, path[0]: _replace_at(manifest[path[0]], path[1:], change)}


def _inject(template: Json, pod: Pod, sidecar: SidecarConfig) -> Json:
    is_used = any(not credential_variables(container) for _, container in pod.spec.all_containers)
    if pod.inject is None or not is_secret_name(pod.inject) or has_sidecar(pod) or not is_used:
        return template
    spec = template["spec"]
    containers = {
        name: [
            raw if credential_variables(container) else _with_endpoint(raw, sidecar)
            for raw, container in zip(spec.get(name) or (), parsed, strict=True)
        ]
        for name, parsed in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers))
    }
    return {
        **template,
        "spec": {
            **spec,
            "initContainers": [_container(sidecar, _user(pod)), *containers["initContainers"]],
            "containers": containers["containers"],
            "volumes": [
                *(spec.get("volumes") or ()),
                # Not optional: the pod waits for the Secret instead of starting without credentials. Its files may be
                # readable by all, because only the sidecar mounts them. An fsGroup would affect the other volumes, too.
                {"name": SECRET, "secret": {"secretName": pod.inject, "defaultMode": 0o444}},
                {"name": AUTHORIZATION, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": NO_TOKEN, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            ],
        },
    }


def _with_endpoint(container: Json, sidecar: SidecarConfig) -> Json:
    env = [{"name": URI, "value": sidecar.url}, {"name": TOKEN_FILE, "value": TOKEN_PATH}]
    mount = {"name": AUTHORIZATION, "mountPath": _AUTHORIZATION, "readOnly": True}
    return {
        **container,
        "env": [*(container.get("env") or ()), *env],
        "volumeMounts": [*(container.get("volumeMounts") or ()), mount],
    }


def _user(pod: Pod) -> int:
    """Return the user to run the sidecar as: that of the other containers if they have only one, and not root.

    If all containers run as one user, the kubelet makes that user the owner of the service account tokens, with mode
    0600. With another user in the pod, everyone may read them. In a shared process namespace, a process of the same
    user could read the Secret through /proc.
    """
    if pod.spec.share_process_namespace or pod.spec.host_pid:
        return _USER
    default = pod.spec.security_context.run_as_user
    users = {
        default if container.security_context.run_as_user is None else container.security_context.run_as_user
        for _, container in pod.spec.all_containers
    }
    return (users.pop() if len(users) == 1 else None) or _USER


def _container(sidecar: SidecarConfig, user: int) -> Json:
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
            # The containers may run as any user; only they mount the volume.
            "--authorization-file-mode=0444",
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
        "resources": {name: dict(amounts) for name, amounts in sidecar.resources.items()},
        "securityContext": {**_RESTRICTED, "runAsUser": user},
        "volumeMounts": [
            {"name": SECRET, "mountPath": _SECRET, "readOnly": True},
            {"name": AUTHORIZATION, "mountPath": _AUTHORIZATION},
            # Kubernetes does not mount the service account token over another mount: the sidecar needs none.
            {"name": NO_TOKEN, "mountPath": _SERVICE_ACCOUNT, "readOnly": True},
        ],
    }
