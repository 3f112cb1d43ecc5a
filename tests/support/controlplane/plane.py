"""The embedded control plane: etcd, kube-apiserver and kube-controller-manager on loopback."""

import os
import shutil
import signal
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

_READY_SECONDS = 60
# What responds when a server is ready: the API server needs etcd, and a controller creates the service account.
_READY_PATHS = {
    "etcd": None,
    "kube-apiserver": "/readyz",
    "kube-controller-manager": "/api/v1/namespaces/default/serviceaccounts/default",
}
Flags = Mapping[str, Sequence[str]]


class ControlPlane(ExistingCluster):
    """A control plane with real RBAC; its servers have the names of their programs."""

    def __init__(self, configuration: Configuration, flags: Flags) -> None:
        super().__init__(configuration.kubeconfig, configuration.directory)
        self._configuration = configuration
        self.url, self.ca_file = configuration.url, configuration.ca_file
        self._servers = {
            name: Server(
                name,
                [str(binary(name)), *_replace_flags(defaults, flags.get(name, ()))],
                self.directory / f"{name}.log",
            )
            for name, defaults in configuration.flags().items()
        }

    @classmethod
    @contextmanager
    def started(cls, directory: Path, flags: Flags | None = None, address: str = LOOPBACK) -> Iterator[Self]:
        """Run a control plane in an empty `directory`, with the API server at `address`.

        `flags` adds or replaces flags of a server, by its name. Raises ServerExitedError if one does not start.
        """
        plane = cls(Configuration(directory, address), flags or {})
        plane._configuration.write()
        with ExitStack() as stack:
            # Stopped in reverse order: an API server without etcd takes a minute to end.
            for name, server in plane._servers.items():
                stack.callback(server.stop)
                server.start()
                plane._wait_until_ready(name)
            yield plane

    def freeze(self, name: str) -> None:
        """Suspend a server: its connections stay open and it does not respond."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Resume a frozen server."""
        os.kill(self.pid(name), signal.SIGCONT)

    def pid(self, name: str) -> int:
        """Return the process ID of a server."""
        return self._servers[name].pid

    def stop(self, name: str) -> None:
        self._servers[name].stop()

    def restart(self, name: str) -> None:
        """Start a server again with the same state and port, and wait until all servers are ready."""
        self._servers[name].stop()
        self._servers[name].start()
        for server in _READY_PATHS:
            self._wait_until_ready(server)

    def back_up_etcd(self) -> None:
        """Copy etcd's data, for `restore_etcd`."""
        self._copy_etcd("etcd", "etcd-backup")

    def restore_etcd(self) -> None:
        """Restore etcd in place from the last backup, and restart the API server, as Kubernetes' documentation says."""
        self._copy_etcd("etcd-backup", "etcd")
        self.restart("kube-apiserver")

    def metrics(self) -> str:
        """Return the API server's metrics, which count the requests that it received."""
        return self._get("/metrics")

    def _copy_etcd(self, source: str, target: str) -> None:
        self.stop("etcd")
        shutil.rmtree(self.directory / target, ignore_errors=True)
        shutil.copytree(self.directory / source, self.directory / target)
        self.restart("etcd")

    def _wait_until_ready(self, name: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._responds(_READY_PATHS[name]):
            for server in self._servers.values():
                server.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} is not ready after {_READY_SECONDS} s; its log is in {self.directory}")
            time.sleep(0.05)

    def _responds(self, path: str | None) -> bool:
        try:
            return path is None or bool(self._get(path))
        except OSError:
            return False

    def _get(self, path: str) -> str:
        context = ssl.create_default_context(cafile=self.ca_file)
        host = self.url.removeprefix("https://")
        with closing(HTTPSConnection(host, timeout=10, context=context)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._configuration.token}"})
            response = connection.getresponse()
            body = response.read().decode()
        if response.status != HTTPStatus.OK:
            raise OSError(f"GET {path} returned {response.status}: {body}")
        return body


def _replace_flags(defaults: Sequence[str], flags: Sequence[str]) -> list[str]:
    # A list flag that is set twice would have both values.
    names = {flag.partition("=")[0] for flag in flags}
    return [*(flag for flag in defaults if flag.partition("=")[0] not in names), *flags]
