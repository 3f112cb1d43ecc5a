"""The node itself: `python -m tests.support.node.inside DIRECTORY IMAGES CGROUP`, as `machine.UNSHARE` starts it.

It is the first process of its PID namespace: when it ends, Linux ends everything that runs here, and mounts and
network go with it. Says "ready" on stdout, and ends when its stdin does. What is to be read from outside (the
kubeconfig, the logs) is in DIRECTORY; IMAGES is what `images` made.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from keyturn.cli.clock import now
from tests.support.certificates import issue_certificate
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.cluster import write_private_file
from tests.support.controlplane.configuration import Configuration
from tests.support.controlplane.server import Server
from tests.support.node import cgroups, configuration
from tests.support.node.configuration import (
    ADDRESS,
    API_SERVER,
    GATEWAY,
    IMAGES,
    KERNEL,
    NAME,
    NETWORK,
    SOCKET,
    STATE,
)
from tests.support.node.machine import HIDDEN, packages

READY_SECONDS = 60


def main(directory: str, images: str, cgroup: str) -> None:
    keep_changes_here()
    cgroups.live_in(cgroup)
    connect()
    lend(Path(images))
    place = Path(directory)
    write_files(Configuration(place).ca_file)
    with ControlPlane.started(place, configuration.control_plane(place), ADDRESS) as plane:
        servers = [
            Server(name, command, place / f"{name}.log")
            for name, command in configuration.commands(plane.kubeconfig).items()
        ]
        for server in servers:
            server.start()
        wait_until_ready(plane, servers)
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)  # orderly ends would take seconds, and nobody sees them


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def keep_changes_here() -> None:
    """Let programs write where they always do, and lose it all in the end."""
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "tmpfs", "tmpfs", HIDDEN[0])
    STATE.mkdir()
    for path in HIDDEN[1:]:
        upper, work = (STATE / kind / path.replace("/", "-") for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", options, path)
    for name, value in KERNEL.items():
        pretended = STATE / name.replace("/", "-")
        pretended.write_text(f"{value}\n")
        run("mount", "--bind", str(pretended), f"/proc/sys/{name}")


def connect() -> None:
    """Make a network that has nobody else in it."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "node", "type", "bridge")
    run("ip", "address", "add", NETWORK, "dev", "node")
    run("ip", "link", "set", "node", "up")
    run("ip", "route", "add", "default", "via", GATEWAY)  # programs ask which way is out
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def lend(images: Path) -> None:
    """Give containerd the imported images: what it never changes by mounts, its books as copies."""
    for source in (path for path in images.rglob("*") if path.name in {"meta.db", "metadata.db"}):
        book = IMAGES / source.relative_to(images)
        book.parent.mkdir(parents=True)
        shutil.copyfile(source, book)
    for source in (*images.glob("*.content/blobs"), *images.glob("*.overlayfs/snapshots/*")):
        there = IMAGES / source.relative_to(images)
        there.mkdir(parents=True)
        run("mount", "--bind", str(source), str(there))


def write_files(ca_file: Path) -> None:
    # As in many clusters of Amazon EKS: Python 3.13, which is in the image, would refuse it.
    certified = issue_certificate(now(), [ADDRESS, API_SERVER], ["kubernetes.default.svc"], plain=True)
    ca_file.parent.mkdir()
    ca_file.write_text(certified.ca)
    (STATE / "serving.crt").write_text(certified.certificate)
    write_private_file(STATE / "serving.key", certified.key)
    (STATE / "cni").mkdir()
    (STATE / "cni" / "pods.conflist").write_text(configuration.network())
    (STATE / "containerd.toml").write_text(configuration.containerd(IMAGES, SOCKET))
    (STATE / "kubelet.json").write_text(configuration.kubelet())
    # There is no name server: who asks learns so at once.
    (STATE / "resolv.conf").write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")


def wait_until_ready(plane: ControlPlane, servers: list[Server]) -> None:
    question = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    deadline = time.monotonic() + READY_SECONDS
    while plane.kubectl("get", "node", NAME, question, check=False) != "True":
        for server in servers:
            server.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"the node is not ready after {READY_SECONDS} s")
        time.sleep(0.2)


if __name__ == "__main__":
    os.environ["PATH"] = (
        f"{packages()}/usr/bin:/usr/sbin:/sbin:{os.environ['PATH']}"  # the shim is beside containerd
    )
    main(*sys.argv[1:])
