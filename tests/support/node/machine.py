"""What a node requires of the machine: root, namespaces, overlay mounts and Debian packages."""

import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import gettempdir

from tests.support.controlplane.cache import build_once, cache_dir
from tests.support.controlplane.go_toolchain import ROOT
from tools import image
from tools.image import UnfitError

# Unpacked, not installed: they would start a service or replace Docker's packages.
_PACKAGES = ("containerd", "containernetworking-plugins")
OVERLAID = ("/run", "/var/lib", "/var/log")  # folders that programs write to
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Everything that a node requires of the kernel, once, in namespaces that end with the script.
_TRIAL = """
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/lower /mnt/upper /mnt/work /mnt/merged
mount -t overlay overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /mnt/merged
ip link add trial type bridge
ip link add one type veth peer name other
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables --table nat --list-rules >/mnt/rules
test -d /sys/fs/cgroup
"""


def require_node_support() -> None:
    """Install missing tools, and raise UnfitError if no node can be started on this machine."""
    image.require_root_on_debian()
    image.install_tools()
    image.install_tools(("iptables",))
    for path, overlaid in product((ROOT, cache_dir(), Path(gettempdir())), OVERLAID):
        if path.resolve().is_relative_to(overlaid):
            raise UnfitError(f"a node has its own {overlaid}, in which it cannot see {path}")
    trial = subprocess.run((*UNSHARE, "sh", "-c", _TRIAL), capture_output=True, text=True, check=False)
    if trial.returncode:
        raise UnfitError(f"a node requires more privileges: {trial.stderr.strip()}")


def packages() -> Path:
    """Return the folder into which Debian's containerd and network plugins are unpacked."""
    return build_once(cache_dir() / "node" / "packages", _unpack)


def _unpack(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["apt-get", "update", "--quiet"], check=True, stdout=sys.stderr)
    subprocess.run(["apt-get", "download", *_PACKAGES], check=True, cwd=folder, stdout=sys.stderr)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, folder], check=True)
        package.unlink()
