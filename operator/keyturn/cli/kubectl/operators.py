"""The operators of a cluster, found by the labels of the chart's Deployments."""

from dataclasses import dataclass
from typing import Self

from keyturn.cli.kubectl.cluster import Cluster, Object

_SELECTOR = "app.kubernetes.io/name=keyturn"
_WATCH = "--watch-namespace="


@dataclass(frozen=True, slots=True)
class OperatorDeployment:
    """A Deployment of the operator. It watches all namespaces if `namespaces` is empty."""

    namespace: str
    name: str
    version: str
    replicas: int
    ready_replicas: int
    namespaces: tuple[str, ...]

    @classmethod
    def parse(cls, body: Object) -> Self:
        """Read a Deployment."""
        meta, spec = body["metadata"], body["spec"]
        containers = spec["template"]["spec"]["containers"]
        arguments = [argument for container in containers for argument in container.get("args") or []]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            version=(meta.get("labels") or {}).get("app.kubernetes.io/version", "unknown"),
            replicas=spec.get("replicas", 1),
            ready_replicas=(body.get("status") or {}).get("readyReplicas", 0),
            namespaces=tuple(text.removeprefix(_WATCH) for text in arguments if text.startswith(_WATCH)),
        )


def list_operators(cluster: Cluster) -> list[OperatorDeployment]:
    """List the operators in all namespaces. Raises ClusterError, for example without the permission."""
    bodies = cluster.list_objects("deployments.apps", "--all-namespaces", f"--selector={_SELECTOR}")
    return [OperatorDeployment.parse(body) for body in bodies]
