"""promtool and prometheus, from PATH or from the Debian package, which is unpacked into the cache."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.controlplane.cache import cache, made_once, say


def binary(name: str) -> Path:
    """Return the path of `promtool` or `prometheus`. Skips the test if it cannot be found or downloaded."""
    if found := shutil.which(name):
        return Path(found)
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{name} is not on PATH, and the Debian package prometheus is not available")
    return made_once(cache() / "prometheus-debian", _unpack) / "usr" / "bin" / name


def _unpack(folder: Path) -> None:
    """Download the Debian package and unpack it without installing it."""
    say("prometheus: downloading the Debian package")
    with tempfile.TemporaryDirectory() as directory:
        command = ["apt-get", "download", "prometheus"]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=300, check=False)
        packages = list(Path(directory).glob("*.deb"))
        if not packages:
            pytest.skip(f"apt-get download prometheus: {(done.stderr or done.stdout).strip()[-300:]}")
        subprocess.run(["dpkg", "-x", packages[0], folder], check=True, timeout=120)
