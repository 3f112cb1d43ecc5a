"""The cgroups of a node: all are below one of ours, so that they can be removed as a whole."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

TOP, OURS = Path("/sys/fs/cgroup"), "keyturn-node-"
CLONE_NEWCGROUP = 0x02000000
CPUSET = "cpuset.cpus", "cpuset.mems"


def own_name() -> str:
    """Name the cgroup of the node that this process has started."""
    return f"{OURS}{os.getpid()}"


def live_in(name: str) -> None:
    """Make a cgroup of that name and take it for the first of all, in this process and all that it starts.

    It needs a mount namespace of its own. There are several hierarchies in version 1, one in version 2.
    """
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    places = [Path(place) for place, kind in mounts if kind in {"cgroup", "cgroup2"}]
    for place in places:
        _enter(place, place / name)
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWCGROUP):
        raise OSError(ctypes.get_errno(), "no cgroup namespace")
    for place in places:
        subprocess.run(["mount", "--bind", place / name, place], check=True)
        if not (place / "tasks").exists():
            # In version 2 a cgroup has either processes or cgroups with limits.
            _enter(place, place / "node")


def first_process(container: str) -> int:
    """Find the first process of a container of our node by the id that its status has."""
    [found, *_] = _ours(f"{own_name()}/k8s.io/{container.rpartition('/')[2]}/cgroup.procs")
    return int(found.read_text().split()[0])


def remove() -> None:
    """Remove the cgroups of our node, and of those whose tests are gone: nothing else outlives a node."""
    for top in _ours(f"{OURS}*"):
        if top.name == own_name() or not Path("/proc", top.name.removeprefix(OURS)).exists():
            for folder in (*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top):
                with suppress(OSError):
                    folder.rmdir()


def _enter(parent: Path, ours: Path) -> None:
    ours.mkdir()
    for name in CPUSET:
        # In version 1 these are empty in a new one, and nothing could run in it.
        if (parent / name).exists():
            (ours / name).write_text((parent / name).read_text())
    (ours / "cgroup.procs").write_text("0")


def _ours(pattern: str) -> Iterator[Path]:
    yield from TOP.glob(pattern)
    yield from TOP.glob(f"*/{pattern}")
