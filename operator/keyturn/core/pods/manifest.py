"""The parts of a pod's manifest that are read, and where in a Deployment or a Job they stand."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from keyturn.api.base import GROUP, without_nulls

INJECT = f"{GROUP}/inject"
# By API group and kind: where the template of the pods stands. A Job of another group is another thing.
_TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("batch", "Job"): ("spec", "template"),
}


class ManifestError(ValueError):
    """A manifest is not what its kind must be; the message ends with the path of the field."""


class _Read(msgspec.Struct, frozen=True, rename="camel"):
    """What is not read is not looked at: the API server sees to that."""


class Named(_Read, frozen=True):
    """A reference to a Secret or a ConfigMap."""

    name: str = ""


class KeyOf(_Read, frozen=True):
    """A reference to a key of a Secret."""

    name: str = ""
    key: str = ""


class EnvSource(_Read, frozen=True):
    """Where a variable's text comes from."""

    secret_key_ref: KeyOf | None = None


class Env(_Read, frozen=True):
    """A variable. Its text may be a secret and is not in the repr."""

    name: str = ""
    literal: str = msgspec.field(name="value", default="")
    value_from: EnvSource = EnvSource()

    def __repr__(self) -> str:
        return f"Env({self.name!r})"


class EnvFrom(_Read, frozen=True):
    """All keys of a Secret or a ConfigMap as variables."""

    secret_ref: Named | None = None
    config_map_ref: Named | None = None

    @property
    def told(self) -> str:
        """What it takes them from, such as "Secret x"."""
        kind, ref = ("Secret", self.secret_ref) if self.secret_ref else ("ConfigMap", self.config_map_ref)
        return f"{kind} {ref.name if ref else ''}"


class Mount(_Read, frozen=True):
    """Where a container sees a volume, or a part of it."""

    name: str = ""
    mount_path: str = ""
    sub_path: str = ""
    sub_path_expr: str = ""


class Container(_Read, frozen=True):
    """A container or an init container."""

    name: str = ""
    env: tuple[Env, ...] = ()
    env_from: tuple[EnvFrom, ...] = ()
    volume_mounts: tuple[Mount, ...] = ()
    restart_policy: str = ""

    @property
    def literals(self) -> dict[str, str]:
        """The variables by name, those from elsewhere as empty texts."""
        return {env.name: env.literal for env in self.env}


class Item(_Read, frozen=True):
    """A key of a Secret, as a file."""

    key: str = ""


class SecretFiles(_Read, frozen=True):
    """A Secret as files: a volume, or a part of a projected one."""

    secret_name: str = ""
    name: str = ""
    items: tuple[Item, ...] = ()
    optional: bool = False

    @property
    def of(self) -> str:
        """The name of the Secret: the two places call it differently."""
        return self.secret_name or self.name


class Projection(_Read, frozen=True):
    """One of the sources of a projected volume."""

    secret: SecretFiles | None = None


class Projected(_Read, frozen=True):
    """A volume of several sources."""

    sources: tuple[Projection, ...] = ()


class Volume(_Read, frozen=True):
    """A volume; only Secrets in it matter here."""

    name: str = ""
    secret: SecretFiles | None = None
    projected: Projected = Projected()

    @property
    def secrets(self) -> tuple[SecretFiles, ...]:
        """The Secrets whose keys are files in it."""
        of_projected = (source.secret for source in self.projected.sources)
        return tuple(secret for secret in (self.secret, *of_projected) if secret)


class PodMeta(_Read, frozen=True):
    """The metadata that matter."""

    name: str = ""
    namespace: str = ""
    annotations: dict[str, str] = {}


class SecurityContext(_Read, frozen=True):
    """Who the containers run as; what it says is not read."""


class System(_Read, frozen=True):
    """What the node runs: linux or windows."""

    name: str = ""


class PodSpec(_Read, frozen=True):
    """The containers and what they mount."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    host_network: bool = False
    os: System = System()
    node_selector: dict[str, str] = {}
    security_context: SecurityContext = SecurityContext()

    @property
    def all_containers(self) -> Iterator[tuple[str, Container]]:
        """Each container with its path below the pod."""
        for name, group in (("initContainers", self.init_containers), ("containers", self.containers)):
            for index, container in enumerate(group):
                yield f"spec.{name}[{index}]", container


class Pod(_Read, frozen=True):
    """A pod, or the template of one."""

    metadata: PodMeta = PodMeta()
    spec: PodSpec = PodSpec()

    @property
    def inject(self) -> str | None:
        """The name of the Secret that its sidecar is to serve."""
        return self.metadata.annotations.get(INJECT)


def template_path(manifest: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Find where in a manifest the pod is; None where its kind has none."""
    group, slash, _ = str(manifest.get("apiVersion")).partition("/")
    return _TEMPLATES.get((group if slash else "", str(manifest.get("kind"))))


def read_pod(manifest: Mapping[str, Any], path: tuple[str, ...] = ()) -> Pod:
    """Read the pod, or the template of pods, that stands at a path. Raises ManifestError."""
    for index, name in enumerate(path):
        manifest = manifest.get(name)  # type: ignore[assignment]
        if not isinstance(manifest, Mapping):
            raise ManifestError(f"expected an object (at {'.'.join(path[: index + 1])})")
    try:
        return msgspec.convert(without_nulls(manifest), Pod)
    except msgspec.ValidationError as error:
        says, _, where = str(error).partition(" - at `$")
        place = ".".join((*path, where.rstrip("`").lstrip("."))).strip(".")
        raise ManifestError(f"{says} (at {place or 'the manifest'})") from None


def read_meta(manifest: Mapping[str, Any]) -> PodMeta:
    """Read what the metadata of any manifest tell. Raises ManifestError."""
    return read_pod({"metadata": manifest.get("metadata")}).metadata
