"""The cgroups of a node: all are below one cgroup, so that they can be removed together."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT, PREFIX = Path("/sys/fs/cgroup"), "keyturn-node-"
_CLONE_NEWCGROUP = 0x02000000


def node_cgroup() -> str:
    """Return the name of the cgroup of the node that this process starts."""
    return f"{PREFIX}{os.getpid()}"


def enter_cgroup_namespace(name: str) -> None:
    """Create a cgroup in every hierarchy and make it the root for this process and its children.

    It requires a private mount namespace. Version 1 has several hierarchies, version 2 has one.
    """
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    hierarchies = [Path(path) for path, kind in mounts if kind in {"cgroup", "cgroup2"}]
    for hierarchy in hierarchies:
        _enter(hierarchy, hierarchy / name)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWCGROUP):
        raise OSError(ctypes.get_errno(), "cannot create a cgroup namespace")
    for hierarchy in hierarchies:
        subprocess.run(["mount", "--bind", hierarchy / name, hierarchy], check=True)
        if not (hierarchy / "tasks").exists():
            # In version 2 a cgroup contains either processes or cgroups with limits.
            _enter(hierarchy, hierarchy / "node")


def container_pid(container_id: str) -> int:
    """Return the process ID of a container of this process's node, by the ID in the pod's status."""
    container = container_id.rpartition("/")[2]
    [procs, *_] = _glob(f"{node_cgroup()}/k8s.io/{container}/cgroup.procs")
    return int(procs.read_text().split()[0])


def remove_cgroups() -> None:
    """Remove the cgroups of this process's node, and of nodes whose process has ended."""
    for top in _glob(f"{PREFIX}*"):
        if top.name == node_cgroup() or not Path("/proc", top.name.removeprefix(PREFIX)).exists():
            for folder in (*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top):
                with suppress(OSError):
                    folder.rmdir()


def _enter(parent: Path, cgroup: Path) -> None:
    cgroup.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        # In version 1 they are empty in a new cgroup, in which nothing could run.
        if (parent / name).exists():
            (cgroup / name).write_text((parent / name).read_text())
    (cgroup / "cgroup.procs").write_text("0")


def _glob(pattern: str) -> Iterator[Path]:
    yield from ROOT.glob(pattern)
    yield from ROOT.glob(f"*/{pattern}")
