"""promtool and prometheus: on PATH, else Debian's package, unpacked and kept."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.controlplane.cache import build_once, cache_dir, log


def binary(name: str) -> Path:
    """Find `promtool` or `prometheus`; a test that needs it is skipped where there is none to be had."""
    if found := shutil.which(name):
        return Path(found)
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{name} is neither on PATH nor to be had from Debian's package prometheus")
    return build_once(cache_dir() / "prometheus-debian", _unpack) / "usr" / "bin" / name


def _unpack(folder: Path) -> None:
    """Download Debian's package and unpack it; nothing is installed."""
    log("prometheus: downloading Debian's package, once")
    with tempfile.TemporaryDirectory() as here:
        command = ["apt-get", "download", "prometheus"]
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
        packages = list(Path(here).glob("*.deb"))
        if not packages:
            pytest.skip(f"apt-get download prometheus: {(done.stderr or done.stdout).strip()[-300:]}")
        subprocess.run(["dpkg", "-x", packages[0], folder], check=True, timeout=120)
