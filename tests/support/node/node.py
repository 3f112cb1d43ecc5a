"""The node from outside."""

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
from tests.support.node import cgroups
from tests.support.node.configuration import ADDRESS
from tests.support.node.images import imported
from tests.support.node.machine import UNSHARE

ROOT = Path(__file__).parents[3]
RELAY = Path(__file__).with_name("relay.py")
OUR_NETWORK = Path(f"/proc/{os.getpid()}/ns/net")
PATIENCE_SECONDS = 20


class NodeError(RuntimeError):
    """The node did not start; the message ends with what it said."""


class Node:
    """A running node, and a way to its API server by `kubeconfig`."""

    def __init__(self, directory: Path, network: Path, stack: ExitStack) -> None:
        self.kubeconfig = directory / "outside.kubeconfig"
        self._network = network
        self._stack = stack
        self._cluster = ExistingCluster(self.kubeconfig, directory)

    @classmethod
    @contextmanager
    def started(cls, directory: Path) -> Iterator[Self]:
        """Run one whose files are in `directory` (an empty folder), and leave nothing of it behind."""
        cgroups.remove()
        with ExitStack() as stack:
            images = stack.enter_context(imported())
            stack.callback(cgroups.remove)
            node = cls(directory, stack.enter_context(_inside(directory, images)), stack)
            node._open()
            yield node

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Run kubectl as an administrator."""
        return self._cluster.kubectl(*args, stdin=stdin, check=check)

    def forwarded(self, url: str) -> str:
        """Give pods a way to a server on our loopback until the node ends; returns the URL that they use."""
        port = self._relay(self._network, ADDRESS, OUR_NETWORK, url)
        return urlsplit(url)._replace(netloc=f"{ADDRESS}:{port}").geturl()

    def kill(self, container: str) -> None:
        """Kill the first process of a container by the id in its status, as a lack of memory does."""
        os.kill(cgroups.first_process(container), signal.SIGKILL)

    def _open(self) -> None:
        config = json.loads(self.kubeconfig.with_name("admin.kubeconfig").read_text())
        cluster = config["clusters"][0]["cluster"]
        port = self._relay(OUR_NETWORK, LOOPBACK, self._network, cluster["server"])
        # Its certificate is for the address that it has inside.
        cluster |= {"server": f"https://{LOOPBACK}:{port}", "tls-server-name": "kubernetes.default.svc"}
        write_private_file(self.kubeconfig, json.dumps(config))

    def _relay(self, listen_in: Path, host: str, connect_in: Path, url: str) -> int:
        target = urlsplit(url)
        ends = (str(listen_in), host, "0", str(connect_in), str(target.hostname), str(target.port))
        command = die_with_parent([sys.executable, str(RELAY), *ends])
        relay = self._stack.enter_context(Popen(command, stdout=PIPE, text=True, start_new_session=True))
        self._stack.callback(relay.kill)
        return int(relay.stdout.readline()) if relay.stdout else 0


@contextmanager
def _inside(directory: Path, images: Path) -> Iterator[Path]:
    """Run the node's first process; gives the file that stands for its network."""
    log = directory / "inside.log"
    arguments = (str(directory), str(images), cgroups.own_name())
    command = die_with_parent([*UNSHARE, sys.executable, "-m", "tests.support.node.inside", *arguments])
    with (
        log.open("w") as stderr,
        # A session of its own, so that Ctrl-C reaches us alone.
        Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=stderr, text=True, start_new_session=True) as it,
    ):
        try:
            if not (it.stdout and it.stdout.readline()):
                raise NodeError(f"no node: {log.read_text()[-3000:]}")
            [first] = Path(f"/proc/{it.pid}/task/{it.pid}/children").read_text().split()
            yield Path(f"/proc/{first}/ns/net")
        finally:
            _end(it)


def _end(inside: Popen[str]) -> None:
    """Close its stdin, and wait until all processes of the node are gone."""
    if inside.stdin:
        inside.stdin.close()
    try:
        inside.wait(PATIENCE_SECONDS)
    except TimeoutExpired:
        inside.kill()
