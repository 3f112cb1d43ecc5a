"""The embedded control plane: a real etcd, kube-apiserver and kube-controller-manager on loopback."""

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from http import HTTPStatus
from http.client import HTTPSConnection
from pathlib import Path
from typing import Self

from tests.support.controlplane.build import binary
from tests.support.controlplane.cluster import ExistingCluster
from tests.support.controlplane.configuration import LOOPBACK, Configuration
from tests.support.controlplane.server import Server

READY_SECONDS = 60
SIGNS = {  # etcd is ready when the API server is; the account is what one of the controllers makes
    "etcd": None,
    "kube-apiserver": "/readyz",
    "kube-controller-manager": "/api/v1/namespaces/default/serviceaccounts/default",
}
Flags = Mapping[str, Sequence[str]]


class ControlPlane:
    """A control plane of our own, with real RBAC. Its servers are named like their programs."""

    def __init__(self, configuration: Configuration, flags: Flags) -> None:
        directory, self._configuration = configuration.directory, configuration
        self.url = self._configuration.url
        self.ca_file = self._configuration.ca_file
        self.kubeconfig = self._configuration.kubeconfig
        self._cluster = ExistingCluster(self.kubeconfig, directory)
        self._servers = {
            name: Server(name, [str(binary(name)), *_set(own, flags.get(name, ()))], directory / f"{name}.log")
            for name, own in self._configuration.flags().items()
        }

    @classmethod
    @contextmanager
    def started(cls, directory: Path, flags: Flags | None = None, address: str = LOOPBACK) -> Iterator[Self]:
        """Run one in `directory` (an empty folder), ready for use, and stop it in the end.

        `flags` adds flags to a server, by its name, or replaces ours of that name. The API server listens on
        `address`. Raises DiedError when a server ends, with its log.
        """
        plane = cls(Configuration(directory, address), flags or {})
        plane._configuration.write()
        with ExitStack() as stack:
            # In the order of need, and stopped in reverse: an API server without etcd takes a minute to end.
            for name, server in plane._servers.items():
                stack.callback(server.stop)
                server.start()
                plane._wait_for(name)
            yield plane

    def kubectl(
        self, *args: str, stdin: str | None = None, check: bool = True, kubeconfig: Path | None = None
    ) -> str:
        """Run kubectl as an administrator, or as the user of `kubeconfig`."""
        return self._cluster.kubectl(*args, stdin=stdin, check=check, kubeconfig=kubeconfig)

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Write a kubeconfig of an existing service account."""
        return self._cluster.service_account_kubeconfig(namespace, name)

    def freeze(self, name: str) -> None:
        """Let a server answer nobody, its connections open, until it is thawed."""
        self._servers[name].freeze()

    def thaw(self, name: str) -> None:
        """Let a frozen server go on."""
        self._servers[name].thaw()

    def stop(self, name: str) -> None:
        """Stop one server, until it is restarted."""
        self._servers[name].stop()

    def restart(self, name: str) -> None:
        """Stop a server if it runs, start it again with the same state and port, wait until all is ready."""
        self._servers[name].stop()
        self._servers[name].start()
        for each in SIGNS:
            self._wait_for(each)

    def metrics(self) -> str:
        """Read the API server's own metrics, which count the requests it got."""
        return self._get("/metrics")

    def _wait_for(self, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers(SIGNS[name]):
            for server in self._servers.values():
                server.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not ready after {READY_SECONDS} s; logs: {self.kubeconfig.parent}")
            time.sleep(0.05)

    def _answers(self, path: str | None) -> bool:
        try:
            return path is None or bool(self._get(path))
        except OSError:
            return False

    def _get(self, path: str) -> str:
        trusted = ssl.create_default_context(cafile=self.ca_file)
        host = self.url.removeprefix("https://")
        with closing(HTTPSConnection(host, timeout=10, context=trusted)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._configuration.token}"})
            answer = connection.getresponse()
            body = answer.read().decode()
        if answer.status != HTTPStatus.OK:
            raise OSError(f"GET {path} answered {answer.status}: {body}")
        return body


def _set(own: Sequence[str], flags: Sequence[str]) -> list[str]:
    """Replace flags of the same name: given twice, a list would be added to."""
    names = {flag.partition("=")[0] for flag in flags}
    return [*(flag for flag in own if flag.partition("=")[0] not in names), *flags]
