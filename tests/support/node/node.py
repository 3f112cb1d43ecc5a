"""Starts a node and connects to it from outside of its namespaces."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Self
from urllib.parse import urlsplit

from tests.support.controlplane import ExistingCluster, die_with_parent
from tests.support.controlplane.cluster import write_private_file
from tests.support.controlplane.configuration import LOOPBACK
from tests.support.controlplane.go_toolchain import ROOT
from tests.support.node.cgroups import container_pid, node_cgroup, remove_cgroups
from tests.support.node.configuration import ADDRESS
from tests.support.node.images import imported_images
from tests.support.node.machine import UNSHARE

_RELAY = Path(__file__).with_name("relay.py")
_OWN_NETWORK = Path(f"/proc/{os.getpid()}/ns/net")
_STOP_SECONDS = 20


class NodeError(RuntimeError):
    """The node did not start; the message ends with the end of its log."""


class Node(ExistingCluster):
    """A running node, whose API server is reached by `kubeconfig`."""

    def __init__(self, directory: Path, network: Path, stack: ExitStack) -> None:
        super().__init__(directory / "outside.kubeconfig", directory)
        self._network = network
        self._stack = stack

    @classmethod
    @contextmanager
    def started(cls, directory: Path) -> Iterator[Self]:
        """Run a node with its files in an empty `directory`."""
        remove_cgroups()
        with ExitStack() as stack:
            images = stack.enter_context(imported_images())
            stack.callback(remove_cgroups)
            node = cls(directory, stack.enter_context(_namespaces(directory, images)), stack)
            node._write_kubeconfig()
            yield node

    def forward(self, url: str) -> str:
        """Forward connections of pods to a server on this process's loopback; return the URL for pods."""
        port = self._relay(self._network, ADDRESS, _OWN_NETWORK, url)
        return urlsplit(url)._replace(netloc=f"{ADDRESS}:{port}").geturl()

    def kill(self, container_id: str) -> None:
        """Kill a container, by the ID in its status, as the OOM killer does."""
        os.kill(container_pid(container_id), signal.SIGKILL)

    def _write_kubeconfig(self) -> None:
        config = json.loads((self.directory / "admin.kubeconfig").read_text())
        cluster = config["clusters"][0]["cluster"]
        port = self._relay(_OWN_NETWORK, LOOPBACK, self._network, cluster["server"])
        # The certificate names the address within the node.
        cluster |= {"server": f"https://{LOOPBACK}:{port}", "tls-server-name": "kubernetes.default.svc"}
        write_private_file(self.kubeconfig, json.dumps(config))

    def _relay(self, listen_in: Path, host: str, connect_in: Path, url: str) -> int:
        target = urlsplit(url)
        ends = (str(listen_in), host, "0", str(connect_in), str(target.hostname), str(target.port))
        command = die_with_parent([sys.executable, str(_RELAY), *ends])
        relay = self._stack.enter_context(Popen(command, stdout=PIPE, text=True, start_new_session=True))
        self._stack.callback(relay.kill)
        return int(relay.stdout.readline()) if relay.stdout else 0


@contextmanager
def _namespaces(directory: Path, images: Path) -> Iterator[Path]:
    """Run the node's first process, and yield the file of its network namespace."""
    log = directory / "init.log"
    arguments = (str(directory), str(images), node_cgroup())
    command = die_with_parent([*UNSHARE, sys.executable, "-m", "tests.support.node.init", *arguments])
    with (
        log.open("w") as stderr,
        # In its own session, so that Ctrl-C does not reach it.
        Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=stderr, text=True, start_new_session=True) as init,
    ):
        try:
            if not (init.stdout and init.stdout.readline()):
                raise NodeError(f"the node did not start: {log.read_text()[-3000:]}")
            [pid] = Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()
            yield Path(f"/proc/{pid}/ns/net")
        finally:
            if init.stdin:
                init.stdin.close()
            try:
                init.wait(_STOP_SECONDS)
            except TimeoutExpired:
                init.kill()
