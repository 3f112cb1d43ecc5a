"""promtool and prometheus, from PATH or from Debian's package, which is unpacked into the cache."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.controlplane.cache import build_once, cache_dir, log


def prometheus_binary(name: str) -> Path:
    """Return the path of `promtool` or `prometheus`; skips the test if there is none."""
    if path := shutil.which(name):
        return Path(path)
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip(f"{name} is not on PATH, and there is no apt-get to download Debian's package")
    return build_once(cache_dir() / "prometheus-debian", _download) / "usr" / "bin" / name


def _download(folder: Path) -> None:
    log("prometheus: downloading Debian's package, once")
    with tempfile.TemporaryDirectory() as downloads:
        command = ["apt-get", "download", "prometheus"]
        result = subprocess.run(command, cwd=downloads, capture_output=True, text=True, timeout=300, check=False)
        packages = list(Path(downloads).glob("*.deb"))
        if not packages:
            pytest.skip(f"apt-get download prometheus: {(result.stderr or result.stdout).strip()[-300:]}")
        subprocess.run(["dpkg", "-x", packages[0], folder], check=True, timeout=120)
