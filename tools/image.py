"""Builds and runs the container images without a container daemon: `python -m tools.image`.

buildah builds and podman runs the images. debootstrap creates the base image from the Debian mirror that apt is
configured with, so that no image registry is needed. Everything is stored in the user's cache directory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from keyturn import __version__
from tests.support.controlplane.cache import cache_dir, file_lock

ROOT = Path(__file__).parents[1]
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SUITE = "forky"  # has Python 3.14, as the public base image
BASE = f"localhost/keyturn-base:{SUITE}"
# The name of the image that each target of the Dockerfile builds.
IMAGES = {"operator": "localhost/keyturn:dev", "sidecar": "localhost/keyturn-sidecar:dev"}
TOOLS = ("buildah", "podman", "runc", "debootstrap")
INSTALL = ("apt-get", "install", "--quiet", "--yes", "--no-install-recommends")
STORED = cache_dir() / "image"
STORE = ("--root", str(STORED / "store"), "--runroot", str(STORED / "run"), "--storage-driver", "overlay")


class UnfitError(Exception):
    """This machine cannot build the images. The message contains the reason and the remedy."""


def require_root_on_debian() -> None:
    """Raise UnfitError unless the process is root on Debian."""
    if os.geteuid() != 0:
        raise UnfitError("only root can build the images")
    if not SOURCES.exists():
        raise UnfitError(f"the base image needs a Debian mirror, but {SOURCES} does not exist")


def require_tools() -> None:
    """Raise UnfitError with the command to install missing tools."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise UnfitError(f"missing: {', '.join(missing)}; to install: {' '.join((*INSTALL, *TOOLS))}")


def install_tools(tools: tuple[str, ...] = TOOLS) -> None:
    """Install missing tools with apt-get; each package has the name of its tool."""
    if not all(shutil.which(tool) for tool in tools):
        subprocess.run(["apt-get", "update", "--quiet"], check=True, stdout=sys.stderr)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run((*INSTALL, *tools), check=True, stdout=sys.stderr, env=environment)


def build(target: str) -> str:
    """Build the image of a target from this checkout and return its ID. The base image is built only once."""
    require_root_on_debian()
    require_tools()
    with file_lock(STORED / "lock"):
        return _build(target)


def export(image: str, archive: Path, name: str) -> None:
    """Write an image, given by its ID or name, to a file that a container runtime can import as `name`."""
    _buildah("push", "--quiet", image, f"docker-archive:{archive}:{name}")


def build_from(dockerfile: Path, context: Path) -> str:
    """Build a small image from another Dockerfile and return its ID."""
    return _buildah("build", "--quiet", "--isolation", "chroot", "--file", str(dockerfile), str(context))


def _build(target: str) -> str:
    if not _buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        _build_base()
    # RUN steps trust the certificates of this machine, which do not become part of the image.
    trusted = Path(os.environ.get("PIP_CERT", CERTIFICATES)).resolve()
    volume = ("--volume", f"{trusted}:{CERTIFICATES}:ro")
    label = f"org.opencontainers.image.version={__version__}"
    arguments = ("--from", BASE, "--target", target, "--label", label, "--tag", IMAGES[target], str(ROOT))
    with tempfile.NamedTemporaryFile("r") as written:
        options = ("--layers", "--isolation", "chroot", "--iidfile", written.name, *volume)
        subprocess.run(("buildah", *STORE, "build", *options, *arguments), check=True, stdout=sys.stderr)
        # The ID and not the name, which another checkout may use for its own image.
        return written.read()


def run(target: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the image of a target as restricted as in a cluster: read-only, no network, no capabilities."""
    engine = ("podman", *STORE, "--runtime", "runc", "--cgroup-manager", "cgroupfs")
    strict = ("--read-only", "--network", "none", "--cap-drop", "all", "--security-opt", "no-new-privileges")
    # podman raises these limits by default, which root without CAP_SYS_RESOURCE may not do.
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
    command = (*engine, "run", "--rm", *strict, *limits, *options, IMAGES[target], *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def labels(target: str) -> dict[str, str]:
    """Return the labels of the image of a target."""
    return dict(json.loads(_buildah("inspect", "--type", "image", IMAGES[target]))["OCIv1"]["config"]["Labels"])


def _build_base() -> None:
    """Commit a minimal Debian with Python, which replaces the public base image."""
    container = _buildah("from", "scratch")
    try:
        root = _buildah("mount", container)
        packages = "--include=python3,python3-venv,ca-certificates"
        # The script "sid" is that of every suite; older versions of debootstrap do not know the names of newer suites.
        command = ("debootstrap", "--variant=minbase", packages, SUITE, root, _mirror(), "sid")
        subprocess.run(command, check=True, stdout=sys.stderr)
        shutil.rmtree(Path(root, "var/cache/apt/archives"))
        shutil.rmtree(Path(root, "var/lib/apt/lists"))
        _buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container)
        _buildah("commit", "--quiet", container, BASE)
    finally:
        _buildah("rm", container)


def _mirror() -> str:
    """Return the address of the Debian mirror from apt's configuration."""
    lines = SOURCES.read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith("URIs:"))


def _buildah(*arguments: str) -> str:
    command = ("buildah", *STORE, *arguments)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.image", description="Build the container images.")
    parser.add_argument("--install", action="store_true", help="install missing tools with apt-get")
    try:
        require_root_on_debian()
        if parser.parse_args().install:
            install_tools()
        for target, name in IMAGES.items():
            build(target)
            print(name)
    except UnfitError as error:
        sys.exit(f"The images cannot be built here: {error}")


if __name__ == "__main__":
    main()
