"""What a machine must have for a node: root, namespaces, overlay mounts, and what Debian packages."""

import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import gettempdir

from tests.support.controlplane.cache import build_once, cache_dir
from tests.support.controlplane.go_toolchain import ROOT
from tools import image
from tools.image import UnfitError

# Their packages would start a service, or take the place of Docker's: they are unpacked, not installed.
UNPACKED = ("containerd", "containernetworking-plugins")
HIDDEN = ("/run", "/var/lib", "/var/log")  # what programs write where they always do is lost with the node
UNSHARE = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Everything that a node does to the kernel, once, where nobody sees it.
TRIAL = """
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


def require_fitness() -> None:
    """Refuse a machine on which no node can be started; installs what is missing. Raises UnfitError."""
    image.require_root_on_debian()
    image.install_tools()
    image.install_tools(("iptables",))
    for needed, hidden in product((ROOT, cache_dir(), Path(gettempdir())), HIDDEN):
        if needed.resolve().is_relative_to(hidden):
            raise UnfitError(f"a node has a {hidden} of its own, and so does not see {needed}")
    tried = subprocess.run((*UNSHARE, "sh", "-c", TRIAL), capture_output=True, text=True, check=False)
    if tried.returncode:
        raise UnfitError(f"a node needs more rights than there are here: {tried.stderr.strip()}")


def packages() -> Path:
    """Unpack Debian's containerd and network plugins; returns the folder that stands for their /."""
    return build_once(cache_dir() / "node" / "packages", _unpack)


def _unpack(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["apt-get", "update", "--quiet"], check=True, stdout=sys.stderr)
    subprocess.run(["apt-get", "download", *UNPACKED], check=True, cwd=folder, stdout=sys.stderr)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, folder], check=True)
        package.unlink()
