"""Runs the operator of a Helm release, as the Deployment that Helm creates would do on a node."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.cluster.operator import running_operator
from tests.support.cluster.sources import USER_KEYS
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.cluster import KubectlError
from tests.support.emulator.client import Emulator, endpoints
from tools.demo import print_step

# The operator listens on another address, and reads its settings from another file, than in a pod.
_REPLACED_FLAGS = ("--http-bind-address=", "--config=")
_TOKEN_CREATOR = "playground-token-creator"


@dataclass(frozen=True, slots=True)
class Release:
    """An installed chart: the Deployment's namespace, name and unique ID, and what the operator reads from it."""

    namespace: str
    name: str
    uid: str
    account: str
    flags: tuple[str, ...]
    config: str

    @classmethod
    def find(cls, plane: ControlPlane) -> Self | None:
        """Find the release; None if there is none."""
        selector = "--selector=app.kubernetes.io/name=keyturn"
        items = json.loads(plane.kubectl("get", "deployments", "--all-namespaces", selector, "--output=json"))["items"]
        if not items:
            return None
        metadata, pod = items[0]["metadata"], items[0]["spec"]["template"]["spec"]
        namespace, flags = metadata["namespace"], pod["containers"][0]["args"][1:]
        config = ""
        if any(flag.startswith("--config=") for flag in flags):
            config = plane.kubectl("get", "configmap", metadata["name"], f"--namespace={namespace}",
                                   "--output=jsonpath={.data.config\\.yaml}")  # fmt: skip
        kept = tuple(flag for flag in flags if not flag.startswith(_REPLACED_FLAGS))
        return cls(namespace, metadata["name"], metadata["uid"], pod["serviceAccountName"], kept, config)


@dataclass(slots=True)
class Follower:
    """Runs the operator of the current release at an address. `settings` are overridden by the chart's config."""

    plane: ControlPlane
    aws: Emulator
    directory: Path
    address: str
    settings: Mapping[str, Any]
    _release: Release | None = None
    _operator: ExitStack = field(default_factory=ExitStack)

    def follow(self) -> None:
        """Start, restart or stop the operator if the release has changed."""
        try:
            release = Release.find(self.plane)
            if release == self._release:
                return
            self._release = release
            self._operator.close()
            if release is None:
                print_step("Keyturn was uninstalled, and the operator has ended")
                return
            self._start(release)
        except (KubectlError, RuntimeError) as error:
            # Such as settings that the operator refuses. The next change may correct them.
            print_step(f"The operator does not run: {error}")
            return
        print_step(f"Keyturn is installed in namespace {release.namespace}, and the operator is running. Its log:")
        print(self.directory / "operator.log", flush=True)

    def close(self) -> None:
        self._operator.close()

    def _start(self, release: Release) -> None:
        account = f"--serviceaccount={release.namespace}:{release.account}"
        self.plane.kubectl("delete", "clusterrolebinding", _TOKEN_CREATOR, "--ignore-not-found")
        self.plane.kubectl("create", "clusterrolebinding", _TOKEN_CREATOR, f"--clusterrole={_TOKEN_CREATOR}", account)
        # The ambient identity, and the CA of the issuers.
        (self.directory / "ca.crt").write_text(self.aws.ca)
        os.environ.update(USER_KEYS, SSL_CERT_FILE=str(self.directory / "ca.crt"))
        defaults = {"aws": {"endpoints": endpoints(self.aws.url)}, "renewal": {"minIntervalSeconds": 1}}
        settings = _merged({**defaults, **self.settings}, yaml.safe_load(release.config) or {})
        flags = (*release.flags, f"--lease-namespace={release.namespace}", f"--http-bind-address={self.address}")
        self._operator.enter_context(
            running_operator(
                self.plane,
                self.aws,
                self.directory,
                account=(release.namespace, release.account),
                flags=flags,
                settings=settings,
            )
        )


@contextmanager
def following(follower: Follower) -> Iterator[None]:
    """Create what the operator needs in addition to the chart, and stop the operator at the end."""
    rules = ("--verb=create", "--resource=serviceaccounts/token")
    follower.plane.kubectl("create", "clusterrole", _TOKEN_CREATOR, *rules)
    try:
        yield
    finally:
        follower.close()


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two levels of settings, as Helm merges values: a list replaces another."""
    return {
        key: {**settings.get(key, {}), **changes[key]} if key in changes else settings[key]
        for key in {**settings, **changes}
    }
