"""The fields of a pod that Keyturn reads, and the path of the pod template in workloads such as Deployments."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from keyturn.api.base import GROUP, without_nulls
from keyturn.api.validation import validation_message

INJECT = f"{GROUP}/inject"
# The path of the pod template by API group and kind, because other groups define kinds such as Job too.
_TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps.openshift.io", "DeploymentConfig"): ("spec", "template"),
    ("argoproj.io", "Rollout"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): ("spec", "template"),
}


class ManifestError(ValueError):
    """A manifest does not have the fields of its kind. The message ends with the path of the field."""


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    """Part of a manifest. Other fields are ignored: validating them is the API server's task."""


_AnyPart = TypeVar("_AnyPart", bound=_Part)


class ObjectRef(_Part, frozen=True):
    """A reference to a Secret or a ConfigMap."""

    name: str = ""


class SecretKey(_Part, frozen=True):
    """A reference to a key of a Secret."""

    name: str = ""
    key: str = ""
    optional: bool = False


class EnvSource(_Part, frozen=True):
    """The source of a variable's value."""

    secret_key_ref: SecretKey | None = None


class Env(_Part, frozen=True):
    """An environment variable. The repr omits the value, which may be a secret."""

    name: str = ""
    literal: str = msgspec.field(name="value", default="")
    value_from: EnvSource | None = None

    @property
    def secret_key(self) -> SecretKey | None:
        """The key of a Secret that contains the value."""
        return self.value_from.secret_key_ref if self.value_from else None

    def __repr__(self) -> str:
        return f"Env({self.name!r})"


class EnvFrom(_Part, frozen=True):
    """All keys of a Secret or a ConfigMap as environment variables."""

    prefix: str = ""
    secret_ref: ObjectRef | None = None
    config_map_ref: ObjectRef | None = None

    @property
    def origin(self) -> str:
        """The object that the variables come from, such as "Secret x"."""
        kind, ref = ("Secret", self.secret_ref) if self.secret_ref else ("ConfigMap", self.config_map_ref)
        return f"{kind} {ref.name if ref else ''}"


class Mount(_Part, frozen=True):
    """The mount of a volume, or of a part of it, in a container."""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""


class SecurityContext(_Part, frozen=True):
    """The security context of a pod or of a container."""

    run_as_user: int | None = None


class Resources(_Part, frozen=True):
    """The resources of a container or a pod: quantities such as 1 or "500m" by the name of the resource."""

    requests: dict[str, Any] = {}
    limits: dict[str, Any] = {}


class Container(_Part, frozen=True):
    """A container or an init container."""

    name: str = ""
    env: tuple[Env, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    volume_mounts: tuple[Mount, ...] = ()
    restart_policy: str = ""
    security_context: SecurityContext = SecurityContext()
    resources: Resources = Resources()

    @property
    def literals(self) -> dict[str, str]:
        """The variables by name; one with valueFrom has an empty value."""
        return {env.name: env.literal for env in self.env}


class Item(_Part, frozen=True):
    """A key of a Secret that a volume contains as a file."""

    key: str = ""
    path: str = ""


class SecretFiles(_Part, frozen=True):
    """A Secret as files: a secret volume, or a source of a projected volume."""

    secret_name: str = ""
    name: str = ""
    items: tuple[Item, ...] = ()
    optional: bool = False

    @property
    def secret(self) -> str:
        """The name of the Secret: a secret volume calls it secretName, a projected volume name."""
        return self.secret_name or self.name

    def keys_at(self, path: str) -> set[str]:
        """Return the keys that are at a path of the volume: one for a file, or several for a directory."""
        if not self.items:
            return {path}
        return {item.key for item in self.items if item.path == path or item.path.startswith(f"{path}/")}


class Projection(_Part, frozen=True):
    """A source of a projected volume."""

    secret: SecretFiles | None = None


class Projected(_Part, frozen=True):
    """A projected volume."""

    sources: tuple[Projection, ...] = ()


class Volume(_Part, frozen=True):
    """A volume of a pod."""

    name: str = ""
    secret: SecretFiles | None = None
    projected: Projected = Projected()

    @property
    def secrets(self) -> tuple[SecretFiles, ...]:
        """The Secrets whose keys are files in the volume."""
        projected = (source.secret for source in self.projected.sources)
        return tuple(secret for secret in (self.secret, *projected) if secret)


class PodMeta(_Part, frozen=True):
    """The metadata of a pod or of a workload."""

    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] = {}


class PodOS(_Part, frozen=True):
    """The operating system of a pod: linux or windows."""

    name: str = ""


class PodSpec(_Part, frozen=True):
    """The spec of a pod."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    host_network: bool = False
    host_pid: bool = msgspec.field(name="hostPID", default=False)
    share_process_namespace: bool = False
    restart_policy: str = ""
    os: PodOS = PodOS()
    node_selector: dict[str, str] = {}
    security_context: SecurityContext = SecurityContext()
    resources: Resources = Resources()

    @property
    def all_containers(self) -> Iterator[tuple[str, Container]]:
        """The containers and init containers with their paths in the pod."""
        for name, group in (("initContainers", self.init_containers), ("containers", self.containers)):
            for index, container in enumerate(group):
                yield f"spec.{name}[{index}]", container


class Pod(_Part, frozen=True):
    """A pod or a pod template."""

    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()

    @property
    def inject(self) -> str | None:
        """The Secret that the pod's sidecar should serve: the value of the annotation keyturn.dev/inject."""
        return self.metadata.annotations.get(INJECT)


class _VolumeClaim(_Part, frozen=True):
    metadata: PodMeta = PodMeta()


class _StatefulSetSpec(_Part, frozen=True):
    volume_claim_templates: tuple[_VolumeClaim, ...] = ()


class _StatefulSet(_Part, frozen=True):
    spec: _StatefulSetSpec = _StatefulSetSpec()


def template_path(manifest: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the path of the pod in a manifest; None if its kind has no pod."""
    group, slash, _ = str(manifest.get("apiVersion")).partition("/")
    path, spec = _TEMPLATES.get((group if slash else "", str(manifest.get("kind")))), manifest.get("spec")
    # A Rollout may use the template of a Deployment instead of its own.
    return None if isinstance(spec, Mapping) and "workloadRef" in spec else path


def read_pod(manifest: Mapping[str, Any], path: tuple[str, ...] = ()) -> Pod:
    """Parse the pod or pod template at a path. Raises ManifestError."""
    for index, name in enumerate(path):
        manifest = manifest.get(name)  # type: ignore[assignment]
        if not isinstance(manifest, Mapping):
            raise ManifestError(f"expected an object (at {'.'.join(path[: index + 1])})")
    return _convert(manifest, Pod, path)


def read_claims(manifest: Mapping[str, Any]) -> tuple[Volume, ...]:
    """Return the volumes that a StatefulSet adds to its pods; other manifests have none. Raises ManifestError."""
    if manifest.get("kind") != "StatefulSet":
        return ()
    claims = _convert(manifest, _StatefulSet).spec.volume_claim_templates
    return tuple(Volume(name=claim.metadata.name) for claim in claims)


def read_meta(manifest: Mapping[str, Any]) -> PodMeta:
    """Parse the metadata of any manifest. Raises ManifestError."""
    return read_pod({"metadata": manifest.get("metadata")}).metadata


def _convert(manifest: Mapping[str, Any], part: type[_AnyPart], path: tuple[str, ...] = ()) -> _AnyPart:
    try:
        return msgspec.convert(without_nulls(manifest), part)
    except msgspec.ValidationError as error:
        raise ManifestError(validation_message(error, part, ".".join(path))) from None
