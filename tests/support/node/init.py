"""The node's first process: `python -m tests.support.node.init DIRECTORY IMAGES CGROUP`, started by `unshare`.

When it ends, the kernel ends every process of its PID namespace, and mounts and network go with them. It prints
"ready", and ends when its stdin is closed. The kubeconfig and the logs are in DIRECTORY, the images in IMAGES.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.certificates import issue_certificate
from tests.support.clock import real_now
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.cluster import write_private_file
from tests.support.controlplane.configuration import Configuration
from tests.support.controlplane.server import Server
from tests.support.node import configuration
from tests.support.node.cgroups import enter_cgroup_namespace
from tests.support.node.configuration import ADDRESS, IMAGES, SOCKET, STATE
from tests.support.node.machine import OVERLAID, packages

_READY_SECONDS = 60
_READY_STATUS = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}'


def main(directory: str, images: str, cgroup: str) -> None:
    overlay_writable_folders()
    enter_cgroup_namespace(cgroup)
    create_network()
    mount_images(Path(images))
    folder = Path(directory)
    write_files(Configuration(folder).ca_file)
    with ControlPlane.started(folder, configuration.control_plane_flags(folder), ADDRESS) as plane:
        servers = {
            name: Server(name, command, folder / f"{name}.log")
            for name, command in configuration.commands(plane.kubeconfig).items()
        }
        for name, server in servers.items():
            if name == "kubelet":  # it exits if containerd does not listen yet
                wait_until(SOCKET.exists, "containerd does not listen", servers)
            server.start()
        is_ready = ("get", "node", configuration.NAME, _READY_STATUS)
        wait_until(lambda: plane.kubectl(*is_ready, check=False) == "True", "the node is not ready", servers)
        print("ready", flush=True)
        sys.stdin.read()
        os._exit(0)  # an orderly shutdown would take seconds, and nothing observes it


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def overlay_writable_folders() -> None:
    """Let programs write to their usual folders; the changes end with the node."""
    run("mount", "--make-rshared", "/")
    run("mount", "-t", "tmpfs", "tmpfs", OVERLAID[0])
    STATE.mkdir()
    for path in OVERLAID[1:]:
        upper, work = (STATE / kind / path.replace("/", "-") for kind in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", options, path)
    for name, value in configuration.SYSCTLS.items():
        file = STATE / name.replace("/", "-")
        file.write_text(f"{value}\n")
        run("mount", "--bind", str(file), f"/proc/sys/{name}")


def create_network() -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "node", "type", "bridge")
    run("ip", "address", "add", configuration.NETWORK, "dev", "node")
    run("ip", "link", "set", "node", "up")
    run("ip", "route", "add", "default", "via", configuration.GATEWAY)  # programs require a default route
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mount_images(images: Path) -> None:
    """Provide containerd with the imported images: bind mounts of what it never changes, copies of its databases."""
    for source in (path for path in images.rglob("*") if path.name in {"meta.db", "metadata.db"}):
        database = IMAGES / source.relative_to(images)
        database.parent.mkdir(parents=True)
        shutil.copyfile(source, database)
    for source in (*images.glob("*.content/blobs"), *images.glob("*.overlayfs/snapshots/*")):
        target = IMAGES / source.relative_to(images)
        target.mkdir(parents=True)
        run("mount", "--bind", str(source), str(target))


def write_files(ca_file: Path) -> None:
    # As in many Amazon EKS clusters: the strict checks of Python 3.13, which is in the image, would reject it.
    addresses, names = [ADDRESS, configuration.API_SERVER], ["kubernetes.default.svc"]
    server = issue_certificate(real_now(), addresses, names, plain=True)
    ca_file.parent.mkdir()
    ca_file.write_text(server.ca)
    (STATE / "serving.crt").write_text(server.certificate)
    write_private_file(STATE / "serving.key", server.key)
    (STATE / "cni").mkdir()
    (STATE / "cni" / "pods.conflist").write_text(configuration.network_config())
    (STATE / "containerd.toml").write_text(configuration.containerd_config(IMAGES, configuration.SOCKET))
    (STATE / "kubelet.json").write_text(configuration.kubelet_config())
    # Nothing listens there, so that DNS queries fail at once.
    (STATE / "resolv.conf").write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")


def wait_until(condition: Callable[[], bool], problem: str, servers: Mapping[str, Server]) -> None:
    """Wait while the servers run; raises TimeoutError with the problem."""
    deadline = time.monotonic() + _READY_SECONDS
    while not condition():
        for server in servers.values():
            server.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{problem} after {_READY_SECONDS} s")
        time.sleep(0.2)


if __name__ == "__main__":
    # containerd finds its shim, which is in the same folder, on PATH.
    os.environ["PATH"] = f"{packages()}/usr/bin:/usr/sbin:/sbin:{os.environ['PATH']}"
    main(*sys.argv[1:])
