"""Mistakes by which a pod would not see what is renewed, each with its place and a sentence."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keyturn.api.formats.aws import MOUNTED_AT
from keyturn.api.token_request import Request
from keyturn.core.pods.finding import Trap
from keyturn.core.pods.injection import OWN, TOKEN_FILE, TOKEN_PATH, URI
from keyturn.core.pods.manifest import (
    INJECT,
    Container,
    Mount,
    Pod,
    SecretFiles,
    read_meta,
    read_pod,
    template_path,
)
from keyturn.core.pods.sidecar_lint import sidecar_traps

__all__ = ["Trap", "traps"]

Renewed = Mapping[str, Request]


@dataclass(frozen=True, slots=True)
class _Seen:
    """One container, and what of the pod matters for it."""

    path: str
    container: Container
    pod: Pod
    renewed: Renewed

    @property
    def files(self) -> Iterator[tuple[int, Mount, SecretFiles]]:
        """Each mount of a renewed Secret."""
        volumes = {volume.name: volume for volume in self.pod.spec.volumes}
        for index, mount in enumerate(self.container.volume_mounts):
            for secret in volumes[mount.name].secrets if mount.name in volumes else ():
                if secret.of in self.renewed:
                    yield index, mount, secret


def traps(manifest: Mapping[str, Any], requests: Iterable[Request] = ()) -> list[Trap]:
    """List what will not work in the pod of a manifest, in the order of its fields.

    Which Secrets are renewed is known from `requests`, the TokenRequests that were read with it. A manifest
    that has no pod has no traps. Raises ManifestError.
    """
    path = template_path(manifest)
    if path is None:
        return []
    meta = read_meta(manifest)
    renewed = {it.secret_name: it for it in requests if meta.namespace in ("", it.namespace)}
    pod = read_pod(manifest, path)
    prefix = "".join(f"{name}." for name in path)
    found = [*_of_volumes(pod, renewed), *sidecar_traps(pod, renewed)]
    for where, container in pod.spec.all_containers:
        found += _of_container(_Seen(where, container, pod, renewed))
    misplaced = [Trap(f"metadata.annotations.{INJECT}", f"it belongs to {prefix}metadata: here it does nothing")]
    at_top = misplaced if path and INJECT in meta.annotations else []
    return at_top + [Trap(prefix + trap.path, trap.says, breaks=trap.breaks) for trap in found]


def _of_volumes(pod: Pod, renewed: Renewed) -> Iterator[Trap]:
    for index, volume in enumerate(pod.spec.volumes):
        for secret in volume.secrets:
            if secret.of in renewed:
                yield from _of_files(f"spec.volumes[{index}]", secret, renewed[secret.of])


def _of_files(path: str, secret: SecretFiles, request: Request) -> Iterator[Trap]:
    if secret.optional:
        yield Trap(path, f"Secret {secret.of} is optional: the pod would start before its credentials are there")
    written = {key for one in request.spec.formats for key in one.options.keys} | {"expiration"}
    for item in secret.items:
        if item.key not in written:
            yield Trap(path, f"the TokenRequest writes no key {item.key} into Secret {secret.of}", breaks=True)


def _of_container(seen: _Seen) -> Iterator[Trap]:
    for check in (
        _environment,
        _environment_of_all,
        _without_volume,
        _parts,
        _elsewhere,
        _beaten,
        _files,
        _region,
    ):
        yield from check(seen)


def _environment(seen: _Seen) -> Iterator[Trap]:
    for index, env in enumerate(seen.container.env):
        ref, path = env.value_from.secret_key_ref, f"{seen.path}.env[{index}]"
        if ref and ref.name in seen.renewed:
            yield Trap(path, f"a variable keeps its first value: mount Secret {ref.name} as a volume", breaks=True)
        elif ref and env.name == "AWS_SESSION_TOKEN":
            yield Trap(path, "a session token expires, and a variable keeps its first value")


def _environment_of_all(seen: _Seen) -> Iterator[Trap]:
    for index, source in enumerate(seen.container.env_from):
        if source.secret_ref and source.secret_ref.name in seen.renewed:
            says = f"variables keep their first values: mount Secret {source.secret_ref.name} as a volume"
            yield Trap(f"{seen.path}.envFrom[{index}]", says, breaks=True)


def _without_volume(seen: _Seen) -> Iterator[Trap]:
    known = {volume.name for volume in seen.pod.spec.volumes}
    for index, mount in enumerate(seen.container.volume_mounts):
        if mount.name not in known:
            yield Trap(f"{seen.path}.volumeMounts[{index}]", f"there is no volume {mount.name}", breaks=True)
    # Where an image has no such file of its own.
    for index, env in enumerate(seen.container.env):
        ours = "/" if env.name == TOKEN_FILE else f"{MOUNTED_AT}/"
        if env.literal.startswith(ours) and not _mount_of(seen.container, env.literal):
            yield Trap(f"{seen.path}.env[{index}]", f"no volume is mounted where {env.name} points to", breaks=True)


def _parts(seen: _Seen) -> Iterator[Trap]:
    for index, mount, secret in seen.files:
        if mount.sub_path or mount.sub_path_expr:
            says = f"a subPath keeps its first file: mount all of Secret {secret.of}"
            yield Trap(f"{seen.path}.volumeMounts[{index}].subPath", says, breaks=True)


def _elsewhere(seen: _Seen) -> Iterator[Trap]:
    for index, mount, secret in seen.files:
        configs = (one.aws_config for one in seen.renewed[secret.of].spec.formats)
        expected = [one.mount_path or f"{MOUNTED_AT}/{secret.of}" for one in configs if one]
        if expected and mount.mount_path.rstrip("/") != expected[0]:
            says = f"its config file names files in {expected[0]}: mount Secret {secret.of} there, or set mountPath"
            yield Trap(f"{seen.path}.volumeMounts[{index}].mountPath", says, breaks=True)


def _beaten(seen: _Seen) -> Iterator[Trap]:
    """Files of a renewed Secret, and something that SDKs read before them."""
    if not any(seen.files) or seen.pod.inject is not None:
        return
    used = {name for name, text in seen.container.literals.items() if _file_of(seen, text)} | {URI, TOKEN_FILE}
    for index, env in enumerate(seen.container.env):
        if env.name in OWN and env.name not in used:
            says = f"SDKs may read {env.name} before the files of the renewed Secret"
            yield Trap(f"{seen.path}.env[{index}]", says)


def _files(seen: _Seen) -> Iterator[Trap]:
    for index, env in enumerate(seen.container.env):
        if env.name == "AWS_SHARED_CREDENTIALS_FILE" and _file_of(seen, env.literal):
            says = "of the AWS SDKs only Java's reads a shared credentials file again: use credential_process"
            yield Trap(f"{seen.path}.env[{index}]", says)


def _region(seen: _Seen) -> Iterator[Trap]:
    names = seen.container.literals
    uses = any(seen.files) or seen.pod.inject is not None or names.get(TOKEN_FILE) == TOKEN_PATH
    if uses and ("AWS_REGION" in names) != ("AWS_DEFAULT_REGION" in names):
        says = "boto3 reads AWS_DEFAULT_REGION, the other SDKs AWS_REGION: set both"
        yield Trap(f"{seen.path}.env", says)


def _mount_of(container: Container, path: str) -> Mount | None:
    mounts = (mount for mount in container.volume_mounts if _is_below(path, mount))
    return max(mounts, key=lambda mount: len(mount.mount_path), default=None)


def _is_below(path: str, mount: Mount) -> bool:
    return path == mount.mount_path or path.startswith(mount.mount_path.rstrip("/") + "/")


def _file_of(seen: _Seen, path: str) -> bool:
    """Whether a path is in a mount of a renewed Secret."""
    mounted = _mount_of(seen.container, path)
    return any(mount is mounted for _, mount, _ in seen.files)
