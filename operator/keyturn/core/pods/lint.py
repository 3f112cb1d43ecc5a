"""Finds mistakes that prevent a pod from using renewed credentials."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from keyturn.api.formats.aws import MOUNTED_AT
from keyturn.api.token_request import Request
from keyturn.core.pods.injection import (
    CREDENTIAL_VARIABLES,
    NAME,
    TOKEN_FILE,
    TOKEN_PATH,
    URI,
    VOLUMES,
    credential_variables,
    has_sidecar,
    is_secret_name,
)
from keyturn.core.pods.manifest import INJECT, Container, Mount, Pod, SecretFiles, read_meta, read_pod, template_path

_ANNOTATION = f"metadata.annotations.{INJECT}"
# The sidecar can serve a Secret that has one of these keys.
_SERVABLE_KEYS = frozenset({"credentials.json", "AWS_ACCESS_KEY_ID"})

# The TokenRequests that were read together with the pod, by the name of the Secret that they write.
Requests = Mapping[str, Request]


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake in the field at `path`: an error if the pod cannot work, else a warning."""

    path: str
    message: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class _ContainerContext:
    path: str
    container: Container
    pod: Pod
    requests: Requests

    @property
    def mounted_secrets(self) -> Iterator[tuple[int, Mount, SecretFiles]]:
        """The mounts of renewed Secrets, by their index."""
        volumes = {volume.name: volume for volume in self.pod.spec.volumes}
        for index, mount in enumerate(self.container.volume_mounts):
            for files in volumes[mount.name].secrets if mount.name in volumes else ():
                if files.secret in self.requests:
                    yield index, mount, files

    def mount_at(self, path: str) -> Mount | None:
        """The innermost mount that contains the path."""
        mounts = (
            mount
            for mount in self.container.volume_mounts
            if path == mount.mount_path or path.startswith(mount.mount_path.rstrip("/") + "/")
        )
        return max(mounts, key=lambda mount: len(mount.mount_path), default=None)

    def is_in_renewed_secret(self, path: str) -> bool:
        """Whether the path is in a mount of a renewed Secret."""
        innermost = self.mount_at(path)
        return any(mount is innermost for _, mount, _ in self.mounted_secrets)


def lint_pod(manifest: Mapping[str, Any], requests: Iterable[Request] = ()) -> list[Finding]:
    """Return the findings in the pod of a manifest; a manifest without a pod has none. Raises ManifestError.

    `requests` are the TokenRequests that were read with the pod. Without them it is unknown which Secrets are renewed.
    """
    path = template_path(manifest)
    if path is None:
        return []
    meta = read_meta(manifest)
    by_secret = {request.secret_name: request for request in requests if meta.namespace in ("", request.namespace)}
    pod = read_pod(manifest, path)
    prefix = "".join(f"{name}." for name in path)
    findings = [*_lint_volumes(pod, by_secret), *_lint_injection(pod, by_secret)]
    for container_path, container in pod.spec.all_containers:
        context = _ContainerContext(container_path, container, pod, by_secret)
        for check in _CONTAINER_CHECKS:
            findings += check(context)
    misplaced = []
    if path and INJECT in meta.annotations:
        message = f"the annotation has no effect here: move it to {prefix}metadata"
        misplaced = [Finding(_ANNOTATION, message)]
    return misplaced + [replace(finding, path=prefix + finding.path) for finding in findings]


def _lint_volumes(pod: Pod, requests: Requests) -> Iterator[Finding]:
    for index, volume in enumerate(pod.spec.volumes):
        path = f"spec.volumes[{index}]"
        for files in volume.secrets:
            if files.secret not in requests:
                continue
            if files.optional:
                yield Finding(path, f"Secret {files.secret} is optional: the pod may start before it exists")
            written = {key for one in requests[files.secret].spec.formats for key in one.options.keys} | {"expiration"}
            for item in files.items:
                if item.key not in written:
                    message = f"the TokenRequest writes no key {item.key} into Secret {files.secret}"
                    yield Finding(path, message, is_error=True)


def _lint_variables(context: _ContainerContext) -> Iterator[Finding]:
    for index, env in enumerate(context.container.env):
        ref, path = env.value_from.secret_key_ref, f"{context.path}.env[{index}]"
        if ref and ref.name in context.requests:
            message = f"a variable is not updated after a renewal: mount Secret {ref.name} as a volume"
            yield Finding(path, message, is_error=True)
        elif ref and env.name == "AWS_SESSION_TOKEN":
            yield Finding(path, "a session token expires, but a variable is not updated")
    for index, source in enumerate(context.container.env_from):
        if source.secret_ref and source.secret_ref.name in context.requests:
            message = f"variables are not updated after a renewal: mount Secret {source.secret_ref.name} as a volume"
            yield Finding(f"{context.path}.envFrom[{index}]", message, is_error=True)


def _lint_missing_volumes(context: _ContainerContext) -> Iterator[Finding]:
    volumes = {volume.name for volume in context.pod.spec.volumes}
    for index, mount in enumerate(context.container.volume_mounts):
        if mount.name not in volumes:
            message = f"the pod has no volume {mount.name}"
            yield Finding(f"{context.path}.volumeMounts[{index}]", message, is_error=True)
    for index, env in enumerate(context.container.env):
        # An image may contain files anywhere else, but not an authorization token.
        parent = "/" if env.name == TOKEN_FILE else f"{MOUNTED_AT}/"
        if env.literal.startswith(parent) and not context.mount_at(env.literal):
            message = f"no volume is mounted at the path in {env.name}"
            yield Finding(f"{context.path}.env[{index}]", message, is_error=True)


def _lint_mounts(context: _ContainerContext) -> Iterator[Finding]:
    for index, mount, files in context.mounted_secrets:
        if mount.sub_path or mount.sub_path_expr:
            message = f"a subPath mount is not updated after a renewal: mount Secret {files.secret} as a directory"
            yield Finding(f"{context.path}.volumeMounts[{index}].subPath", message, is_error=True)
    for index, mount, files in context.mounted_secrets:
        configs = (one.aws_config for one in context.requests[files.secret].spec.formats)
        expected = [config.mount_path or f"{MOUNTED_AT}/{files.secret}" for config in configs if config]
        if expected and mount.mount_path.rstrip("/") != expected[0]:
            message = (
                f"the config file refers to files in {expected[0]}: mount Secret {files.secret} there, "
                "or set mountPath in the awsConfig format"
            )
            yield Finding(f"{context.path}.volumeMounts[{index}].mountPath", message, is_error=True)


def _lint_precedence(context: _ContainerContext) -> Iterator[Finding]:
    """Find variables that SDKs prefer to the files of a renewed Secret."""
    if not any(context.mounted_secrets) or context.pod.inject is not None:
        return
    literals = context.container.literals
    keyturn_variables = {name for name, value in literals.items() if context.is_in_renewed_secret(value)} | {
        URI,
        TOKEN_FILE,
    }
    for index, env in enumerate(context.container.env):
        if env.name in CREDENTIAL_VARIABLES and env.name not in keyturn_variables:
            message = f"SDKs may read {env.name} before the files of the renewed Secret"
            yield Finding(f"{context.path}.env[{index}]", message)


def _lint_credentials_file(context: _ContainerContext) -> Iterator[Finding]:
    for index, env in enumerate(context.container.env):
        if env.name == "AWS_SHARED_CREDENTIALS_FILE" and context.is_in_renewed_secret(env.literal):
            message = "only the AWS SDK for Java reloads a shared credentials file: use credential_process"
            yield Finding(f"{context.path}.env[{index}]", message)


def _lint_region(context: _ContainerContext) -> Iterator[Finding]:
    literals = context.container.literals
    is_served = any(context.mounted_secrets) or context.pod.inject is not None or literals.get(TOKEN_FILE) == TOKEN_PATH
    if is_served and ("AWS_REGION" in literals) != ("AWS_DEFAULT_REGION" in literals):
        message = "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"
        yield Finding(f"{context.path}.env", message)


_CONTAINER_CHECKS = (
    _lint_variables,
    _lint_missing_volumes,
    _lint_mounts,
    _lint_precedence,
    _lint_credentials_file,
    _lint_region,
)


def _lint_injection(pod: Pod, requests: Requests) -> Iterator[Finding]:
    """Find mistakes that prevent the injection into an annotated pod, or a container from using the sidecar."""
    if pod.inject is None:
        return
    yield from _lint_annotation(pod.inject, requests)
    if pod.spec.host_network:
        message = "with hostNetwork the sidecar uses the node's ports: two such pods cannot run on one node"
        yield Finding("spec.hostNetwork", message)
    for path, container in pod.spec.all_containers:
        yield from _lint_sidecar_use(path, container)
    if not has_sidecar(pod):
        yield from _lint_compatibility(pod)


def _lint_annotation(secret: str, requests: Requests) -> Iterator[Finding]:
    if not is_secret_name(secret):
        message = "keyturn.dev/inject must be the name of a Secret: no sidecar was added"
        yield Finding(_ANNOTATION, message, is_error=True)
    for request in requests.values():
        if request.name == secret != request.secret_name and secret not in requests:
            message = f"TokenRequest {secret} writes Secret {request.secret_name}: use the name of the Secret"
            yield Finding(_ANNOTATION, message, is_error=True)
    if secret in requests:
        keys = {key for one in requests[secret].spec.formats for key in one.options.keys}
        if not keys & _SERVABLE_KEYS:
            message = (
                f"Secret {secret} has neither credentials.json nor AWS_ACCESS_KEY_ID, so the sidecar cannot serve it"
            )
            yield Finding(_ANNOTATION, message, is_error=True)


def _lint_sidecar_use(path: str, container: Container) -> Iterator[Finding]:
    if container.name == NAME and container.restart_policy != "Always":
        message = f"a container named {NAME} exists that is not the sidecar: no sidecar was added"
        yield Finding(path, message, is_error=True)
    for name in credential_variables(container):
        message = (
            f"container {container.name} has {name}, which SDKs prefer to the sidecar: "
            "the container keeps its own credentials"
        )
        yield Finding(f"{path}.env", message)
    if "AWS_CONFIG_FILE" in container.literals:
        message = f"container {container.name} has AWS_CONFIG_FILE: SDKs prefer credentials in that file to the sidecar"
        yield Finding(f"{path}.env", message)
    for source in container.env_from:
        message = (
            f"container {container.name} takes variables from {source.origin}: "
            "SDKs prefer AWS_ACCESS_KEY_ID or AWS_PROFILE among them to the sidecar"
        )
        yield Finding(f"{path}.envFrom", message)


def _lint_compatibility(pod: Pod) -> Iterator[Finding]:
    """Find fields that the API server or the node rejects with the sidecar. The chart's policies do not warn."""
    for index, volume in enumerate(pod.spec.volumes):
        if volume.name in VOLUMES:
            message = f"the sidecar needs a volume named {volume.name}: rename this one, or the pod is refused"
            yield Finding(f"spec.volumes[{index}].name", message, is_error=True)
    message = "the sidecar runs on Linux only: on Windows mount the Secret"
    if pod.spec.os.name == "windows":
        yield Finding("spec.os.name", message, is_error=True)
    if pod.spec.node_selector.get("kubernetes.io/os") == "windows":
        yield Finding("spec.nodeSelector", message, is_error=True)
