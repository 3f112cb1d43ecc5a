"""Keyturn as Helm installs it from the chart, with the image of our Dockerfile."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.cluster.chart import CHART, HelmError, helm
from tests.support.emulator.client import endpoints
from tests.support.node.images import IMAGE
from tests.support.node.node import Node

REPOSITORY, _, TAG = IMAGE.partition(":")


@dataclass(frozen=True, slots=True)
class Release:
    """A Helm release, and its operator's pods. `endpoint` is its AWS."""

    node: Node
    endpoint: str
    name: str = "keyturn"

    def install(self) -> None:
        """Install it, and wait until it works."""
        self._helm("install", self.name, str(CHART), "--create-namespace", values=self._values({}))

    def upgrade(self, **values: Any) -> None:
        """Upgrade it to other values, and wait until the new pods work and the old ones are gone."""
        self._helm("upgrade", self.name, str(CHART), values=self._values(values))

    def rollback(self) -> None:
        """Go back to the revision before."""
        self._helm("rollback", self.name)

    def uninstall(self) -> None:
        """Uninstall it, and wait until its objects are gone."""
        self._helm("uninstall", self.name)

    def pods(self) -> list[dict[str, Any]]:
        """Get its pods, those that end too."""
        of_release = f"--selector=app.kubernetes.io/instance={self.name}"
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", of_release, "--output=json"))["items"]
        return found

    def pod(self) -> dict[str, Any]:
        """Get the one pod that does not end."""
        [pod] = (pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"])
        return pod

    def kubectl(self, *args: str, check: bool = True) -> str:
        """Run kubectl in its namespace."""
        return self.node.kubectl("--namespace", self.name, *args, check=check)

    def _helm(self, *command: str, values: Mapping[str, Any] | None = None) -> None:
        how = ("--namespace", self.name, "--wait", "--timeout=60s")
        try:
            helm(*command, *how, values=values, kubeconfig=self.node.kubeconfig)
        except HelmError as error:
            pods, log = self.kubectl("describe", "pods"), self.kubectl("logs", f"deploy/{self.name}", check=False)
            raise HelmError(f"{error}\n{pods}\n{log}") from error

    def _values(self, more: Mapping[str, Any]) -> dict[str, Any]:
        config = {"aws": {"endpoints": endpoints(self.endpoint)}, "renewal": {"leastIntervalSeconds": 1}}
        given = {"image": {"repository": REPOSITORY, "tag": TAG}, "injection": {"enabled": True}, "config": config}
        return {**given, **more}
