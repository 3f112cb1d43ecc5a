"""A Helm release of the chart, with the image of this checkout."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.cluster.chart import CHART, HelmError, helm
from tests.support.emulator.client import endpoints
from tests.support.node.images import IMAGE, SIDECAR_IMAGE
from tests.support.node.node import Node

_REPOSITORY, _, _TAG = IMAGE.partition(":")


@dataclass(frozen=True, slots=True)
class Release:
    """A release and its operator's pods; `endpoint` is the AWS endpoint for pods. All methods wait until done."""

    node: Node
    endpoint: str
    name: str = "keyturn"

    def install(self) -> None:
        self._helm("install", self.name, str(CHART), "--create-namespace", values=self._values({}))

    def upgrade(self, **values: Any) -> None:
        self._helm("upgrade", self.name, str(CHART), values=self._values(values))

    def rollback(self) -> None:
        self._helm("rollback", self.name)

    def uninstall(self) -> None:
        self._helm("uninstall", self.name)

    def pods(self) -> list[dict[str, Any]]:
        """Return its pods, including those that terminate."""
        selector = f"--selector=app.kubernetes.io/instance={self.name}"
        return list(json.loads(self.kubectl("get", "pods", selector, "--output=json"))["items"])

    def pod(self) -> dict[str, Any]:
        """Return its only pod that does not terminate."""
        [pod] = (pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"])
        return pod

    def kubectl(self, *args: str, check: bool = True) -> str:
        return self.node.kubectl("--namespace", self.name, *args, check=check)

    def _helm(self, *command: str, values: Mapping[str, Any] | None = None) -> None:
        flags = ("--namespace", self.name, "--wait", "--timeout=60s")
        try:
            helm(*command, *flags, values=values, kubeconfig=self.node.kubeconfig)
        except HelmError as error:
            pods, log = self.kubectl("describe", "pods"), self.kubectl("logs", f"deploy/{self.name}", check=False)
            raise HelmError(f"{error}\n{pods}\n{log}") from error

    def _values(self, more: Mapping[str, Any]) -> dict[str, Any]:
        config = {"aws": {"endpoints": endpoints(self.endpoint)}, "renewal": {"minIntervalSeconds": 1}}
        image = {"repository": _REPOSITORY, "tag": _TAG}
        return {"image": image, "injection": {"enabled": True, "image": SIDECAR_IMAGE}, "config": config, **more}
