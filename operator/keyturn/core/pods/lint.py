"""Finds mistakes that prevent a pod from using renewed credentials."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

from msgspec.structs import replace as replace_fields

from keyturn.api.formats.aws import MOUNTED_AT
from keyturn.api.formats.base import REGION_KEYS
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
from keyturn.core.pods.manifest import (
    INJECT,
    Container,
    Env,
    Mount,
    Pod,
    Resources,
    SecretFiles,
    read_claims,
    read_meta,
    read_pod,
    template_path,
)

_ANNOTATION = f"metadata.annotations.{INJECT}"
# The sidecar can serve a Secret that has one of these keys.
_SERVABLE_KEYS = frozenset({"credentials.json", "AWS_ACCESS_KEY_ID"})
# The endpoint uses http, so HTTPS_PROXY does not affect it.
_PROXY_VARIABLES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_NO_PROXY_VARIABLES = ("NO_PROXY", "no_proxy")
_ENDPOINT = ip_address("127.0.0.1")
# With one of these, Reloader restarts the pods of a workload when a Secret that they use changes.
_RELOADER = re.compile(r"(secret\.)?reloader\.stakater\.com/(auto|search|reload)")

# The TokenRequests that were read together with the pod, by the name of the Secret that they write.
Requests = Mapping[str, Request]


@dataclass(frozen=True, slots=True)
class PodFinding:
    """A mistake in the field at `path`: an error if the pod cannot start or will stop working, else a warning."""

    path: str
    message: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class _ContainerContext:
    path: str
    container: Container
    pod: Pod
    requests: Requests
    is_restarted: bool

    @property
    def ends(self) -> bool:
        """Whether the container runs to completion, perhaps before the credentials that it started with expire."""
        is_init = self.path.startswith("spec.initContainers") and self.container.restart_policy != "Always"
        return is_init or self.pod.spec.restart_policy in ("Never", "OnFailure")

    @property
    def uses_endpoint(self) -> bool:
        """Whether the container uses the endpoint of the sidecar, or will after the injection."""
        if self.pod.inject is None or not is_secret_name(self.pod.inject) or has_sidecar(self.pod):
            return self.container.literals.get(TOKEN_FILE) == TOKEN_PATH
        return not credential_variables(self.container)

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


def lint_pod(manifest: Mapping[str, Any], requests: Iterable[Request] = ()) -> list[PodFinding]:
    """Return the findings in the pod of a manifest; a manifest without a pod has none. Raises ManifestError.

    `requests` are the TokenRequests that were read with the pod. Without them it is unknown which Secrets are renewed.
    """
    path = template_path(manifest)
    if path is None:
        return []
    meta = read_meta(manifest)
    by_secret = {request.secret_name: request for request in requests if meta.namespace in ("", request.namespace)}
    pod = read_pod(manifest, path)
    # A claim replaces a volume of the template that has the same name.
    volumes = (*pod.spec.volumes, *read_claims(manifest))
    pod = replace_fields(pod, spec=replace_fields(pod.spec, volumes=volumes))
    prefix = "".join(f"{name}." for name in path)
    is_restarted = any(_RELOADER.fullmatch(key) and value != "false" for key, value in meta.annotations.items())
    findings = [*_lint_volumes(pod, by_secret), *_lint_injection(pod, by_secret)]
    for container_path, container in pod.spec.all_containers:
        context = _ContainerContext(container_path, container, pod, by_secret, is_restarted)
        for check in _CONTAINER_CHECKS:
            findings += check(context)
    misplaced = []
    if path and INJECT in meta.annotations:
        message = f"the annotation has no effect here: move it to {prefix}metadata"
        misplaced = [PodFinding(_ANNOTATION, message)]
    return misplaced + [replace(finding, path=prefix + finding.path) for finding in findings]


def _lint_volumes(pod: Pod, requests: Requests) -> Iterator[PodFinding]:
    for index, volume in enumerate(pod.spec.volumes):
        path = f"spec.volumes[{index}]"
        for files in volume.secrets:
            if files.secret not in requests:
                continue
            if files.optional:
                yield PodFinding(path, f"Secret {files.secret} is optional: the pod may start before it exists")
            for item in files.items:
                if item.key not in _keys(requests[files.secret]):
                    yield _no_key(path, item.key, files.secret, is_error=not files.optional)


def _keys(request: Request) -> frozenset[str]:
    """Return the keys that the request may write."""
    keys = frozenset(key for one in request.spec.formats for key in one.options.keys) | {"expiration"}
    return keys if request.spec.region else keys.difference(REGION_KEYS)


def _renewed_keys(request: Request) -> frozenset[str]:
    """Return the keys whose values change with a renewal; a region or a config file remains the same."""
    constant = (one.options.keys for one in request.spec.formats if not one.options.has_expiring_value)
    return _keys(request).difference(REGION_KEYS, *constant)


def _no_key(path: str, key: str, secret: str, *, is_error: bool) -> PodFinding:
    return PodFinding(path, f"the TokenRequest writes no key {key} into Secret {secret}", is_error=is_error)


def _not_updated(context: _ContainerContext, path: str, subject: str, advice: str) -> Iterator[PodFinding]:
    """Report a value that is read only once: a warning if the container may end before the expiry."""
    if context.is_restarted:
        return
    if context.ends:
        advice = f"if it can run for longer than the credentials are valid, {advice}"
    yield PodFinding(f"{context.path}.{path}", f"{subject} not updated after a renewal: {advice}", not context.ends)


def _lint_variables(context: _ContainerContext) -> Iterator[PodFinding]:
    for index, env in enumerate(context.container.env):
        ref, path = env.secret_key, f"env[{index}]"
        request = context.requests.get(ref.name) if ref else None
        if ref and request:
            if ref.key not in _keys(request):
                yield _no_key(f"{context.path}.{path}", ref.key, ref.name, is_error=not ref.optional)
            elif ref.key in _renewed_keys(request):
                yield from _not_updated(context, path, "a variable is", f"mount Secret {ref.name} as a volume")
        elif ref and env.name == "AWS_SESSION_TOKEN":
            yield PodFinding(f"{context.path}.{path}", "a session token expires, but a variable is not updated")
    for index, source in enumerate(context.container.env_from):
        if source.secret_ref and source.secret_ref.name in context.requests:
            advice = f"mount Secret {source.secret_ref.name} as a volume"
            yield from _not_updated(context, f"envFrom[{index}]", "variables are", advice)


def _lint_missing_volumes(context: _ContainerContext) -> Iterator[PodFinding]:
    volumes = {volume.name for volume in context.pod.spec.volumes}
    for index, mount in enumerate(context.container.volume_mounts):
        if mount.name not in volumes:
            message = f"the pod has no volume {mount.name}"
            yield PodFinding(f"{context.path}.volumeMounts[{index}]", message, is_error=True)
    for index, env in enumerate(context.container.env):
        # An image may contain files anywhere else, but not an authorization token.
        parent = "/" if env.name == TOKEN_FILE else f"{MOUNTED_AT}/"
        if env.literal.startswith(parent) and not context.mount_at(env.literal):
            message = f"no volume is mounted at the path in {env.name}"
            yield PodFinding(f"{context.path}.env[{index}]", message, is_error=True)


def _lint_mounts(context: _ContainerContext) -> Iterator[PodFinding]:
    for index, mount, files in context.mounted_secrets:
        request, path = context.requests[files.secret], f"volumeMounts[{index}]"
        keys = files.keys_at(mount.sub_path) if mount.sub_path else frozenset()
        if mount.sub_path_expr or keys & _renewed_keys(request):
            yield from _not_updated(
                context, f"{path}.subPath", "a subPath mount is", f"mount Secret {files.secret} as a directory"
            )
        # Another source of a projected volume may contain the file.
        elif files.secret_name and (missing := sorted(keys - _keys(request))):
            yield _no_key(f"{context.path}.{path}.subPath", missing[0], files.secret, is_error=True)


def _lint_config_file(context: _ContainerContext) -> Iterator[PodFinding]:
    """Find a mounted config file that refers to a directory where its Secret is not mounted."""
    mounts, config_file = list(context.mounted_secrets), context.container.literals.get("AWS_CONFIG_FILE")
    for index, mount, files in mounts:
        configs = (one.aws_config for one in context.requests[files.secret].spec.formats)
        expected = [config.mount_path or f"{MOUNTED_AT}/{files.secret}" for config in configs if config]
        directories = {
            mount.mount_path.rstrip("/")
            for _, mount, each in mounts
            if each.secret == files.secret and not mount.sub_path
        }
        is_in_home = mount.mount_path.rstrip("/").endswith(("/.aws", "/.aws/config"))
        is_read = mount is context.mount_at(config_file) if config_file else is_in_home
        if expected and is_read and expected[0] not in directories:
            message = (
                f"the config file refers to files in {expected[0]}: mount Secret {files.secret} there, "
                "or set mountPath in the awsConfig format"
            )
            yield PodFinding(f"{context.path}.volumeMounts[{index}].mountPath", message, is_error=True)


def _lint_precedence(context: _ContainerContext) -> Iterator[PodFinding]:
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
            yield PodFinding(f"{context.path}.env[{index}]", message)


def _lint_credentials_file(context: _ContainerContext) -> Iterator[PodFinding]:
    for index, env in enumerate(context.container.env):
        if env.name == "AWS_SHARED_CREDENTIALS_FILE" and context.is_in_renewed_secret(env.literal):
            message = "only the AWS SDK for Java reloads a shared credentials file: use credential_process"
            yield PodFinding(f"{context.path}.env[{index}]", message)


def _lint_region(context: _ContainerContext) -> Iterator[PodFinding]:
    literals = context.container.literals
    is_served = any(context.mounted_secrets) or context.pod.inject is not None or literals.get(TOKEN_FILE) == TOKEN_PATH
    # A config file can contain the region for all SDKs.
    if (
        is_served
        and "AWS_CONFIG_FILE" not in literals
        and ("AWS_REGION" in literals) != ("AWS_DEFAULT_REGION" in literals)
    ):
        message = "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"
        yield PodFinding(f"{context.path}.env", message)


def _lint_proxy(context: _ContainerContext) -> Iterator[PodFinding]:
    """Find a proxy that some SDKs would use for the sidecar's endpoint, because no exception is made for loopback."""
    container = context.container
    if not context.uses_endpoint:
        return
    proxies = [env.name for env in container.env if env.name in _PROXY_VARIABLES and (env.literal or env.value_from)]
    if proxies and not any(_may_exempt_endpoint(env) for env in container.env if env.name in _NO_PROXY_VARIABLES):
        message = (
            f"container {container.name} has {proxies[0]} without 127.0.0.1 in NO_PROXY: "
            "some SDKs send requests for the sidecar to the proxy"
        )
        yield PodFinding(f"{context.path}.env", message)


def _may_exempt_endpoint(no_proxy: Env) -> bool:
    """Whether the variable exempts the endpoint from the proxy, or may do so because its value is unknown."""
    if no_proxy.value_from or "$(" in no_proxy.literal:
        return True
    for host in no_proxy.literal.split(","):
        try:
            if host.strip() == "*" or _ENDPOINT in ip_network(host.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


_CONTAINER_CHECKS = (
    _lint_variables,
    _lint_missing_volumes,
    _lint_mounts,
    _lint_config_file,
    _lint_proxy,
    _lint_precedence,
    _lint_credentials_file,
    _lint_region,
)


def _lint_injection(pod: Pod, requests: Requests) -> Iterator[PodFinding]:
    """Find mistakes that prevent the injection into an annotated pod, or a container from using the sidecar."""
    if pod.inject is None:
        return
    yield from _lint_annotation(pod.inject, requests)
    if pod.spec.host_network:
        message = "with hostNetwork the sidecar uses the node's ports: two such pods cannot run on one node"
        yield PodFinding("spec.hostNetwork", message)
    for path, container in pod.spec.all_containers:
        yield from _lint_sidecar_use(path, container)
    if not has_sidecar(pod):
        yield from _lint_compatibility(pod)


def _lint_annotation(secret: str, requests: Requests) -> Iterator[PodFinding]:
    if not is_secret_name(secret):
        message = "keyturn.dev/inject must be the name of a Secret: no sidecar was added"
        yield PodFinding(_ANNOTATION, message, is_error=True)
    for request in requests.values():
        if request.name == secret != request.secret_name and secret not in requests:
            message = f"TokenRequest {secret} writes Secret {request.secret_name}: use the name of the Secret"
            yield PodFinding(_ANNOTATION, message, is_error=True)
    if secret in requests and not _keys(requests[secret]) & _SERVABLE_KEYS:
        message = f"Secret {secret} has neither credentials.json nor AWS_ACCESS_KEY_ID, so the sidecar cannot serve it"
        yield PodFinding(_ANNOTATION, message, is_error=True)


def _lint_sidecar_use(path: str, container: Container) -> Iterator[PodFinding]:
    if container.name == NAME and container.restart_policy != "Always":
        message = f"a container named {NAME} exists that is not the sidecar: no sidecar was added"
        yield PodFinding(path, message, is_error=True)
    for name in credential_variables(container):
        message = (
            f"container {container.name} has {name}, which SDKs prefer to the sidecar: "
            "the container keeps its own credentials"
        )
        yield PodFinding(f"{path}.env", message)
    if "AWS_CONFIG_FILE" in container.literals:
        message = f"container {container.name} has AWS_CONFIG_FILE: SDKs prefer credentials in that file to the sidecar"
        yield PodFinding(f"{path}.env", message)
    for source in container.env_from:
        if not any(name.startswith(source.prefix) for name in CREDENTIAL_VARIABLES):
            continue
        message = (
            f"container {container.name} takes variables from {source.origin}: "
            "SDKs prefer AWS_ACCESS_KEY_ID or AWS_PROFILE among them to the sidecar"
        )
        yield PodFinding(f"{path}.envFrom", message)


def _lint_compatibility(pod: Pod) -> Iterator[PodFinding]:
    """Find fields that the API server or node rejects with the sidecar. The chart's policies do not warn of them."""
    for index, volume in enumerate(pod.spec.volumes):
        if volume.name in VOLUMES:
            message = f"the sidecar needs a volume named {volume.name}: rename this one, or the pod is refused"
            yield PodFinding(f"spec.volumes[{index}].name", message, is_error=True)
    # Requests default to the limits. Resources of the pod itself take precedence, and no container affects them.
    is_guaranteed = pod.spec.resources == Resources() and all(
        (limit := container.resources.limits.get(resource)) is not None
        and container.resources.requests.get(resource, limit) == limit
        for _, container in pod.spec.all_containers
        for resource in ("cpu", "memory")
    )
    if is_guaranteed:
        message = (
            "with the sidecar, the QoS class of the pod becomes Burstable: "
            "set equal requests and limits in injection.resources to keep Guaranteed"
        )
        yield PodFinding("spec", message)
    message = "the sidecar runs on Linux only: on Windows mount the Secret"
    if pod.spec.os.name == "windows":
        yield PodFinding("spec.os.name", message, is_error=True)
    if pod.spec.node_selector.get("kubernetes.io/os") == "windows":
        yield PodFinding("spec.nodeSelector", message, is_error=True)
